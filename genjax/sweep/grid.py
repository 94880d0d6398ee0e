"""The grid of a sweep: the product of the values of its fields, times seeds, and names for it."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from genjax.checks import MAX_SEED
from genjax.config_files import to_json
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.serial.fields import replace_fields
from genjax.sweep.ranges import Range, is_range, read_range
from genjax.sweep.values import Words, list_fields, list_kinds, read_value

SEED = "seed"
LONGEST = 120  # characters of a name


@dataclass(frozen=True)
class Point:
    """One combination of values with a seed.

    Attributes:
      values: values of the fields that options named, and ``seed``, by dotted name.
      experiment: the experiment with these values.
    """

    values: Mapping[str, Any]
    experiment: Experiment


def read_space(
    experiment: Experiment, lists: Mapping[str, Sequence[Words]]
) -> dict[str, Range | list[Any]]:
    """Return the range or the values of each field, for a search; see ``read_values``."""
    fields = list_fields(experiment)
    ranges: dict[str, Range | list[Any]] = {
        name: read_range(several[0][0], set(list_kinds(fields[name])), name)
        for name, several in lists.items()
        if len(several) == 1 and _can_be_range(several[0], fields[name])
    }
    rest = {name: several for name, several in lists.items() if name not in ranges}
    found = read_values(experiment, rest)
    return {name: ranges[name] if name in ranges else found[name] for name in lists}


def _can_be_range(words: Words, hint: Any) -> bool:
    """Return whether words look like a range, where they cannot be a text, such as a path."""
    return is_range(words) and str not in set(list_kinds(hint))


def read_values(
    experiment: Experiment, lists: Mapping[str, Sequence[Words]]
) -> dict[str, list[Any]]:
    """Return the values of each field, of its type.

    Args:
      experiment: the experiment of the config.
      lists: words of each value, see ``values.read_lists``.

    Raises:
      UserError: a value has another type, or is given twice.
    """
    fields = list_fields(experiment)
    found: dict[str, list[Any]] = {}
    for name, several in lists.items():
        if any(_can_be_range(words, fields[name]) for words in several):
            raise UserError(f"{name} has a range, which needs --search, alone", name)
        known: dict[Any, None] = {}
        for words in several:
            value = read_value(words, fields[name], name)
            if (type(value), value) in known:
                raise UserError(f"{name} has the value {' '.join(words)} twice", name)
            known[type(value), value] = None
        found[name] = [value for _, value in known]
    return found


def choose_seeds(experiment: Experiment, given: Sequence[int] | None, count: int) -> Sequence[int]:
    """Return the seeds: those ``given``, or ``count`` from the first on.

    Raises:
      UserError: both a list of seeds and a count above 1 are given, or a seed is too large.
    """
    if given is not None and len(given) > 1:
        if count > 1:
            raise UserError("give a list of seeds (--seed 1,4) or a number (--seeds 2)", "seeds")
        return given
    first = experiment.seed if given is None else given[0]
    if first + count - 1 > MAX_SEED:
        raise UserError(f"seeds must end at {MAX_SEED}, got {count} from {first}", "seeds")
    return range(first, first + count)


def make_points(
    experiment: Experiment, values: Mapping[str, Sequence[Any]], seeds: int, most: int
) -> list[Point]:
    """Return all combinations of the values with all seeds, which vary fastest.

    Args:
      experiment: the experiment of the config.
      values: values of each field.
      seeds: number of seeds.
      most: largest number of combinations.

    Raises:
      UserError: there are too many, or a combination is refused; the message names it.
    """
    chosen = choose_seeds(experiment, values.get(SEED), seeds)
    fields = {name: several for name, several in values.items() if name != SEED}
    sizes = [*map(len, fields.values()), len(chosen)]
    if (count := math.prod(sizes)) > most:
        product = " x ".join(f"{size:,}" for size in sizes)
        raise UserError(
            f"max_runs must be at least the number of runs, {count:,} ({product}), got {most:,}: "
            "give fewer values, or raise --max-runs",
            "max_runs",
        )
    points = []
    for combination in itertools.product(*fields.values()):
        changes = dict(zip(fields, combination, strict=True))
        points += [
            make_point(experiment, {**changes, SEED: seed}, len(fields) > 0) for seed in chosen
        ]
    return points


def make_point(experiment: Experiment, values: Mapping[str, Any], named: bool = True) -> Point:
    """Return one combination.

    Args:
      experiment: the experiment of the config.
      values: value of each field.
      named: whether to name the combination in the message of an error.
    """
    try:
        return Point(values, replace_fields(experiment, values))
    except UserError as error:
        which = ", ".join(f"{name}={write_value(value)}" for name, value in values.items())
        # A component names its own field: find the option that has set it.
        field = next((name for name in values if error.field in name.split(".")), error.field)
        raise UserError(f"{error} ({which})" if named else str(error), field) from None


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """Return a short name for each dotted one: without its first part and a final ``value``, or
    whole if two would be the same.
    """
    short = {}
    for name in names:
        parts = name.split(".")
        parts = parts[:-1] if parts[-1] == "value" and len(parts) > 1 else parts
        short[name] = ".".join(parts[1:] or parts)
    found = list(short.values())
    return {name: word if found.count(word) == 1 else name for name, word in short.items()}


def write_value(value: Any) -> str:
    """Write a value so that equal ones look equal: 0.0001 and 1e-4 are both ``1e-4``."""
    if isinstance(value, tuple | list):
        return "x".join(map(write_value, value)) or "none"
    if isinstance(value, float) and math.isfinite(value):
        plain = repr(value).removesuffix(".0")
        sign, digits, exponent = Decimal(plain).normalize().as_tuple()
        first, *rest = map(str, digits)
        mantissa = f"{'-' * sign}{first}{'.' * bool(rest)}{''.join(rest)}"
        scientific = f"{mantissa}e{int(exponent) + len(rest)}"
        return scientific if len(scientific) < len(plain) or "e" in plain else plain
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def name_run(values: Mapping[str, Any], shown: Sequence[str]) -> str:
    """Return the name of a run's directory: what differs, such as ``learning_rate=1e-4,seed=0``.

    Args:
      values: value of each field, and ``seed``.
      shown: fields that differ between the runs.
    """
    short = shorten_names(shown)
    parts = [f"{short[name]}={write_value(values[name])}" for name in shown]
    whole = ",".join([*parts, f"{SEED}={values[SEED]}"])
    clean = re.sub(r"[^\w.,=+-]", "-", whole, flags=re.ASCII)
    if clean == whole and len(whole) <= LONGEST:
        return whole
    mark = hashlib.sha256(whole.encode()).hexdigest()[:6]
    return f"{clean[:LONGEST]},{mark}"


def digest(experiment: Experiment) -> str:
    """Return what tells experiments apart: the same for equal ones."""
    text = json.dumps(to_json(experiment), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
