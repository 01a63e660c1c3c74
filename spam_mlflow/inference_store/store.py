"""What a store of inferences does, whatever it is built on."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from spam_mlflow.config.schema import CONFIG, Text
from spam_mlflow.errors import UserError
from spam_mlflow.inference_store.records import Feedback, Filters, Inference
from spam_mlflow.inference_store.texts import TextPolicy, TextSetting

PAGE = 500
"""Items that are read at a time where all are wanted."""

PAGE_CHARACTERS = 2_000_000
"""Characters of stored texts from which a page ends, whatever its limit, so that it fits memory."""

_ANY = Filters()
_IN_SHORT: Mapping[Any, str] = {True: "plain", False: "off"}


def _named(value: Any) -> Any:
    """Return what store.text=true and store.text=false stand for."""
    return _IN_SHORT.get(value, value) if isinstance(value, bool) else value


class Store(Protocol):
    """Inferences and feedback. All methods may be called by several threads at once.

    Attributes:
        texts: How texts are stored.
        days: Days after which an item expires.
    """

    texts: TextPolicy
    days: int

    def add(self, inferences: Sequence[Inference]) -> int:
        """Store inferences. After this returns, the end of the process loses none of them.

        Returns:
            How many of them, the first ones, are stored: all, unless the store fails after some.

        Raises:
            UserError: If none can be stored.
        """
        ...

    def find(self, inference_id: str) -> Inference | None:
        """Return an inference, None if there is none or it has expired."""
        ...

    def page(self, filters: Filters, before: str | None, limit: int) -> list[Inference]:
        """Return the newest inferences that have not expired, the newest first.

        Args:
            filters: Which are wanted.
            before: ID that all of them are smaller than; None for the newest.
            limit: How many at most; fewer if there are no more, or the page `is_full` before. There
                is at least one if there are any.
        """
        ...

    def add_feedback(self, feedback: Feedback) -> None:
        """Store feedback as an item of its own, durably as by `add`.

        Raises:
            UserError: If it cannot be stored.
        """
        ...

    def feedback_of(self, inference_ids: Sequence[str]) -> list[Feedback]:
        """Return what each reporter said last of some inferences, the oldest first."""
        ...

    def feedback(self, after: str | None, limit: int) -> list[Feedback]:
        """Return all feedback that has not expired, the oldest first.

        Args:
            after: ID that all of them are larger than; None for the oldest.
            limit: How many at most; there is no more if there are fewer.
        """
        ...

    def delete(self, inference_ids: Sequence[str]) -> None:
        """Delete inferences and what was said of them, so that nothing is left in the files.

        Raises:
            UserError: If something is left.
        """
        ...

    def purge(self) -> int:
        """Delete what has expired, and return how many inferences that were."""
        ...

    def create(self) -> None:
        """Make what the store needs, if it is missing.

        Raises:
            UserError: If that is not possible.
        """
        ...

    def stats(self) -> Mapping[str, float]:
        """Return the store's own metrics by name."""
        ...

    def close(self) -> None:
        """Write what is waiting, if that is quick, and let go of files and threads."""
        ...


@dataclass(frozen=True)
class Forgotten:
    """What became of the inferences of a text.

    Attributes:
        deleted: Inferences of the text, which are deleted.
        locked: Inferences that only another key can compare with it.
        without: Inferences of which no text is stored, nor its hash.
    """

    deleted: int
    locked: int
    without: int


class StoreSettings(Protocol):
    """The section `store` of a configuration."""

    @property
    def tokens_file(self) -> str | None:
        """File with the tokens that clients must have; None for none."""
        ...

    def open(self, create: bool = True, is_busy: bool = False) -> Store | None:
        """Return the store; None where nothing is stored.

        Args:
            create: Whether a file that is the store itself is made if it is missing.
            is_busy: Whether this process answers requests meanwhile, so that what can be done in
                another one should be.

        Raises:
            UserError: If it cannot be opened.
        """
        ...


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class RecordSettings:
    """What all stores share: `conf/store/_base.yaml`.

    Attributes:
        text: What is stored of a text; see `TextPolicy`.
        days: Days after which an item expires.
        tokens_file: File with the tokens that clients must have.
    """

    text: Annotated[TextSetting, BeforeValidator(_named)]
    days: Annotated[int, Field(ge=1, le=3650)]
    tokens_file: Text | None


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class NoStore:
    """Nothing is stored: `conf/store/none.yaml`.

    Attributes:
        tokens_file: File with the tokens that clients must have.
    """

    tokens_file: Text | None

    def open(self, create: bool = True, is_busy: bool = False) -> None:
        """Return None."""
        return


def is_full(rows: Collection[Inference], limit: int) -> bool:
    """Return whether a page ends here.

    Args:
        rows: Those that it has.
        limit: How many it may have.
    """
    return len(rows) >= limit or sum(len(row.text or "") for row in rows) >= PAGE_CHARACTERS


def first_page(rows: Iterable[Inference], limit: int) -> list[Inference]:
    """Return the first of some inferences, until the page is full.

    Args:
        rows: Inferences, of which no more are read than needed.
        limit: How many at most.
    """
    found, characters = [], 0
    for row in rows:
        found.append(row)
        characters += len(row.text or "")
        if len(found) >= limit or characters >= PAGE_CHARACTERS:
            break
    return found


def pages(store: Store, filters: Filters = _ANY) -> Iterator[list[Inference]]:
    """Yield all inferences that are wanted, the newest first, as many together as memory holds."""
    before = None
    while found := store.page(filters, before, PAGE):
        before = found[-1].id
        goes_on = is_full(found, PAGE)
        yield found
        if not goes_on:
            return


def inferences(store: Store, filters: Filters = _ANY) -> Iterator[Inference]:
    """Yield all inferences that are wanted, the newest first, few of them in memory."""
    for page in pages(store, filters):
        yield from page


def all_feedback(store: Store) -> Iterator[Feedback]:
    """Yield all feedback, the oldest first."""
    after = None
    while True:
        found = store.feedback(after, PAGE)
        yield from found
        if len(found) < PAGE:
            return
        after = found[-1].id


def forget(store: Store, text: str) -> Forgotten:
    """Delete all inferences of a text, as far as what is stored of it can be compared.

    Args:
        store: The store.
        text: The message, to the letter.
    """
    found, locked, without = [], 0, 0
    for inference in inferences(store):
        is_of = store.texts.is_of(inference, text)
        if is_of:
            found.append(inference.id)
        elif is_of is None and inference.text_form == "off":
            without += 1
        elif is_of is None:
            locked += 1
    store.delete(found)
    return Forgotten(len(found), locked, without)


def opened(settings: StoreSettings, create: bool = False) -> Store:
    """Return the store of a command that needs one.

    Args:
        settings: The section `store`.
        create: As of `StoreSettings.open`.

    Raises:
        UserError: If there is none, or it cannot be opened.
    """
    store = settings.open(create)
    if store is None:
        raise UserError("store=none: there is nothing stored; choose store=sqlite, for example")
    return store
