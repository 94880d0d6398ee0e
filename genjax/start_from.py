"""Parameters of a trained run as the start of another."""

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
    """Another run whose parameters, averaged ones where it has them, a run starts with instead of
    random ones.

    Attributes:
      run: its directory; None for no other: all parameters are random.
      rules: pairs of a regular expression and what stands instead: a path of that run's parameters
        goes where the first that is found in it says, and is left out where none is. Without rules
        all go to the path of their own.
      best: from its best checkpoint instead of the newest.
      reshape: regular expressions on paths here, of parameters that may be of another shape there,
        such as a longer table of positions: what both have in common is loaded, the rest is random.
      variables: regular expressions on paths of what changes without a gradient, such as statistics
        and codebooks; where both have such of one path and shape, it is loaded, too.
    """

    run: str | None = None
    rules: tuple[Rule, ...] = ()
    best: bool = False
    reshape: tuple[str, ...] = ()
    variables: tuple[str, ...] = ("^(batch_stats|spectral)/", "^(codebook|counts|sums)$")

    def __post_init__(self) -> None:
        if self.run == "":
            raise UserError("start_from.run names the directory of a run")
        trees.check_syntax("start_from.rules", tuple(pattern for pattern, _ in self.rules))
        trees.check_syntax("start_from.reshape", self.reshape)
        trees.check_syntax("start_from.variables", self.variables)

    def place(self, path: str) -> str | None:
        """Where a parameter of that run goes."""
        if not self.rules:
            return path
        for pattern, to in self.rules:
            if re.search(pattern, path):
                try:
                    return re.sub(pattern, to, path, count=1)
                except re.error as error:
                    raise UserError(
                        f"start_from.rules: {to!r} cannot stand for {pattern!r}: {error}"
                    ) from None
        return None


class Started(NamedTuple):
    """What of the parameters came from where, by path.

    Attributes:
      params: in the structure of the run that starts.
      loaded: those taken from the other run.
      new: those that it has none for.
      left: those of the other run that were not requested, or have no place here.
      reshaped: those of which a part is loaded, with both shapes.
    """

    params: Any
    loaded: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]
    reshaped: tuple[str, ...] = ()

    def format_table(self, run: str) -> tuple[str, ...]:
        """Return the table, a line each."""
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
    """``params`` with those of another run in the places that the rules say.

    Raises:
      UserError: a rule that matches nothing, two parameters for one place, shapes that differ, or
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
    """``variables`` with those of another run that ``start`` requests and that are of the same
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
    """Return whether a parameter may be of another shape, and can."""
    return there.ndim == here.ndim and any(re.search(pattern, place) for pattern in start.reshape)


def _overlay(here: Any, there: Any) -> Any:
    """``here`` with what ``there`` has of the same places."""
    common = tuple(slice(min(a, b)) for a, b in zip(here.shape, there.shape, strict=True))
    return jnp.asarray(here).at[common].set(there[common])


def _replace_leaves(params: Any, coming: Mapping[str, tuple[str, Any]]) -> Any:
    def one(path: Any, leaf: Any) -> Any:
        found = coming.get(trees.path_string(path))
        return leaf if found is None else found[1]

    return jax.tree_util.tree_map_with_path(one, params)
