"""Compiled programs are read as closed forms say: bytes, loops, and what devices send."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genjax.plan.program import read_program

N = 256


def compiled_text(function, *shapes, **options):
    return jax.jit(function, **options).lower(*shapes).compile().as_text()


def square(*lead):
    return jax.ShapeDtypeStruct((*lead, N, N), "float32")


def test_a_product_reads_both_matrices_and_writes_one():
    program = read_program(compiled_text(jnp.matmul, square(), square()))
    assert program.count_bytes() == 3 * 4 * N * N
    assert program.find_collectives() == ()


@pytest.mark.parametrize("rounds", [3, 50])
def test_the_body_of_a_loop_counts_each_time(rounds):
    def run(x, w):
        return jax.lax.scan(lambda x, _: (jnp.sin(x @ w), None), x, None, rounds)[0]

    counted = read_program(compiled_text(run, square(), square())).count_bytes()
    each = 5 * 4 * N * N  # a product, and a sine of it
    assert rounds * each <= counted <= rounds * each + 4 * 4 * N * N + 1000 * rounds


def test_slices_of_a_stack_are_read_and_written_alone():
    def run(stack):
        return jax.lax.scan(lambda c, x: (c, jnp.cos(x)), 0.0, stack)[1]

    counted = read_program(compiled_text(run, square(64))).count_bytes()
    assert counted < 4 * 64 * 4 * N * N  # not 64 times the stack


@pytest.mark.parametrize(("devices", "sent"), [(2, 1.0), (8, 1.75)])
def test_a_sum_over_devices_sends_by_the_ring(devices, sent):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",), axis_types=(AxisType.Auto,))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    text = compiled_text(
        lambda x, y: x.T @ y, square(), square(), in_shardings=(rows, rows), out_shardings=whole
    )
    program = read_program(text)
    (summed,) = program.find_collectives()
    assert (program.devices, summed.kind, summed.count) == (devices, "all-reduce", 1)
    assert summed.bytes == 4 * N * N
    assert summed.sent == sent * summed.bytes


def test_what_is_gathered_is_a_share():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",), axis_types=(AxisType.Auto,))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    text = compiled_text(lambda x: x + 1, square(), in_shardings=rows, out_shardings=whole)
    (gathered,) = read_program(text).find_collectives()
    assert (gathered.kind, gathered.bytes) == ("all-gather", 4 * N * N)
    assert gathered.sent == gathered.bytes * 3 // 4


LOOP = """HloModule jit_run, num_partitions=4

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[]{:T(128)}, f32[8,4]{1,0:T(8,128)S(1)}) parameter(0)
  %x = f32[8,4]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %r.1 = (f32[8,4]{1,0}, /*index=1*/bf16[8]{0}) all-reduce(%x, %x), replica_groups={{0,1},{2,3}}
  ROOT %t = (s32[], f32[8,4]{1,0}) tuple(%x, %x)
}

%cond (p: (s32[], f32[8,4])) -> pred[] {
  %bound = s32[]{:T(128)} constant(7)
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%i, %bound), direction=LT
}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %w = (s32[], f32[8,4]{1,0}) while(%a), condition=%cond, body=%body
  ROOT %out = f32[8,4]{1,0} get-tuple-element(%w), index=1
}
"""


def test_a_loop_whose_bound_only_its_condition_has():
    program = read_program(LOOP)
    (summed,) = program.find_collectives()
    assert (summed.count, summed.bytes) == (7, 7 * (8 * 4 * 4 + 8 * 2))
    assert summed.sent == summed.bytes  # by two devices each


STACK = """HloModule jit_step, num_partitions=1

%read (p0: f32[12,1024], p1: s32[]) -> f32[1024] {
  %p0 = f32[12,1024]{1,0:T(8,128)} parameter(0)
  %p1 = s32[]{:T(128)} parameter(1)
  %b = f32[12,1024]{1,0} bitcast(%p0)
  %slice = f32[1,1024]{1,0} dynamic-slice(%b, %p1), dynamic_slice_sizes={1,1024}
  ROOT %sin = f32[1024]{0} sine(%slice)
}

%write (p0: f32[12,1024], p1: f32[1024], p2: s32[]) -> (f32[12,1024], f32[1024]) {
  %p0 = f32[12,1024]{1,0} parameter(0)
  %p1 = f32[1024]{0} parameter(1)
  %p2 = s32[] parameter(2)
  %cos = f32[1024]{0} cosine(%p1)
  %row = f32[1,1024]{1,0} bitcast(%cos)
  %update = f32[12,1024]{1,0} dynamic-update-slice(%p0, %row, %p2)
  ROOT %both = (f32[12,1024]{1,0}, f32[1024]{0}) tuple(%update, %cos)
}

ENTRY %main (a: f32[12,1024], i: s32[]) -> (f32[12,1024], f32[1024]) {
  %a = f32[12,1024]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %r = f32[1024]{0} fusion(%a, %i), kind=kLoop, calls=%read
  ROOT %w = (f32[12,1024]{1,0}, f32[1024]{0}) fusion(%a, %r, %i), kind=kLoop, calls=%write
}
"""


def test_a_fusion_that_takes_a_slice_of_a_stack_moves_the_slice():
    row, index = 4 * 1024, 4
    read = row + index + row  # the slice and its sine
    write = row + index + row + row  # its operand, the changed row, and the other result
    assert abs(read_program(STACK).count_bytes() - read - write) <= 2 * index
