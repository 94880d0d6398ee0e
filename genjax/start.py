"""Parameters of a trained run as the start of another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from genjax import trees
from genjax.errors import UserError

Rule = tuple[str, str]


@dataclass(frozen=True)
class StartFrom:
    """Another run whose parameters, averaged ones where it has them, a run begins with instead of random ones.

    Attributes:
      run: its directory; None for no other: all parameters are random.
      rules: pairs of a regular expression and what stands in its place: a path of that run's parameters goes where the
        first that is found in it says, and is left out where none is. Without rules all go to the path of their own.
      best: from its best checkpoint instead of the newest.
    """

    run: str | None = None
    rules: tuple[Rule, ...] = ()
    best: bool = False

    def __post_init__(self) -> None:
        if self.run == "":
            raise UserError("start_from.run names the directory of a run")
        trees.check_syntax("start_from.rules", tuple(pattern for pattern, _ in self.rules))

    def place(self, path: str) -> str | None:
        """Where a parameter of that run goes."""
        if not self.rules:
            return path
        for pattern, to in self.rules:
            if re.search(pattern, path):
                return re.sub(pattern, to, path, count=1)
        return None


class Started(NamedTuple):
    """What of the parameters came from where, by path.

    Attributes:
      params: in the structure of the run that starts.
      loaded: those taken from the other run.
      new: those that it has none for.
      left: those of the other run that were not asked for, or have no place here.
    """

    params: Any
    loaded: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]

    def told(self, run: str) -> tuple[str, ...]:
        """The table, a line each."""
        lines = [f"began from {run}: {len(self.loaded)} parameters loaded, {len(self.new)} new, {len(self.left)} left"]
        return (*lines, *(f"  new   {path}" for path in self.new), *(f"  left  {path}" for path in self.left))


def begun(params: Any, learned: Any, start: StartFrom) -> Started:
    """``params`` with those of another run in the places that the rules say.

    Raises:
      UserError: a rule that matches nothing, two parameters for one place, shapes that differ, or nothing to load.
    """
    trees.check_patterns("start_from.rules", tuple(pattern for pattern, _ in start.rules), learned)
    here = dict(trees.named_leaves(params))
    coming: dict[str, tuple[str, Any]] = {}
    left = []
    for path, leaf in trees.named_leaves(learned):
        place = start.place(path)
        if place is None or place not in here:
            left.append(path)
        elif place in coming:
            raise UserError(f"start_from.rules: {coming[place][0]} and {path} both go to {place}")
        else:
            coming[place] = path, leaf
    wrong = [
        f"{path} {list(leaf.shape)} to {place} {list(here[place].shape)}"
        for place, (path, leaf) in coming.items()
        if leaf.shape != here[place].shape
    ]
    if wrong:
        raise UserError(f"parameters of {start.run} do not fit: {'; '.join(wrong)}")
    if not coming:
        raise UserError(f"no parameter of {start.run} has a place here; there are {', '.join(here)}")
    return Started(_with(params, coming), tuple(coming), tuple(here.keys() - coming.keys()), tuple(left))


def _with(params: Any, coming: Mapping[str, tuple[str, Any]]) -> Any:
    def one(path: Any, leaf: Any) -> Any:
        found = coming.get(trees.path_string(path))
        return leaf if found is None else found[1]

    return jax.tree_util.tree_map_with_path(one, params)
