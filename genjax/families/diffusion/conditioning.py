"""Labels and texts that condition a model: what may be requested, and what training hides.

Classifier-free guidance: Ho & Salimans, arXiv 2207.12598.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from genjax.checks import Component
from genjax.errors import UserError
from genjax.family import Inputs, State, find_input


def check(options: Component, conditional: bool, text: Component, drop_label: float) -> None:
    """Refuse guidance, a label or a prompt that a model cannot follow.

    Args:
      options: with ``guidance_scale``, ``label`` and ``prompt``.
      conditional: whether it is conditioned on labels.
      text: how it embeds texts; None for a model without.
      drop_label: the share of them that training hides.

    Raises:
      UserError: naming the field.
    """
    check_guidance(options.guidance_scale, conditional or text is not None, drop_label)
    if text is None:
        if options.prompt is not None:
            raise UserError("sampler.prompt needs a model of text (family.text)")
        return
    if options.prompt is not None:
        text.embed(options.prompt)  # refuses what is not text
    elif not drop_label:
        raise UserError(
            "a model of text that has not learned without (drop_label above 0) needs sampler.prompt"
        )
    if conditional and (options.prompt is None) != (options.label is None):
        raise UserError(
            "a model of labels and text needs sampler.label and sampler.prompt, or neither of them"
        )


def check_guidance(scale: float, conditioned: bool, drop_label: float) -> None:
    """Refuse guidance of a model that is not ``conditioned``, or was never trained without its
    conditions.
    """
    if scale != 1 and not (conditioned and drop_label):
        raise UserError(
            "guidance_scale other than 1 needs a class-conditional model, or one of text, that has "
            "also learned "
            "without (family.conditional or family.text, and drop_label above 0)"
        )


def describe_label(conditional: bool) -> Inputs:
    """What can be given to a model with labels or without."""
    return {"label": ((), np.int32)} if conditional else {}


def choose_labels(label: int | str | None, n: int, classes: int, state: State) -> jax.Array | None:
    """Return labels [n] of samples: those that are given with the state, all in turn, or one; None
    of a model of no classes.

    Raises:
      UserError: it is not a label of the model's.
    """
    if not classes:
        if label is not None:
            raise UserError(
                "sampler.label needs a class-conditional model (family.conditional)", "label"
            )
        return None
    if (given := find_input(state, "label")) is not None:
        return given
    if isinstance(label, str) or (label is not None and not 0 <= label < classes):
        raise UserError(f"labels are from 0 to {classes - 1}, not {label}", "label")
    return jnp.arange(n) % classes if label is None else jnp.full(n, label)


def hide(
    key: jax.Array, share: float, label: jax.Array | None, null: int, text: jax.Array | None
) -> tuple[jax.Array | None, jax.Array | None]:
    """Return labels [B] and texts [B, D], of a share of the examples ``null`` and zeros, both of an
    example together.
    """
    rows = next((len(given) for given in (label, text) if given is not None), 0)
    hidden = jax.random.bernoulli(key, share, (rows,))
    label = None if label is None else jnp.where(hidden, null, label)
    return label, None if text is None else jnp.where(hidden[:, None], 0.0, text)
