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

    def __call__(self, subject: Subject) -> Findings:
        x = _held_out(subject, 2 * self.rows)
        start, end = x[: len(x) // 2], x[len(x) // 2 : 2 * (len(x) // 2)]
        walk = subject.compile(vae.interpolate, static_argnums=(0, 4))
        images = np.asarray(walk(subject.family, subject.state, start, end, self.steps))
        picture = grid(subject.codec.decode(images.reshape(-1, *images.shape[2:])), columns=self.steps)
        return Findings(pictures={"interpolations": picture})


def _held_out(subject: Subject, num: int) -> np.ndarray:
    if subject.spec.entry != "image":
        raise UserError(f"pictures of reconstructions need images, but the data are {subject.spec.entry}")
    split = subject.splits[subject.split]
    return split.batch(np.arange(min(num, len(split))))["image"]
