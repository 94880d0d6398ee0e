"""Runs that draw pictures or sounds draw all samples of a request at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from genjax.checks import Component
from genjax.errors import UserError
from genjax.evaluation.drawing import draw_accepted, map_chunks
from genjax.evaluation.judge import SAMPLES
from genjax.family import TakesInputs
from genjax.runs.run import Run
from genjax.samplers.options import Labelled, Prompted
from genjax.serve.errors import ApiError, refuse
from genjax.serve.models import Model

KEPT = 8  # compiled programs kept for a model


def read_sampler(run: Run, prompt: str, param: str) -> Component:
    """Return the run's sampler for a prompt, or for the label that the prompt names.

    Raises:
      ApiError: the run takes no prompt, or does not know this one.
    """
    sampler, family = run.family.sampler, run.family
    if not prompt:
        return sampler
    known = (
        family.describe_inputs(run.eval_state, sampler) if isinstance(family, TakesInputs) else ()
    )
    if "label" in known and isinstance(sampler, Labelled):
        names = run.spec.class_names or ()
        label = int(prompt) if prompt not in names and prompt.isdecimal() else prompt
        return dataclasses.replace(sampler, label=label)  # type: ignore[type-var]
    if not isinstance(sampler, Prompted):
        raise ApiError(
            400, f"{param} must be empty: this run draws without one", param, "invalid_value"
        )
    return sampler.with_prompts((prompt,))


def draw(model: Model, sampler: Component, seed: int, num: int, param: str) -> np.ndarray:
    """Draw what ``genjax sample --num num --seed seed`` draws, in model space; call this on the
    device's thread.

    Raises:
      ApiError: the run does not support the sampler.
    """
    run = model.run
    try:
        options, state = run.prepare_drawing(sampler)
        program = _compile(model, options)
        key = jax.random.fold_in(jax.random.key(seed), SAMPLES)

        def draw_all(key: jax.Array) -> np.ndarray:
            return map_chunks(lambda key, size: program(state, key, size), key, num)

        return draw_accepted(draw_all, key, options, run.codec)
    except UserError as error:
        raise refuse(error, param) from None


def _compile(model: Model, options: Any) -> Any:
    """Compile the program for these options, and keep it for later requests."""
    name = repr(options)
    if name not in model.compiled:
        while len(model.compiled) >= KEPT:
            del model.compiled[next(iter(model.compiled))]
        family = model.run.family

        def sample(state: Any, key: jax.Array, size: int) -> jax.Array:
            return family.sample(state, key, size, options)

        model.compiled[name] = model.run.layout.compile_evaluation(sample, static_argnums=2)
    return model.compiled[name]
