"""Columns of a table, of a split or of samples, in the units of the data, as evaluators compare
them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.tables.codec import Columns
from genjax.errors import UserError, unknown_name
from genjax.evaluation.judge import Subject
from genjax.family import require_samples


def check_table(evaluator: str, family: Component, spec: Spec) -> None:
    """Refuse data other than tables and families without samples, with a ``UserError``."""
    if spec.categories is None:
        raise UserError(f"{evaluator} needs a table, but the data are {spec.entry}")
    require_samples(family, evaluator)


def data_columns(subject: Subject, split: str, limit: int | None = None) -> Columns:
    """Return the columns of a split, or of ``limit`` rows evenly spaced over it.

    Raises:
      UserError: the data have no such split.
    """
    if split not in subject.splits:
        raise unknown_name("split", split, subject.splits)
    part = subject.select_part(limit, split)
    batch = part.batch(np.arange(len(part)))
    return _codec(subject).decode_columns(batch["numeric"], batch["categorical"])


def sample_columns(subject: Subject, count: int) -> Columns:
    """Return the columns of this many samples, decoded once for all evaluators."""
    return subject.compute_once(
        ("columns", count), lambda: _codec(subject).decode(subject.draw_samples(count))
    )


def column_label(name: str) -> str:
    """Return the name of a column in results."""
    return "_".join(name.split())


def encode_categories(values: np.ndarray) -> np.ndarray:
    """Convert categories [N], which may be None, to strings that numpy can count and compare."""
    return np.array(["(missing)" if value is None else f"={value}" for value in values])


def _codec(subject: Subject) -> Any:
    return subject.model.codec
