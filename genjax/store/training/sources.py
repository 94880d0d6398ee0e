"""Training sets out of a store: answers for fine-tuning, and preferences.

Nothing of the database is imported before such a set is opened, so that a run that was trained on
one can be sampled without the store's extra.
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

STORE = "store"  # the kind of origin of such a set
ORIGINS = ("real", "synthetic", "any")


@checks.frozen
class StoreInstructions:
    """Prompts and the responses to them that a filter passes, for supervised fine-tuning.

    The rows are frozen when a run starts, in its directory, with the hashes of their records: it
    resumes on them whatever becomes of the store. The responses to a prompt are of one split.

    Attributes:
      url: the store's path or URL.
      filter: of the responses, as "score.helpful>0.5 not tags:wrong".
      origin: of the prompts and responses, "real", "synthetic" or "any".
      make: makes the store where it is missing; None refuses that. Called with the URL.
      template: what is around what each side says; None takes that of the run or model that
        training starts with, or Alpaca's where it has none.
      codec: of the text; without a vocabulary, it is fitted to the training text.
      length: predictions in a row, T.
      packed: train on rows of several conversations, distinguished.
      long: "drop" conversations of more than T + 1 tokens, or "cut" them, as ``Instructions`` does.
      split: what is held out, by prompts.
      cache: the folder where a fitted codec is kept; None takes ~/.cache/genjax
        ($XDG_CACHE_HOME/genjax).
    """

    url: str
    filter: str = ""
    origin: Wanted = "real"
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
        self._reader  # noqa: B018  (refuses what cannot be)

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
        """Choose the rows: those that a run has kept, else those of the store as it is.

        Raises:
          UserError: the store cannot be opened, or the filter passes nothing.
        """
        return _choose(self, "sft", run_dir)

    def open(self) -> Dataset:
        """Batches as of ``chat_dataset``, of the store as it is; see ``freeze``."""
        return self.freeze(None).open()

    def open_rows(self, snapshot: Snapshot) -> Dataset:
        """Return the batches of a snapshot."""
        groups = [json.dumps(row["prompt"], sort_keys=True) for row in snapshot.rows]
        title = f"store {snapshot.place}"
        return self._reader.open_records(_name_rows(snapshot), title, Counter(), groups)


@checks.frozen
class StorePreferences:
    """Pairs of responses of which raters prefer one.

    Each pair comes once, the way round that most raters say. People come before models and
    functions, whose feedback fills in where no human has judged; pairs of which as many prefer one
    as the other are left out. How far raters agree, and whether preferences follow the length of
    responses or the place where they were shown, is said before anything is trained. The rows are
    frozen as those of ``StoreInstructions`` are; the pairs of a prompt are of one split.

    Attributes:
      url: the store's path or URL.
      filter: of the feedback, as "name=preference source_kind=HUMAN".
      origin: of prompts, responses and feedback, "real", "synthetic" or "any".
      make: makes the store where it is missing; None refuses that. Called with the URL.
      template: what is around prompts and responses; None takes that of the run or model that
        training starts with, or Alpaca's where it has none.
      codec: of the text; without a vocabulary, it is fitted to the training pairs.
      length: tokens of a row, prompt and response together, T.
      long: "drop" pairs that do not fit, or "cut" them, as ``Preferences`` does.
      equal: "refuse" pairs of which both rows are the same, which teach nothing, or "drop" them.
      split: what is held out, by prompts.
      cache: the folder where a fitted codec is kept; None takes ~/.cache/genjax
        ($XDG_CACHE_HOME/genjax).
    """

    url: str
    filter: str = ""
    origin: Wanted = "real"
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
        self._reader  # noqa: B018  (refuses what cannot be)

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
        """Choose the rows: those that a run has kept, else those of the store as it is.

        Raises:
          UserError: the store cannot be opened, or the filter passes nothing.
        """
        return _choose(self, "preferences", run_dir)

    def open(self) -> Dataset:
        """Batches as of ``Preferences``, of the store as it is; see ``freeze``."""
        return self.freeze(None).open()

    def open_rows(self, snapshot: Snapshot) -> Dataset:
        """Return the batches of a snapshot."""
        title = f"store {snapshot.place}"
        return self._reader.open_records(_name_rows(snapshot), title, Counter())


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A source with the rows that a run trains on.

    Attributes:
      source: that they are read as.
      snapshot: the rows.
      path: the file of the run directory that keeps them; None where there is no run.
    """

    source: StoreInstructions | StorePreferences
    snapshot: Snapshot
    path: epath.Path | None

    def open(self) -> Dataset:
        """Return the batches."""
        found = self.source.open_rows(self.snapshot)
        manifest = None if self.path is None else str(self.path)
        name = self.snapshot.place
        origin = Origin(name, self.snapshot.fingerprint, STORE, manifest=manifest)
        remarks = (*self.snapshot.remarks, *found.remarks)
        return dataclasses.replace(found, origins=(origin, *found.origins), remarks=remarks)

    def keep(self, run_dir: epath.Path) -> None:
        """Write the rows into the run directory, if they are not there; note in the store which
        records they are of, and say what is known of its raters.
        """
        from genjax.store.training.snapshots import note_snapshot

        path = run_dir / _name_file(self.source)
        if not path.exists():
            for line in self.snapshot.remarks:
                note(f"{self.snapshot.place}: {line}")
            self.snapshot.write(path)
            note_snapshot(self.source.url, self.snapshot, run_dir, None)

    def finish(self, run_dir: epath.Path, step: int) -> None:
        """Note in the store that a checkpoint was trained on its records."""
        from genjax.store.training.snapshots import note_snapshot

        note_snapshot(self.source.url, self.snapshot, run_dir, step)


def _check(source: StoreInstructions | StorePreferences) -> None:
    checks.some(source, "url")
    parse_filter(source.filter)
    if source.origin not in ORIGINS:
        raise UserError(
            f"origin must be one of {', '.join(ORIGINS)}, got {source.origin!r}", "origin"
        )
    if source.make is not None and not callable(source.make):
        raise UserError(f"make must be a function of a URL, got {source.make!r}", "make")


def _name_file(source: StoreInstructions | StorePreferences) -> str:
    """Return the file of a run directory that keeps the rows of a source."""
    asked = [type(source).__name__, source.url, source.filter, source.origin]
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
    return Chosen(source, take_snapshot(source.url, form, source.filter, source.origin), path)


def _name_rows(snapshot: Snapshot) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(snapshot.rows):
        yield f"row {number + 1:,} of store {snapshot.place}", dict(row)
