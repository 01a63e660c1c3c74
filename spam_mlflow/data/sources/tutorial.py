"""The tutorial's data, defects included: only for reproducing its metrics."""

import csv
import io

import pandas as pd
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG
from spam_mlflow.data.messages import Messages
from spam_mlflow.data.sources import files
from spam_mlflow.data.sources.uci import (
    SMS_FILE,
    UciFiles,
    UnreachableError,
    parse_sms,
    parse_youtube,
)
from spam_mlflow.errors import UserError

EXPORT_FILE = "seed-spam-dataset.csv"
EXPORT_SHA256 = "2ea0cee326abacef11ff90b56c7811c5e19540c5f4e3f0e21db24d0dbee0be9b"


@dataclass(frozen=True, config=CONFIG)
class TutorialSource:
    """The tutorial's 7,762 rows: its own export where data_dir holds it, else rebuilt from UCI's.

    The tutorial reads the SMS with quoting on, which merges lines (5,572 rows), and reads one
    YouTube file five times (2,190 rows, 1,850 of them copies). Do not compare metrics on these rows
    with others: most YouTube rows of the test part are in the training part word for word.

    Attributes:
        files: Access to UCI's files.
    """

    files: UciFiles

    def load(self) -> Messages:
        """Read all rows in the export's order; none is validated or dropped.

        Raises:
            UserError: Where files are missing or altered, and where a download fails.
        """
        export = self._export()
        frame = (
            pd.read_csv(io.BytesIO(export), keep_default_na=False) if export else self._rebuild()
        )
        return Messages(frame=frame.assign(group=""), name="tutorial")

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
