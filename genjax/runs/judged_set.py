"""The set that a run is judged on: its own, or another one in the form that it has learned."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from etils import epath

from genjax.checks import Component
from genjax.data.dataset import Codec, Dataset, Spec, Split
from genjax.data.learned_form import ALL, open_in_form
from genjax.errors import UserError
from genjax.experiment import Experiment, differences, is_free, to_json
from genjax.runs import directory
from genjax.runs.setup import open_data

# fields that say how a set is divided, not where it lies
DIVIDING = ("test_fraction", "seed", "split", "validation")


@dataclass(frozen=True)
class JudgedSet:
    """A set to judge a run on.

    Attributes:
      data: opened.
      title: what differs from the run's own set, "" where nothing does.
      names: of its splits.
      remarks: sentences for the reader.
    """

    data: Dataset
    title: str
    names: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def protocol(self) -> str:
        """What protocols say of the set; "" of the run's own."""
        return self.title and f"{self.title}, fingerprint {self.data.fingerprint}"


class WithTraining(Mapping[str, Split]):
    """The splits of another set; "train" is the run's own, opened when an evaluator needs it."""

    def __init__(
        self, splits: Mapping[str, Split], judged: str, experiment: Experiment, run_dir: epath.Path
    ) -> None:
        self.splits, self.judged = splits, judged
        self.experiment, self.run_dir = experiment, run_dir

    def __getitem__(self, name: str) -> Split:
        return self._trained_on if name == "train" != self.judged else self.splits[name]

    @functools.cached_property
    def _trained_on(self) -> Split:
        data = open_data(self.experiment, self.run_dir)
        directory.check_data(self.run_dir, data)
        return data.splits["train"]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.splits, "train")))

    def __len__(self) -> int:
        return len(list(iter(self)))


def open_judged(
    experiment: Experiment,
    run_dir: epath.Path,
    learned: tuple[Spec, Codec],
    split: str,
    source: Component = None,
) -> JudgedSet:
    """Open the set that a run is judged on.

    Args:
      experiment: of the run.
      run_dir: of the run.
      learned: the form of the run's data, and its codec.
      split: that is judged; "all" is every example of another set.
      source: of the set; None for the run's own.

    Raises:
      UserError: it cannot be opened, or does not fit the run.
    """
    own = experiment.data
    source = own if source is None else source
    changed = list(differences(to_json(own), to_json(source), "data"))
    if all(map(is_free, changed)) and split != ALL:
        data = open_data(dataclasses.replace(experiment, data=source), run_dir)
        if directory.is_same_data(run_dir, data):
            return JudgedSet(data, "", tuple(data.splits))
    elif not changed:
        raise UserError(
            "the split 'all' is of another set: name its data (--data....), or one of the run's "
            "own splits",
            "split",
        )
    data = open_in_form(source, *learned, split)
    title = ", ".join(map(_title, changed)) or "the data as they are now"
    splits = WithTraining(data.splits, split, experiment, run_dir)
    names = tuple(dict.fromkeys((*data.splits, ALL)))
    return JudgedSet(
        dataclasses.replace(data, splits=splits), title, names, _remarks(data, split, changed)
    )


def _title(difference: str) -> str:
    """``data.path 'b.csv'`` of the line ``data.path: 'a.csv' -> 'b.csv'``."""
    name, _, values = difference.partition(": ")
    return f"{name} {values.rpartition(' -> ')[2]}"


def _remarks(data: Dataset, split: str, changed: list[str]) -> tuple[str, ...]:
    """What to know of the set next to its fingerprint."""
    found = []
    if not changed:
        found.append(
            "the data have changed since the run began: these are not the examples that it was "
            "trained and watched on"
        )
    names = [line.partition(":")[0].split(".") for line in changed]
    if names and all(any(part in DIVIDING for part in name) for name in names):
        found.append(
            "the same set, divided otherwise: examples of this split may be among those that the "
            "run has learned from"
        )
    whole = sum(len(part) for name, part in data.splits.items() if name != ALL)
    if split in data.splits and split != ALL and len(data.splits[split]) < whole:
        found.append(
            f"judged on {len(data.splits[split]):,} of {whole:,} examples of this set; "
            "--split all judges on every one"
        )
    return tuple(found)
