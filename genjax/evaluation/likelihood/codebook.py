"""Measures how much of its codebook a VQ-VAE uses."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.families import vqvae
from genjax.families.quantisers import perplexity
from genjax.family import Batch, State, select_modelled


@checks.frozen
class CodebookUsage(Evaluator):
    """Measures, over the whole held-out split, the share of codes that are used and the perplexity
    of their use, and draws a histogram, most used code first.
    """

    judges: ClassVar[tuple[type, ...]] = (vqvae.VQVAE,)

    def __call__(self, subject: Subject) -> Findings:
        quantiser = subject.model.family.grid_quantiser
        chosen = subject.collect(_codes)  # [N, h, w]
        counts = np.bincount(chosen.ravel(), minlength=quantiser.codes)
        usage = float((counts > 0).mean())
        remarks: tuple[str, ...] = ()
        if usage < 0.5:
            remarks = (
                f"only {usage:.0%} of {quantiser.codes} codes are used; {quantiser.revival}",
            )
        return Findings(
            {
                "codebook_usage": usage,
                "codebook_perplexity": float(perplexity(jnp.asarray(counts, jnp.float32))),
            },
            {"codebook": _histogram(counts)},
            f"codes of {len(chosen):,} examples of {subject.split}, {chosen[0].size} each",
            remarks,
        )


def _codes(family: vqvae.VQVAE, state: State, batch: Batch, key: jax.Array) -> jax.Array:
    x = family.likelihood.prepare(key, select_modelled(batch))
    return vqvae.encode_to_codes(family, state, x)


def _histogram(counts: np.ndarray) -> np.ndarray:
    """Draw how often each code is used, most used first, compared with even use."""
    figure = new_figure(6, 3)
    axes = figure.add_subplot()
    share = np.sort(counts)[::-1] / counts.sum()
    axes.bar(np.arange(len(share)), share, width=1.0)
    axes.axhline(1 / len(share), color="black", linewidth=0.8, linestyle="dashed", label="even use")
    axes.set(xlabel="code, most used first", ylabel="share of all choices")
    axes.legend()
    return figure_pixels(figure)
