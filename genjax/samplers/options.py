"""Protocols for sampler options that hold more than numbers: text, labels, and other runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from genjax.checks import Component
from genjax.errors import UserError, unknown_name


@runtime_checkable
class Encodes(Protocol):
    """Options with text to encode, such as a prompt."""

    @property
    def runs(self) -> Mapping[str, str]:
        """Directories of other runs, on the same data, that drawing needs, by role."""
        ...

    def encode(self, codec: Component, others: Mapping[str, Any]) -> Any:
        """Return the options with their text as tokens.

        Args:
          codec: codec of the run.
          others: ``Trained`` families of ``runs``, by role; their arrays are in ``State.frozen``.
              Empty in training, where samples are drawn without them.

        Raises:
          UserError: the codec cannot encode them, or another run does not fit.
        """
        ...


@runtime_checkable
class Decodes(Protocol):
    """Encoded options whose samples need the codec to be finished."""

    def decode(self, samples: np.ndarray, codec: Component) -> np.ndarray:
        """Finish samples with the codec, on the host."""
        ...


def needed_runs(options: Component) -> Mapping[str, str]:
    """Return the directories of the runs that these options need, by role; most need none."""
    return options.runs if isinstance(options, Encodes) else {}


def encode_options(
    options: Component, codec: Component, others: Mapping[str, Any] | None = None
) -> Any:
    """Encode the text of options that have any; others are returned unchanged."""
    return options.encode(codec, others or {}) if isinstance(options, Encodes) else options


def decode_samples(samples: Any, options: Component, codec: Component) -> Any:
    """Finish samples with the codec where their encoded ``options`` need it."""
    return options.decode(samples, codec) if isinstance(options, Decodes) else samples


@runtime_checkable
class Accepts(Protocol):
    """A codec that accepts only some samples; the others are drawn again."""

    def accept(self, samples: np.ndarray) -> np.ndarray | None:
        """Return which samples [N, ...] are accepted, bool [N]; None for all."""
        ...


@runtime_checkable
class Selects(Protocol):
    """Encoded options that select only some samples; the others are drawn again."""

    tries: int

    def select(self, samples: np.ndarray, codec: Component) -> np.ndarray | None:
        """Return which samples [N, ...] are selected, bool [N]; None for all."""
        ...


class Incomplete(Protocol):
    """Examples with gaps, to be completed by a model."""

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """What the family is given, one row for each example, see ``describe_inputs``."""
        ...

    def write(self, samples: np.ndarray, codec: Component, out: Path) -> Path:
        """Write the examples with their gaps filled by samples [N, ...]; return the path."""
        ...


@runtime_checkable
class Completes(Protocol):
    """Options that may name examples with gaps, which are completed instead of drawing new ones."""

    def read_incomplete(self, codec: Component) -> Incomplete | None:
        """Return the examples; None if the options name none.

        Raises:
          UserError: they do not fit the codec.
        """
        ...


@runtime_checkable
class Prompted(Protocol):
    """Options of a sampler that takes prompts."""

    def with_prompts(self, prompts: tuple[str, ...]) -> Any:
        """Return the options with these prompts instead.

        Raises:
          UserError: there are more prompts than the sampler takes.
        """
        ...


@runtime_checkable
class Labelled(Protocol):
    """Options of a sampler that draws one label, or all labels in turn."""

    label: int | str | None


@runtime_checkable
class Solves(Protocol):
    """Options of a sampler that leaves its steps to a solver."""

    solver: Component


@runtime_checkable
class HasSteps(Protocol):
    """Options, or a solver, with a fixed number of steps."""

    steps: int


def set_steps(options: Component, steps: int) -> Any:
    """Return the options with this many steps, those of the solver if they name one.

    Raises:
      UserError: the sampler chooses its own steps, or needs more.
    """
    within = options.solver if isinstance(options, Solves) else options
    if not isinstance(within, HasSteps):
        raise UserError(
            f"steps need a sampler with a fixed number of them, but {within} chooses its own",
            "steps",
        )
    changed = dataclasses.replace(within, steps=steps)  # type: ignore[type-var]
    return dataclasses.replace(options, solver=changed) if within is not options else changed


def number_label(label: int | str, class_names: Sequence[str] | None, classes: int | None) -> int:
    """Return the number of a label given by name or number.

    Raises:
      UserError: the data have no labels, or not this one; the message lists those that exist.
    """
    if classes is None:
        raise UserError("these data have no labels: leave the label out", "label")
    names = class_names or ()
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int) or label.lstrip("-").isdecimal():
        number = int(label)
        if not 0 <= number < classes:
            raise UserError(f"label must be from 0 to {classes - 1}, got {number}", "label")
        return number
    if not names:
        raise UserError(
            f"label must be a number from 0 to {classes - 1}, as this run has no class names, got "
            f"{label!r}",
            "label",
        )
    raise unknown_name("label", label, names)


def number_labels(
    options: Component, class_names: Sequence[str] | None, classes: int | None
) -> Any:
    """Replace a label given by name by its number."""
    if not isinstance(options, Labelled) or not isinstance(options.label, str):
        return options
    number = number_label(options.label, class_names, classes)
    return dataclasses.replace(options, label=number)  # type: ignore[type-var]
