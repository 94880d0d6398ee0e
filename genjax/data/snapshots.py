"""Sources whose examples may change during a run, which keeps those that it started with."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

from etils import epath

from genjax.checks import Component
from genjax.data.dataset import Dataset


class Frozen(Protocol):
    """A source whose examples are fixed."""

    def open(self) -> Dataset:
        """Open the fixed examples."""
        ...

    def keep(self, run_dir: epath.Path) -> None:
        """Write the examples into a run directory, unless they are there already."""
        ...

    def finish(self, run_dir: epath.Path, step: int) -> None:
        """Record at the origin of the examples that a checkpoint was trained on them."""
        ...


@runtime_checkable
class Changing(Protocol):
    """A source whose examples may change."""

    def freeze(self, run_dir: epath.Path | None) -> Frozen:
        """Fix the examples: those stored in a run directory, or else the current ones."""
        ...


def freeze(source: Component, run_dir: epath.Path | None) -> tuple[Component, tuple[Frozen, ...]]:
    """A source with all that may change in it frozen, and those parts.

    Args:
      run_dir: of the run; None takes what there is now.
    """
    if isinstance(source, Changing):
        frozen = source.freeze(run_dir)
        return frozen, (frozen,)
    found: tuple[Frozen, ...] = ()
    changed: dict[str, Component] = {}
    names = {f.name for f in dataclasses.fields(source)} if dataclasses.is_dataclass(source) else ()
    if "source" in names and dataclasses.is_dataclass(source.source):
        inner, found = freeze(source.source, run_dir)
        changed = {"source": inner} if found else {}
    if "sources" in names and isinstance(source.sources, tuple):
        parts = [freeze(one, run_dir) for one in source.sources]
        inside = tuple(one for _, some in parts for one in some)
        changed |= {"sources": tuple(one for one, _ in parts)} if inside else {}
        found += inside
    return (dataclasses.replace(source, **changed) if changed else source), found
