"""What an engine of the index does: keeps rows, finds near vectors and matching words."""

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
    """An entry as engines keep it.

    Attributes:
      id: of the record or chunk.
      text: what words are searched in.
      facts: texts by field, see ``facts``.
      vector: float32 [D] of length 1, or of zeros.
    """

    id: str
    text: str
    facts: Mapping[str, str]
    vector: np.ndarray


@dataclass(frozen=True)
class State:
    """What an index remembers of itself.

    Attributes:
      encoder: the id of the encoder of its vectors.
      dimension: of its vectors.
      seq: the last change of the store that it holds.
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
        """Reads it back.

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
    """Keeps rows by id and ranks them. Scores are higher the better; order of equals is free."""

    @property
    def name(self) -> str:
        """Of the engine, for messages."""

    @property
    def abilities(self) -> frozenset[Ability]:
        """What it can do besides finding near vectors."""

    @property
    def deepest(self) -> int:
        """Hits that it returns at most."""

    @property
    def parallel(self) -> bool:
        """Whether two threads may search at once."""

    def read_state(self) -> State | None:
        """What was written last; None where there is no index yet."""

    def write_state(self, state: State) -> None:
        """Keep a state."""

    def create(self, dimension: int) -> None:
        """Make an empty index, in place of one that is there."""

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows, each in place of one of the same id; no id occurs twice."""

    def remove(self, ids: Sequence[str]) -> None:
        """Remove rows; ids that are not there are passed over."""

    def near(self, vector: np.ndarray, where: Where | None, k: int) -> Ranked:
        """Return the ``k`` rows of the largest inner product with a vector among those that
        pass.
        """

    def match(self, text: str, where: Where | None, k: int) -> Ranked:
        """Return the ``k`` rows of the best keyword score among those that pass and share a
        word.
        """

    def count(self) -> int:
        """Return the number of rows."""

    def size(self) -> int:
        """Bytes that it takes, as far as it can tell; 0 where it cannot."""

    def tidy(self, keep: timedelta) -> None:
        """Build or extend the indexes, compact, and clean what was replaced before ``keep``."""

    def close(self) -> None:
        """Give back files and connections."""


def missing_package(package: str, what: str) -> UserError:
    """Return the error for a package that is not installed."""
    return UserError(f"{what} needs the package {package}: {EXTRA}", "index")
