"""The kinds of records, as frozen dataclasses of plain values.

The fields that all kinds share are in ``Record``; a field with the id of another record declares
its kinds with ``refer``. A ``Response`` to a ``Prompt`` may be followed by another prompt: such a
chain is a conversation, and several answers to one prompt make it a tree.
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
HEADINGS = "headings"  # in the metadata of a chunk: the headings above it, outermost first
OUT = "out"  # in the manifest of a data set: its file or folder
UNKNOWN = "unknown"  # the generator of synthetic records whose run is unknown
ANY = ()  # a record of any kind
REFERS = "refers"


@dataclass(frozen=True)
class Payload:
    """The content of a record: a text, JSON, or bytes that are stored separately by their hash.

    Attributes:
      text: a text.
      data: a JSON object or list.
      content: bytes to write; None after reading, see ``Store.read_blob``.
      blob: SHA-256 of stored bytes.
      media_type: media type of the bytes, such as "image/png".
      size: number of bytes.
    """

    text: str | None = None
    data: Json = None
    content: bytes | None = field(default=None, repr=False)
    blob: str | None = None
    media_type: str | None = None
    size: int | None = None


def refer(*kinds: str, default: Any = None) -> Any:
    """Declare a field for the id of another record, of one of these kinds or of any kind."""
    return field(default=default, metadata={REFERS: kinds})


@dataclass(frozen=True, kw_only=True)
class Record:
    """The fields of every record.

    Attributes:
      id: id of the record; if empty, the store assigns one that sorts by time.
      origin: "real" if a person or the world made it, "synthetic" if a model did.
      generator: id of the run that drew it, or "unknown"; only for synthetic records.
      parents: ids of the records that it was made from.
      time: time in UTC; None for the time of adding.
      tags: short words.
      metadata: a JSON object with anything else.
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
    """The input of a model.

    Attributes:
      session: id of its session.
      parent: id of the prompt or response that it follows.
      role: "user", "system" and the like; "assistant" for a turn not drawn by a model of the store;
        "" for plain text.
      payload: content.
    """

    session: str | None = refer("session")
    parent: str | None = refer("prompt", "response")
    role: str = ""
    payload: Payload = Payload()


@dataclass(frozen=True, kw_only=True)
class Response(Record):
    """The answer to a prompt.

    Attributes:
      prompt: id of the prompt.
      payload: content.
      run: id of the run that drew it.
      step: step of the run's checkpoint.
      sampler: options of the sampler.
      seed: seed of the sample.
      tokens: number of tokens.
      milliseconds: time it took.
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
    """A text, picture or sound; ``source`` is its file or URL."""

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
    """A judgement of a record by a person or program, in the form of MLflow's assessments.

    Attributes:
      target: id of the judged record.
      against: id of the record that the target is preferred to.
      user: name of the person.
      name: name of the criterion, such as "helpful".
      value: score.
      source_kind: kind of the judge: a person, a prompted language model, a function, or a model
        that gives numbers or labels.
      source_id: name of the person, run or function.
      label: a word instead of a number.
      rationale: reason for the judgement.
      valid: whether the judgement still counts.
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
      name: name of the set.
      fingerprint: hash of its records.
      manifest: manifest of its preparation; ``inputs`` has the hashes of raw files.
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
    """Return the fields of a kind that not all records have."""
    return tuple(f for f in dataclasses.fields(KINDS[kind]) if f.name not in COMMON)


def fields_of(record: Record) -> dict[str, Any]:
    """Return the fields of a record by name, without copying values."""
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


def references(record: Record) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the references of a record: field, id, and allowed kinds."""
    found = []
    for f in dataclasses.fields(record):
        if REFERS not in f.metadata:
            continue
        value = getattr(record, f.name)
        for one in value if isinstance(value, tuple) else (value,):
            if one and not (f.name == "generator" and one == UNKNOWN):
                found.append((f.name, one, f.metadata[REFERS]))
    return found
