"""Records of conversations, in the three forms that are common, as turns."""

from __future__ import annotations

from collections import Counter
from typing import Any

from genjax.data.chat import Template, Turn
from genjax.data.images import note
from genjax.data.json_records import text_of
from genjax.errors import UserError

FORMS = {"messages": ("role", "content"), "conversations": ("from", "value")}  # of OpenAI and of ShareGPT
EMPTY: tuple[Any, ...] = (None, [], "", {})  # values of a field that says nothing
SIDES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}

Left = Counter[tuple[str, str]]  # how often a field of "messages" or "records" is passed over


def turns_of(record: Any, where: str, template: Template, joint: str, left: Left) -> tuple[Turn, ...]:
    """The turns of a record: ``messages``, ``conversations``, or ``instruction`` and ``output``.

    A ``system`` text may stand beside each of them.

    Args:
      joint: what stands between an instruction and its ``input``, where that is not empty.
      left: counts what of a record and its messages is passed over.

    Raises:
      UserError: the record is none of these, or a field holds no text; it is named.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where} is no JSON object", where)
    form = next((form for form in FORMS if record.get(form) not in EMPTY), None)
    answered = {"instruction", "output"} <= record.keys()
    if form is None and not answered:
        form = next((form for form in FORMS if record.get(form) is not None), None)
    if form is None and not answered:
        known = ", ".join(record) or "none"
        raise UserError(f"{where} has neither messages nor instruction and output, but {known}", where)
    taken = {"system", "instruction", "input", "output"} if form is None else {"system", form}
    left.update(("records", name) for name, value in record.items() if name not in taken and value not in EMPTY)
    system = text_of(record, "system", where)
    if form is None:
        asked, added, answer = (text_of(record, f, where) for f in ("instruction", "input", "output"))
        question = asked + joint + added if added else asked
        turns: tuple[Turn, ...] = (Turn(template.user, question), Turn(template.assistant, answer))
    else:
        turns = _messages(record[form], form, where, template, left)
    if system and any(role == "system" for role, _ in turns):
        raise UserError(f"{where} has a system text and a message of the system", "system")
    return (Turn("system", system), *turns) if system else turns


def _messages(messages: Any, form: str, where: str, template: Template, left: Left) -> tuple[Turn, ...]:
    if not isinstance(messages, list):
        raise UserError(f"{where} has {form} that are no list", form)
    speaks, says = names = FORMS[form]
    turns = []
    for number, message in enumerate(messages, 1):
        place = f"message {number} of {where}"
        if not isinstance(message, dict) or message.get(speaks) is None or message.get(says) is None:
            raise UserError(f"{place} has no {speaks} and {says}", form)
        role = text_of(message, speaks, place)
        if form == "conversations":
            role = SIDES.get(role, role)
        role = {"user": template.user, "assistant": template.assistant}.get(role, role)
        turns.append(Turn(role, _said(message, says, place)))
        left.update(("messages", name) for name, value in message.items() if name not in names and value not in EMPTY)
    return tuple(turns)


def _said(message: Any, says: str, place: str) -> str:
    """The text of a message, which may stand in parts."""
    parts = message[says]
    if not isinstance(parts, list):
        return text_of(message, says, place)
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise UserError(f"{place} holds a part of {kind!r}, not of text", says)
    return "".join(part["text"] for part in parts)


def note_left(left: Left, name: str) -> None:
    """Say which fields of a file are passed over, and how often."""
    for kind in ("messages", "records"):
        many = ", ".join(f"{field} ({count:,})" for (of, field), count in sorted(left.items()) if of == kind)
        if many:
            note(f"fields of {kind} in {name} that are passed over: {many}")
