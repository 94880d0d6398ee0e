"""Analyses the latents of a VAE: active units, posterior collapse, a map of the latent space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.data.pictures import grid
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.vae import VAE
from genjax.family import Batch, State


@checks.frozen
class ActiveUnits(Evaluator):
    """Counts the active latents, whose posterior mean varies with the data (Burda et al., arXiv
    1509.00519), and those that have collapsed to the prior. Below the top layer the prior's mean,
    which varies with the layer above, is subtracted first.

    Attributes:
      threshold: variance of the posterior mean over the split above which a latent is active.
      collapsed_below: mean KL in nats below which a latent counts as collapsed.
    """

    judges: ClassVar[tuple[type, ...]] = (VAE,)

    threshold: float = 0.01
    collapsed_below: float = 0.01

    def __post_init__(self) -> None:
        checks.above(self, 0, "threshold", "collapsed_below")

    def __call__(self, subject: Subject) -> Findings:
        # For each layer: posterior mean minus prior mean, and KL, [N, Z] each.
        layers = subject.collect(_statistics)
        numbers: dict[str, float] = {}
        remarks = []
        for number, (mean, kl) in enumerate(layers, 1):
            active, per_unit = np.var(mean, axis=0) > self.threshold, kl.mean(0)
            collapsed = int((per_unit < self.collapsed_below).sum())
            name = "" if len(layers) == 1 else f"_z{number}"
            numbers[f"active_units{name}"] = int(active.sum())
            numbers[f"collapsed_units{name}"] = collapsed
            if 2 * collapsed > len(per_unit):
                remarks.append(
                    f"posterior collapse: {collapsed} of {len(per_unit)} units of z{number} carry "
                    f"less than {self.collapsed_below:g} nats; warming up beta (Linear, Cyclical), "
                    "free_bits or fewer latents are the usual cures"
                )
        picture = _bars([kl.mean(0) for _, kl in layers])
        return Findings(
            numbers,
            {"kl_by_unit": picture},
            f"active above {self.threshold:g} variance of the posterior mean less the prior's, "
            "collapsed below "
            f"{self.collapsed_below:g} nats, layers above at their means, {len(layers[0][0]):,} "
            "examples of "
            f"{subject.split}",
            tuple(remarks),
        )


@checks.frozen
class LatentMap(Evaluator):
    """Draws the plane in which the posterior means z1 vary most (the whole space if z1 has two
    dimensions): a map of examples, coloured by label, and the decoded images of an even grid (of
    class 0 if the model is class-conditional).

    Attributes:
      limit: maximum number of examples, evenly spaced.
      cells: images along each side of the grid.
    """

    judges: ClassVar[tuple[type, ...]] = (VAE,)

    limit: int = 5000
    cells: int = 15

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "limit", "cells")

    def check(self, family: VAE, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if family.latent_dim < 2:
            raise UserError(
                "family.latent_dim must be >= 2 for LatentMap, got 1", "family.latent_dim"
            )

    def __call__(self, subject: Subject) -> Findings:
        z = subject.collect(_means, limit=self.limit)
        centre, plane = _plane(z)
        points = (z - centre) @ plane.T  # [N, 2]
        label = subject.take_examples(self.limit).get("label")
        pictures = {"latent_map": _scatter(points, label)}
        if subject.model.spec.entry == "image":
            low, high = np.quantile(points, [0.02, 0.98], axis=0)
            across, down = (np.linspace(low[i], high[i], self.cells) for i in (0, 1))
            # Row by row from the top.
            mesh = np.stack(np.meshgrid(across, down[::-1]), axis=-1).reshape(-1, 2)
            decode = subject.layout.compile_evaluation(_decode, static_argnums=0)
            model = subject.model
            images = np.asarray(
                decode(model.family, model.state, (centre + mesh @ plane).astype(np.float32))
            )
            pictures["latent_grid"] = grid(model.codec.decode(images), columns=self.cells)
        return Findings(pictures=pictures)


def _statistics(family: VAE, state: State, batch: Batch, key: jax.Array) -> Any:
    return tuple(
        (layer.posterior.mean - layer.prior.mean, layer.kl())
        for layer in family.infer_latents(state, batch, key)
    )


def _means(family: VAE, state: State, batch: Batch, key: jax.Array) -> jax.Array:
    return family.infer_latents(state, batch, key)[0].z


def _decode(family: VAE, state: State, z: jax.Array) -> jax.Array:
    """Decode z1 to the mean image."""
    label = jnp.zeros(len(z), jnp.int32)
    return family.likelihood.of(state.variables).mean(
        family.decode(state.params, state.variables, z, label)
    )


def _plane(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a centre [Z] and two orthonormal directions [2, Z] of z [N, Z]: the axes if Z is 2,
    else principal components.
    """
    if z.shape[1] == 2:
        return np.zeros(2), np.eye(2)
    if len(z) < 3:
        raise UserError(f"LatentMap needs at least 3 examples, got {len(z)}")
    centre = z.mean(0)
    return centre, np.linalg.svd(z - centre, full_matrices=False)[2][:2]


def _scatter(points: np.ndarray, label: np.ndarray | None) -> np.ndarray:
    figure = new_figure(5, 5)
    axes = figure.add_subplot()
    for value in np.unique(label) if label is not None else [None]:
        chosen = points if value is None else points[label == value]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=4, alpha=0.6, linewidths=0, label=value)
    if label is not None and len(np.unique(label)) <= 20:
        axes.legend(markerscale=3, fontsize=7)
    axes.set_aspect("equal", adjustable="datalim")
    return figure_pixels(figure)


def _bars(layers: list[np.ndarray]) -> np.ndarray:
    """Draw the mean KL of each unit, largest first, one panel per layer."""
    figure = new_figure(5, 2.2 * len(layers))
    for number, (axes, kl) in enumerate(
        zip(np.atleast_1d(figure.subplots(len(layers))), layers, strict=True), 1
    ):
        axes.bar(np.arange(len(kl)), np.sort(kl)[::-1], width=1.0)
        axes.set_xlabel(f"unit of z{number}, sorted")
        axes.set_ylabel("KL, nats")
    return figure_pixels(figure)
