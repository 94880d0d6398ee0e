"""Measures whether the children of samples belong to their parents as those of the data do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.tables.codec import Columns
from genjax.data.tables.pictures import marginals
from genjax.data.tables.related import RelatedCodec, name_cell
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.tables.correlations import compute_association
from genjax.evaluation.tables.marginals import total_variation
from genjax.evaluation.tables.rows import (
    check_table,
    data_columns,
    encode_categories,
    sample_columns,
)
from genjax.family import Family

Associations = dict[tuple[str, str], float]  # by the names of both columns

FEW_PAIRS = 30  # fewer siblings than this have no association worth comparing


@checks.frozen
class TabularRelations(Evaluator):
    """Compares the relations of parents and children in samples with those in the evaluated split.

    The data must be a pair of tables, as of ``RelatedTables``. ``orphans`` is the share of the
    children of samples whose key is that of no parent; ``children`` is the mean number of children,
    ``children_held_out`` that of the split. ``cardinality_distance`` is the total variation
    distance of the numbers of children. ``dependence_difference`` is the mean absolute difference
    of the associations, as of ``TabularCorrelations``, of each column of parents with the number of
    children and with each column of their children. ``sibling_difference`` is that of the
    associations of a column of the first with the same column of the second child.

    ``..._train`` are the same for the training rows, which is due to chance;
    ``dependence_difference_shuffled`` and ``sibling_difference_shuffled`` for the training rows
    whose children went to random parents: what a model of each table by itself would get.

    Attributes:
      samples: number of samples, parents with their children.
    """

    samples: int = 2000

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "samples")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        check_table(type(self).__name__, family, spec)

    def __call__(self, subject: Subject) -> Findings:
        codec: Component = subject.model.codec
        if not isinstance(codec, RelatedCodec):
            raise UserError(
                f"TabularRelations needs a pair of tables, got a {type(codec).__name__}"
            )
        held_out = data_columns(subject, subject.split)
        train, samples = data_columns(subject, "train"), sample_columns(subject, self.samples)
        shuffled = shuffle_children(codec, train)
        parents, children = codec.split(samples)
        others = codec.split(held_out)
        numbers = {
            "orphans": float(np.mean(~np.isin(children[codec.key], parents[codec.key])))
            if len(children[codec.key])
            else 0.0,
            "children": float(parents[codec.count].mean()),
            "children_held_out": float(others[0][codec.count].mean()),
        }
        for suffix, rows in (("", samples), ("_train", train)):
            numbers[f"cardinality_distance{suffix}"] = total_variation(
                *(encode_categories(each[codec.count]) for each in (rows, held_out))
            )
        for name, measure in (
            ("dependence", measure_dependence),
            ("sibling", measure_siblings),
        ):
            true = measure(codec, held_out)
            for suffix, rows in (("", samples), ("_train", train), ("_shuffled", shuffled)):
                found = measure(codec, rows)
                apart = [abs(found[pair] - value) for pair, value in true.items() if pair in found]
                numbers[f"{name}_difference{suffix}"] = (
                    float(np.mean(apart)) if apart else float("nan")
                )
        shown = [
            {name: cells for part in parts for name, cells in part.items() if name != codec.key}
            for parts in (others, (parents, children))
        ]
        return Findings(
            numbers,
            {"relations": marginals({subject.split: shown[0], "samples": shown[1]})},
            f"{self.samples:,} samples by {subject.model.family.sampler}, "
            f"{len(others[0][codec.key]):,} parents of {subject.split}",
        )


def measure_dependence(codec: RelatedCodec, columns: Columns) -> Associations:
    """Measure the association of each column of parents with the number of children and with each
    column of children; those are rows of their own, beside their parent's columns.
    """
    parents, children = codec.split(columns)
    owner = children[codec.key].astype(np.int64) - 1
    found: Associations = {}
    for name in codec.parent_columns:
        found[name, codec.count] = _associate(parents[name], parents[codec.count])
        for other in codec.child_columns:
            found[name, other] = _associate(parents[name][owner], children[other])
    return found


def measure_siblings(codec: RelatedCodec, columns: Columns) -> Associations:
    """Measure the association of each column of the first child with that of the second, among
    parents that have both; none with too few.
    """
    there = columns[codec.count].astype(np.int64) >= 2
    if codec.most < 2 or there.sum() < FEW_PAIRS:
        return {}
    return {
        (name, name): _associate(*(columns[name_cell(name, place)][there] for place in (1, 2)))
        for name in codec.child_columns
    }


def shuffle_children(codec: RelatedCodec, columns: Columns) -> Columns:
    """Return wide rows whose children, and numbers of children, are those of random parents, and
    whose children are those of random siblings; the same in every process.
    """
    rng = np.random.default_rng(0)
    number = columns[codec.count].astype(np.int64)
    order = rng.permutation(len(number))
    mixed = columns | {codec.count: columns[codec.count][order]}
    slots = np.arange(1, codec.most + 1)
    old = np.argwhere(number[:, None] >= slots)  # row and place of each child, [M, 2]
    new = np.argwhere(number[order][:, None] >= slots)
    old = rng.permutation(old)
    for name in codec.child_columns:
        cells = np.stack([columns[name_cell(name, place)] for place in slots.tolist()], 1)
        moved = np.full_like(cells, np.nan if cells.dtype.kind == "f" else None)
        moved[new[:, 0], new[:, 1]] = cells[old[:, 0], old[:, 1]]
        mixed |= {name_cell(name, place): moved[:, place - 1] for place in slots.tolist()}
    return mixed


def _associate(a: np.ndarray, b: np.ndarray) -> float:
    return compute_association(
        *(x if x.dtype.kind == "f" else encode_categories(x) for x in (a, b))
    )
