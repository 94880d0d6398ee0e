"""Records of conversations, in the three forms that are common, as turns."""

from __future__ import annotations

from collections import Counter
from typing import Any

from genjax.data.chat import Template, Turn
from genjax.data.json_records import text_of
from genjax.errors import UserError

FORMS = {"messages": ("role", "content"), "conversations": ("from", "value")}  # of OpenAI and of ShareGPT
SIDES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}


def turns_of(record: Any, where: str, template: Template, joint: str, left: Counter[str]) -> tuple[Turn, ...]:
    """The turns of a record: ``messages``, ``conversations``, or ``instruction`` and ``output``.

    Args:
      joint: what stands between an instruction and its ``input``, where that is not empty.
      left: counts what of a message is passed over, by its field.

    Raises:
      UserError: the record is none of these, or a field holds no text; it is named.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where} is no JSON object", where)
    for form, names in FORMS.items():
        if record.get(form) is not None:
            return _messages(record[form], form, names, where, template, left)
    if not {"instruction", "output"} <= record.keys():
        known = ", ".join(record) or "none"
        raise UserError(f"{where} has neither messages nor instruction and output, but {known}", where)
    system, asked, added, answer = (text_of(record, f, where) for f in ("system", "instruction", "input", "output"))
    question = asked + joint + added if added else asked
    turns = Turn(template.user, question), Turn(template.assistant, answer)
    return (Turn("system", system), *turns) if system else turns


def _messages(
    messages: Any, form: str, names: tuple[str, str], where: str, template: Template, left: Counter[str]
) -> tuple[Turn, ...]:
    if not isinstance(messages, list):
        raise UserError(f"{where} has {form} that are no list", form)
    speaks, says = names
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
        left.update(name for name, value in message.items() if name not in names and value not in (None, [], "", {}))
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
