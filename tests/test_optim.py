"""Optimizers against plain Optax and hand-computed numbers; schedules at their corners; masks
by path.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.errors import UserError
from genjax.optim import SGD, Adafactor, Adam, AdamW, Lion, Muon
from genjax.schedules import Constant, Cosine, Linear, Piecewise, Rsqrt, WarmUp

PARAMS = {
    "embed": {"embedding": jnp.arange(12.0).reshape(4, 3) / 10},
    "dense": {"kernel": jnp.linspace(-1, 1, 12).reshape(3, 4), "bias": jnp.ones(4)},
}


def grads_at(step: int):
    return jax.tree.map(
        lambda p: jax.random.normal(jax.random.fold_in(jax.random.key(p.size), step), p.shape),
        PARAMS,
    )


def run(optimizer, steps=5, params=PARAMS, grads=grads_at):
    rule = optimizer.build(steps)
    state = rule.init(params)
    for step in range(steps):
        grad = grads(step)
        params, state = rule.update(grad, rule.measure_norm(grad), state, params)
    return params


def run_optax(tx, steps=5):
    params, state = PARAMS, tx.init(PARAMS)
    for step in range(steps):
        updates, state = tx.update(grads_at(step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_trees_close(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-7), a, b)


def matrices(params):
    return jax.tree.map(lambda p: p.ndim >= 2, params)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(Constant(0.1)), optax.sgd(0.1)),
        (SGD(Constant(0.1), momentum=0.9, nesterov=True), optax.sgd(0.1, 0.9, True)),
        (Adam(Constant(0.01), b2=0.99), optax.adam(0.01, b2=0.99)),
        (
            AdamW(Constant(0.01), weight_decay=0.1),
            optax.adamw(0.01, weight_decay=0.1, mask=matrices),
        ),
        (Lion(Constant(0.01), weight_decay=0.1), optax.lion(0.01, weight_decay=0.1, mask=matrices)),
        (Adafactor(Constant(0.01)), optax.adafactor(0.01)),
        (
            Adam(WarmUp(2, Cosine(0.1, 0.01)), clip=1.0),
            optax.chain(
                optax.clip_by_global_norm(1.0),
                optax.adam(
                    lambda i: jnp.where(
                        i < 2, 0.05 * (i + 1), optax.cosine_decay_schedule(0.1, 3, 0.1)(i - 2)
                    )
                ),
            ),
        ),
    ],
    ids=lambda case: type(case).__name__,
)
def test_equals_optax(ours, theirs):
    assert_trees_close(run(ours), run_optax(theirs))


def test_schedules_at_their_corners():
    assert Constant(0.5)(7) == 0.5
    linear = Linear(1.0, 0.0, 10)
    np.testing.assert_allclose([linear(s) for s in (0, 5, 10, 20)], [1, 0.5, 0, 0])
    cosine = Cosine(1.0, 0.2).with_steps(10)
    np.testing.assert_allclose([cosine(s) for s in (0, 5, 10, 20)], [1, 0.6, 0.2, 0.2], rtol=1e-6)
    rsqrt = Rsqrt(2.0, 100)
    np.testing.assert_allclose([rsqrt(s) for s in (0, 100, 400)], [2, 2, 1])
    piecewise = Piecewise((1.0, 0.1, 0.01), (10, 20))
    np.testing.assert_allclose([piecewise(s) for s in (9, 10, 19, 20)], [1, 0.1, 0.1, 0.01])
    warm = WarmUp(4, Linear(1.0, 0.0)).with_steps(14)
    np.testing.assert_allclose([warm(s) for s in (0, 3, 4, 9, 14)], [0.25, 1, 1, 0.5, 0], rtol=1e-6)


def test_schedules_take_a_vector_of_steps():
    steps = jnp.arange(30)
    for schedule in (
        Constant(),
        Linear(steps=9),
        Cosine(steps=9),
        Rsqrt(),
        Piecewise((1.0, 2.0), (5,)),
        WarmUp(3),
    ):
        np.testing.assert_allclose(schedule(steps), [schedule(int(s)) for s in steps], rtol=1e-6)


def test_an_open_schedule_outside_an_optimizer_is_refused():
    with pytest.raises(UserError, match="number of steps"):
        Cosine(1.0)(3)


def test_frozen_parameters_stand_still_and_do_not_count_in_the_clipped_norm():
    optimizer = SGD(Constant(1.0), clip=1.0, freeze=("embed",))
    moved = run(optimizer, steps=1)
    assert_trees_close(moved["embed"], PARAMS["embed"], rtol=0)
    delta = jax.tree.map(lambda a, b: a - b, moved["dense"], PARAMS["dense"])
    np.testing.assert_allclose(optax.tree.norm(delta), 1.0, rtol=1e-5)


def test_frozen_parameters_have_no_moments():
    moments = Adam(freeze=("embed",)).build(1).init(PARAMS)
    assert not [x for x in jax.tree.leaves(moments) if x.shape == (4, 3)]


def test_decay_by_path_reaches_what_it_names_only():
    zero = lambda step: jax.tree.map(jnp.zeros_like, PARAMS)  # noqa: E731
    decayed = run(SGD(Constant(0.1), weight_decay=0.5, decay=("bias",)), steps=1, grads=zero)
    np.testing.assert_allclose(decayed["dense"]["bias"], 0.95, rtol=1e-6)
    assert_trees_close(decayed["dense"]["kernel"], PARAMS["dense"]["kernel"], rtol=0)


def test_a_rule_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match="optimizer.freeze.*encodr.*matches no parameter"):
        Adam(freeze=("encodr",)).check(PARAMS)
    with pytest.raises(UserError, match="not a regular expression"):
        Adam(decay=("(",)).check(PARAMS)
    with pytest.raises(UserError, match="optimizer.rates.*kernal.*matches no parameter"):
        Adam(rates=(("kernal", 2.0),)).check(PARAMS)


def test_rates_multiply_the_step_of_what_they_name_but_not_its_decay():
    plain, rated = (
        run(Adam(Constant(0.1), weight_decay=0.5, freeze=("embed",), rates=rates), steps=1)["dense"]
        for rates in ((), (("kernel", 0.25), ("dense", 2.0)))
    )
    decayed = 0.95 * PARAMS["dense"]["kernel"]
    assert_trees_close(rated["kernel"] - decayed, 0.5 * (plain["kernel"] - decayed), rtol=1e-4)
    assert_trees_close(rated["bias"] - 1, 2 * (plain["bias"] - 1), rtol=1e-4)


def test_adams_part_of_muon_has_a_rate_of_its_own():
    params = {"head": jnp.zeros((4, 3)), "kernel": jnp.zeros((4, 4))}
    (one, _), (half, _) = (direction(Muon(adam_rate=rate), params) for rate in (1.0, 0.5))
    assert_trees_close(half["head"], 0.5 * one["head"])
    assert_trees_close(half["kernel"], one["kernel"])
    with pytest.raises(UserError, match="adam_rate"):
        Muon(adam_rate=0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accumulate", 0),
        ("clip", 0.0),
        ("weight_decay", -1.0),
        ("learning_rate", 1e-3),
        ("rates", (("kernel", 0.0),)),
    ],
)
def test_bad_values_are_refused(field, value):
    with pytest.raises(UserError, match=field):
        dataclasses.replace(Adam(), **{field: value})


def direction(optimizer, params):
    """The first step at learning rate 1, as an array for each parameter."""
    rule = dataclasses.replace(optimizer, learning_rate=Constant(1.0)).build(1)
    grads = jax.tree.map(lambda p: jax.random.normal(jax.random.key(p.size), p.shape), params)
    moved, _ = rule.update(grads, rule.measure_norm(grads), rule.init(params), params)
    return jax.tree.map(lambda p, q: p - q, params, moved), grads


def singular_values(matrix):
    return np.linalg.svd(np.asarray(matrix), compute_uv=False)


def test_muon_orthogonalises_each_of_the_stacked_layers_and_whole_kernels():
    params = {
        "layers": {"kernel": jnp.zeros((3, 16, 8)), "bias": jnp.zeros((3, 8))},
        "conv": {"kernel": jnp.zeros((3, 3, 4, 8))},
    }
    moved, grads = direction(Muon(), params)
    # 0.2 sqrt(max(rows, columns)) times a matrix whose singular values Newton-Schulz brings near 1.
    for i in range(3):
        values = singular_values(moved["layers"]["kernel"][i]) / (0.2 * math.sqrt(16))
        assert values.min() > 0.6 and values.max() < 1.3
        u, _, vt = np.linalg.svd(np.asarray(grads["layers"]["kernel"][i]), full_matrices=False)
        cosine = np.sum((u @ vt) * np.asarray(moved["layers"]["kernel"][i]))
        assert cosine / np.linalg.norm(moved["layers"]["kernel"][i]) / math.sqrt(8) > 0.98
    values = singular_values(moved["conv"]["kernel"].reshape(36, 8)) / (0.2 * math.sqrt(36))
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_leaves_vectors_embeddings_and_heads_to_adam():
    params = {
        "embed": jnp.zeros((4, 3)),
        "head": {"kernel": jnp.zeros((3, 4))},
        "bias": jnp.zeros(4),
    }
    moved, grads = direction(Muon(), params)
    assert_trees_close(moved, jax.tree.map(jnp.sign, grads), rtol=1e-4)  # Adam's first step
