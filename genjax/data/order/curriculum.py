"""What changes about the data while a run learns: the batches of a step, or the order of the
examples.

Learning what is easy first: Bengio et al., Curriculum Learning, ICML 2009. Competence: Platanios et
al., arXiv 1903.09848. Noise levels: Kim et al., arXiv 2403.10348.
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

DRAWN = 2**63 + 2**33  # a Philox stream apart from the epochs, which count up from 0
Easiness = Literal["easy_first", "hard_first"]
OF_TOKENS = frozenset(
    {"tokens", "loss_mask", "segment_ids", "positions", "prefix_mask"}
)  # entries [B, T + 1] of a batch


class Curriculum(Protocol):
    """Frozen dataclasses, as written in configs. Who inherits overrides what it changes: the rest
    has defaults.

    ``changes_batches`` says whether it changes what an example looks like, not only which ones
    come. A curriculum that orders the examples has a ``score`` of ``genjax.data.order.difficulty``:
    it is computed for each training example before the first step and kept with the run.
    """

    changes_batches: ClassVar[bool] = True

    @property
    def starts(self) -> tuple[int, ...]:
        """The first steps of the stages that differ in the shapes of batches; all are traced
        before the first step.
        """
        return (0,)

    @property
    def score(self) -> Any:
        """What says how difficult an example is; None if the order is left alone."""
        return None

    def check(self, family: Component) -> None:
        """Refuse a family that would not follow it, with a ``UserError``."""

    def __call__(self, step: int, batch: Batch) -> Batch:
        """The batch of step ``step`` (the first is 0) on the host, before it is placed on the
        devices.
        """
        return batch

    def make_order(self, scores: np.ndarray) -> Order:
        """The order of training examples with these ``scores`` [N], requested where there is a
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
    """Images from low to high resolution, by the means of blocks of pixels.

    Adds ``fade`` [B] to a batch: 0 at the first step of a stage, 1 after ``fade`` steps and in the
    first stage.

    Attributes:
      sizes: heights, rising; the last is that of the data.
      steps: lengths of all stages but the last, in steps.
      fade: steps over which a new resolution fades in.
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
        """The batch of step ``step`` (the first is 0), its images at the resolution of that stage.

        Raises:
          UserError: a size does not divide that of the images.
        """
        if "image" not in batch:
            raise UserError("a curriculum of resolutions is for images")
        image = batch["image"]
        stage = max(stage for stage, start in enumerate(self.starts) if step >= start)
        since = step - self.starts[stage]
        fade = 1.0 if stage == 0 or since >= self.fade else since / self.fade
        for size in self.sizes:
            if image.shape[1] % size or image.shape[2] * size % image.shape[1]:
                raise UserError(
                    f"images of {image.shape[1]}x{image.shape[2]} have no blocks that make {size} "
                    "rows"
                )
        if self.sizes[-1] != image.shape[1]:
            raise UserError(
                f"the last size of the curriculum is that of the data, {image.shape[1]}"
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
    """Rows of tokens from short to long: a stage shows the beginnings of the rows
    (https://arxiv.org/abs/2108.06084).

    The start of a row for T predictions is one for fewer: tokens, what weighs them and what
    tells documents apart are cut alike, so a step has as many rows in every stage.

    Attributes:
      lengths: predictions in a row, rising; the last is that of the data.
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
        """The batch of step ``step`` (the first is 0), its rows as long as that stage has them.

        Raises:
          UserError: the batch has no tokens, or the last length is not that of its rows.
        """
        if "tokens" not in batch:
            raise UserError("a curriculum of lengths is for tokens")
        whole = batch["tokens"].shape[1]
        if self.lengths[-1] != whole - 1:
            raise UserError(f"the last length of the curriculum is that of the data, {whole - 1}")
        length = self.lengths[
            max(stage for stage, start in enumerate(self.starts) if step >= start)
        ]
        return {name: x[:, : length + 1] if name in OF_TOKENS else x for name, x in batch.items()}


@checks.frozen
class NoiseLevels(Curriculum):
    """A diffusion learns at some noise levels first, by default the noisy half, which are easier.

    Adds ``logsnr`` [B, 2] float32 to a batch, the least and the largest log-SNR of the step. The
    limits move on a line; ends that the process does not reach are not limits.

    Attributes:
      first: the least and the largest log-SNR at step 0.
      last: those from ``steps`` on.
      steps: over which they move.
    """

    first: tuple[float, float] = (-20.0, 0.0)
    last: tuple[float, float] = (-20.0, 20.0)
    steps: int = 10_000

    def __post_init__(self) -> None:
        for name, limits in (("first", self.first), ("last", self.last)):
            if len(limits) != 2 or not limits[0] < limits[1]:
                raise UserError(
                    f"curriculum.{name} is a least and a largest log-SNR, unlike {limits}"
                )
        checks.at_least(self, 1, "steps")

    def check(self, family: Component) -> None:
        within = family.diffusion if isinstance(family, _HasDiffusion) else family
        if not isinstance(within, _HasProcess):
            raise UserError(
                "a curriculum of noise levels is for a diffusion, not for a "
                f"{type(family).__name__}"
            )
        if within.weighting == "likelihood":
            raise UserError(
                'the bound of weighting="likelihood" is of all noise levels: no curriculum of them'
            )

    def __call__(self, step: int, batch: Batch) -> Batch:
        part = min(step / self.steps, 1.0)
        limits = [a + part * (b - a) for a, b in zip(self.first, self.last, strict=True)]
        return batch | {"logsnr": np.tile(np.asarray(limits, np.float32), (len(batch["mask"]), 1))}


@checks.frozen
class ByDifficulty(Curriculum):
    """Examples are drawn evenly from the easiest share of them, which grows to the whole (arXiv
    1903.09848).

    While the share is below 1, an example is drawn with replacement by a random word keyed by
    (seed, position). From then on the order is that of a run without a curriculum at that position,
    each example once an epoch.

    Attributes:
      score: of ``genjax.data.order.difficulty``; equal scores keep the order of the split.
      pacing: of ``genjax.data.order.pacing``, the share that may be drawn at a step; one that
        starts at 1 leaves the order.
      order: "easy_first", or "hard_first" for the share with the largest scores.
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
      ranking: the indices [N] int64, those that come first in front.
      pacing: the share of them that may be drawn at a step.
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
        drawn = ((words >> np.uint64(32)) * open_to) >> np.uint64(
            32
        )  # the upper half of a word, scaled to the share
        return np.where(share < 1, self.ranking[drawn.astype(np.int64)], plain)


def _check_stages(name: str, stages: tuple[int, ...], steps: tuple[int, ...]) -> None:
    if not stages or list(stages) != sorted(set(stages)) or stages[0] < 1:
        raise UserError(f"{name} must rise from 1 or more, got {stages}", name)
    if len(steps) != len(stages) - 1 or any(number < 1 for number in steps):
        raise UserError(
            f"steps must be one fewer than {name}, each at least 1, got {steps} for {stages}",
            "steps",
        )
