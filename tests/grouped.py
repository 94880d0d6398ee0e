"""A small language model, prompts and rewards, for the tests of what is trained on groups."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from genjax.continued import apply_initial_params
from genjax.data.dataset import Spec
from genjax.data.text.codecs import Characters
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.family import Trained, init_state, make_example
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD
from genjax.posttrain.continued import BASE
from genjax.posttrain.groups import update
from genjax.schedules import Constant

KEY = jax.random.key(0)
V, P, N, B, G = 6, 4, 5, 16, 4
NET = Transformer(layers=1, heads=2, width=8, context=16, init_std=0.3)
BASE_FAMILY = Autoregressive(NET, sampler=Decoding(steps=6))
SPEC = Spec("tokens", (P,), np.zeros(P, np.float32), vocabulary=V, prefixed=True)
CODEC = Characters("bcdef", delimiter=True)  # token 0 ends a text


def begins_with_b(prompts, responses):
    return [float(response[:1] == "b") for response in responses]


def by_letters(prompts, responses):
    return [len(response) + 0.1 * ord((response + "a")[0]) for response in responses]


def resolve(family):
    """The family on the base, with the codec."""
    others = {BASE: Trained("base", BASE_FAMILY, SPEC)}
    return family.resolve(others, SPEC).with_codec(CODEC)


def state_of(family, optimizer=SGD(Constant(0.1))):
    base, _ = BASE_FAMILY.init(jax.random.key(5), make_example(SPEC), SPEC)
    params, variables = family.init(KEY, make_example(SPEC), SPEC)
    state = init_state(params, variables, optimizer.build(4), KEY)
    return apply_initial_params(
        family, state.replace(frozen={BASE: {"params": base, "variables": {}}})
    )


def prompts_batch(rows=B):
    sizes = jnp.arange(rows) % P + 1
    prefix = (jnp.arange(P)[None] < sizes[:, None]).astype(jnp.float32)
    return {
        "tokens": jax.random.randint(KEY, (rows, P), 1, V),
        "loss_mask": 1 - prefix,
        "prefix_mask": prefix,
        "mask": jnp.ones(rows),
    }


def moved(params, seed=9, by=0.3):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        [x + by * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


@functools.partial(jax.jit, static_argnums=(0, 3))
def updated(family, state, batch, optimizer=SGD(Constant(0.1))):
    return update(family, state, batch, optimizer=optimizer.build(4))
