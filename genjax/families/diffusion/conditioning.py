"""Conditioning on labels and texts: checks of requests, and conditions hidden in training.

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
    """Refuse guidance, a label or a prompt that the model does not support.

    Args:
      options: sampling options with ``guidance_scale``, ``label`` and ``prompt``.
      conditional: whether the model is conditioned on labels.
      text: embedding of prompts; None for a model without text.
      drop_label: share of the conditions hidden in training.

    Raises:
      UserError: the message names the option.
    """
    check_guidance(options.guidance_scale, conditional or text is not None, drop_label)
    if text is None:
        if options.prompt is not None:
            raise UserError(
                "sampler.prompt needs a text-conditional model (family.text)", "sampler.prompt"
            )
        return
    if options.prompt is not None:
        text.embed(options.prompt)  # refuses anything but text
    elif not drop_label:
        raise UserError(
            "sampler.prompt is needed for a text-conditional model trained with drop_label=0",
            "sampler.prompt",
        )
    if conditional and (options.prompt is None) != (options.label is None):
        raise UserError(
            "sampler.label and sampler.prompt go together in a model of labels and text: give both "
            "or neither",
            "sampler.prompt",
        )


def check_guidance(scale: float, conditioned: bool, drop_label: float) -> None:
    """Refuse guidance of a model that is not ``conditioned``, or never trained with hidden
    conditions.
    """
    if scale != 1 and not (conditioned and drop_label):
        raise UserError(
            f"guidance_scale must be 1 unless the model is conditional (family.conditional or "
            f"family.text) and trained with drop_label above 0, got {scale}",
            "guidance_scale",
        )


def describe_label(conditional: bool) -> Inputs:
    """Describe the label as an input, if the model is conditional."""
    return {"label": ((), np.int32)} if conditional else {}


def choose_labels(label: int | str | None, n: int, classes: int, state: State) -> jax.Array | None:
    """Return the labels [n] of samples: those given with the state, the requested one, or all in
    turn; None if the model has no classes.

    Raises:
      UserError: the model does not have this label.
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
        raise UserError(f"label must be from 0 to {classes - 1}, got {label}", "label")
    return jnp.arange(n) % classes if label is None else jnp.full(n, label)


def hide(
    key: jax.Array, share: float, label: jax.Array | None, null: int, text: jax.Array | None
) -> tuple[jax.Array | None, jax.Array | None]:
    """Hide the conditions of a share of the examples: labels [B] become ``null`` and texts [B, D]
    zeros, both together.
    """
    rows = next((len(given) for given in (label, text) if given is not None), 0)
    hidden = jax.random.bernoulli(key, share, (rows,))
    label = None if label is None else jnp.where(hidden, null, label)
    return label, None if text is None else jnp.where(hidden[:, None], 0.0, text)
