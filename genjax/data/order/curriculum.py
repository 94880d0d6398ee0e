"""Curricula change the data during training: the batches of a step, or the order of the examples.

Easy examples first: Bengio et al., Curriculum Learning, ICML 2009. Competence: Platanios et al.,
arXiv 1903.09848. Noise levels: Kim et al., arXiv 2403.10348.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Batch
from genjax.data.order.difficulty import TextLength
from genjax.data.order.pacing import Pacing, RootPacing
from genjax.data.stream import Order, indices, raw_bits
from genjax.errors import UserError

DRAWN = 2**63 + 2**33  # a Philox stream that the epochs, which count up from 0, never reach
Easiness = Literal["easy_first", "hard_first"]
# Entries [B, T + 1] of a batch.
OF_TOKENS = frozenset({"tokens", "loss_mask", "segment_ids", "positions", "prefix_mask"})


class Curriculum(Protocol):
    """Base class of curricula: frozen dataclasses, as written in configs. All methods have
    defaults.

    ``changes_batches`` says whether examples themselves change, not only their order. A curriculum
    that orders the examples has a ``score`` of ``genjax.data.order.difficulty``, which is computed
    for each training example before the first step and stored with the run.
    """

    changes_batches: ClassVar[bool] = True

    @property
    def starts(self) -> tuple[int, ...]:
        """The first step of each stage with its own batch shapes; all stages are traced at the
        start.
        """
        return (0,)

    @property
    def score(self) -> Any:
        """The score of difficulty; None if the order stays."""
        return None

    def check(self, family: Component) -> None:
        """Raise ``UserError`` for a family that cannot follow the curriculum."""

    def __call__(self, step: int, batch: Batch) -> Batch:
        """Return the batch for step ``step``, counted from 0, on the host."""
        return batch

    def make_order(self, scores: np.ndarray) -> Order:
        """Return the order of training examples with ``scores`` [N]; only called with a
        ``score``.
        """
        raise NotImplementedError


@runtime_checkable
class _HasDiffusion(Protocol):
    diffusion: Component


@runtime_checkable
class _HasProcess(Protocol):
    process: Component
    weighting: str


@checks.frozen
class Resolutions(Curriculum):
    """Trains on images of increasing resolution, made by averaging blocks of pixels.

    Adds ``fade`` [B] to a batch: it rises from 0 to 1 over ``fade`` steps at the start of a stage,
    and is 1 in the first stage.

    Attributes:
      sizes: increasing image heights, ending with that of the data.
      steps: lengths of all stages but the last, in steps.
      fade: number of steps over which a new resolution fades in.
    """

    sizes: tuple[int, ...] = (7, 14, 28)
    steps: tuple[int, ...] = (1000, 2000)
    fade: int = 500

    def __post_init__(self) -> None:
        _check_stages("sizes", self.sizes, self.steps)
        checks.at_least(self, 0, "fade")

    @property
    def starts(self) -> tuple[int, ...]:
        """The first step of each stage."""
        return tuple(sum(self.steps[:stage]) for stage in range(len(self.sizes)))

    def __call__(self, step: int, batch: Batch) -> Batch:
        """Return the batch with images at the resolution of step ``step``, counted from 0.

        Raises:
          UserError: a size does not divide that of the images.
        """
        if "image" not in batch:
            raise UserError("Resolutions needs a batch with images", "curriculum")
        image = batch["image"]
        stage = max(stage for stage, start in enumerate(self.starts) if step >= start)
        since = step - self.starts[stage]
        fade = 1.0 if stage == 0 or since >= self.fade else since / self.fade
        for size in self.sizes:
            if image.shape[1] % size or image.shape[2] * size % image.shape[1]:
                raise UserError(
                    f"sizes must divide the image size {image.shape[1]}x{image.shape[2]}, got "
                    f"{size}",
                    "sizes",
                )
        if self.sizes[-1] != image.shape[1]:
            raise UserError(
                f"sizes must end with {image.shape[1]}, the size of the data, got {self.sizes}",
                "sizes",
            )
        block = image.shape[1] // self.sizes[stage]
        if block > 1:
            rows, columns = image.shape[1] // block, image.shape[2] // block
            image = image.reshape(-1, rows, block, columns, block, image.shape[-1]).mean(
                (2, 4), dtype=np.float32
            )
        return batch | {"image": image, "fade": np.full(len(image), fade, np.float32)}


@checks.frozen
class Lengths(Curriculum):
    """Trains on rows of tokens of increasing length: a stage uses only the beginnings of the rows
    (https://arxiv.org/abs/2108.06084).

    All entries of a row are cut alike, so the number of rows in a batch is the same in every stage.

    Attributes:
      lengths: increasing numbers of predictions in a row, ending with that of the data.
      steps: lengths of all stages but the last, in steps.
    """

    lengths: tuple[int, ...] = (64, 128, 256)
    steps: tuple[int, ...] = (1000, 2000)

    def __post_init__(self) -> None:
        _check_stages("lengths", self.lengths, self.steps)

    @property
    def starts(self) -> tuple[int, ...]:
        """The first step of each stage."""
        return tuple(sum(self.steps[:stage]) for stage in range(len(self.lengths)))

    def __call__(self, step: int, batch: Batch) -> Batch:
        """Return the batch with rows of the length of step ``step``, counted from 0.

        Raises:
          UserError: the batch has no tokens, or the last length is not that of its rows.
        """
        if "tokens" not in batch:
            raise UserError("Lengths needs a batch with tokens", "curriculum")
        whole = batch["tokens"].shape[1]
        if self.lengths[-1] != whole - 1:
            raise UserError(
                f"lengths must end with {whole - 1}, the length of the data, got {self.lengths}",
                "lengths",
            )
        length = self.lengths[
            max(stage for stage, start in enumerate(self.starts) if step >= start)
        ]
        return {name: x[:, : length + 1] if name in OF_TOKENS else x for name, x in batch.items()}


@checks.frozen
class NoiseLevels(Curriculum):
    """Trains a diffusion on some noise levels first, by default on the noisy half, which is easier.

    Adds ``logsnr`` [B, 2] float32 to a batch, the smallest and largest log-SNR of the step. Both
    change linearly; a limit outside the range of the process has no effect.

    Attributes:
      first: smallest and largest log-SNR at step 0.
      last: smallest and largest log-SNR from step ``steps`` on.
      steps: number of steps over which they change.
    """

    first: tuple[float, float] = (-20.0, 0.0)
    last: tuple[float, float] = (-20.0, 20.0)
    steps: int = 10_000

    def __post_init__(self) -> None:
        for name, limits in (("first", self.first), ("last", self.last)):
            if len(limits) != 2 or not limits[0] < limits[1]:
                raise UserError(
                    f"curriculum.{name} must be a smallest and a larger log-SNR, got {limits}",
                    name,
                )
        checks.at_least(self, 1, "steps")

    def check(self, family: Component) -> None:
        within = family.diffusion if isinstance(family, _HasDiffusion) else family
        if not isinstance(within, _HasProcess):
            raise UserError(
                f"curriculum NoiseLevels needs a diffusion, got {type(family).__name__}",
                "curriculum",
            )
        if within.weighting == "likelihood":
            raise UserError(
                "curriculum NoiseLevels does not go with weighting='likelihood', whose bound needs "
                "all noise levels",
                "curriculum",
            )

    def __call__(self, step: int, batch: Batch) -> Batch:
        part = min(step / self.steps, 1.0)
        limits = [a + part * (b - a) for a, b in zip(self.first, self.last, strict=True)]
        return batch | {"logsnr": np.tile(np.asarray(limits, np.float32), (len(batch["mask"]), 1))}


@checks.frozen
class ByDifficulty(Curriculum):
    """Draws examples uniformly from the easiest fraction of them, which grows to 1 (arXiv
    1903.09848).

    While the fraction is below 1, examples are drawn with replacement, as a function of (seed,
    position). Afterwards the order is that of a run without a curriculum at that position: each
    example once per epoch.

    Attributes:
      score: score of ``genjax.data.order.difficulty``; equal scores keep the order of the split.
      pacing: pacing of ``genjax.data.order.pacing``, the fraction at each step; if it starts at 1,
        the order is unchanged.
      order: "easy_first", or "hard_first" to start with the largest scores.
    """

    changes_batches: ClassVar[bool] = False

    score: Component = TextLength()
    pacing: Any = RootPacing()
    order: Easiness = "easy_first"

    def make_order(self, scores: np.ndarray) -> Paced:
        sign = 1 if self.order == "easy_first" else -1
        return Paced(np.argsort(sign * scores, kind="stable"), self.pacing)


@dataclass(frozen=True)
class Paced:
    """The order of ``ByDifficulty``.

    Attributes:
      ranking: indices [N] int64 of the examples, the first to be drawn in front.
      pacing: fraction of them that may be drawn at a step.
    """

    ranking: np.ndarray
    pacing: Pacing

    def __call__(self, seed: int, position: int, count: int, batch_size: int) -> np.ndarray:
        size = len(self.ranking)
        share = self.pacing(np.arange(position, position + count) // batch_size)
        plain = indices(seed, position, count, size)
        if share.min(initial=1) == 1:
            return plain
        open_to = np.maximum(np.ceil(share * size), 1).astype(np.uint64)
        words = raw_bits(seed, DRAWN, count, first=position)
        # The upper half of a random word, scaled to the number of examples in use.
        drawn = ((words >> np.uint64(32)) * open_to) >> np.uint64(32)
        return np.where(share < 1, self.ranking[drawn.astype(np.int64)], plain)


def _check_stages(name: str, stages: tuple[int, ...], steps: tuple[int, ...]) -> None:
    if not stages or list(stages) != sorted(set(stages)) or stages[0] < 1:
        raise UserError(f"{name} must rise from 1 or more, got {stages}", name)
    if len(steps) != len(stages) - 1 or any(number < 1 for number in steps):
        raise UserError(
            f"steps must be one fewer than {name}, each at least 1, got {steps} for {stages}",
            "steps",
        )
