"""Read preference records, two answers to one prompt, in the common forms."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from genjax.data.chat.records import (
    ASKED,
    EMPTY,
    FORMS,
    pick,
    read_messages,
    read_question,
    read_said,
    read_system,
    strip_after,
    with_system,
)
from genjax.data.chat.template import Template, Turn
from genjax.data.text.json_records import pass_over
from genjax.data.text.record_files import read_records
from genjax.errors import UserError

SIDES = ("chosen", "rejected")
NAMES = {
    "chosen": ("chosen", "preferred_output", "chosen_response"),
    "rejected": ("rejected", "non_preferred_output", "rejected_response"),
}  # of TRL and most others, of OpenAI, of those who name the response
DIFFER = "pairs that answer different prompts skipped"


class ChatPair(NamedTuple):
    """Two answers to one prompt, ``chosen`` and ``rejected``, as turns, and ``where`` they are."""

    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    where: str


def read_pairs(path: Path, template: Template, joint: str, left: Counter[str]) -> list[ChatPair]:
    """Read the pairs of a file.

    Args:
      path: path of a file or folder for ``read_records``.
      template: template whose roles the turns have.
      joint: text between an instruction and its ``input``, if that is not empty.
      left: counts of what was changed or skipped.

    Raises:
      UserError: the file is missing, damaged or empty, or a record lacks a field; the message names
        the record.
    """
    return parse_pairs(read_records(path, left), str(path), template, joint, left)


def parse_pairs(
    records: Iterable[tuple[str, Any]],
    title: str,
    template: Template,
    joint: str,
    left: Counter[str],
) -> list[ChatPair]:
    """The pairs of records, each with where it is; ``title`` is what a person calls all of them.

    Raises:
      UserError: there are none, or a record lacks a field; the record is named.
    """
    read = [parse_pair(record, where, template, joint, left) for where, record in records]
    found = [pair for pair in read if pair is not None]
    if not read:
        raise UserError(f"{title} holds no records", title)
    if not found:
        raise UserError(
            f"chosen and rejected must answer the same prompt, but do not in any of the "
            f"{len(read):,} records of {title}: begin both with the same turns, or give 'prompt'",
            title,
        )
    return found


def parse_pair(
    record: Any, where: str, template: Template, joint: str, left: Counter[str]
) -> ChatPair | None:
    """Return the pair of a record; None, which is counted, if the sides answer different prompts.

    A side is a text, a message, messages, or a text of "Human:" and "Assistant:". The prompt is a
    separate text or messages (``prompt``, ``instruction`` and perhaps ``input``, ``question``,
    ``messages``, ``conversations``), or what both sides begin with.

    Raises:
      UserError: the record has another form; the message names it.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where} must be a JSON object", where)
    names = [_side_name(record, side, where) for side in SIDES]
    before = _prompt(record, where, template, joint, left, tuple(names))
    last = template.assistant
    sides = [read_said(record, name, where, last, template, left) for name in names]
    if before is None:
        system = read_system(record, where, left)
        pass_over(record, ("system", *names), "a record", left)
        alone = all(side == (Turn(last, record[n]),) for n, side in zip(names, sides, strict=True))
        sides = [with_system(system, side, where) for side in sides]
        if alone:
            return _texts(record[names[0]], record[names[1]], system, where, template)
        before = _shared(*sides)
        if not before:
            left[DIFFER] += 1
            return None
        sides = [side[len(before) :] for side in sides]
    elif not before:
        raise UserError(f"{where} has an empty prompt", "prompt")
    else:
        sides = [_without(before, side) for side in sides]
        sides = [strip_after(record.get("prompt"), side, template) for side in sides]
    if any(side[0].role != last for side in sides if side):
        left[DIFFER] += 1
        return None
    for name, side in zip(names, sides, strict=True):
        if not side:
            raise UserError(f"the {name} side of {where} has an empty response", name)
    return ChatPair(before, sides[0], sides[1], where)


def _side_name(record: dict[str, Any], side: str, where: str) -> str:
    found = next((name for name in NAMES[side] if record.get(name) is not None), None)
    if found is not None:
        return found
    there = ", ".join(map(str, itertools.islice(record, 8))) or "none"
    hint = ""
    if "completion" in record and "label" in record:
        hint = ": single answers with labels are not pairs: LabelledAnswers reads them"
    elif any(isinstance(value, list | dict) for value in record.values()) or "winner" in record:
        hint = ": write the better of two answers as 'chosen', the other as 'rejected'"
    raise UserError(f"{where} has no {side!r}; its fields are {there}{hint}", side)


def _prompt(
    record: dict[str, Any],
    where: str,
    template: Template,
    joint: str,
    left: Counter[str],
    names: tuple[str, ...],
) -> tuple[Turn, ...] | None:
    """Return the turns of a separate prompt; None if there is none."""
    asked = pick({n: v for n, v in record.items() if v is not None}, ("prompt", *ASKED))
    form = next((form for form in FORMS if record.get(form) not in EMPTY), None)
    if asked is None and form is None and record.get("input") not in EMPTY:
        asked = "input"  # OpenAI's form: a system text, or messages
    if asked == "input":
        system = read_system(record, where, left)
        pass_over(record, ("system", asked, *names), "a record", left)
        return with_system(
            system, read_said(record, asked, where, template.user, template, left), where
        )
    if asked is not None:
        return read_question(record, asked, where, template, joint, left, names)
    if form is None:
        return None
    system = read_system(record, where, left)
    pass_over(record, ("system", form, *names), "a record", left)
    return with_system(system, read_messages(record[form], form, where, template, left), where)


def _without(before: tuple[Turn, ...], side: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Return a side without a repeated prompt at its beginning."""
    for turns in (before, tuple(turn for turn in before if turn.role != "system")):
        if turns and side[: len(turns)] == turns:
            return side[len(turns) :]
    asked = [turn for turn in before if turn.role != "system"]
    if side and side[0].role == "system" and side[1 : len(asked) + 1] == tuple(asked):
        return side[len(asked) + 1 :]
    return side


def _shared(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Return the turns that both begin with, excluding the last turn of each."""
    pairs = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(chosen[:-1], rejected[:-1], strict=False)
    )
    return tuple(turn for turn, _ in pairs)


def _texts(chosen: str, rejected: str, system: str, where: str, template: Template) -> ChatPair:
    """Return a pair of plain texts that begin with the same words, which are the prompt.

    Raises:
      UserError: they do not.
    """
    alike = itertools.takewhile(
        lambda both: both[0] == both[1], zip(chosen, rejected, strict=False)
    )
    same = "".join(letter for letter, _ in alike)
    while same and not same[-1].isspace():  # whole words only
        same = same[:-1]
    if not same.strip():
        raise UserError(
            f"{where} has no prompt: give it as 'prompt', or begin both sides with it", "prompt"
        )
    cut = len(same.rstrip())
    return ChatPair(
        with_system(system, (Turn(template.user, same[:cut]),), where),
        (Turn(template.assistant, chosen[cut:].lstrip()),),
        (Turn(template.assistant, rejected[cut:].lstrip()),),
        where,
    )
