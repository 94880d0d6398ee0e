"""What changes about the data while a run learns, called as ``curriculum(step, batch)`` before a batch is placed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genjax.data.dataset import Batch
from genjax.errors import UserError

OF_TOKENS = frozenset(
    {"tokens", "loss_mask", "segment_ids", "positions", "prefix_mask"}
)  # entries [B, T + 1] of a batch


@dataclass(frozen=True)
class Resolutions:
    """Images from low to high resolution, by the means of blocks of pixels.

    Adds ``fade`` [B] to a batch: 0 at the first step of a stage, 1 after ``fade`` steps and in the first stage.

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
        if self.fade < 0:
            raise UserError(f"curriculum.fade is not negative, but {self.fade} is")

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
                raise UserError(f"images of {image.shape[1]}x{image.shape[2]} have no blocks that make {size} rows")
        if self.sizes[-1] != image.shape[1]:
            raise UserError(f"the last size of the curriculum is that of the data, {image.shape[1]}")
        block = image.shape[1] // self.sizes[stage]
        if block > 1:
            rows, columns = image.shape[1] // block, image.shape[2] // block
            image = image.reshape(-1, rows, block, columns, block, image.shape[-1]).mean((2, 4), dtype=np.float32)
        return batch | {"image": image, "fade": np.full(len(image), fade, np.float32)}


@dataclass(frozen=True)
class Lengths:
    """Rows of tokens from short to long: a stage shows the beginnings of the rows (https://arxiv.org/abs/2108.06084).

    The beginning of a row for T predictions is one for fewer: tokens, what weighs them and what tells documents apart
    are cut alike, so a step has as many rows in every stage.

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
        length = self.lengths[max(stage for stage, start in enumerate(self.starts) if step >= start)]
        return {name: x[:, : length + 1] if name in OF_TOKENS else x for name, x in batch.items()}


def _check_stages(name: str, stages: tuple[int, ...], steps: tuple[int, ...]) -> None:
    if not stages or list(stages) != sorted(set(stages)) or stages[0] < 1:
        raise UserError(f"curriculum.{name} rise from 1 or more, unlike {stages}")
    if len(steps) != len(stages) - 1 or any(number < 1 for number in steps):
        raise UserError(f"curriculum.steps has a length for all {len(stages)} stages but the last")
