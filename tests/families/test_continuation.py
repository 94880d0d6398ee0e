"""Rows continued side by side are those that are continued alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.continuation import continue_prompts
from genjax.families.autoregressive.request import Decoding
from genjax.family import init_state
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD
from genjax.samplers.tokens.decoding import Prompts, TokenSampler, pad_prompts
from genjax.schedules import Constant

V, T = 9, 10
TEXT = Spec("tokens", (T + 1,), np.zeros(T + 1, np.float32), vocabulary=V)
PAIRS = dataclasses.replace(TEXT, source_length=5, source_vocabulary=7)
KEY = jax.random.key(0)
GREEDY = TokenSampler(6, temperature=0.0)


def family_of(spec, **net):
    sampler = Decoding(source_tokens=(1,) if spec is PAIRS else ())
    family = Autoregressive(
        Transformer(layers=2, heads=2, width=16, context=T, init_std=0.4, **net), sampler=sampler
    )
    example = {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in spec.entries.items()}
    params, variables = jax.jit(lambda: family.init(KEY, example, spec))()
    return family, init_state(params, variables, SGD(Constant(0.1)).build(1), KEY)


def test_prompts_of_any_lengths_are_continued_as_each_alone():
    family, state = family_of(TEXT, scan_layers=True)
    prompts = [[1], [5, 6, 7, 8, 1]]
    padded = pad_prompts(prompts)
    together = jax.jit(lambda: continue_prompts(family, state.params, padded, GREEDY, KEY).tokens)()
    for row, prompt in zip(np.asarray(together), prompts, strict=True):
        options = Decoding(6, temperature=0.0, tokens=tuple(prompt))
        alone = jax.jit(lambda options=options: family.sample(state, KEY, 1, options))()
        np.testing.assert_array_equal(row, np.asarray(alone)[0, len(prompt) :])


def test_sources_of_any_lengths_are_translated_as_each_alone():
    family, state = family_of(PAIRS)
    sources = [[1, 2, 3, 4, 5], [6, 1], [3]]
    tokens = np.array([source + [0] * (5 - len(source)) for source in sources], np.int32)
    mask = (np.arange(5) < np.array([[5], [2], [1]])).astype(np.float32)
    starts = Prompts(jnp.full((3, 1), 2, jnp.int32), jnp.ones((3, 1), bool))

    @functools.partial(jax.jit, static_argnums=1)
    def found(tokens, end):
        drawn = continue_prompts(
            family, state.params, starts, GREEDY, KEY, ((end,),), end, (tokens, mask)
        )
        return drawn.tokens

    def alone(source, end):
        options = Decoding(
            6, temperature=0.0, tokens=(2,), source_tokens=tuple(source), ends=(end,)
        )
        return np.asarray(jax.jit(lambda: family.sample(state, KEY, 1, options))())[0, 1:]

    end = int(found(tokens, V - 1)[0, 2])  # a token that ends at least one row before the others
    together = found(tokens, end)
    for row, source in list(zip(together, sources, strict=True))[1:]:
        np.testing.assert_array_equal(row, alone(source, end))
    np.testing.assert_array_equal(
        found(np.where(mask > 0, tokens, 4), end), together
    )  # nobody reads padding
    assert (found((tokens + 1) % 7, end) != together).any()


def test_what_is_longer_than_the_context_is_refused():
    family, state = family_of(TEXT)
    prompts = jnp.ones((1, 6), jnp.int32)
    with pytest.raises(UserError, match="at most 10 tokens .context., got 11"):
        continue_prompts(family, state.params, Prompts(prompts, prompts > 0), GREEDY, KEY)
