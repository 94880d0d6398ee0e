"""Freeze the rows that a run trains on from a store, with their records and raters.

A snapshot is kept in the run directory, so that a run resumes on the same rows even if the store
changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from etils import epath

from genjax.data.images.decode import note
from genjax.errors import UserError
from genjax.machine import disk
from genjax.serial import stored
from genjax.serial.json_text import Json
from genjax.store.access.entering import open_as
from genjax.store.audit.deeds import note_deed
from genjax.store.formats.plain import write_plain
from genjax.store.formats.writing import Export, Row
from genjax.store.growth.past import open_state
from genjax.store.lookups import find_visible
from genjax.store.records import DataSet, Feedback, Record, Wanted
from genjax.store.runs import name_dataset, note_run
from genjax.store.store import Store
from genjax.store.training.agreement import decide, describe_votes, read_lengths, read_vote

Form = Literal["sft", "preferences"]
CURE = "put a copy of it back, or train in another run directory"


@dataclass(frozen=True)
class Snapshot:
    """The rows of a store at one moment.

    Attributes:
      place: the store's path or URL, without a password.
      fingerprint: the fingerprint of the rows and their records.
      rows: the rows to train on.
      records: for each row, the ids of the records that it is made from.
      inputs: the hash of each of these records, named by its kind and id.
      raters: the number of judgements by each rater.
      remarks: lines for the user on what was left out and whether raters agree.
      state: the fingerprint of the named state that they are from; None for the store as it was.
    """

    place: str
    fingerprint: str
    rows: tuple[Mapping[str, Json], ...]
    records: tuple[tuple[str, ...], ...]
    inputs: Mapping[str, str]
    raters: Mapping[str, int]
    remarks: tuple[str, ...]
    state: str | None = None

    def write(self, path: epath.Path) -> None:
        """Write the snapshot to a file, atomically."""
        disk.write(path, json.dumps(dataclasses.asdict(self), ensure_ascii=False) + "\n")


def read_snapshot(path: epath.Path) -> Snapshot:
    """Read a snapshot from a file.

    Raises:
      UserError: the file is damaged.
    """
    found = stored.read_json(path, dict, CURE)
    try:
        made = Snapshot(
            found["place"],
            found["fingerprint"],
            tuple(found["rows"]),
            tuple(tuple(row) for row in found["records"]),
            found["inputs"],
            found["raters"],
            tuple(found["remarks"]),
            found.get("state"),
        )
        whole = made.fingerprint == hash_rows(made.rows, made.inputs)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise stored.damage_error(path, "its rows are not those that were kept", CURE)
    return made


def take_snapshot(
    url: str, form: Form, filter: str, origin: Wanted, at: str | None = None
) -> Snapshot:
    """Return the rows of a store as they are now, or as they were in a named state.

    Raises:
      UserError: the store cannot be opened, there is no such state, the filter is invalid, or no
        row is left.
    """
    with open_as(url, read_only=True) as whole:
        store = whole.read_for("train")
        if at is None:
            return _take_rows(store.fresh(), store.place, form, filter, origin)
        with open_state(store, at) as opened:
            taken = _take_rows(opened.store, f"{store.place} at {at}", form, filter, origin)
        taken = dataclasses.replace(taken, state=opened.state.fingerprint)
        if opened.remark:
            taken = dataclasses.replace(taken, remarks=(opened.remark, *taken.remarks))
        return taken


def _take_rows(store: Store, place: str, form: Form, filter: str, origin: Wanted) -> Snapshot:
    found = list(Export(form, filter, origin).rows(store))
    rows = [row for row in found if row.used]
    remarks = []
    if len(rows) < len(found):
        cure = 'origin="any" reads them'
        left = len(found) - len(rows)
        remarks.append(f"{left:,} rows need records of another origin: {cure}")
    said = [row for row in rows if all(_has_text(row.value, name) for name in SIDES[form])]
    if len(said) < len(rows):
        remarks.append(f"{len(rows) - len(said):,} rows without a text are left out")
    if form == "preferences":
        chosen = list(_choose(said, remarks))
        remarks += _describe(store, said, origin)
    else:
        chosen = said
    if not chosen:
        kind = "response" if form == "sft" else "preference between two responses"
        why = "; ".join(["", *remarks])
        asked = f"filter {filter!r}, origin {origin}"
        raise UserError(f"filter of store {place} passes no {kind} ({asked}){why}", "filter")
    inputs = {
        f"{one.__class__.__name__.lower()} {one.id}": hash_record(one)
        for row in chosen
        for one in row.used
    }
    raters = _count_raters(chosen)
    values = tuple(row.value for row in chosen)
    records = tuple(tuple(dict.fromkeys(one.id for one in row.used)) for row in chosen)
    print_ = hash_rows(values, inputs)
    return Snapshot(place, print_, values, records, inputs, raters, tuple(remarks))


SIDES: Mapping[Form, tuple[str, ...]] = {
    "sft": ("completion",),
    "preferences": ("chosen", "rejected"),
}


def _has_text(row: Mapping[str, Json], name: str) -> bool:
    """Return whether a side of a row has any text."""
    side = row.get(name)
    if isinstance(side, str):
        return bool(side.strip())
    last = side[-1] if isinstance(side, list) and side else None
    said = last.get("content") if isinstance(last, dict) else None
    return isinstance(said, str) and bool(said.strip())


def _judgement(row: Row) -> Feedback:
    """Return the preference that a row was made from."""
    last = row.used[-1]
    assert isinstance(last, Feedback)
    return last


def _choose(rows: Sequence[Row], remarks: list[str]) -> Iterator[Row]:
    """Yield a row for each pair of responses, with the one that most raters prefer chosen.

    People come before models and functions.
    """
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        vote = read_vote(_judgement(row))
        if vote is not None:
            pairs.setdefault(vote.pair, []).append(row)
    tied = 0
    for some in pairs.values():
        votes = [vote for row in some if (vote := read_vote(_judgement(row))) is not None]
        found = decide(votes)
        if found is None:
            tied += 1
            continue
        right = (row for row in some if (_judgement(row).target, _judgement(row).against) == found)
        row = next(right)
        others = [_judgement(other) for other in some if other is not row]
        yield Row(row.value, [*row.used, *others])
    if tied:
        remarks.append(f"{tied:,} pairs are left out: as many raters prefer one as the other")


def _describe(store: Store, rows: Sequence[Row], origin: Wanted) -> list[str]:
    votes = [vote for row in rows if (vote := read_vote(_judgement(row))) is not None]
    lengths = read_lengths(store, {one for vote in votes for one in vote.pair}, origin)
    return describe_votes(votes, lengths)


def _count_raters(rows: Sequence[Row]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        for one in row.used:
            if isinstance(one, Feedback):
                rater = f"{one.source_kind} {one.user or one.source_id or ''}".strip()
                found[rater] = found.get(rater, 0) + 1
    return found


def hash_record(record: Record) -> str:
    """Return the hash of a record's contents."""
    text = json.dumps(write_plain(record), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_rows(rows: Sequence[Mapping[str, Json]], inputs: Mapping[str, str]) -> str:
    """Return the fingerprint of rows and the hashes of their records."""
    text = json.dumps([list(rows), dict(inputs)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def note_snapshot(url: str, snapshot: Snapshot, run_dir: epath.Path, step: int | None) -> None:
    """Record in the store that a run or a checkpoint was made from a snapshot's records.

    If the store is missing or read-only, this prints a note and the run continues.

    Args:
      step: the step of the checkpoint; None records only the data.
    """
    ids = tuple(dict.fromkeys(one for row in snapshot.records for one in row))
    try:
        with open_as(url) as store:
            with store.reading() as connection:
                ids = tuple(find_visible(connection, ids))  # a state may have records of the past
            store.add_new([make_dataset(snapshot, ids)])
            said: dict[str, Json] = {"rows": len(snapshot.rows), "run": str(run_dir), "step": step}
            note_deed(store, "train", said)
            if step is not None:
                note_run(store, run_dir, step)
    except UserError as error:
        note(f"the store does not know of {run_dir}: {error}")


def make_dataset(snapshot: Snapshot, ids: Sequence[str]) -> DataSet:
    """Return the record of a snapshot, with the records of these ids as its parents."""
    return DataSet(
        id=name_dataset(snapshot.fingerprint),
        origin="real",
        name=f"rows of {snapshot.place}",
        fingerprint=snapshot.fingerprint,
        manifest={"rows": len(snapshot.rows), "raters": dict(snapshot.raters)},
        parents=tuple(ids),
    )
