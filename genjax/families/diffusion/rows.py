"""Sampling options of a diffusion over the rows of a table: conditions, and cells to fill in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.tables.codec import TableCodec
from genjax.data.tables.conditions import Condition, parse_condition
from genjax.data.tables.gaps import Gaps, read_gaps
from genjax.errors import UserError

WHERE = "sampler.where"


@dataclass(frozen=True)
class DrawRows:
    """``RowSampling`` with its condition in the form of the model.

    Attributes:
      steps: number of steps.
      resample: how often each step is taken if cells are known.
      allowed: the values that are allowed of columns that rows are given, by their place in
        ``categorical``.
      fixed: place in ``categorical``, value there, and number of columns that have one value.
      condition: what rows must hold, None for anything.
      tries: rounds of drawing.
    """

    steps: int
    resample: int
    allowed: tuple[tuple[int, tuple[int, ...]], ...] = ()
    fixed: tuple[tuple[int, int, float], ...] = ()
    condition: Condition | None = None
    tries: int = 100

    def select(self, samples: np.ndarray, codec: TableCodec) -> np.ndarray | None:
        """Return for which samples [N, D] the condition holds, bool [N]; None without one."""
        return None if self.condition is None else self.condition.holds(codec.decode(samples))


@checks.frozen
class RowSampling:
    """How rows are drawn.

    Attributes:
      steps: number of steps from noise to a row.
      where: condition on the rows, such as "income='>50K' and age>=30"; "" for none. Of the column
        that rows are given, only values that fit are drawn; rows that do not fit otherwise are
        drawn again, so that the rows are those of the model, conditioned.
      replace: whether the columns of ``where`` that must have one value get it in every step
        instead, as known cells do: approximate, for values that are too rare to wait for.
      fill: CSV file whose empty cells are filled in, given the others, which stay as they are; None
        draws new rows.
      resample: how often each step is taken if cells are known (RePaint: Lugmayr et al., arXiv
        2201.09865); more is more exact.
      tries: rounds of drawing until every row must fit.
    """

    steps: int = 100
    where: str = ""
    replace: bool = False
    fill: str | None = None
    resample: int = 10
    tries: int = 100

    def __post_init__(self) -> None:
        checks.between(self, 1, 100_000, "steps")
        checks.at_least(self, 1, "resample", "tries")
        if self.where and self.fill is not None:
            raise UserError("where and fill do not go together: give one", "sampler.fill")

    @property
    def runs(self) -> Mapping[str, str]:
        """Other runs that drawing needs: none."""
        return {}

    def encode(self, codec: Component, others: Mapping[str, Any]) -> DrawRows:
        """Return the options with the condition in the form of the model.

        Raises:
          UserError: the condition has another form, or names an unknown column or value.
        """
        plain = DrawRows(self.steps, self.resample, tries=self.tries)
        if not self.where:
            return plain
        condition = parse_condition(self.where, codec.values, WHERE)
        allowed, fixed = [], []
        names = [column.name for column in codec.columns]
        for place in codec.find_conditions():
            column = codec.columns[place]
            cells = np.array(column.values, object)
            kept = np.ones(len(cells), bool)
            for one in condition.comparisons:
                if one.column == column.name:
                    kept &= one.holds({column.name: cells})
            if not kept.any():
                raise UserError(f"{WHERE}: no value of {column.name!r} fits {self.where!r}", WHERE)
            allowed.append((place, tuple(np.flatnonzero(kept).tolist())))
        given = {names[place] for place, _ in allowed}
        for one in condition.comparisons if self.replace else ():
            single = one.operator == "in" and len(one.values) == 1 and one.column not in given
            if single and one.column in names:
                place = names.index(one.column)
                fixed.append((place, *_encode_value(codec, place, one.values[0])))
        return DrawRows(
            self.steps, self.resample, tuple(allowed), tuple(fixed), condition, self.tries
        )

    def read_incomplete(self, codec: Component) -> Gaps | None:
        """Return the rows of ``fill``; None without it.

        Raises:
          UserError: the file cannot be read, or has a column or value that the run does not know.
        """
        if self.fill is None:
            return None
        if not isinstance(codec, TableCodec):
            raise UserError("fill needs a run that has learned a table", "sampler.fill")
        return read_gaps(self.fill, codec)


def _encode_value(codec: TableCodec, place: int, value: Any) -> tuple[int, float]:
    """Return the value of a column in ``categorical``, and its number, 0 for categories."""
    if place < len(codec.numbers):
        within, mode = codec.numbers[place].encode(np.array([value], np.float64))
        return int(mode[0]), float(within[0])
    column = codec.categories[place - len(codec.numbers)]
    return int(column.encode(np.array([value], object))[0]), 0.0
