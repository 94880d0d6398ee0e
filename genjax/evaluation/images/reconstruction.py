"""Shows what an autoencoder preserves: reconstructions and interpolations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.pictures import grid
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families import vae
from genjax.family import Batch, Reconstructs, State


@checks.frozen
class Reconstructions(Evaluator):
    """Shows images as the model sees them (binary if it binarises), each above its reconstruction,
    and measures the mean squared error over the split, per value in [-1, 1]. It works with any
    family that has ``reconstruct(state, batch, key)``.

    Attributes:
      num: number of images in the picture.
    """

    images_only: ClassVar[bool] = True

    num: int = 8

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "num")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if not isinstance(family, Reconstructs):
            raise UserError(
                f"Reconstructions needs a family with reconstruct(), got a {type(family).__name__}"
            )

    def __call__(self, subject: Subject) -> Findings:
        model = subject.model
        compiled = subject.layout.compile_evaluation(_reconstruct, static_argnums=0)
        seen, again = compiled(
            model.family, model.state, subject.take_examples(self.num), subject.key
        )
        images = np.concatenate([np.asarray(seen), np.asarray(again)])
        errors = subject.collect(_squared_error)
        return Findings(
            {"reconstruction_mse": float(errors.mean(dtype=np.float64))},
            {"reconstructions": grid(model.codec.decode(images), columns=len(again))},
            f"mean of p(x | z) at the mean of q(z | x), or at the codes; {len(errors):,} examples "
            f"of {subject.split}",
        )


@checks.frozen
class Interpolations(Evaluator):
    """Shows linear interpolations in the latent space of a VAE between pairs of held-out images,
    one per row.

    Attributes:
      rows: number of pairs.
      steps: images per row, both ends included.
    """

    judges: ClassVar[tuple[type, ...]] = (vae.VAE,)
    images_only: ClassVar[bool] = True

    rows: int = 4
    steps: int = 8

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "rows")
        checks.at_least(self, 2, "steps")

    def __call__(self, subject: Subject) -> Findings:
        batch = subject.take_examples(2 * self.rows)
        pairs = max(1, len(batch["image"]) // 2)  # a single image is its own partner
        start = {name: rows[:pairs] for name, rows in batch.items()}
        end = {name: rows[-pairs:] for name, rows in batch.items()}
        model = subject.model
        walk = subject.layout.compile_evaluation(vae.interpolate, static_argnums=(0, 5))
        images = np.asarray(walk(model.family, model.state, start, end, subject.key, self.steps))
        picture = grid(
            model.codec.decode(images.reshape(-1, *images.shape[2:])), columns=self.steps
        )
        return Findings(pictures={"interpolations": picture})


def _squared_error(family: Component, state: State, batch: Batch, key: jax.Array) -> jax.Array:
    seen, again = family.reconstruct(state, batch, key)
    error = jnp.square(again - seen)
    return error.reshape(len(error), -1).mean(-1)


def _reconstruct(
    family: Component, state: State, batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return family.reconstruct(state, batch, key)
