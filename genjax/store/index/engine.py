"""The contract of index engines, which store rows and find near vectors and matching words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Literal, Protocol, TypeAlias

import numpy as np

from genjax.errors import UserError
from genjax.store.index.facts import Where

Ability: TypeAlias = Literal["filter", "keyword"]
Ranked: TypeAlias = list[tuple[str, float]]  # ids and scores, best first
EXACT = 10_000  # rows below which every vector is compared
EXTRA = "pip install 'genjax-train[store]'"


@dataclass(frozen=True)
class Row:
    """An entry as stored by engines.

    Attributes:
      id: id of the record or chunk.
      text: text for keyword search.
      facts: encoded fields, see ``facts``.
      vector: vector float32 [D] of length 1, or zeros.
    """

    id: str
    text: str
    facts: Mapping[str, str]
    vector: np.ndarray


@dataclass(frozen=True)
class State:
    """The stored state of an index.

    Attributes:
      encoder: id of the encoder of its vectors.
      dimension: dimension of its vectors.
      seq: last change of the store that it contains.
      complete: False while it is being rebuilt.
    """

    encoder: str
    dimension: int
    seq: int = 0
    complete: bool = True

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str, where: str) -> State:
        """Parse a stored state.

        Raises:
          UserError: it is damaged.
        """
        try:
            found = json.loads(text)
            return State(
                str(found["encoder"]),
                int(found["dimension"]),
                int(found["seq"]),
                bool(found["complete"]),
            )
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"index: the state in {where} is damaged: rebuild it", "index"
            ) from None


class Engine(Protocol):
    """Stores rows by id and ranks them. Higher scores are better; ties have no defined order."""

    @property
    def name(self) -> str:
        """Name of the engine, for messages."""

    @property
    def abilities(self) -> frozenset[Ability]:
        """Abilities besides finding near vectors."""

    @property
    def deepest(self) -> int:
        """Largest number of hits."""

    @property
    def parallel(self) -> bool:
        """Whether two threads may search at once."""

    def read_state(self) -> State | None:
        """Return the last state written; None if there is no index yet."""

    def write_state(self, state: State) -> None:
        """Store a state."""

    def create(self, dimension: int) -> None:
        """Create an empty index, replacing an existing one."""

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows, replacing those with the same ids; ids must be distinct."""

    def remove(self, ids: Sequence[str]) -> None:
        """Remove rows; unknown ids are ignored."""

    def near(self, vector: np.ndarray, where: Where | None, k: int) -> Ranked:
        """Return the ``k`` rows that pass with the largest inner products with a vector."""

    def match(self, text: str, where: Where | None, k: int) -> Ranked:
        """Return the ``k`` rows that pass and share a word with the best keyword scores."""

    def count(self) -> int:
        """Return the number of rows."""

    def size(self) -> int:
        """Return the size in bytes, 0 if unknown."""

    def tidy(self, keep: timedelta) -> None:
        """Build or extend the indexes, compact, and remove data replaced before ``keep``."""

    def purge(self) -> None:
        """Write again all files that hold removed rows, so that nothing of these is left.

        Nobody else may write the index meanwhile.
        """

    def close(self) -> None:
        """Release files and connections."""


def missing_package(package: str, what: str) -> UserError:
    """Return the error for a package that is not installed."""
    return UserError(f"{what} needs the package {package}: {EXTRA}", "index")
