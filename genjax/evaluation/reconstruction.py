"""Pictures of what an autoencoder keeps: reconstructions, and walks between examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genjax.data.pictures import grid
from genjax.errors import UserError
from genjax.evaluation.judge import Findings, Subject
from genjax.families import vae


@dataclass(frozen=True)
class Reconstructions:
    """Held-out images, each above its reconstruction.

    Attributes:
      num: images.
    """

    num: int = 8

    def __post_init__(self) -> None:
        if self.num < 1:
            raise UserError(f"Reconstructions needs num of at least 1, not {self.num}")

    def __call__(self, subject: Subject) -> Findings:
        x = _held_out(subject, self.num)
        reconstruct = subject.compile(vae.reconstruct, static_argnums=0)
        again = np.asarray(reconstruct(subject.family, subject.state, x))
        picture = grid(subject.codec.decode(np.concatenate([x, again])), columns=len(x))
        return Findings(pictures={"reconstructions": picture})


@dataclass(frozen=True)
class Interpolations:
    """Straight walks through the latent space between pairs of held-out images, one a row.

    Attributes:
      rows: pairs.
      steps: images a row, both ends included.
    """

    rows: int = 4
    steps: int = 8

    def __post_init__(self) -> None:
        if self.rows < 1 or self.steps < 2:
            raise UserError(f"Interpolations needs rows of at least 1 and steps of at least 2, not {self}")

    def __call__(self, subject: Subject) -> Findings:
        x = _held_out(subject, 2 * self.rows)
        pairs = max(1, len(x) // 2)  # a single image is its own partner
        start, end = x[:pairs], x[-pairs:]
        walk = subject.compile(vae.interpolate, static_argnums=(0, 4))
        images = np.asarray(walk(subject.family, subject.state, start, end, self.steps))
        picture = grid(subject.codec.decode(images.reshape(-1, *images.shape[2:])), columns=self.steps)
        return Findings(pictures={"interpolations": picture})


def _held_out(subject: Subject, num: int) -> np.ndarray:
    if subject.spec.entry != "image":
        raise UserError(f"pictures of reconstructions need images, but the data are {subject.spec.entry}")
    split = subject.splits[subject.split]
    return split.batch(np.arange(min(num, len(split))))["image"]
