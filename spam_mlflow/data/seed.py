"""The tutorial's own export, defects included: only for reproducing its figures."""

import csv
import io
from dataclasses import dataclass

import pandas as pd

from spam_mlflow.data import files
from spam_mlflow.data.messages import Messages
from spam_mlflow.data.uci import SMS_FILE, UciFiles, UnreachableError, parse_sms, parse_youtube
from spam_mlflow.errors import UserError

EXPORT_FILE = "seed-spam-dataset.csv"
EXPORT_SHA256 = "2ea0cee326abacef11ff90b56c7811c5e19540c5f4e3f0e21db24d0dbee0be9b"


@dataclass(frozen=True)
class SeedSource:
    """The tutorial's 7,762 rows: rebuilt from UCI's files, or its export where data_dir holds it.

    The tutorial reads the SMS with quoting on, which merges lines (5,572 rows), and reads one
    YouTube file five times (2,190 rows, 1,850 of them copies). Do not compare figures reached on
    it with others: most of its YouTube test rows stand word for word in its training part.
    """

    files: UciFiles

    def load(self) -> Messages:
        """Return all rows in the export's order; nothing is validated or dropped.

        Raises UserError for missing or altered files and for a failed download.
        """
        export = self._export()
        frame = (
            pd.read_csv(io.BytesIO(export), keep_default_na=False) if export else self._rebuild()
        )
        return Messages(frame=frame.assign(group=""), name="seed")

    def _export(self) -> bytes | None:
        if self.files.data_dir is None:
            return None
        path = files.find(EXPORT_FILE, files.existing_folder(self.files.data_dir))
        if path is None:
            return None
        content = files.read_bytes(path)
        remedy = "put the tutorial's original there, or remove it to have it rebuilt"
        files.verify_sha256(content, EXPORT_SHA256, str(path), remedy)
        return content

    def _rebuild(self) -> pd.DataFrame:
        try:
            contents = self.files.read()
        except UnreachableError as error:
            raise UserError(f"{error}; give data_dir") from error
        sms = parse_sms(contents[SMS_FILE], quoting=csv.QUOTE_MINIMAL)
        video = parse_youtube(contents["Youtube03-LMFAO.csv"], strip_mark=False)
        youtube = pd.concat([video] * 5)
        named = [sms.assign(source="uci-spam-sms"), youtube.assign(source="uci-youtube-spam")]
        return pd.concat(named, ignore_index=True)
