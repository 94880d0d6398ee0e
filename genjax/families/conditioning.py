"""Labels and texts that a diffusion is told: what may be asked for, and what training hides.

Classifier-free guidance: Ho & Salimans, arXiv 2207.12598.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from genjax.errors import UserError


def check(options: Any, conditional: bool, text: Any, drop_label: float) -> None:
    """Refuse guidance, a label or a prompt that a model cannot follow.

    Args:
      options: with ``guidance_scale``, ``label`` and ``prompt``.
      conditional: whether it is told labels.
      text: how it embeds texts; None for a model without.
      drop_label: the share of them that training hides.

    Raises:
      UserError: naming the field.
    """
    if options.guidance_scale != 1 and not ((conditional or text is not None) and drop_label):
        raise UserError(
            "guidance_scale other than 1 needs a class-conditional model, or one of text, that has also learned "
            "without (family.conditional or family.text, and drop_label above 0)"
        )
    if text is None:
        if options.prompt is not None:
            raise UserError("sampler.prompt needs a model of text (family.text)")
        return
    if options.prompt is not None:
        text.embed(options.prompt)  # refuses what is no text
    elif not drop_label:
        raise UserError("a model of text that has not learned without (drop_label above 0) needs sampler.prompt")
    if conditional and (options.prompt is None) != (options.label is None):
        raise UserError("a model of labels and text needs sampler.label and sampler.prompt, or neither of them")


def hide(
    key: jax.Array, share: float, label: jax.Array | None, null: int, text: jax.Array | None
) -> tuple[jax.Array | None, jax.Array | None]:
    """Labels [B] and texts [B, D], of a share of the examples ``null`` and zeros, both of an example together."""
    rows = next((len(given) for given in (label, text) if given is not None), 0)
    hidden = jax.random.bernoulli(key, share, (rows,))
    label = None if label is None else jnp.where(hidden, null, label)
    return label, None if text is None else jnp.where(hidden[:, None], 0.0, text)
