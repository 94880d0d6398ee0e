"""The losses of experts in a family: what they add up to, what does not count, and devices."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.masked_lm import MaskedLM
from genjax.family import init_state
from genjax.nets.transformer.experts import ROUTING, Experts, measure_load
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD
from genjax.parallel import Devices
from genjax.runs.setup import initial_state, make_step
from genjax.schedules import Constant
from tests import toy

KEY = jax.random.key(0)
V, T = 11, 6
EXPERTS = Experts(4, 2, hidden=6, balance=0.3, z_loss=0.2)
NET = Transformer(
    layers=1,
    heads=2,
    width=8,
    context=T + 1,
    positions="rotary",
    init_std=0.5,
    activation="swiglu",
    biases=(),
    experts=EXPERTS,
)
FAMILY = Autoregressive(NET)
SPEC = Spec("tokens", (T + 1,), np.zeros(T + 1, np.float32), vocabulary=V, token_kinds=(0,) * V)


def batch_of(n, seed=0):
    one, two = jax.random.split(jax.random.key(seed))
    real = (jnp.arange(T + 1)[None] < jax.random.randint(one, (n, 1), 3, T + 2)).astype(jnp.float32)
    tokens = jax.random.randint(two, (n, T + 1), 0, V)
    return {"tokens": tokens, "loss_mask": real.at[:, 0].set(0), "mask": jnp.ones(n)}


def take_step(family, batch, optimizer=None):
    rule = (optimizer or SGD(Constant(0.1))).build(10)
    step = jax.jit(lambda s, b: family.train_step(s, b, optimizer=rule))
    make = jax.jit(lambda: family.init(KEY, batch_of(1), SPEC))
    return step(init_state(*make(), rule, KEY), batch)


def test_the_loss_is_that_of_the_tokens_and_of_the_experts():
    batch = batch_of(4)
    state, metrics = take_step(FAMILY, batch)
    values = {name: float(mean.value) for name, mean in metrics.items()}
    expected = values["nll"] + 0.3 * values["balance"] + 0.2 * values["router_z"]
    np.testing.assert_allclose(values["loss"], expected, rtol=1e-5)
    assert 1 <= values["balance"] < 4 and 0.5 < values["load_entropy"] <= 1
    plain = replace(FAMILY, net=replace(NET, experts=replace(EXPERTS, balance=0.0, z_loss=0.0)))
    alone = take_step(plain, batch)[1]
    np.testing.assert_allclose(alone["loss"].value, values["nll"], rtol=1e-6)
    held_out = FAMILY.evaluate(state, batch, KEY)
    assert {"loss", "balance", "load_entropy"} <= held_out.keys()
    np.testing.assert_allclose(
        held_out["loss"].value, plain.evaluate(state, batch, KEY)["loss"].value, rtol=1e-6
    )


def test_padding_counts_neither_within_a_row_nor_as_rows():
    batch = batch_of(4)
    padded = {**batch, "mask": jnp.array([1.0, 1.0, 1.0, 0.0])}
    real = jnp.flip(jnp.cumsum(jnp.flip(batch["loss_mask"], 1), 1), 1) > 0
    noise = jax.random.randint(jax.random.key(9), (4, T + 1), 0, V)
    last = jnp.arange(4)[:, None] == 3
    other = {**padded, "tokens": jnp.where(real & ~last, batch["tokens"], noise)}
    one, two = (take_step(FAMILY, b)[1] for b in (padded, other))
    for name in ("loss", "nll", "balance", "router_z", "load_entropy", "grad_norm"):
        np.testing.assert_allclose(one[name].value, two[name].value, rtol=1e-5)


def test_a_masked_model_adds_them_as_well():
    family = MaskedLM(replace(NET, causal=False))
    values = {name: float(m.value) for name, m in take_step(family, batch_of(4))[1].items()}
    expected = values["nll"] + 0.3 * values["balance"] + 0.2 * values["router_z"]
    np.testing.assert_allclose(values["loss"], expected, rtol=1e-5)


def test_a_collapse_of_the_router_is_reported():
    assert "load_entropy" in FAMILY.find_collapse({"load_entropy": 0.2})
    assert not FAMILY.find_collapse({"load_entropy": 0.9, "loss": 1.0})


def trajectory(devices):
    """The losses and gradient norms of some steps, and the layout."""
    experiment = Experiment(
        FAMILY, toy.ToyData(), SGD(Constant(0.3)), steps=6, batch_size=16, devices=devices
    )
    layout = parallel.start(devices)
    make = initial_state(experiment, SPEC)
    state = layout.init(make)
    step = layout.compile_step(make_step(experiment), layout.eval_shapes(make))
    found = []
    for number in range(6):
        batch = batch_of(16, number) | {"mask": jnp.ones(16).at[3].set(0)}
        state, packed = step(state, layout.place(batch))
        found.append(np.asarray(packed.pairs)[..., 0] / np.asarray(packed.pairs)[..., 1])
    return np.array(found), state


@pytest.mark.long
def test_one_device_equals_eight_that_share_rows_or_experts():
    one, _ = trajectory(Devices(count=1))
    for devices in (
        Devices(count=8),
        Devices(count=8, mode="sharded", fsdp=2, tensor=2),
        Devices(count=8, mode="sharded", tensor=4),
    ):
        found, state = trajectory(devices)
        np.testing.assert_allclose(found, one, rtol=2e-4, atol=1e-5)
        kernel = state.params["layer_0"]["feed_forward"]["experts"]["up"]["kernel"]
        shares = {shard.data.shape[0] for shard in kernel.addressable_shards}
        assert shares == {4 // devices.tensor}


def test_experts_lie_on_the_devices_that_divide_them_and_no_others():
    shapes = {
        "layer_0": {"feed_forward": {"experts": {"up": {"kernel": jnp.zeros((4, 8, 6))}}}},
        "layers": {"feed_forward": {"experts": {"up": {"kernel": jnp.zeros((3, 4, 8, 6))}}}},
    }
    layout = parallel.start(Devices(count=8, mode="sharded", fsdp=2, tensor=2))
    specs = jax.tree.map(lambda s: tuple(s.spec), layout.make_shardings({"params": shapes}))
    one, stacked = jax.tree.leaves(specs, is_leaf=lambda x: isinstance(x, tuple))
    assert one == ("tensor", "fsdp", None) and stacked == (None, "tensor", "fsdp", None)
    odd = jax.tree.map(lambda x: x[:3], {"layer_0": shapes["layer_0"]})
    with pytest.raises(UserError) as error:
        layout.make_shardings({"params": odd})
    assert error.value.field == "devices.tensor"


def test_the_share_of_a_device_counts_for_all():
    """Balance with the shares of the whole batch is a mean over the parts of a batch."""
    params = FAMILY.init(KEY, batch_of(1), SPEC)[0]
    tokens = batch_of(4)["tokens"]
    real = jnp.ones((4, T + 1))

    def sown(tokens):
        return NET.module(V).apply({"params": params}, tokens, mutable=[ROUTING])[1][ROUTING]

    whole = measure_load(sown(tokens), real)
    parts = jax.vmap(
        lambda tokens: measure_load(sown(tokens), jnp.ones((2, T + 1)), "parts"),
        axis_name="parts",
    )(tokens.reshape(2, 2, T + 1))
    np.testing.assert_allclose(parts.balance.reshape(4, -1), whole.balance, rtol=1e-5)
    np.testing.assert_allclose(parts.entropy, whole.entropy, rtol=1e-6)
