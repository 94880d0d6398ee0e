"""Options of the compiler by platform, the text of a compiled program by kinds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import where
from genjax import trees
from genjax.machine import compiling
from genjax.profile.kinds import read_kinds


def test_an_option_that_this_compiler_does_not_know_is_left_out(monkeypatch):
    known = {"xla_backend_optimization_level": 1}
    monkeypatch.setattr(
        compiling, "OPTIONS", {("cpu", "often"): known | {"xla_of_another_time": True}}
    )
    assert compiling.choose_options("cpu", "often") == known
    assert compiling.choose_options("cpu", "once") is None
    assert compiling.choose_options("tpu") is None


def test_all_options_of_the_cpu_are_known_to_this_compiler():
    for (platform, use), options in compiling.OPTIONS.items():
        if platform == "cpu":
            assert compiling.choose_options(platform, use) == options


@pytest.mark.parametrize("shape", [(), (7,), (1, 5), (100, 33), (4, 4, 3, 2)])
def test_squares_are_summed_over_everything(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = jax.jit(trees.sum_squares)(x)
    np.testing.assert_allclose(found, np.square(x, dtype=np.float64).sum(), rtol=1e-6)


def test_a_matrix_is_not_summed_by_windows():
    program = jax.jit(trees.sum_squares).lower(jnp.ones((100, 12544))).compile().as_text()
    assert "size=32x32" not in program


def test_operations_of_a_program_have_a_kind():
    def step(x, w):
        y = x @ w
        with jax.named_scope("update_average"):
            return jnp.tanh(y), w + 0.1 * (w * w - w)

    x, w = jnp.ones((64, 96)), jnp.ones((96, 96))
    kinds = read_kinds(jax.jit(step).lower(x, w).compile().as_text())
    found = {kind for kind, _ in kinds.values()}
    assert {"matrix products", "average", "elementwise"} <= found


def test_the_table_shares_the_time_of_operations_alone():
    kinds = {"dot.1": ("matrix products", "a"), "add.1": ("update", "b")}
    times = {"dot.1": 3.0, "add.1": 1.0, "Execute": 9.0}
    lines = list(where.report(4.5, times, kinds, slowest=1))
    assert lines[0] == "a step takes 4.50 ms; the operations of a traced one 4.00 ms"
    assert [line.split() for line in lines[1:3]] == [
        ["75.0", "%", "matrix", "products"],
        ["25.0", "%", "update"],
    ]
    assert len(lines) == 4 and "dot.1" in lines[3]
