"""Read JSON rows as records; the members of a row determine its form."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import replace

from genjax.errors import UserError
from genjax.serial.json_text import Json
from genjax.store.formats.otlp import read_spans
from genjax.store.formats.plain import read_plain
from genjax.store.formats.turns import (
    COLUMNS,
    Object,
    Reading,
    read_completion,
    read_prompt,
    read_turns,
)
from genjax.store.records import Document, Feedback, Payload, Record, Session

ROLES = {  # of ShareGPT
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "function_call": "assistant",
    "observation": "tool",
}
PREFERENCE = "preference"
IMPLICIT = "implicit"  # in the metadata of feedback: its row had no separate prompt
FORMS = "messages, conversations, prompt, chosen and rejected, text, resourceSpans, or kind"


def read_row(row: Json, reading: Reading) -> list[Record]:
    """Read the records of a row, each after those it refers to.

    Raises:
      UserError: the form is unknown or invalid; the message names the member and the row.
    """
    if not isinstance(row, Mapping):
        raise UserError(f"{reading.where} must be an object with members {FORMS}", "row")
    row = {str(name): value for name, value in row.items()}
    if "kind" in row and "origin" in row:
        return [read_plain(row, reading.where)]
    if "resourceSpans" in row:
        return read_spans(row, reading)
    if "messages" in row or "conversations" in row:
        return _read_conversation(row, reading)
    if "chosen" in row and "rejected" in row:
        return _read_preference(row, reading)
    if "prompt" in row:
        return _read_completion(row, reading)
    if "text" in row:
        if not isinstance(row["text"], str):
            raise UserError(f"text must be a text ({reading.where})", "text")
        metadata = _rest(row, ("text",))
        return [Document(**reading.made, payload=Payload(text=row["text"]), metadata=metadata)]
    there = ", ".join(itertools.islice(row, 8)) or "none"
    raise UserError(f"{reading.where} has members {there}; it needs {FORMS}", "row")


def _rest(row: Object, known: Collection[str]) -> Object:
    columns = {name: value for name, value in row.items() if name not in known}
    return {COLUMNS: columns} if columns else {}


def _read_conversation(row: Object, reading: Reading) -> list[Record]:
    shared = "messages" not in row
    name = "conversations" if shared else "messages"
    said = row[name]
    if not isinstance(said, list) or not said:
        raise UserError(f"{name} must be a list, not empty ({reading.where})", name)
    session = Session(**reading.made, metadata=_rest(row, (name, *(("system",) * shared))))
    if shared:
        said = [_read_share(one, number, reading) for number, one in enumerate(said)]
        if isinstance(row.get("system"), str) and row["system"]:
            said = [{"role": "system", "content": row["system"]}, *said]
    return [session, *read_turns(said, replace(reading, session=session.id))]


def _read_share(message: Json, number: int, reading: Reading) -> Object:
    name = f"conversations.{number}"
    if not isinstance(message, Mapping):
        raise UserError(f"{name} must be an object ({reading.where})", name)
    role = ROLES.get(str(message.get("from")))
    if role is None:
        known = ", ".join(ROLES)
        raise UserError(f"{name}.from must be one of {known} ({reading.where})", f"{name}.from")
    if not isinstance(message.get("value"), str):
        raise UserError(f"{name}.value must be a text ({reading.where})", f"{name}.value")
    rest = {key: value for key, value in message.items() if key not in ("from", "value")}
    return {"role": role, "content": message["value"], **rest}


def _read_completion(row: Object, reading: Reading) -> list[Record]:
    if "completion" not in row:
        columns = _rest(row, ("prompt",)).get(COLUMNS, {})
        found = read_prompt(row["prompt"], reading, columns)
        if columns and isinstance(row["prompt"], list):
            last = found[-1]
            found[-1] = replace(last, metadata={**last.metadata, COLUMNS: columns})
        return list(found)
    prompt = read_prompt(row["prompt"], reading, {})
    rated = isinstance(row.get("label"), bool)
    known = ("prompt", "completion", *(("label",) * rated))
    answer = read_completion(
        row["completion"], "completion", prompt[-1], reading, _rest(row, known)
    )
    if not rated:
        return [*prompt, answer]
    value = float(row["label"])
    judged = Feedback(**reading.made, target=answer.id, name="label", value=value)
    return [*prompt, answer, replace(judged, origin="real", generator=None)]


def _read_preference(row: Object, reading: Reading) -> list[Record]:
    implicit = "prompt" not in row
    chosen, rejected = row["chosen"], row["rejected"]
    said: Json = row.get("prompt", "")
    if implicit and isinstance(chosen, list) and isinstance(rejected, list):
        same = 0
        while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
            same += 1
        if same:
            said, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
    prompt = read_prompt(said, reading, {})
    answers = [
        read_completion(value, name, prompt[-1], reading, {})
        for name, value in (("chosen", chosen), ("rejected", rejected))
    ]
    metadata = _rest(row, ("prompt", "chosen", "rejected"))
    made = reading.made | {"origin": "real", "generator": None}
    judged = Feedback(
        **made,
        target=answers[0].id,
        against=answers[1].id,
        name=PREFERENCE,
        value=1.0,
        metadata=metadata | ({IMPLICIT: True} if implicit else {}),
    )
    return [*prompt, *answers, judged]
