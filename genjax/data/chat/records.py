"""Read records of conversations, in the common forms, as turns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from genjax.data.chat.dialogue import split_dialogue
from genjax.data.chat.template import Template, Turn
from genjax.data.text.json_records import get_text, pass_over
from genjax.errors import UserError

FORMS = {
    "messages": ("role", "content"),
    "conversations": ("from", "value"),
    "conversation": ("role", "content"),
}  # of OpenAI and TRL, of ShareGPT, and of those who name one conversation
ASKED = ("instruction", "prompt", "question", "query")
BELOW = ("input", "context")
ANSWERED = ("output", "completion", "response", "answer")
PAIR = ("chosen", "rejected")
CALLS = ("tool_calls", "function_call")  # of OpenAI, beside the content or in its place
EMPTY: tuple[Any, ...] = (None, [], "", {})  # values of an empty field
SIDES = {
    "human": "user",
    "developer": "system",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
}


def parse_turns(
    record: Any, where: str, template: Template, joint: str, left: Counter[str]
) -> tuple[Turn, ...]:
    """Return the turns of a record in one of the known forms.

    These are ``messages`` or ``conversations``; a question and an answer, each a text or messages,
    such as ``instruction`` and ``output`` or ``prompt`` and ``completion``; and a ``text`` of
    "Human:" and "Assistant:". Each may come with a ``system`` text.

    Args:
      record: record to read.
      where: place of the record, for messages.
      template: template whose roles the turns have.
      joint: text between an instruction and its ``input``, if that is not empty.
      left: counts of skipped fields, by name, and of texts that are null.

    Raises:
      UserError: the record has another form, or a field is not a text; the message names it.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where} must be a JSON object", where)
    form = next((form for form in FORMS if record.get(form) not in EMPTY), None)
    asked, answer = pick(record, ASKED), pick(record, ANSWERED)
    if form is None and (asked is None or answer is None):
        form = next((form for form in FORMS if record.get(form) is not None), None)
    if form is not None:
        system = read_system(record, where, left)
        pass_over(record, ("system", form), "a record", left)
        return with_system(system, read_messages(record[form], form, where, template, left), where)
    if asked is not None and answer is not None:
        if isinstance(record.get("label"), bool):
            raise UserError(
                f"{where} has a label that says whether the answer is good: read such records with "
                "LabelledAnswers, or keep only those with label true, and remove the label",
                "label",
            )
        turns = read_question(record, asked, where, template, joint, left, (answer,))
        said = read_said(record, answer, where, template.assistant, template, left)
        return (*turns, *strip_after(record[asked], said, template))
    if isinstance(text := record.get("text"), str):
        found = split_dialogue(text, template.user, template.assistant)
        if found is not None:
            pass_over(record, ("system", "text"), "a record", left)
            return with_system(read_system(record, where, left), found, where)
    raise UserError(f"{where} {_explain(record)}", where)


def pick(record: dict[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of these fields that is not empty, else the first that exists, or None."""
    full = (name for name in names if record.get(name) not in EMPTY)
    return next(full, None) or next((name for name in names if name in record), None)


def _explain(record: dict[str, Any]) -> str:
    """Say why a record is not a conversation, and what to do about it."""
    known = ", ".join(map(str, record)) or "none"
    if set(PAIR) & record.keys():
        return "has a chosen and a rejected answer: read such records with the source Preferences"
    if isinstance(record.get("text"), str):
        return (
            "has plain text without 'Human:' and 'Assistant:': read it with the source TextTables"
        )
    if isinstance(record.get("completions", record.get("responses")), list):
        return f"has several answers: give the one to learn as 'completion'; it has {known}"
    return (
        f"must have messages, instruction and output, prompt and completion, or question and "
        f"answer, got {known}"
    )


def read_question(
    record: dict[str, Any],
    asked: str,
    where: str,
    template: Template,
    joint: str,
    left: Counter[str],
    others: tuple[str, ...],
) -> tuple[Turn, ...]:
    """Return the turns before an answer: a system text, and a question with its input, or messages.

    Args:
      record: record to read.
      asked: field of the question.
      where: place of the record, for messages.
      template: template whose roles the turns have.
      joint: text between an instruction and its ``input``, if that is not empty.
      left: counts of skipped fields.
      others: fields that are read elsewhere.
    """
    system = read_system(record, where, left)
    turns = (
        *_read_history(record, where, template),
        *read_said(record, asked, where, template.user, template, left),
    )
    below = BELOW if asked != "prompt" else ()
    pass_over(record, ("system", "history", asked, *below, *others), "a record", left)
    added = next(filter(None, (get_text(record, name, where, left=left) for name in below)), "")
    if added:
        *before, last = turns
        turns = (*before, Turn(last.role, last.text + joint + added if last.text else added))
    return with_system(system, turns, where)


def _read_history(record: dict[str, Any], where: str, template: Template) -> tuple[Turn, ...]:
    """Return the earlier turns of an Alpaca record: pairs of a question and its answer, also as
    JSON.
    """
    history = record.get("history")
    if isinstance(history, str):
        try:
            history = json.loads(history or "[]")
        except (ValueError, RecursionError):
            history = (history,)
    pairs = history or []
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in pairs
    ):
        raise UserError(
            f"history of {where} must be pairs of an earlier question and its answer", "history"
        )
    roles = (template.user, template.assistant)
    return tuple(Turn(role, text) for pair in pairs for role, text in zip(roles, pair, strict=True))


def read_system(record: dict[str, Any], where: str, left: Counter[str]) -> str:
    return get_text(record, "system", where, left=left)


def with_system(system: str, turns: tuple[Turn, ...], where: str) -> tuple[Turn, ...]:
    """Put a separate system text before the turns, which must not have their own."""
    if system and any(role == "system" for role, _ in turns):
        raise UserError(f"{where} must not have both 'system' and a system message", "system")
    return (Turn("system", system), *turns) if system else turns


def read_said(
    record: dict[str, Any],
    field: str,
    where: str,
    role: str,
    template: Template,
    left: Counter[str],
) -> tuple[Turn, ...]:
    """Return the turns in a field: a text of ``role``, a text of "Human:" and "Assistant:", a
    message, or a list of messages, also as JSON.

    Raises:
      UserError: it is none of these.
    """
    value = record.get(field)
    if isinstance(value, str) and value.lstrip()[:2] in ("[{", '{"'):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = record[field]
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, dict) and {"role", "from"} & value.keys():
        value = [value]
    if isinstance(value, list) and (not value or isinstance(value[0], dict)):
        return read_messages(value, field, where, template, left)
    if isinstance(value, dict | list) and field in (*ANSWERED, *PAIR):
        raise UserError(
            f"{field!r} of {where} must be a text or messages with role and content, got "
            f"{type(value).__name__}",
            field,
        )
    text = get_text(record | {field: record.get(field)}, field, where, left=left)
    found = split_dialogue(text, template.user, template.assistant)
    return found if found else (Turn(role, text),)


def strip_after(asked: Any, said: tuple[Turn, ...], template: Template) -> tuple[Turn, ...]:
    """Strip the name and the blanks from an answer to a prompt of the form "Human: … Assistant:";
    return other answers unchanged.
    """
    if not isinstance(asked, str) or len(said) != 1:
        return said
    if split_dialogue(asked, template.user, template.assistant) is None:
        return said
    text = said[0].text.strip()
    return (Turn(said[0].role, text.removeprefix("Assistant:").lstrip()),)


def read_messages(
    messages: Any, form: str, where: str, template: Template, left: Counter[str]
) -> tuple[Turn, ...]:
    """Return the turns of a list of messages with role and content, or as in ShareGPT; in a table
    the list is JSON.
    """
    if isinstance(messages, str):
        try:
            messages = json.loads(messages)
        except (ValueError, RecursionError):
            raise UserError(f"{form} of {where} must be a list", form) from None
    if not isinstance(messages, list):
        raise UserError(f"{form} of {where} must be a list", form)
    turns = []
    for number, message in enumerate(messages, 1):
        place = f"message {number} of {where}"
        speaks, says = names = _names(message, form)
        if isinstance(message, dict) and any(message.get(name) for name in CALLS):
            raise UserError(
                f"{place} calls a tool, which is not a text: leave such conversations out, or "
                f"write the call as its {says}",
                form,
            )
        if (
            not isinstance(message, dict)
            or message.get(speaks) is None
            or message.get(says) is None
        ):
            raise UserError(f"{place} must have {speaks} and {says}", form)
        role = get_text(message, speaks, place)
        role = SIDES.get(role.lower(), role)
        role = {"user": template.user, "assistant": template.assistant}.get(role.lower(), role)
        turns.append(Turn(role, _message_text(message, says, place)))
        pass_over(message, names, "a message", left)
    return tuple(turns)


def _names(message: Any, form: str) -> tuple[str, str]:
    """Return the names of the fields for the role and the content of a message."""
    usual = FORMS.get(form, FORMS["messages"])
    known = (usual, *(names for names in FORMS.values() if names != usual))
    there = message.keys() if isinstance(message, dict) else set()
    return next((names for names in known if set(names) <= there), usual)


def _message_text(message: Any, says: str, place: str) -> str:
    """Return the text of a message, which may consist of parts."""
    parts = message[says]
    if not isinstance(parts, list):
        return get_text(message, says, place)
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise UserError(f"{says} of {place} must consist of texts, got {kind!r}", says)
    return "".join(part["text"] for part in parts)
