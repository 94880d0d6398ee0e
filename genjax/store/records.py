"""The kinds of records, as frozen dataclasses of plain values.

What all kinds share stands in ``Record``; a field that names another record says by ``refer`` of
which kind that must be. A ``Response`` to a ``Prompt`` may be followed by another prompt: such a
chain is a conversation, and several at one prompt make it a tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from genjax.serial.json_text import Json

Origin: TypeAlias = Literal["real", "synthetic"]
Wanted: TypeAlias = Literal["real", "synthetic", "any"]
SourceKind: TypeAlias = Literal["HUMAN", "LLM_JUDGE", "CODE", "MODEL"]
HEADINGS = "headings"  # in the metadata of a chunk: those above it, the widest first
UNKNOWN = "unknown"  # the generator of synthetic records that nobody knows the run of
ANY = ()  # a record of any kind
REFERS = "refers"


@dataclass(frozen=True)
class Payload:
    """What a record holds: a text, JSON, or bytes that lie beside the records by their hash.

    Attributes:
      text: of it.
      data: a JSON object or list.
      content: bytes to be written; None of what is read, see ``Store.read_blob``.
      blob: the SHA-256 of bytes that are stored.
      media_type: of the bytes, as "image/png".
      size: of the bytes.
    """

    text: str | None = None
    data: Json = None
    content: bytes | None = field(default=None, repr=False)
    blob: str | None = None
    media_type: str | None = None
    size: int | None = None


def refer(*kinds: str, default: Any = None) -> Any:
    """Make a field that holds the id of another record, of one of these kinds or of any."""
    return field(default=default, metadata={REFERS: kinds})


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every record has.

    Attributes:
      id: given by the store where it is empty, in the order of time.
      origin: whether a person or the world made it, or a model.
      generator: the id of the run that drew it, or "unknown"; of synthetic records alone.
      parents: ids of what it was made from.
      time: in UTC; that of adding it where it is None.
      tags: short words.
      metadata: a JSON object of anything else.
    """

    id: str = ""
    origin: Origin
    generator: str | None = refer("run")
    parents: tuple[str, ...] = refer(default=())
    time: datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Session(Record):
    """A conversation, or anything else that prompts belong to."""

    name: str | None = None
    user: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt(Record):
    """What is said to a model.

    Attributes:
      session: that it belongs to.
      parent: the prompt or response that it follows.
      role: "user", "system" and the like, also "assistant" of a turn that no model has drawn here;
        "" of plain text without roles.
      payload: what is said.
    """

    session: str | None = refer("session")
    parent: str | None = refer("prompt", "response")
    role: str = ""
    payload: Payload = Payload()


@dataclass(frozen=True, kw_only=True)
class Response(Record):
    """What was answered to a prompt.

    Attributes:
      prompt: that it answers.
      payload: the answer.
      run: that drew it.
      step: of the run's checkpoint.
      sampler: the options that it was drawn by.
      seed: of the draw.
      tokens: of the answer.
      milliseconds: that it took.
    """

    prompt: str = refer("prompt", default="")
    payload: Payload = Payload()
    run: str | None = refer("run")
    step: int | None = None
    sampler: Mapping[str, Json] | None = None
    seed: int | None = None
    tokens: int | None = None
    milliseconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Document(Record):
    """A text, picture or sound; ``source`` is the file or URL that it is from."""

    name: str | None = None
    source: str | None = None
    hash: str | None = None
    payload: Payload = Payload()


@dataclass(frozen=True, kw_only=True)
class Chunk(Record):
    """A part of a document, from character ``start`` to before ``end``."""

    document: str = refer("document", default="")
    start: int = 0
    end: int = 0
    hash: str | None = None
    payload: Payload = Payload()


@dataclass(frozen=True, kw_only=True)
class Feedback(Record):
    """What someone, or a program, thinks of a record: the shape of MLflow's assessments.

    Attributes:
      target: that is judged.
      against: the record that the target is preferred to.
      user: who judged.
      name: of what was judged, as "helpful".
      value: the score.
      source_kind: who judges: a person, a model that was asked in words, a function, or a model
        that gives numbers or labels.
      source_id: the person, run or function.
      label: a word instead of a number.
      rationale: why.
      valid: whether it still counts.
    """

    target: str = refer(default="")
    against: str | None = refer()
    user: str | None = None
    name: str = "feedback"
    value: float | None = None
    source_kind: SourceKind = "HUMAN"
    source_id: str | None = None
    label: str | None = None
    rationale: str | None = None
    valid: bool = True


@dataclass(frozen=True, kw_only=True)
class Run(Record):
    """A training run: its folder or bucket, the hash of its config, and of its data."""

    name: str | None = None
    path: str | None = None
    config: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Record):
    """A step of a run; the payload may hold exported weights."""

    run: str = refer("run", default="")
    step: int = 0
    path: str | None = None
    payload: Payload = Payload()


@dataclass(frozen=True, kw_only=True)
class DataSet(Record):
    """A training set; its parents are the records that it was made from.

    Attributes:
      name: of the set.
      fingerprint: of its records.
      manifest: of its preparation; ``inputs`` holds the hashes of raw files.
    """

    name: str | None = None
    fingerprint: str | None = None
    manifest: Mapping[str, Json] | None = None


@dataclass(frozen=True, kw_only=True)
class Entity(Record):
    """A person, place or thing; ``type`` says which."""

    name: str = ""
    type: str | None = None


@dataclass(frozen=True, kw_only=True)
class Relation(Record):
    """A statement about two records, as "is about"."""

    subject: str = refer(default="")
    predicate: str = ""
    object: str = refer(default="")


KINDS: dict[str, type[Record]] = {
    "session": Session,
    "prompt": Prompt,
    "response": Response,
    "document": Document,
    "chunk": Chunk,
    "feedback": Feedback,
    "run": Run,
    "checkpoint": Checkpoint,
    "dataset": DataSet,
    "entity": Entity,
    "relation": Relation,
}
NAMES = {kind: name for name, kind in KINDS.items()}
COMMON = tuple(f.name for f in dataclasses.fields(Record))


def own_fields(kind: str) -> tuple[dataclasses.Field[Any], ...]:
    """Return the fields of a kind besides those of all."""
    return tuple(f for f in dataclasses.fields(KINDS[kind]) if f.name not in COMMON)


def fields_of(record: Record) -> dict[str, Any]:
    """Return the fields of a record by name, nothing copied."""
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


def references(record: Record) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the other records that one names: the field, the id, and the kinds that it may be
    of.
    """
    found = []
    for f in dataclasses.fields(record):
        if REFERS not in f.metadata:
            continue
        value = getattr(record, f.name)
        for one in value if isinstance(value, tuple) else (value,):
            if one and not (f.name == "generator" and one == UNKNOWN):
                found.append((f.name, one, f.metadata[REFERS]))
    return found
