"""Activations are found in compiled programs: those of closed forms, and in the text of a TPU's."""

import jax
import jax.numpy as jnp
import pytest

from genjax.plan.program import read_program
from genjax.plan.saved import count_saved

ROWS, WIDTH, LAYERS = 64, 128, 6
ARRAY = 4 * ROWS * WIDTH


def count(loss):
    shapes = (
        jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), "float32"),
        jax.ShapeDtypeStruct((ROWS, WIDTH), "float32"),
    )
    return count_saved(read_program(jax.jit(jax.grad(loss)).lower(*shapes).compile().as_text()))


def layer(x, w):
    return jnp.sin(x @ w) @ w, None


def test_each_layer_keeps_its_input_and_what_the_sine_was_of():
    def loss(w, x):
        return jax.lax.scan(layer, x, w)[0].sum()

    kept = LAYERS * ARRAY
    assert 2 * kept <= count(loss) <= 3.2 * kept  # the sine, its derivative, the layer's input


def test_a_layer_that_is_computed_again_keeps_its_input():
    def loss(w, x):
        return jax.lax.scan(jax.checkpoint(layer), x, w)[0].sum()

    assert LAYERS * ARRAY <= count(loss) <= (LAYERS + 3) * ARRAY


def test_a_program_without_gradients_keeps_nothing():
    text = jax.jit(lambda x: jnp.sin(x) @ x.T).lower(jnp.zeros((8, 8))).compile().as_text()
    assert count_saved(read_program(text)) == 0


STEP = """HloModule jit_step, is_scheduled=true

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %sin = f32[8,128]{1,0:T(8,128)PLACE} fusion(%a), kind=kLoop, metadata={op_name="jvp(net)/sin"}
  %begin = (f32[8,128]{1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)S(1)}, u32[]) copy-start(%sin)
  %kept = f32[8,128]{1,0:T(8,128)} copy-done(%begin)
  %cos = f32[8,128]{1,0:T(8,128)} fusion(%a), kind=kLoop, metadata={op_name="jvp(net)/cos"}
  ROOT %out = f32[8,128]{1,0:T(8,128)} fusion(%kept), metadata={op_name="transpose(jvp(net))/mul"}
}
"""


@pytest.mark.parametrize(("place", "arrays"), [("S(1)", 1), ("", 2)])
def test_a_copy_in_main_memory_counts_and_memory_beside_the_units_does_not(place, arrays):
    assert count_saved(read_program(STEP.replace("PLACE", place))) == arrays * 4 * 8 * 128
