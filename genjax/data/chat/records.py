"""Records of conversations, in the three forms that are common, as turns."""

from __future__ import annotations

from collections import Counter
from typing import Any

from genjax.data.chat.template import Template, Turn
from genjax.data.text.json_records import get_text, pass_over
from genjax.errors import UserError

FORMS = {
    "messages": ("role", "content"),
    "conversations": ("from", "value"),
}  # of OpenAI and of ShareGPT
EMPTY: tuple[Any, ...] = (None, [], "", {})  # values of a field that says nothing
SIDES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}


def parse_turns(
    record: Any, where: str, template: Template, joint: str, left: Counter[str]
) -> tuple[Turn, ...]:
    """The turns of a record: ``messages``, ``conversations``, or ``instruction`` and ``output``.

    A ``system`` text may be next to each of them.

    Args:
      joint: what is between an instruction and its ``input``, where that is not empty.
      left: counts what of a record and its messages is skipped, by its field, and texts that are
        null.

    Raises:
      UserError: the record is none of these, or a field holds no text; it is named.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where} is not a JSON object", where)
    form = next((form for form in FORMS if record.get(form) not in EMPTY), None)
    answered = {"instruction", "output"} <= record.keys()
    if form is None and not answered:
        form = next((form for form in FORMS if record.get(form) is not None), None)
    if form is None and not answered:
        known = ", ".join(record) or "none"
        raise UserError(
            f"{where} has neither messages nor instruction and output, but {known}", where
        )
    fields = ("system", "instruction", "input", "output") if form is None else ("system", form)
    pass_over(record, fields, "a record", left)
    system = get_text(record, "system", where, left=left)
    if form is None:
        asked, added, answer = (get_text(record, name, where, left=left) for name in fields[1:])
        question = asked + joint + added if added else asked
        turns: tuple[Turn, ...] = (Turn(template.user, question), Turn(template.assistant, answer))
    else:
        turns = _messages(record[form], form, where, template, left)
    if system and any(role == "system" for role, _ in turns):
        raise UserError(f"{where} has a system text and a message of the system", "system")
    return (Turn("system", system), *turns) if system else turns


def _messages(
    messages: Any, form: str, where: str, template: Template, left: Counter[str]
) -> tuple[Turn, ...]:
    if not isinstance(messages, list):
        raise UserError(f"{where} has {form} that are not a list", form)
    speaks, says = names = FORMS[form]
    turns = []
    for number, message in enumerate(messages, 1):
        place = f"message {number} of {where}"
        if (
            not isinstance(message, dict)
            or message.get(speaks) is None
            or message.get(says) is None
        ):
            raise UserError(f"{place} has no {speaks} and {says}", form)
        role = get_text(message, speaks, place)
        if form == "conversations":
            role = SIDES.get(role, role)
        role = {"user": template.user, "assistant": template.assistant}.get(role, role)
        turns.append(Turn(role, _message_text(message, says, place)))
        pass_over(message, names, "a message", left)
    return tuple(turns)


def _message_text(message: Any, says: str, place: str) -> str:
    """The text of a message, which may be in parts."""
    parts = message[says]
    if not isinstance(parts, list):
        return get_text(message, says, place)
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise UserError(f"{place} holds a part of {kind!r}, not of text", says)
    return "".join(part["text"] for part in parts)
