"""What samplers' options may do besides holding numbers: read text, and depend on other runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from genjax.checks import Component


@runtime_checkable
class Encodes(Protocol):
    """Options with something that a person writes, such as a prompt."""

    @property
    def runs(self) -> Mapping[str, str]:
        """Directories of the runs of the same data that drawing needs, by role."""
        ...

    def encode(self, codec: Component, others: Mapping[str, Any]) -> Any:
        """The options as the model reads them.

        Args:
          codec: of the run.
          others: ``Trained`` families of ``runs``, whose arrays are in ``State.frozen`` by role
            when samples are drawn; none in training, where samples are drawn without them.

        Raises:
          UserError: the codec cannot encode them, or another run does not fit.
        """
        ...


@runtime_checkable
class TakesPrompts(Protocol):
    """Options that samples can be given prompts by."""

    def with_prompts(self, prompts: tuple[str, ...]) -> Any:
        """The options with prompts that are used in turn."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """Encoded options whose samples only the codec can finish."""

    def decode(self, samples: np.ndarray, codec: Component) -> np.ndarray:
        """Finish samples on the host."""
        ...


def needed_runs(options: Component) -> Mapping[str, str]:
    """Directories of the runs that drawing by these options needs, by role; most need none."""
    return options.runs if isinstance(options, Encodes) else {}


def encode_options(
    options: Component, codec: Component, others: Mapping[str, Any] | None = None
) -> Any:
    """Options as the model reads them; most are that already."""
    return options.encode(codec, others or {}) if isinstance(options, Encodes) else options


def decode_samples(samples: Any, options: Component, codec: Component) -> Any:
    """Samples with what only the codec can do to them; ``options`` are encoded."""
    return options.decode(samples, codec) if isinstance(options, Decodes) else samples
