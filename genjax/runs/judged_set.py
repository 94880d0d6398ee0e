"""The data set that a run is evaluated on: its own, or another one in the same form."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from etils import epath

from genjax.checks import Component
from genjax.config_files import differences, is_free, to_json
from genjax.data.dataset import Codec, Dataset, Spec, Split
from genjax.data.learned_form import ALL, open_in_form
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.runs import directory
from genjax.runs.setup import open_data

# Fields that say how a set is split, not where it is.
DIVIDING = ("test_fraction", "seed", "split", "validation")


@dataclass(frozen=True)
class JudgedSet:
    """A data set to evaluate a run on.

    Attributes:
      data: the opened set.
      title: what differs from the run's own set; "" if nothing does.
      names: names of its splits.
      remarks: sentences to print.
    """

    data: Dataset
    title: str
    names: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def protocol(self) -> str:
        """Text about the set in protocols; "" for the run's own."""
        return self.title and f"{self.title}, fingerprint {self.data.fingerprint}"


class WithTraining(Mapping[str, Split]):
    """Splits of another set, except that "train" is the run's own, opened when first needed."""

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
    """Open the set that a run is evaluated on.

    Args:
      experiment: experiment of the run.
      run_dir: directory of the run.
      learned: spec and codec of the run's data.
      split: split to evaluate; "all" for every example of another set.
      source: source of the set; None for the run's own.

    Raises:
      UserError: the set cannot be opened, or does not fit the run.
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
            "split 'all' needs another set: give its data (--data....), or one of the run's own "
            "splits",
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
    """Turn the line ``data.path: 'a.csv' -> 'b.csv'`` into ``data.path 'b.csv'``."""
    name, _, values = difference.partition(": ")
    return f"{name} {values.rpartition(' -> ')[2]}"


def _remarks(data: Dataset, split: str, changed: list[str]) -> tuple[str, ...]:
    """Return remarks on the set, besides its fingerprint."""
    found = []
    if not changed:
        found.append(
            "the data have changed since the run began: these are not the examples that it was "
            "trained and evaluated on"
        )
    names = [line.partition(":")[0].split(".") for line in changed]
    if names and all(any(part in DIVIDING for part in name) for name in names):
        found.append(
            "this is the same set with other splits: the run may have been trained on some of "
            "these examples"
        )
    whole = sum(len(part) for name, part in data.splits.items() if name != ALL)
    if split in data.splits and split != ALL and len(data.splits[split]) < whole:
        found.append(
            f"evaluated on {len(data.splits[split]):,} of {whole:,} examples of this set; use "
            "--split all for every one"
        )
    return tuple(found)
