"""Parse the results that the docstring of a config states, its lab notes: the numbers that it
reached, and what others published.

A result is a block of the docstring: the line ``Result:``, then indented lines ``key: text`` up to
the next empty line. A line that is indented further continues the one above it.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from genjax.errors import UserError

NOT_RUN = "not yet run"
NUMBER = r"\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Result:
    """One number, or one for each seed, that a config reached.

    Attributes:
      command: the command that trains the config.
      data: what it is trained on.
      metric: what the value measures, with its unit.
      value: the numbers, as they are written; empty where the config is not yet run.
      error: standard errors, one for each value or one for all.
      seeds: the random seeds, one for each value.
      minutes: the time of training, as text: `12`, `8 to 16` or one for each seed.
      hardware: what it ran on.
      baseline: what the value is compared with, measured here.
      published: the number that others reached, with its protocol and source.
      reason: why the config is not yet run.
      planned: the machine that the config is for, where it is not yet run as none was at hand; its
        plan is in docs/plans.json.
      sibling: the config for a small machine that stands beside a planned one.
      kept: where each value is read from, as pairs of a folder of docs/runs and a name in its
        eval.json, written `folder:name`.
    """

    command: str
    data: str
    metric: str = ""
    value: tuple[Decimal, ...] = ()
    error: tuple[Decimal, ...] = ()
    seeds: tuple[int, ...] = ()
    minutes: str = ""
    hardware: str = ""
    baseline: str = ""
    published: str = ""
    reason: str = ""
    planned: str = ""
    sibling: str = ""
    kept: tuple[tuple[str, str], ...] = ()


KEYS = tuple(field.name for field in dataclasses.fields(Result))


def read_note(source: str) -> str:
    """Return the docstring of a config from its source, without importing it; "" without one.

    Raises:
      SyntaxError, ValueError, RecursionError, MemoryError: it is not Python.
    """
    return ast.get_docstring(ast.parse(source)) or ""


def parse(note: str, path: str) -> tuple[Result, ...]:
    """Parse all blocks of a docstring; `path` names the file in errors."""
    return tuple(parse_block(block, path) for block in blocks(note))


def blocks(note: str) -> Iterator[list[str]]:
    """Yield the indented lines of each block, continued lines joined."""
    block: list[str] | None = None
    for line in note.splitlines():
        if line.rstrip() == "Result:":
            if block is not None:
                yield block
            block = []
        elif block is not None and not line.strip():
            yield block
            block = None
        elif block and line.startswith(" " * 5):
            block[-1] += " " + line.strip()
        elif block is not None:
            block.append(line.strip())
    if block is not None:
        yield block


def parse_block(lines: list[str], path: str) -> Result:
    """Parse the lines of one block.

    Raises:
      UserError: a key is unknown, stated twice or missing, or a text breaks a rule of its key.
    """
    texts: dict[str, str] = {}
    for line in lines:
        key, colon, text = (part.strip() for part in line.partition(":"))
        if not colon or not text:
            raise UserError(f"{path}: a result needs lines `key: text`, got {line!r}", field=path)
        if key not in KEYS:
            known = ", ".join(KEYS)
            raise UserError(f"{path}: unknown key {key!r} in a result; known: {known}", field=path)
        if key in texts:
            raise UserError(f"{path}: a result has {key!r} twice", field=path)
        texts[key] = text
    missing = [key for key in ("command", "data", "value") if key not in texts]
    if missing:
        raise UserError(f"{path}: a result lacks {', '.join(missing)}", field=path)
    value, error, seeds, kept = (texts.pop(key, "") for key in ("value", "error", "seeds", "kept"))
    if not re.fullmatch(r"(\d+(, *\d+)*)?", seeds):
        raise UserError(f"{path}: seeds must be whole numbers >= 0, got {seeds!r}", field=path)
    if not re.fullmatch(r"(\w+:[\w/.@]+(, *\w+:[\w/.@]+)*)?", kept):
        raise UserError(f"{path}: kept must be like `folder:name`, got {kept!r}", field=path)
    result = Result(
        value=() if value == NOT_RUN else decimals("value", value, path),
        error=decimals("error", error, path),
        seeds=tuple(int(seed) for seed in seeds.split(",") if seed),
        kept=tuple(_split(pair) for pair in kept.split(",") if pair),
        **texts,
    )
    check(result, path)
    return result


def _split(pair: str) -> tuple[str, str]:
    folder, _, name = pair.strip().partition(":")
    return folder, name


def decimals(key: str, text: str, path: str) -> tuple[Decimal, ...]:
    """Parse numbers between commas; they keep the digits that they are written with."""
    if text and not re.fullmatch(rf"-?{NUMBER}(, *-?{NUMBER})*", text):
        rule = f"numbers between commas{f' or {NOT_RUN!r}' if key == 'value' else ''}"
        raise UserError(f"{path}: {key} must be {rule}, got {text!r}", field=path)
    return tuple(Decimal(part.strip()) for part in text.split(",") if part)


def check(result: Result, path: str) -> None:
    """Raise UserError where the keys of a result contradict each other."""
    count = len(result.value)
    measured = (result.error, result.seeds, result.minutes, result.hardware)
    rest = max(count - 1, 1)
    minutes = rf"(under )?{NUMBER}|{NUMBER} to {NUMBER}|{NUMBER}(, {NUMBER}){{{rest}}}"
    faults = {
        "a value needs a metric": count and not result.metric,
        "only what is not yet run has a reason or a plan": count
        and (result.reason or result.planned),
        "a plan and a sibling need each other": bool(result.planned) != bool(result.sibling),
        "what is not yet run has no error, seeds, minutes or hardware": not count and any(measured),
        f"{count} values need as many seeds": len(result.seeds) not in (0, count),
        f"{count} values need as many of kept": len(result.kept) not in (0, count),
        f"{count} values need one error or as many": len(result.error) not in (0, 1, count),
        "minutes must be like `12`, `under 7`, `8 to 16`, or one number a value": result.minutes
        and not re.fullmatch(minutes, result.minutes),
    }
    for rule, broken in faults.items():
        if broken:
            raise UserError(f"{path}: {rule}", field=path)
