"""Starts a run with the parameters of another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genjax import checks, trees
from genjax.errors import UserError

Rule = tuple[str, str]


@checks.frozen
class StartFrom:
    """Another run whose parameters, averaged ones if it has them, replace the random initial ones.

    Attributes:
      run: run directory of the other run; None for random parameters.
      rules: pairs of a regular expression and its replacement. Each parameter path of the other run
        is renamed by the first pattern that matches, and left out if none does. Without rules, all
        paths stay the same.
      best: whether to use the best checkpoint instead of the newest.
      reshape: regular expressions on paths of parameters that may have another shape, such as a
        longer position table: the common part is loaded, the rest is random.
      variables: regular expressions on paths of variables, such as statistics and codebooks, that
        are loaded, too, if both runs have them in the same shape.
    """

    run: str | None = None
    rules: tuple[Rule, ...] = ()
    best: bool = False
    reshape: tuple[str, ...] = ()
    variables: tuple[str, ...] = ("^(batch_stats|spectral)/", "^(codebook|counts|sums)$")

    def __post_init__(self) -> None:
        if self.run == "":
            raise UserError("start_from.run must be a run directory, got ''", "start_from.run")
        trees.check_syntax("start_from.rules", tuple(pattern for pattern, _ in self.rules))
        trees.check_syntax("start_from.reshape", self.reshape)
        trees.check_syntax("start_from.variables", self.variables)

    def place(self, path: str) -> str | None:
        """Return the new path of a parameter of the other run; None to leave it out."""
        if not self.rules:
            return path
        for pattern, to in self.rules:
            if re.search(pattern, path):
                try:
                    return re.sub(pattern, to, path, count=1)
                except re.error as error:
                    raise UserError(
                        f"start_from.rules: {to!r} cannot replace {pattern!r}: {error}",
                        "start_from.rules",
                    ) from None
        return None


class Started(NamedTuple):
    """The origin of the initial parameters, by path.

    Attributes:
      params: parameters in the structure of the new run.
      loaded: paths loaded from the other run.
      new: paths that the other run does not have.
      left: paths of the other run that were not requested, or have no place here.
      reshaped: descriptions of partly loaded parameters, with both shapes.
    """

    params: Any
    loaded: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]
    reshaped: tuple[str, ...] = ()

    def format_table(self, run: str) -> tuple[str, ...]:
        """Format a table, one line per entry."""
        counts = {name: getattr(self, name) for name in ("loaded", "reshaped", "new", "left")}
        totals = ", ".join(f"{len(paths)} {name}" for name, paths in counts.items())
        rows = [
            f"  {name:<8}  {path}"
            for name, paths in counts.items()
            for path in paths
            if name != "loaded"
        ]
        return (f"began from {run}, parameters: {totals}", *rows)


def transfer_params(params: Any, learned: Any, start: StartFrom) -> Started:
    """Replace ``params`` by those of another run, as the rules say.

    Raises:
      UserError: a rule matches nothing, two parameters go to one path, shapes differ, or there is
          nothing to load.
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
    other = [place for place, (_, leaf) in coming.items() if leaf.shape != here[place].shape]
    reshaped = {
        place: f"{coming[place][0]} {_shape(coming[place][1])} to {place} {_shape(here[place])}"
        for place in other
    }
    wrong = [
        line
        for place, line in reshaped.items()
        if not _may_reshape(start, coming[place][1], here[place], place)
    ]
    if wrong:
        raise UserError(f"parameters of {start.run} do not fit: {'; '.join(wrong)}")
    if not coming:
        raise UserError(
            f"no parameter of {start.run} has a place here; there are {', '.join(here)}"
        )
    trees.check_patterns("start_from.reshape", start.reshape, params)
    for place in other:
        coming[place] = coming[place][0], _overlay(here[place], coming[place][1])
    loaded = tuple(place for place in coming if place not in reshaped)
    new = tuple(path for path in here if path not in coming)
    return Started(
        _replace_leaves(params, coming), loaded, new, tuple(left), tuple(reshaped.values())
    )


def transfer_variables(variables: Any, learned: Any, start: StartFrom) -> Any:
    """Replace ``variables`` by those of another run that ``start`` requests and that have the same
    shape.
    """
    here, coming = dict(trees.named_leaves(variables)), {}
    for path, leaf in trees.named_leaves(learned):
        wanted = any(re.search(pattern, path) for pattern in start.variables)
        if wanted and path in here and here[path].shape == leaf.shape:
            coming[path] = path, leaf
    return _replace_leaves(variables, coming)


def _shape(array: Any) -> list[int]:
    return list(array.shape)


def _may_reshape(start: StartFrom, there: Any, here: Any, place: str) -> bool:
    """Return whether a parameter with another shape may and can be loaded."""
    return there.ndim == here.ndim and any(re.search(pattern, place) for pattern in start.reshape)


def _overlay(here: Any, there: Any) -> Any:
    """Overwrite the common part of ``here`` by ``there``."""
    common = tuple(slice(min(a, b)) for a, b in zip(here.shape, there.shape, strict=True))
    return jnp.asarray(here).at[common].set(there[common])


def _replace_leaves(params: Any, coming: Mapping[str, tuple[str, Any]]) -> Any:
    def one(path: Any, leaf: Any) -> Any:
        found = coming.get(trees.path_string(path))
        return leaf if found is None else found[1]

    return jax.tree_util.tree_map_with_path(one, params)
