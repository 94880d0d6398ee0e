"""Open training sets from a store: responses for fine-tuning, and preferences.

The database packages are imported only when a set is opened, so that a run trained on one can be
sampled without the extra ``store``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from etils import epath

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.chat.preferences import Equal, Long
from genjax.data.chat.rows import LongChat
from genjax.data.chat.template import ChatTemplate
from genjax.data.dataset import Dataset, Origin
from genjax.data.images.decode import note
from genjax.data.sources.instructions import Instructions
from genjax.data.sources.preferences import Preferences
from genjax.data.text.splits import ByDocuments
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.store.filters import parse_filter
from genjax.store.records import Wanted

if TYPE_CHECKING:
    from genjax.store.training.snapshots import Form, Snapshot

# The kind of origin of these sets.
STORE = "store"
ORIGINS = ("real", "synthetic", "any")


@checks.frozen
class StoreInstructions:
    """The responses that pass a filter, with their prompts, for supervised fine-tuning.

    When a run starts, the rows are frozen in its directory with the hashes of their records, and
    it resumes on them even if the store changes. All responses to a prompt are in one split.

    Attributes:
      url: the store's path or URL.
      filter: a filter on the responses, such as "score.helpful>0.5 not tags:wrong".
      origin: the origin of the prompts and responses, "real", "synthetic" or "any".
      at: the name of a state of the store, see ``genjax store tag``; None for its present records.
      make: a function of the URL that makes a missing store; None raises an error instead.
      template: the chat template; None takes that of the run or model that training starts with,
        or Alpaca's if that has none.
      codec: the codec of the text; one without a vocabulary is fitted to the training text.
      length: the number of predictions in a row, T.
      packed: whether to pack several conversations into a row, which do not see each other.
      long: "drop" conversations of more than T + 1 tokens, or "cut" them, as ``Instructions`` does.
      split: the split of the prompts.
      cache: the folder where a fitted codec is kept; None takes ~/.cache/genjax
        ($XDG_CACHE_HOME/genjax).
    """

    url: str
    filter: str = ""
    origin: Wanted = "real"
    at: str | None = None
    make: Component = None
    template: ChatTemplate | JinjaTemplate | None = None
    codec: Component = Subwords(start_token="<|endoftext|>")
    length: int = 256
    packed: bool = False
    long: LongChat = "drop"
    split: ByDocuments = ByDocuments()
    cache: str | None = None

    def __post_init__(self) -> None:
        _check(self)
        # This checks the fields.
        self._reader  # noqa: B018

    @property
    def _reader(self) -> Instructions:
        return Instructions(
            template=self.template,
            codec=self.codec,
            length=self.length,
            packed=self.packed,
            long=self.long,
            split=self.split,
            cache=self.cache,
        )

    def freeze(self, run_dir: epath.Path | None) -> Chosen:
        """Return the rows that a run has kept, or else the current rows of the store.

        Raises:
          UserError: the store cannot be opened, or the filter passes nothing.
        """
        return _choose(self, "sft", run_dir)

    def open(self) -> Dataset:
        """Return the batches of the store's current rows, as ``chat_dataset`` does."""
        return self.freeze(None).open()

    def open_rows(self, snapshot: Snapshot) -> Dataset:
        """Return the batches of a snapshot."""
        groups = [json.dumps(row["prompt"], sort_keys=True) for row in snapshot.rows]
        title = f"store {snapshot.place}"
        return self._reader.open_records(_name_rows(snapshot), title, Counter(), groups)


@checks.frozen
class StorePreferences:
    """Pairs of responses with the preferences of raters.

    Each pair occurs once, with the response that most raters prefer as the chosen one. Feedback
    from models and functions counts only for pairs that no person has judged; ties are left out.
    Before training, a note says how far raters agree and whether preferences follow the length
    or position of the responses. The rows are frozen as in ``StoreInstructions``, and all pairs
    of a prompt are in one split.

    Attributes:
      url: the store's path or URL.
      filter: a filter on the feedback, such as "name=preference source_kind=HUMAN".
      origin: the origin of prompts, responses and feedback, "real", "synthetic" or "any".
      at: the name of a state of the store, see ``genjax store tag``; None for its present records.
      make: a function of the URL that makes a missing store; None raises an error instead.
      template: the chat template; None takes that of the run or model that training starts with,
        or Alpaca's if that has none.
      codec: the codec of the text; one without a vocabulary is fitted to the training pairs.
      length: the number of tokens in a row, prompt and response together, T.
      long: "drop" pairs that do not fit, or "cut" them, as ``Preferences`` does.
      equal: "refuse" pairs of two identical rows, which teach nothing, or "drop" them.
      split: the split of the prompts.
      cache: the folder where a fitted codec is kept; None takes ~/.cache/genjax
        ($XDG_CACHE_HOME/genjax).
    """

    url: str
    filter: str = ""
    origin: Wanted = "real"
    at: str | None = None
    make: Component = None
    template: ChatTemplate | JinjaTemplate | None = None
    codec: Component = Subwords(start_token="<|endoftext|>")
    length: int = 128
    long: Long = "cut"
    equal: Equal = "drop"
    split: ByDocuments = ByDocuments()
    cache: str | None = None

    def __post_init__(self) -> None:
        _check(self)
        # This checks the fields.
        self._reader  # noqa: B018

    @property
    def _reader(self) -> Preferences:
        return Preferences(
            template=self.template,
            codec=self.codec,
            length=self.length,
            long=self.long,
            equal=self.equal,
            split=self.split,
            cache=self.cache,
        )

    def freeze(self, run_dir: epath.Path | None) -> Chosen:
        """Return the rows that a run has kept, or else the current rows of the store.

        Raises:
          UserError: the store cannot be opened, or the filter passes nothing.
        """
        return _choose(self, "preferences", run_dir)

    def open(self) -> Dataset:
        """Return the batches of the store's current rows, as ``Preferences`` does."""
        return self.freeze(None).open()

    def open_rows(self, snapshot: Snapshot) -> Dataset:
        """Return the batches of a snapshot."""
        title = f"store {snapshot.place}"
        return self._reader.open_records(_name_rows(snapshot), title, Counter())


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A source with the rows that a run trains on.

    Attributes:
      source: the source that reads the rows.
      snapshot: the rows.
      path: the file in the run directory that keeps the rows; None without a run.
    """

    source: StoreInstructions | StorePreferences
    snapshot: Snapshot
    path: epath.Path | None

    def open(self) -> Dataset:
        """Return the batches."""
        found = self.source.open_rows(self.snapshot)
        manifest = None if self.path is None else str(self.path)
        name, state = self.snapshot.place, self.snapshot.state
        name = name if state is None else f"{name}, state {state}"
        origin = Origin(name, self.snapshot.fingerprint, STORE, manifest=manifest)
        remarks = (*self.snapshot.remarks, *found.remarks)
        return dataclasses.replace(found, origins=(origin, *found.origins), remarks=remarks)

    def keep(self, run_dir: epath.Path) -> None:
        """Write the rows to the run directory if they are not there, and print the remarks.

        The store records which of its records the rows are made from.
        """
        from genjax.store.training.snapshots import note_snapshot

        path = run_dir / _name_file(self.source)
        if not path.exists():
            for line in self.snapshot.remarks:
                note(f"{self.snapshot.place}: {line}")
            self.snapshot.write(path)
            note_snapshot(self.source.url, self.snapshot, run_dir, None)

    def finish(self, run_dir: epath.Path, step: int) -> None:
        """Record in the store that a checkpoint was trained on its records."""
        from genjax.store.training.snapshots import note_snapshot

        note_snapshot(self.source.url, self.snapshot, run_dir, step)


def _check(source: StoreInstructions | StorePreferences) -> None:
    checks.some(source, "url")
    parse_filter(source.filter)
    if source.origin not in ORIGINS:
        raise UserError(
            f"origin must be one of {', '.join(ORIGINS)}, got {source.origin!r}", "origin"
        )
    if source.at == "":
        raise UserError("at must be the name of a state, got ''", "at")
    if source.make is not None and not callable(source.make):
        raise UserError(f"make must be a function of a URL, got {source.make!r}", "make")


def _name_file(source: StoreInstructions | StorePreferences) -> str:
    """Return the name of the file in a run directory that keeps a source's rows."""
    asked = [type(source).__name__, source.url, source.filter, source.origin]
    asked += [] if source.at is None else [source.at]
    return f"snapshot_{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]}.json"


def _choose(
    source: StoreInstructions | StorePreferences, form: Form, run_dir: epath.Path | None
) -> Chosen:
    path = None if run_dir is None else run_dir / _name_file(source)
    try:
        from genjax.store.training.snapshots import read_snapshot, take_snapshot

        if path is not None and path.exists():
            return Chosen(source, read_snapshot(path), path)
        if source.make is not None:
            source.make(source.url)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("genjax"):
            raise
        cure = "pip install 'genjax-train[store]'"
        raise UserError(f"data: the package {error.name} is missing: {cure}", "data") from None
    taken = take_snapshot(source.url, form, source.filter, source.origin, source.at)
    return Chosen(source, taken, path)


def _name_rows(snapshot: Snapshot) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(snapshot.rows):
        yield f"row {number + 1:,} of store {snapshot.place}", dict(row)
