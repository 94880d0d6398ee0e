"""The hierarchical VAE beside closed forms, a plain VAE of one layer, and its own parts."""

import functools
import math
from dataclasses import dataclass, replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.likelihoods import Bernoulli, Gaussian
from genjax.families.vae import VAE, PriorSampler
from genjax.families.vdvae import VDVAE, Block, BottomUp, TopDown
from genjax.family import init_state
from genjax.nets.conv.attention import FlatDense
from genjax.nets.conv.conv3 import Conv3
from genjax.optim import SGD
from genjax.schedules import Constant

KEY = jax.random.key(0)
SHAPE = (4, 4, 1)
SPEC = Spec("image", SHAPE, np.full(SHAPE, 0.2, np.float32))
SMALL = VDVAE(width=6, middle=4, latent_dim=2, layers=(1, 1), chunk=3)
FLAT = VDVAE(width=6, middle=4, latent_dim=3, layers=(1,), patch=4)  # one layer, on one place
RULE = SGD(Constant(0.1)).build(10)
X = jax.random.uniform(KEY, (3, *SHAPE), minval=-1)
BATCH = {"image": X, "mask": jnp.asarray([1.0, 1.0, 0.0])}


@functools.cache
def state_of(family, lively=True):
    """A state; ``lively`` has no matrix of zeros, as after training."""
    example = {name: rows[:1] for name, rows in BATCH.items()}

    @jax.jit
    def make():
        return init_state(*family.init(KEY, example, SPEC), RULE, KEY)

    state = make()
    if not lively:
        return state
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda p: p + 0.2 * draw.normal(size=p.shape).astype(np.float32), state.params
    )
    return state.replace(params=params)


@functools.cache
def inferred(family):
    state = state_of(family)
    return jax.jit(family.infer)(state.params, state.variables, X, KEY)


def test_the_loss_is_reconstruction_and_the_kl_of_each_layer_by_hand():
    state = state_of(SMALL)
    found = jax.jit(SMALL.evaluate)(state, BATCH, KEY)
    _, latent_key = jax.random.split(KEY)
    outputs, layers = jax.jit(SMALL.infer)(state.params, state.variables, X, latent_key)
    assert [layer.z.shape[1:] for layer in layers] == [(1, 1, 2), (2, 2, 2)]
    kls = []
    for layer in layers:
        (m, v), (pm, pv) = layer.posterior, layer.prior
        m, v, pm, pv = (np.asarray(each, np.float64) for each in (m, v, pm, pv))
        kl = np.log(np.exp(0.5 * (pv - v))) + (np.exp(v) + (m - pm) ** 2) / (2 * np.exp(pv)) - 0.5
        kls.append(kl.sum((1, 2, 3))[:2].mean())
    assert min(kls) > 0
    np.testing.assert_allclose(found["kl_1x1"].value, kls[0], rtol=1e-4)
    np.testing.assert_allclose(found["kl_2x2"].value, kls[1], rtol=1e-4)
    nll = float(SMALL.likelihood.nll({}, outputs, X)[:2].mean())
    np.testing.assert_allclose(found["reconstruction"].value, nll, rtol=1e-5)
    np.testing.assert_allclose(found["loss"].value, nll + sum(kls), rtol=1e-5)
    np.testing.assert_allclose(
        found["bits_per_dim"].value, (nll + sum(kls)) / (16 * math.log(2)), rtol=1e-5
    )


def test_the_bound_is_the_reconstruction_where_prior_and_posterior_are_equal():
    """Both of all layers are N(0, 1) if the last kernels of their blocks are 0."""
    state = state_of(SMALL)
    decoder = {
        name: jax.tree.map(jnp.zeros_like, part) if name.startswith(("pr", "po")) else part
        for name, part in state.params["decoder"].items()
    }
    state = state.replace(params=state.params | {"decoder": decoder})
    found = jax.jit(SMALL.evaluate)(state, BATCH, KEY)
    assert found["kl"].value == 0
    np.testing.assert_allclose(found["loss"].value, found["reconstruction"].value, rtol=1e-6)
    # The importance weights are then the likelihoods of draws from the prior.
    bound = jax.jit(
        lambda state: SMALL.importance_bound(state.params, state.variables, BATCH, KEY, 3)
    )(state)
    latent_key = jax.random.fold_in(jax.random.split(KEY)[1], 0)
    again = jnp.repeat(X, 3, axis=0)
    outputs, _ = jax.jit(SMALL.infer)(state.params, state.variables, again, latent_key)
    nll = SMALL.likelihood.nll({}, outputs, again).reshape(3, 3)
    expected = (math.log(3) - jax.nn.logsumexp(-nll, axis=1))[:2].mean()
    np.testing.assert_allclose(bound["loss"].value, expected, rtol=1e-5)


class Estimate(nn.Module):
    """The posterior of a VDVAE with one layer on one place, as the encoder of a plain VAE."""

    @nn.compact
    def __call__(self, x):
        maps = BottomUp(6, 4, (1,), "gelu", name="up")(x.reshape(-1, 1, 1, 16))
        _, (layer,) = TopDown((1, 1, 16), 6, 4, 3, (1,), "gelu", name="down")(*maps, key=None)
        return jnp.concatenate(layer.posterior, -1).reshape(len(x), -1)


class Decode(nn.Module):
    """What follows its latents, part by part, as the decoder of a plain VAE."""

    @nn.compact
    def __call__(self, z):
        start = self.param("start_0", nn.initializers.zeros, (1, 1, 1, 6))
        x = start + FlatDense(6, name="latents_0")(z.reshape(-1, 1, 1, 3))
        x = x + Block(4, 6, 1.0, "gelu", name="after_0")(x)
        return Conv3(16, name="output")(nn.gelu(x)).reshape(-1, *SHAPE)


@dataclass(frozen=True)
class OwnNets:
    """Both, as a coder."""

    def encoder(self, outputs):
        return Estimate()

    def decoder(self, shape, outputs_per_dim):
        return Decode()


def test_with_one_layer_it_is_a_plain_vae_with_these_nets():
    state = state_of(FLAT, lively=False)  # with the prior N(0, 1) of a plain one
    draw = np.random.default_rng(1)
    params = jax.tree.map(
        lambda p: p + 0.2 * draw.normal(size=p.shape).astype(np.float32), state.params
    )
    decoder = params["decoder"] | {"prior_0": state.params["decoder"]["prior_0"]}
    params = params | {"decoder": decoder}
    plain = VAE(latent_dim=3, coder=OwnNets(), likelihood=Bernoulli())
    theirs = {
        "encoder": {"up": params["encoder"], "down": decoder},
        "decoder": decoder,
    }
    ours = jax.jit(FLAT.evaluate)(state.replace(params=params), BATCH, KEY)
    other = jax.jit(plain.evaluate)(
        state.replace(params=theirs, variables=state.variables), BATCH, KEY
    )
    assert other["kl"].value > 0.05
    for name in ("loss", "reconstruction", "kl", "bits_per_dim"):
        np.testing.assert_allclose(ours[name].value, other[name].value, rtol=1e-5, err_msg=name)


@pytest.mark.long
def test_the_importance_bound_with_more_samples_is_tighter():
    state = state_of(SMALL)
    compiled = jax.jit(SMALL.importance_bound, static_argnums=4)
    one, many = (
        np.mean(
            [
                float(compiled(state.params, state.variables, BATCH, key, count)["loss"].value)
                for key in jax.random.split(KEY, 20)
            ]
        )
        for count in (1, 30)
    )
    assert many < one - 0.01


def test_samples_start_at_the_mean_of_the_data():
    state = state_of(SMALL, lively=False)
    drawn = jax.jit(lambda state: SMALL.sample(state, KEY, 5, PriorSampler()))(state)
    np.testing.assert_allclose(drawn, 0.2, atol=1e-5)


@pytest.mark.long
def test_samples_follow_the_temperature():
    state = state_of(SMALL)
    draw = jax.jit(SMALL.sample, static_argnums=(2, 3))
    spread = [
        float(draw(state, KEY, 64, PriorSampler(temperature=t)).std(0).mean())
        for t in (0.0, 0.5, 1.0)
    ]
    assert spread[0] < 1e-4 < spread[1] < spread[2]


@pytest.mark.long
def test_a_step_moves_the_net_and_padded_rows_weigh_nothing():
    state = state_of(SMALL)
    step = jax.jit(functools.partial(SMALL.train_step, optimizer=RULE))
    after, metrics = step(state, BATCH)
    rubbish = BATCH | {"image": X.at[2].set(9.0)}
    other, again = step(state, rubbish)
    np.testing.assert_allclose(metrics["loss"].value, again["loss"].value, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        after.params,
        other.params,
    )
    assert after.step == 1


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: VDVAE(layers=(1, 0)), "layers"),
        (lambda: VDVAE(layers=()), "layers"),
        (lambda: VDVAE(activation="swish"), "activation"),
        (lambda: VDVAE(width=0), "width"),
        (lambda: replace(SMALL, patch=3).init(KEY, BATCH, SPEC), "family.patch"),
        (lambda: replace(SMALL, layers=(1,) * 6).init(KEY, BATCH, SPEC), "family.layers"),
        (
            lambda: SMALL.sample(state_of(SMALL), KEY, 1, PriorSampler(label=3)),
            "sampler.label",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, field):
    with pytest.raises(UserError) as refused:
        make()
    assert refused.value.field == field


def test_points_are_refused():
    with pytest.raises(UserError):
        replace(SMALL, likelihood=Gaussian()).init(
            KEY, BATCH, Spec("points", (2,), np.zeros(2, np.float32))
        )
