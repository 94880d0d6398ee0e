"""Write records as rows of training sets, in several forms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from genjax.serial.json_text import Json
from genjax.store.conversation import Said, read_branches
from genjax.store.filters import All, Compare, Filter
from genjax.store.formats.otlp import KEPT, write_spans
from genjax.store.formats.plain import write_plain
from genjax.store.formats.reading import IMPLICIT
from genjax.store.formats.turns import (
    COLUMNS,
    Object,
    write_completion,
    write_prompt,
    write_turn,
)
from genjax.store.records import Document, Feedback, Payload, Prompt, Record, Response, Wanted
from genjax.store.references import find_edges
from genjax.store.rows import load
from genjax.store.store import Store

As: TypeAlias = Literal["sft", "preferences", "prompts", "messages", "texts", "otlp", "records"]
PAGE = 500
ROLES_ASKED = ("", "user", "tool")  # of prompts that wait for an answer


class Row(NamedTuple):
    """A row of an export, and the records that it was made from."""

    value: Object
    used: Sequence[Record]


@dataclass(frozen=True)
class Export:
    """Which records are exported, and in which form.

    Attributes:
      form: "sft" for prompts with completions, "preferences" for pairs, "prompts", "messages" for
        whole conversations, "texts" for documents, "otlp" for traces, or "records" unchanged.
      filter: filter of responses, feedback, prompts, sessions, documents or any records, depending
        on the form.
      origin: origin of every record used in a row.
    """

    form: As = "sft"
    filter: Filter | str = All(())
    origin: Wanted = "real"

    @property
    def kind(self) -> str | None:
        """Kind of the records that rows are made of."""
        kinds = {"sft": "response", "preferences": "feedback", "prompts": "prompt"}
        kinds |= {"messages": "session", "texts": "document", "otlp": "response"}
        return kinds.get(self.form)

    def rows(self, store: Store) -> Iterator[Row]:
        """Yield the rows in order of time; rows that need records of another origin are empty."""
        write = {
            "sft": _write_answers,
            "preferences": _write_pairs,
            "prompts": _write_prompts,
            "messages": _write_conversations,
            "texts": _write_texts,
            "otlp": _write_traces,
            "records": _write_records,
        }[self.form]
        found = store.select(self.filter, kind=self.kind, origin=self.origin)
        while page := list(itertools.islice(found, PAGE)):
            for value, used in write(store, page):
                hidden = any(self.origin not in ("any", record.origin) for record in used)
                yield Row({}, ()) if hidden else Row(value, used)


def _write_answers(store: Store, page: Sequence[Record]) -> Iterator[Row]:
    answers = [record for record in page if isinstance(record, Response)]
    branches = _read_before(store, answers)
    for answer in answers:
        branch = branches[answer.prompt]
        prompt = write_prompt(branch)
        row = {"prompt": prompt, "completion": _complete(answer, prompt)}
        yield Row(row | _columns(answer), [*branch, answer])


def _write_pairs(store: Store, page: Sequence[Record]) -> Iterator[Row]:
    judged = [r for r in page if isinstance(r, Feedback) and r.against and r.valid]
    ids = [one for r in judged for one in (r.target, r.against) if one]
    with store.reading() as connection:
        found = load(connection, list(dict.fromkeys(ids)))
    answers = {r.id: r for r in found if isinstance(r, Response)}
    branches = _read_before(store, list(answers.values()))
    for one in judged:
        chosen, rejected = answers.get(one.target), answers.get(one.against or "")
        if chosen is None or rejected is None or chosen.prompt != rejected.prompt:
            continue
        branch = branches[chosen.prompt]
        used = [*branch, chosen, rejected, one]
        prompt = write_prompt(branch)
        sides: list[Json] = [_complete(answer, prompt) for answer in (chosen, rejected)]
        if not one.metadata.get(IMPLICIT):
            row = {"prompt": prompt, "chosen": sides[0], "rejected": sides[1]}
            yield Row(row | _columns(one), used)
            continue
        if isinstance(prompt, list):
            sides = [[*prompt, *side] for side in sides]
        yield Row({"chosen": sides[0], "rejected": sides[1]} | _columns(one), used)


def _write_prompts(store: Store, page: Sequence[Record]) -> Iterator[Row]:
    asked = [r for r in page if isinstance(r, Prompt) and r.role in ROLES_ASKED]
    with store.reading() as connection:
        branches = read_branches(connection, [r.id for r in asked])
    for one in asked:
        branch = branches[one.id]
        yield Row({"prompt": write_prompt(branch)} | _columns(one), branch)


def _write_conversations(store: Store, page: Sequence[Record]) -> Iterator[Row]:
    for session in page:
        turns = list(store.select(_of(session), kind="prompt", origin="any"))
        with store.reading() as connection:
            edges = find_edges(connection, [turn.id for turn in turns], up=False)
            ids = [e.child for e in edges if e.role == "prompt"]
            said = {r.id: r for r in load(connection, ids) if isinstance(r, Response)}
            known: list[Said] = [*(r for r in turns if isinstance(r, Prompt)), *said.values()]
            followed = {r.parent for r in known if isinstance(r, Prompt)}
            followed |= {r.prompt for r in said.values()}
            last = [r.id for r in known if r.id not in followed]
            branches = read_branches(connection, last)
        for one in last:
            messages = [write_turn(record) for record in branches[one]]
            yield Row({"messages": messages} | _columns(session), [session, *branches[one]])


def _write_texts(store: Store, page: Sequence[Record]) -> Iterator[Row]:
    for one in page:
        text = one.payload.text if isinstance(one, Document) else None
        if text is not None:
            yield Row({"text": text} | _columns(one), [one])


def _write_traces(store: Store, page: Sequence[Record]) -> Iterator[Row]:
    answers = [record for record in page if isinstance(record, Response)]
    branches = _read_before(store, answers)
    with store.reading() as connection:
        edges = find_edges(connection, [a.id for a in answers], up=False)
        ids = [edge.child for edge in edges if edge.role == "target"]
        judged = [r for r in load(connection, ids) if isinstance(r, Feedback)]
    for _, group in itertools.groupby(answers, _find_span):
        same = list(group)
        mine = [r for r in judged if r.target == same[0].id and r.valid]
        branch = branches[same[0].prompt]
        yield Row(write_spans(branch, same, mine), [*branch, *same, *mine])


def _write_records(store: Store, page: Sequence[Record]) -> Iterator[Row]:
    for record in page:
        payload = getattr(record, "payload", None)
        content = None
        if isinstance(payload, Payload) and payload.blob is not None:
            content = store.read_blob(payload)
        yield Row(write_plain(record, content), [record])


def _of(session: Record) -> Filter:
    return Compare("session", "=", session.id)


def _find_span(answer: Response) -> str:
    kept: Mapping[str, object] = answer.metadata.get(KEPT) or {}
    return f"{kept['traceId']}/{kept['spanId']}" if "spanId" in kept else answer.id


def _read_before(store: Store, answers: Sequence[Response]) -> dict[str, tuple[Said, ...]]:
    with store.reading() as connection:
        return read_branches(connection, list(dict.fromkeys(a.prompt for a in answers)))


def _complete(answer: Response, prompt: Json) -> Json:
    return write_completion(answer, isinstance(prompt, str))


def _columns(record: Record) -> Object:
    """Return the members of the record's row that are not part of the form."""
    columns = record.metadata.get(COLUMNS)
    return dict(columns) if isinstance(columns, Mapping) else {}
