"""The shared gradient step: accumulation, masks, skipped updates, averages and parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.family import Mean, apply, gradient_step, init_state
from genjax.nets.mlp import MLP
from genjax.optim import SGD, Adam
from genjax.schedules import Constant

X = jax.random.normal(jax.random.key(1), (12, 3))
BATCH = {"points": X, "mask": jnp.ones(12)}
PARAMS = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}


def squared(params, variables, batch, key):
    y = batch["points"] @ params["kernel"] + params["bias"][None]
    return {"loss": Mean.of(jnp.square(y).sum(-1), batch["mask"])}, variables


def step(optimizer, batch=BATCH, loss=squared, params=PARAMS, **build):
    rule = optimizer.build(10, **build)
    state = init_state(params, {"count": jnp.zeros(())}, rule, jax.random.key(0))
    return jax.jit(lambda s, b: gradient_step(loss, rule, s, b, s.step_key))(state, batch)


def assert_trees_equal(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_the_gradient_is_that_of_the_mean():
    state, metrics = step(SGD(Constant(0.1)))
    grads = jax.grad(
        lambda p: jnp.mean(jnp.sum(jnp.square(X @ p["kernel"] + p["bias"][None]), -1))
    )(PARAMS)
    assert_trees_equal(
        state.params, jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, grads), rtol=1e-5
    )
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
    np.testing.assert_allclose(metrics["grad_norm"].value, norm, rtol=1e-5)
    np.testing.assert_allclose(metrics["learning_rate"].value, 0.1)


@pytest.mark.parametrize("pieces", [2, 3, 4])
def test_accumulated_equals_the_full_batch_also_under_uneven_masks(pieces):
    mask = jnp.asarray([1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1.0])
    batch = {"points": X, "mask": mask}
    whole, whole_metrics = step(SGD(Constant(0.1)), batch)
    parts, parts_metrics = step(SGD(Constant(0.1), accumulate=pieces), batch)
    assert_trees_equal(whole.params, parts.params, rtol=1e-5)
    assert_trees_equal(whole_metrics, parts_metrics, rtol=1e-5)


def test_masked_rows_weigh_nothing_whatever_they_hold():
    few, few_metrics = step(SGD(Constant(0.1)), {"points": X[:5], "mask": jnp.ones(5)})
    padded = {"points": X.at[5:].set(1e9), "mask": jnp.ones(12).at[5:].set(0)}
    same, same_metrics = step(SGD(Constant(0.1)), padded)
    assert_trees_equal(few.params, same.params, rtol=1e-5)
    assert_trees_equal(few_metrics, same_metrics, rtol=1e-5)


def test_variables_pass_through_every_microbatch():
    def counting(params, variables, batch, key):
        return squared(params, variables, batch, key)[0], {"count": variables["count"] + 1}

    state, _ = step(SGD(Constant(0.1), accumulate=3), loss=counting)
    assert state.variables["count"] == 3


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_an_update_that_is_not_finite_changes_nothing(poison):
    def broken(params, variables, batch, key):
        metrics, variables = squared(params, variables, batch, key)
        total = metrics["loss"].sum
        # sqrt'(0) is infinite where the value is a harmless 0
        bad = total * jnp.nan if poison == "loss" else total + jnp.sqrt(0.0 * params["bias"][0])
        return {"loss": metrics["loss"]._replace(sum=bad)}, {"count": variables["count"] + 1}

    state, metrics = step(Adam(), loss=broken, ema=0.9)
    assert metrics["skipped"].value == 1
    assert_trees_equal(state.params, PARAMS, rtol=0)
    assert_trees_equal(state.ema, PARAMS, rtol=0)
    assert state.opt_state.updates == 0 and state.variables["count"] == 0
    assert all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves(state.opt_state))


def test_the_average_warms_up_and_is_what_is_judged():
    state, _ = step(SGD(Constant(0.1)), ema=0.999)
    expected = jax.tree.map(
        lambda old, new: 0.1 * old + 0.9 * new, PARAMS, state.params
    )  # (1 + 0) / (10 + 0)
    assert_trees_equal(state.ema, expected, rtol=1e-5)
    assert_trees_equal(state.for_eval().params, state.ema)
    without, _ = step(SGD(Constant(0.1)))
    assert without.ema is None and without.for_eval() is without


def test_parts_have_their_own_optimizer_schedule_and_average():
    rules = {"one": SGD(Constant(0.1)).build(9, ema=0.9), "two": Adam(Constant(0.5)).build(9)}
    params = {"one": PARAMS, "two": jax.tree.map(jnp.copy, PARAMS)}
    state = init_state(params, {}, rules, jax.random.key(0))
    after, metrics = gradient_step(squared, rules, state, BATCH, state.step_key, part="two")
    assert_trees_equal(after.params["one"], PARAMS, rtol=0)
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), after.params["two"], PARAMS)
    assert_trees_equal(moved, jax.tree.map(lambda _: 0.5, PARAMS), rtol=1e-3)
    assert after.opt_state["two"].updates == 1 and after.opt_state["one"].updates == 0
    assert set(after.ema) == {"one"}
    np.testing.assert_allclose(metrics["learning_rate"].value, 0.5)
    after, _ = gradient_step(squared, rules, after, BATCH, state.step_key, part="one")
    assert float(jnp.abs(after.ema["one"]["kernel"] - PARAMS["kernel"]).max()) > 0


def test_bfloat16_computes_in_bfloat16_and_stores_float32():
    net = MLP(hidden=(4,), outputs=2)
    params = net.init(jax.random.key(0), X)["params"]
    seen = []

    def loss(params, variables, batch, key):
        seen.extend(p.dtype for p in jax.tree.leaves(params))
        outputs = apply(net, params, batch["points"])
        assert outputs.dtype == jnp.float32
        return {"loss": Mean.of(jnp.square(outputs).sum(-1), batch["mask"])}, variables

    state, _ = step(Adam(), loss=loss, params=params, compute_dtype=jnp.bfloat16, ema=0.9)
    assert set(seen) == {jnp.dtype("bfloat16")}
    floats = [
        x
        for x in jax.tree.leaves((state.params, state.ema, state.opt_state))
        if x.dtype != jnp.int32
    ]
    assert {x.dtype for x in floats} == {jnp.dtype("float32")}
    exact, rounded = (
        net.apply({"params": params}, X),
        apply(net, jax.tree.map(lambda p: p.astype("bfloat16"), params), X),
    )
    np.testing.assert_allclose(exact, rounded, atol=0.05)
    assert np.abs(exact - rounded).max() > 0


def test_mean_merges_by_addition():
    a, b = (
        Mean.of(jnp.asarray([1.0, 2.0]), jnp.asarray([1.0, 1.0])),
        Mean.of(jnp.asarray([6.0, 1e9]), jnp.asarray([1.0, 0.0])),
    )
    merged = jax.tree.map(jnp.add, a, b)
    assert merged.value == 3.0
