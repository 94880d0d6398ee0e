"""Read and write OpenTelemetry traces, as OTLP in JSON, with ``gen_ai`` attributes.

A span with messages becomes prompts and responses, and an event ``gen_ai.evaluation.result``
becomes feedback. Everything without a field of its own is kept in the metadata of the response, so
that it can be written again. The names follow version 1.37 of the conventions, which are still in
development.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from genjax.errors import UserError
from genjax.serial.json_text import Json, parse
from genjax.store.conversation import Said
from genjax.store.formats.turns import Object, Reading, read_turns, write_turn
from genjax.store.records import Feedback, Record, Response, Session
from genjax.store.rows import to_number, to_time

VERSION = "1.37.0"
INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
SYSTEM = "gen_ai.system_instructions"
SESSION = "gen_ai.conversation.id"
REQUEST = "gen_ai.request."
TOKENS = "gen_ai.usage.output_tokens"
EVALUATION = "gen_ai.evaluation.result"
JUDGED = {  # of an evaluation: its attributes, and the fields of feedback
    "gen_ai.evaluation.name": "name",
    "gen_ai.evaluation.score.value": "value",
    "gen_ai.evaluation.score.label": "label",
    "gen_ai.evaluation.explanation": "rationale",
    "genjax.source_kind": "source_kind",
    "genjax.source_id": "source_id",
    "enduser.id": "user",
}
SPAN = ("traceId", "spanId", "parentSpanId", "name", "kind", "status", "startTimeUnixNano")
KEPT = "otlp"  # in metadata
INSTRUCTIONS = "instructions"


def read_spans(row: Mapping[str, Json], reading: Reading) -> list[Record]:
    """Return the records of a trace; spans without messages are skipped.

    Raises:
      UserError: it is not an OTLP trace; the message names the row.
    """
    found: list[Record] = []
    sessions: dict[str, str] = {}
    try:
        for shared, span in _list_spans(row):
            found += _read_span(shared, span, sessions, reading)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(
            f"resourceSpans must be those of OTLP in JSON ({reading.where}): {error!r:.100}",
            "resourceSpans",
        ) from None
    return found


def _list_spans(row: Mapping[str, Json]) -> Iterator[tuple[Object, Object]]:
    for resource in row["resourceSpans"]:
        attributes = resource.get("resource", {}).get("attributes", [])
        for scope in resource.get("scopeSpans", []):
            shared = {"resource": _read_attributes(attributes)}
            if scope.get("scope"):
                shared["scope"] = scope["scope"]
            for span in scope.get("spans", []):
                yield shared, span


def _read_span(
    shared: Object, span: Object, sessions: dict[str, str], reading: Reading
) -> list[Record]:
    attributes = _read_attributes(span.get("attributes", []))
    messages = _read_messages(attributes.pop(INPUT, None), reading)
    answers = _read_messages(attributes.pop(OUTPUT, None), reading)
    system = _structure(attributes.pop(SYSTEM, None), reading)
    if not messages and not answers:
        return []
    if system:
        first = _flatten({"role": "system", "parts": system})
        messages = [first | {INSTRUCTIONS: True}, *messages]
    found: list[Record] = []
    name = str(attributes.pop(SESSION, None) or span["traceId"])
    if name not in sessions:
        session = Session(**reading.made, name=name)
        sessions[name] = session.id
        found.append(session)
    said = read_turns(messages, replace(reading, session=sessions[name]))
    start, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
    time = to_time(start // 1000)
    found += (replace(record, time=time) for record in said)
    details = _read_details(attributes, start, end)
    kept = {name: span[name] for name in SPAN if name in span} | shared
    kept["attributes"] = attributes
    first_answer: Record | None = None
    for message in answers:
        (answer,) = read_turns([message], reading, said[-1] if said else None)
        metadata = {**answer.metadata, KEPT: kept}
        if isinstance(answer, Response):
            answer = replace(answer, time=time, metadata=metadata, **details)
        found.append(answer)
        first_answer = first_answer or answer
    if first_answer is not None:
        found += _read_feedback(span.get("events", []), first_answer.id, reading)
    return found


def _read_details(attributes: Object, start: int, end: int) -> dict[str, Any]:
    """Return the fields of a response in the attributes, and remove them from the attributes."""
    seed, tokens = attributes.pop(f"{REQUEST}seed", None), attributes.pop(TOKENS, None)
    names = [n for n in attributes if n.startswith(REQUEST) and n != f"{REQUEST}model"]
    sampler = {name.removeprefix(REQUEST): attributes.pop(name) for name in names}
    return {
        "seed": seed,
        "tokens": tokens,
        "sampler": sampler or None,
        "milliseconds": (end - start) / 1e6,
    }


def _read_feedback(events: Json, target: str, reading: Reading) -> Iterator[Feedback]:
    for event in events:
        if event.get("name") != EVALUATION:
            continue
        attributes = _read_attributes(event.get("attributes", []))
        values = {field: attributes.pop(n) for n, field in JUDGED.items() if n in attributes}
        made = reading.made | {"origin": "real", "generator": None}
        yield Feedback(
            **made,
            **({"source_kind": "CODE"} | values),
            target=target,
            time=to_time(int(event["timeUnixNano"]) // 1000),
            metadata={KEPT: attributes} if attributes else {},
        )


def _structure(value: Json, reading: Reading) -> Json:
    return parse(value, reading.where) if isinstance(value, str) else value


def _read_messages(value: Json, reading: Reading) -> list[Object]:
    return [_flatten(message) for message in _structure(value, reading) or []]


def _flatten(message: Object) -> Object:
    """Return a message; if its content is a single text part, it becomes a text."""
    rest = {name: value for name, value in message.items() if name != "parts"}
    parts = message["parts"]
    if len(parts) == 1 and parts[0].keys() == {"type", "content"} and parts[0]["type"] == "text":
        return rest | {"content": parts[0]["content"]}
    return rest | {"content": parts}


def _unfold(record: Said) -> Object:
    """Return the message of a turn, in parts."""
    message = write_turn(record)
    content = message.pop("content", None)
    message.pop(INSTRUCTIONS, None)
    parts = [] if content is None else content
    if isinstance(content, str):
        parts = [{"type": "text", "content": content}]
    elif isinstance(content, Mapping):
        parts = [content]
    return message | {"parts": [_rename(part) for part in parts]}


def _rename(part: Object) -> Object:
    """Return a part of a message with OpenTelemetry's names instead of OpenAI's."""
    if part.get("type") == "text" and "text" in part:
        rest = {name: value for name, value in part.items() if name != "text"}
        return rest | {"content": part["text"]}
    return part


def write_spans(
    branch: Sequence[Said], answers: Sequence[Response], judged: Sequence[Feedback]
) -> Object:
    """Return a trace with one span.

    Args:
      branch: previous turns, oldest first.
      answers: answers drawn by one call.
      judged: feedback on the first answer.
    """
    first = answers[0]
    kept = dict(first.metadata.get(KEPT) or {})
    time = 0 if first.time is None else to_number(first.time) * 1000
    start = int(kept.get("startTimeUnixNano", time))
    end = start + round((first.milliseconds or 0) * 1e6)
    system = [r for r in branch if write_turn(r).get(INSTRUCTIONS)]
    attributes: Object = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "genjax",
        SESSION: _find_session(branch),
        f"{REQUEST}seed": first.seed,
        TOKENS: first.tokens,
        **{REQUEST + name: value for name, value in (first.sampler or {}).items()},
        **(kept.get("attributes") or {}),
        INPUT: _dump([_unfold(r) for r in branch if r not in system]),
        OUTPUT: _dump([_unfold(_without(answer)) for answer in answers]),
    }
    if system:
        attributes[SYSTEM] = _dump(_unfold(system[0])["parts"])
    span = {
        "traceId": _digest(_find_session(branch) or first.id, 32),
        "spanId": _digest(first.id, 16),
        "name": "chat",
        "kind": 3,
        **{name: kept[name] for name in SPAN if name in kept},
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "attributes": write_attributes(attributes),
        "events": [_write_event(one) for one in judged],
    }
    scope: Object = {"spans": [span], "scope": kept.get("scope", {"name": "genjax"})}
    resource = {"service.name": "genjax", "semconv_version": VERSION}
    resource = kept.get("resource", resource)
    about = {"attributes": write_attributes(resource)}
    return {"resourceSpans": [{"resource": about, "scopeSpans": [scope]}]}


def _without(answer: Response) -> Response:
    metadata = {name: value for name, value in answer.metadata.items() if name != KEPT}
    return replace(answer, metadata=metadata)


def _find_session(branch: Sequence[Said]) -> str | None:
    return next((r.session for r in branch if not isinstance(r, Response) and r.session), None)


def _write_event(one: Feedback) -> Object:
    attributes = {name: getattr(one, field) for name, field in JUDGED.items()}
    time = 0 if one.time is None else to_number(one.time) * 1000
    return {
        "name": EVALUATION,
        "timeUnixNano": str(time),
        "attributes": write_attributes({**attributes, **(one.metadata.get(KEPT) or {})}),
    }


def _dump(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _read_attributes(listed: Json) -> Object:
    return {one["key"]: _read_value(one["value"]) for one in listed}


def _read_value(value: Object) -> Json:
    if "arrayValue" in value:
        return [_read_value(one) for one in value["arrayValue"].get("values", [])]
    if "kvlistValue" in value:
        return _read_attributes(value["kvlistValue"].get("values", []))
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)


def write_attributes(attributes: Mapping[str, Json]) -> list[Object]:
    """Return attributes as OTLP writes them; those that are None are left out."""
    return [
        {"key": name, "value": _write_value(value)}
        for name, value in attributes.items()
        if value is not None
    ]


def _write_value(value: Json) -> Object:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_write_value(one) for one in value]}}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": write_attributes(value)}}
    return {"stringValue": "" if value is None else str(value)}
