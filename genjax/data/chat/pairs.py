"""Records of two answers to one prompt, of which one is preferred, in the forms that are common."""

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
    """Two answers to one prompt, ``chosen`` preferred to ``rejected``, as turns, and ``where`` a
    person finds them.
    """

    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    where: str


def read_pairs(path: Path, template: Template, joint: str, left: Counter[str]) -> list[ChatPair]:
    """The pairs of a file.

    Args:
      path: as ``read_records`` reads it.
      template: whose roles the turns are of.
      joint: what is between an instruction and its ``input``, where that is not empty.
      left: counts what was changed or skipped.

    Raises:
      UserError: the file is missing, damaged or empty, or a record lacks a field; the record is
        named.
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
            f"the chosen and the rejected side of each of the {len(read):,} records of {title} "
            "answer different prompts: both must begin with the same turns, or 'prompt' hold them",
            title,
        )
    return found


def parse_pair(
    record: Any, where: str, template: Template, joint: str, left: Counter[str]
) -> ChatPair | None:
    """The pair of a record; None, which is counted, where both sides have a prompt of their own.

    A side is a text, a message, messages, or a text of "Human:" and "Assistant:". The prompt is
    beside them as a text or messages (``prompt``, ``instruction`` and perhaps ``input``,
    ``question``, ``messages``, ``conversations``), or what both sides begin with.

    Raises:
      UserError: the record is not of that form; it is named.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where} is not a JSON object", where)
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
        hint = ": answers with a label each are no pairs; write a good and a bad one to a prompt"
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
    """The turns that are beside both sides; None where there are none."""
    asked = pick({n: v for n, v in record.items() if v is not None}, ("prompt", *ASKED))
    form = next((form for form in FORMS if record.get(form) not in EMPTY), None)
    if asked is None and form is None and record.get("input") not in EMPTY:
        asked = "input"  # with a system text, or the messages of OpenAI's form
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
    """A side without the prompt, which some write in front of it once more."""
    for turns in (before, tuple(turn for turn in before if turn.role != "system")):
        if turns and side[: len(turns)] == turns:
            return side[len(turns) :]
    asked = [turn for turn in before if turn.role != "system"]
    if side and side[0].role == "system" and side[1 : len(asked) + 1] == tuple(asked):
        return side[len(asked) + 1 :]
    return side


def _shared(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns that both begin with, without a last one of each."""
    pairs = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(chosen[:-1], rejected[:-1], strict=False)
    )
    return tuple(turn for turn, _ in pairs)


def _texts(chosen: str, rejected: str, system: str, where: str, template: Template) -> ChatPair:
    """A pair of plain texts that begin with the same words, which are the prompt.

    Raises:
      UserError: they do not.
    """
    alike = itertools.takewhile(
        lambda both: both[0] == both[1], zip(chosen, rejected, strict=False)
    )
    same = "".join(letter for letter, _ in alike)
    while same and not same[-1].isspace():  # of whole words
        same = same[:-1]
    if not same.strip():
        raise UserError(
            f"{where} has no prompt: write it as 'prompt', or in front of both sides", "prompt"
        )
    cut = len(same.rstrip())
    return ChatPair(
        with_system(system, (Turn(template.user, same[:cut]),), where),
        (Turn(template.assistant, chosen[cut:].lstrip()),),
        (Turn(template.assistant, rejected[cut:].lstrip()),),
        where,
    )
