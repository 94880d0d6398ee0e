"""What samplers' options may do besides holding numbers: read text, and depend on other runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from genjax.checks import Component
from genjax.errors import UserError, unknown_name


@runtime_checkable
class Encodes(Protocol):
    """Options with something that a person writes, such as a prompt."""

    @property
    def runs(self) -> Mapping[str, str]:
        """Directories of the runs of the same data that drawing needs, by role."""
        ...

    def encode(self, codec: Component, others: Mapping[str, Any]) -> Any:
        """Return the options as the model reads them.

        Args:
          codec: of the run.
          others: ``Trained`` families of ``runs``, whose arrays are in ``State.frozen`` by role
            when samples are drawn; none in training, where samples are drawn without them.

        Raises:
          UserError: the codec cannot encode them, or another run does not fit.
        """
        ...


@runtime_checkable
class Decodes(Protocol):
    """Encoded options whose samples only the codec can finish."""

    def decode(self, samples: np.ndarray, codec: Component) -> np.ndarray:
        """Finish samples on the host."""
        ...


def needed_runs(options: Component) -> Mapping[str, str]:
    """Return directories of the runs that drawing by these options needs, by role; most need none."""
    return options.runs if isinstance(options, Encodes) else {}


def encode_options(
    options: Component, codec: Component, others: Mapping[str, Any] | None = None
) -> Any:
    """Return options as the model reads them; most are that already."""
    return options.encode(codec, others or {}) if isinstance(options, Encodes) else options


def decode_samples(samples: Any, options: Component, codec: Component) -> Any:
    """Return samples with what only the codec can do to them; ``options`` are encoded."""
    return options.decode(samples, codec) if isinstance(options, Decodes) else samples


@runtime_checkable
class Prompted(Protocol):
    """Options of a sampler that takes prompts."""

    def with_prompts(self, prompts: tuple[str, ...]) -> Any:
        """With these prompts instead of its own.

        Raises:
          UserError: there are more than it takes.
        """
        ...


@runtime_checkable
class Labelled(Protocol):
    """Options of a sampler that draws one label, or all in turn."""

    label: int | str | None


def number_label(label: int | str, class_names: Sequence[str] | None, classes: int | None) -> int:
    """Return the number of a label that is given by name or by number.

    Raises:
      UserError: the data have no labels, or no such one; the message lists those that there are.
    """
    if classes is None:
        raise UserError("these data have no labels: leave the label out", "label")
    names = class_names or ()
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int) or label.lstrip("-").isdecimal():
        number = int(label)
        if not 0 <= number < classes:
            raise UserError(f"labels are from 0 to {classes - 1}, not {number}", "label")
        return number
    if not names:
        raise UserError(
            f"the run does not know the names of its classes: give a number from 0 to "
            f"{classes - 1}, got {label!r}",
            "label",
        )
    raise unknown_name("label", label, names)


def number_labels(
    options: Component, class_names: Sequence[str] | None, classes: int | None
) -> Any:
    """Return options whose label, where it is a name, is its number."""
    if not isinstance(options, Labelled) or not isinstance(options.label, str):
        return options
    number = number_label(options.label, class_names, classes)
    return dataclasses.replace(options, label=number)  # type: ignore[type-var]
