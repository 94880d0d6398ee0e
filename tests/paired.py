"""A small language model and pairs of responses, for the tests of what is trained on pairs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from genjax.continued import apply_initial_params
from genjax.data.dataset import Spec
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.family import Trained, init_state, make_example
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD
from genjax.posttrain.continued import BASE
from genjax.posttrain.paired import response_log_probs
from genjax.schedules import Constant

KEY = jax.random.key(0)
SIDES = ("chosen", "rejected")
V, T, P, B = 11, 8, 2, 6
NET = Transformer(layers=1, heads=2, width=8, context=T - 1, init_std=0.3, dropout=0.2)
BASE_FAMILY = Autoregressive(NET, chunk=16, sampler=Decoding(steps=4))
BASE_SPEC = Spec("tokens", (T,), np.zeros(T, np.float32), vocabulary=V)
SPEC = Spec("chosen_tokens", (T,), np.zeros(T, np.float32), vocabulary=V, preferences=True)
SGD_RULE = SGD(Constant(0.1))
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)


def resolve(family):
    """The family on the base."""
    return family.resolve({BASE: Trained("base", BASE_FAMILY, BASE_SPEC)}, SPEC)


def moved(params, seed=9, by=0.1):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        [x + by * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


def state_of(family, by=0.0, optimizer=SGD_RULE):
    """At step 0, of parameters that are moved ``by`` so much from the base's."""
    learned, _ = BASE_FAMILY.init(jax.random.key(5), make_example(BASE_SPEC), BASE_SPEC)
    params, variables = family.init(KEY, make_example(SPEC), SPEC)
    state = init_state(params, variables, optimizer.build(4), KEY)
    state = apply_initial_params(
        family, state.replace(frozen={BASE: {"params": learned, "variables": {}}})
    )
    return state.replace(params=moved(state.params, by=by))


def batch_of(rows=B, seed=1):
    batch = {"mask": jnp.ones(rows)}
    for number, side in enumerate(SIDES):
        one, two = jax.random.split(jax.random.key(seed + 100 * number))
        inside = (jnp.arange(T)[None] < jax.random.randint(one, (rows, 1), P + 1, T + 1)).astype(
            jnp.float32
        )
        batch[f"{side}_tokens"] = jax.random.randint(two, (rows, T), 0, V)
        batch[f"{side}_mask"] = inside
        batch[f"{side}_response"] = inside.at[:, :P].set(0)
    return batch


@jax.jit
def by_hand(params, batch):
    """log p of the responses, of all logits, [B, 2]."""
    module = NET.module(V)
    found = []
    for side in SIDES:
        tokens = batch[f"{side}_tokens"]
        hidden, _ = module.apply({"params": params}, tokens[:, :-1])
        log_p = jax.nn.log_softmax(module.apply({"params": params}, hidden, method="logits"))
        own = jnp.take_along_axis(log_p, tokens[:, 1:, None], 2)[..., 0]
        found.append((own * batch[f"{side}_response"][:, 1:]).sum(1))
    return jnp.stack(found, 1)


@jax.jit
def log_probs(params, batch):
    return response_log_probs(BASE_FAMILY, params, batch)


@functools.partial(jax.jit, static_argnums=0)
def rewarded(family, state, batch):
    return family.score_pairs(state, batch)


@functools.partial(jax.jit, static_argnums=0)
def evaluated(family, state, batch):
    """Metrics of a judged state, as numbers."""
    return {name: mean.value for name, mean in family.evaluate(state, batch, KEY).items()}


@functools.partial(jax.jit, static_argnums=(0, 3))
def stepped(family, state, batch, optimizer=SGD_RULE):
    return family.train_step(state, batch, optimizer=optimizer.build(4))
