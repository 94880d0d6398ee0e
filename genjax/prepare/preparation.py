"""``Preparation``: a pipeline from raw files to a training set, as a config lists it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from genjax import checks
from genjax.errors import UserError
from genjax.prepare.stage import Stage


@checks.frozen
class Preparation:
    """From raw files to Parquet shards with a data card.

    Attributes:
      readers: of the raw files; all give the same columns.
      stages: what is done to the records, in this order.
      licence: of the data, as the card tells it.
      origin: where the data come from, as the card tells it.
      max_bad: share of all records that may be broken; with more of them the preparation stops.
      shard_mb: megabytes of records in a shard, about; a shard is sorted in memory.
      examples: of what a stage drops, for each reason, in the card.
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
                    f"stages hold dataclasses after genjax.prepare.stage.Stage, not {stage!r}"
                )


class Change(NamedTuple):
    """How often something was done to records.

    Attributes:
      times: that it was done.
      files: in so many files; 0 where that is not known.
      examples: that a card may show.
    """

    times: int
    files: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a stage did.

    Attributes:
      name: of the stage.
      kept: records that went on.
      dropped: records that did not, by reason.
      examples: of those, by reason: (id, what it held).
      remark: of the stage.
      broken: whether what it dropped is damaged.
      inputs: hashes of what it worked by besides the records, by name.
      changed: what it skipped and changed in the records.
    """

    name: str
    kept: int
    dropped: dict[str, int]
    examples: dict[str, list[list[str]]]
    remark: str
    broken: bool
    inputs: dict[str, str]
    changed: dict[str, Change] = field(default_factory=dict)
