"""Kernels of accelerators, computed operation by operation, against the plain form of attention;
and which form a platform takes.
"""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.cli.show import describe
from genjax.data.dataset import Dataset, Spec
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.machine.target import list_forms, trace_for
from genjax.nets.transformer.blocked_attention import Rule
from genjax.nets.transformer.segment_attention import LANES, Misfit, attend_kernel, choose_kernel
from genjax.nets.transformer.token_attention import attend
from genjax.nets.transformer.transformer import Transformer
from genjax.runs.setup import set_up
from tests import toy

LENGTH = 150  # padded to two blocks


def inputs(rows=2, heads=4, kept=2, length=LENGTH, width=16, dtype=jnp.float32):
    shapes = [
        (rows, heads, length, width),
        (rows, kept, length, width),
        (rows, kept, length, width),
    ]
    arrays = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
    ids = np.zeros((rows, length), np.int32)
    for row in range(rows):  # three documents and padding, at other places in each row
        ends = np.asarray([0.2, 0.5, 0.9]) * length + row
        ids[row] = (np.arange(length)[:, None] >= ends).sum(1) + 1
        ids[row][ids[row] == 4] = 0
    return [x.astype(dtype) for x in arrays], jnp.asarray(ids)


RULES = {
    "causal": Rule(0.25, True),
    "all": Rule(0.25),
    "window": Rule(0.25, True, 20),
    "capped": Rule(0.25, False, 20, 1.5),
}
CASES = [
    ("splash", "causal", True),
    ("splash", "all", False),
    ("splash", "window", True),
    ("splash", "capped", False),
    ("triton", "causal", True),
    ("triton", "all", False),
]


@pytest.mark.parametrize(("kernel", "name", "packed"), CASES)
def test_kernels_equal_the_plain_form_in_value_and_gradient(kernel, name, packed):
    arrays, ids = inputs()
    rule, segments = RULES[name], (ids, ids) if packed else None

    @jax.jit
    def both(*arrays):
        def run(form):
            y, vjp = jax.vjp(form, *arrays)
            return y, vjp(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

        one = lambda *a: attend_kernel(kernel, *a, rule, segments, interpret=True)  # noqa: E731
        return run(one), run(lambda *a: attend(*a, rule, segments=segments, implementation="xla"))

    found, plain = both(*arrays)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-5), found, plain)


@pytest.mark.parametrize("kernel", ["splash", "triton"])
def test_packed_equals_unpacked(kernel):
    (q, k, v), _ = inputs(rows=1)
    ids = jnp.asarray([[1] * 60 + [2] * 70 + [0] * 20])
    run = jax.jit(lambda *a: attend_kernel(kernel, *a, RULES["causal"], (ids, ids), interpret=True))
    packed = run(q, k, v)
    for part in (slice(0, 60), slice(60, 130)):
        alone = [x[:, :, part] for x in (q, k, v)]
        plain = attend(*alone, RULES["causal"], implementation="xla")
        np.testing.assert_allclose(packed[:, :, part], plain, rtol=1e-4, atol=2e-5)
    assert np.isfinite(packed).all()


def test_rows_and_heads_that_are_split_over_devices_are_computed_where_they_lie():
    devices = parallel.Devices(count=8, mode="sharded", fsdp=2, tensor=2)
    layout = parallel.start(devices)

    def slopes(q, k, v, ids):
        def loss(*arrays):
            y = attend_kernel("splash", *arrays, RULES["causal"], (ids, ids), interpret=True)
            return jnp.square(y).sum()

        return jax.grad(loss, (0, 1, 2))(q, k, v)

    split = layout.compile_evaluation(slopes)

    def local(rows):  # [B, H, T, D] of one device
        return f"tensor<{rows}x2x{LANES}x16xf32>"

    arrays, ids = inputs(rows=4, length=LANES)
    assert local(1) in split.lower(*arrays, ids).as_text()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        split(*arrays, ids),
        jax.jit(slopes)(*arrays, ids),
    )
    three, ids = inputs(rows=3, length=LANES)  # not divided by the devices: computed by each
    assert local(3) in split.lower(*three, ids).as_text()


def shapes(length=256, width=64, dtype=jnp.bfloat16, keys=None):
    query = jax.ShapeDtypeStruct((2, 4, length, width), dtype)
    return query, jax.ShapeDtypeStruct((2, 2, keys or length, width), dtype)


def test_each_platform_takes_the_kernel_that_fits():
    ids = jnp.ones((2, 256), jnp.int32)
    own, causal = (ids, ids), Rule(1.0, True)

    def choose(platform, rule=causal, segments=own, prefix=None, **changes):
        found = choose_kernel(platform, rule, *shapes(**changes), segments, prefix)
        return found.reason if isinstance(found, Misfit) else found

    assert choose("tpu") == choose("tpu", segments=None) == "splash"
    assert choose("gpu") == "triton" and choose("gpu", segments=None) == "cudnn"
    capped, window = Rule(1.0, True, softcap=2.0), Rule(1.0, True, 9)
    assert choose("tpu", capped) == choose("tpu", window) == "splash"
    assert choose("gpu", window, None) == "cudnn"
    for platform, words, changes in (
        ("cpu", "on a cpu", {}),
        ("gpu", "soft-cap", {"rule": capped}),
        ("gpu", "window", {"rule": window}),
        ("gpu", "window", {"rule": Rule(1.0, False, 9), "segments": None}),
        ("tpu", "prefix", {"prefix": (ids > 0, ids > 0)}),
        ("tpu", "float32", {"dtype": jnp.float32}),
        ("tpu", "other tokens", {"keys": 128}),
        ("tpu", "other tokens", {"segments": (ids, ids + 0)}),
        ("gpu", "fewer than 128 tokens, got 127", {"length": 127}),
        ("gpu", "got 20", {"width": 20}),
        ("tpu", "got 256", {"width": 256}),
        ("tpu", "got 8", {"width": 8}),
    ):
        assert words in choose(platform, **changes), (platform, changes)


@pytest.mark.parametrize(
    ("platform", "length", "form"),
    [
        ("cpu", 256, "xla"),
        ("cpu", 1024, "blocked"),
        ("tpu", 256, "splash"),
        ("tpu", 64, "xla"),
    ],
)
def test_auto_takes_a_kernel_or_else_the_form_for_the_length(platform, length, form):
    query, key = shapes(length)

    def run(q, k, v, ids):
        return attend(q, k, v, Rule(1.0, True), segments=(ids, ids), implementation="auto")

    with list_forms() as found:
        ids = jax.ShapeDtypeStruct((2, length), jnp.int32)
        out = jax.eval_shape(trace_for(platform, run), query, key, key, ids)
    assert out.shape == query.shape and out.dtype == query.dtype
    assert len(found) == 1 and form in next(iter(found))


def test_a_chosen_kernel_that_does_not_fit_is_refused_with_the_reason():
    query, key = shapes(64)
    run = lambda q, k, v: attend(q, k, v, Rule(1.0), implementation="kernel")  # noqa: E731
    with pytest.raises(UserError, match="fewer than 128 tokens, got 64") as error:
        jax.eval_shape(trace_for("tpu", run), query, key, key)
    assert error.value.field == "attention"
    jax.eval_shape(trace_for("tpu", run, counted=True), query, key, key)


def test_flops_are_those_of_the_plain_form_and_show_names_the_form_that_runs():
    layout = dataclasses.replace(parallel.start(parallel.Devices(count=1)), platform="tpu")
    spec = Spec("tokens", (LANES + 1,), np.zeros(LANES + 1, np.float32), vocabulary=11, packed=True)

    def show(attention, platform="tpu"):
        net = Transformer(layers=1, heads=2, width=32, context=LANES, attention=attention)
        family = Autoregressive(net)
        experiment = toy.experiment(family=family, batch_size=2, precision="bfloat16")
        there = dataclasses.replace(layout, platform=platform)
        data = Dataset({}, spec, None, "")
        page = describe(experiment, set_up(experiment, data=data, layout=there))
        return re.search(r"one step: ([\d,]+) FLOPs", page)[1], page.splitlines()[-1]

    flops, line = show("auto")
    assert line == "attention: Pallas' splash attention (kernel) on a tpu"
    assert show("blocked", "cpu") == (flops, "attention: block by block (blocked) on a cpu")
    assert show("xla") == (flops, "attention: all scores at once (xla) on a tpu")
    # A kernel of another platform than this one can be shown, too.
    assert show("kernel", "cpu")[0] == flops


NET = Transformer(
    layers=2, heads=2, kv_heads=1, width=32, context=LANES, scan_layers=True, remat="products"
)
MARKS = {"tpu": "tpu_custom_call", "gpu": "__gpu$xla.gpu.triton"}


@pytest.mark.parametrize("platform", ["tpu", "gpu", "cpu"])
def test_kernels_are_in_the_programs_of_their_platforms_alone(platform):
    attention = "auto" if platform == "cpu" else "kernel"
    module = dataclasses.replace(NET, attention=attention).module(11)
    tokens = jax.ShapeDtypeStruct((2, LANES), jnp.int32)
    made = jax.eval_shape(trace_for(platform, module.init), jax.random.key(0), tokens)
    params = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.bfloat16), made)

    def loss(params, tokens, ids):
        y = module.apply(params, tokens, segment_ids=ids)[0]
        return jnp.square(y.astype(jnp.float32)).sum()

    traced = jax.jit(trace_for(platform, jax.grad(loss))).trace(params, tokens, tokens)
    name = "cuda" if platform == "gpu" else platform
    text = traced.lower(lowering_platforms=(name,)).as_text()
    # Forward, again in the backward pass as the block is rematerialised, and two gradients or one.
    assert text.count(MARKS["tpu"]) == (4 if platform == "tpu" else 0)
    assert text.count(MARKS["gpu"]) == (4 if platform == "gpu" else 0)
