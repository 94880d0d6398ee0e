"""Programs have the form of the platform that a setup names, whatever machine lowers them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.sources import Digits
from genjax.errors import UserError
from genjax.families.vae import VAE
from genjax.machine.target import target_platform, trace_for
from genjax.nets.conv.conv import ConvCoder
from genjax.nets.conv.group_norm import GroupNorm
from genjax.nets.transformer.blocked_attention import Rule
from genjax.nets.transformer.token_attention import attend
from genjax.runs.setup import set_up, with_experiment
from tests import toy

PLATFORMS = ("cpu", "gpu", "tpu")


def setup_for(platform):
    layout = dataclasses.replace(parallel.start(parallel.Devices(count=1)), platform=platform)
    vae = VAE(coder=ConvCoder((4, 8)))
    return set_up(toy.experiment(family=vae, data=Digits(), batch_size=8), layout=layout)


def ops(setup, run_step=None):
    spec = setup.data.spec
    batch = {
        name: jax.ShapeDtypeStruct((8, *shape), dtype)
        for name, (shape, dtype) in spec.entries.items()
    } | {"mask": jax.ShapeDtypeStruct((8,), "float32")}
    text = (run_step or setup.run_step).lower(setup.target, batch).as_text()
    return text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")


def test_a_step_has_the_form_of_its_setups_platform():
    found = {platform: ops(setup_for(platform)) for platform in PLATFORMS}
    assert found["tpu"] == found["gpu"]
    # XLA's own form has a convolution for each forward pass and each gradient; on a CPU the
    # gradients and the transposed convolutions are products of matrices.
    assert found["tpu"][0] > found["cpu"][0]
    assert found["tpu"][1] < found["cpu"][1]
    # A setup that was made from another one keeps its platform, whatever was lowered before.
    setup = setup_for("tpu")
    assert setup.platform == "tpu"
    assert ops(with_experiment(setup, setup.experiment)) == found["tpu"]
    assert target_platform() == "cpu"


def test_devices_name_their_platform():
    assert parallel.start(parallel.Devices(count=1)).platform == jax.devices()[0].platform


def test_one_function_is_compiled_for_each_platform():
    layout, x = parallel.start(parallel.Devices(count=1)), jnp.ones((2, 3, 3, 4))
    norm = GroupNorm()
    variables = norm.init(jax.random.key(0), x)

    def products(platform):
        there = dataclasses.replace(layout, platform=platform)
        lowered = there.compile_evaluation(norm.apply).lower(variables, x)
        return lowered.as_text().count("stablehlo.dot_general")

    assert [products(platform) for platform in (*PLATFORMS, "cpu")] == [2, 0, 0, 2]


def test_attention_of_cudnn_is_traced_for_a_gpu_alone(monkeypatch):
    half = [jax.ShapeDtypeStruct((1, 2, 128, 16), jnp.bfloat16)] * 3

    def cudnn(*arrays):
        return attend(*arrays, Rule(1.0, True), implementation="kernel")

    with pytest.raises(UserError, match="cpu") as error:
        jax.eval_shape(trace_for("cpu", cudnn), *half)
    assert error.value.field == "attention"
    assert target_platform() == "cpu"  # also after an error
    chosen = []  # JAX looks for the library of cuDNN, which few machines have
    monkeypatch.setattr(
        jax.nn,
        "dot_product_attention",
        lambda query, *_, implementation, **__: (chosen.append(implementation), query)[1],
    )
    jax.eval_shape(trace_for("gpu", cudnn), *half)
    assert chosen == ["cudnn"]


def test_the_target_does_not_change_what_is_computed():
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 8))
    norm = GroupNorm()
    variables = norm.init(jax.random.key(0), x)
    cpu, tpu = (jax.jit(trace_for(p, norm.apply))(variables, x) for p in ("cpu", "tpu"))
    np.testing.assert_allclose(cpu, tpu, rtol=1e-5, atol=1e-5)
