"""``Preparation``: the pipeline from raw files to a training set, as written in configs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from genjax import checks
from genjax.errors import UserError
from genjax.prepare.stage import Stage


@checks.frozen
class Preparation:
    """Turns raw files into Parquet shards with a data card.

    Attributes:
      readers: readers of the raw files, all with the same columns.
      stages: steps applied to the records, in order.
      licence: licence of the data, for the card.
      origin: origin of the data, for the card.
      max_bad: largest fraction of broken records; with more the preparation stops.
      shard_mb: approximate size of a shard in megabytes; a shard is sorted in memory.
      examples: number of examples of dropped records in the card, for each stage and reason.
    """

    readers: tuple[Any, ...]
    stages: tuple[Any, ...] = ()
    licence: str = "not stated"
    origin: str = "not stated"
    max_bad: float = 0.05
    shard_mb: float = 128.0
    examples: int = 3

    def __post_init__(self) -> None:
        checks.between(self, 0, 1, "max_bad")
        checks.above(self, 0, "shard_mb")
        checks.at_least(self, 0, "examples")
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise UserError(
                    f"stages must be subclasses of genjax.prepare.stage.Stage, got {stage!r}",
                    "stages",
                )


class Change(NamedTuple):
    """How often records were changed in one way.

    Attributes:
      times: number of changes.
      files: number of files with such changes; 0 if unknown.
      examples: examples for the card.
    """

    times: int
    files: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a stage.

    Attributes:
      name: name of the stage.
      kept: number of records kept.
      dropped: number of records dropped, by reason.
      examples: examples of dropped records, by reason: (id, content).
      remark: remark of the stage.
      broken: whether dropped records are damaged.
      inputs: hashes of other inputs of the stage, by name.
      changed: what was skipped and changed in the records.
    """

    name: str
    kept: int
    dropped: dict[str, int]
    examples: dict[str, list[list[str]]]
    remark: str
    broken: bool
    inputs: dict[str, str]
    changed: dict[str, Change] = field(default_factory=dict)
