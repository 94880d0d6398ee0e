"""Pairing finds the least total distance, and noise has its named distribution."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.families.diffusion.couplings import NormalNoise, Ring, pair_noise

KEY = jax.random.key(0)
OPTIMAL = functools.partial(pair_noise, "optimal")


def test_optimal_pairs_are_those_of_an_exhaustive_search():
    x, noise = (jax.random.normal(k, (6, 2)) for k in jax.random.split(KEY))
    found = jax.jit(OPTIMAL)(x, noise)

    def cost(order):
        return float(jnp.square(x - noise[jnp.asarray(order)]).sum())

    best = min(itertools.permutations(range(6)), key=cost)
    np.testing.assert_array_equal(found, noise[jnp.asarray(best)])
    np.testing.assert_array_equal(pair_noise("independent", x, noise), noise)


def test_each_device_pairs_its_own_rows():
    x, noise = (jax.random.normal(k, (16, 3)) for k in jax.random.split(KEY))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    rows = jax.sharding.PartitionSpec("data")
    mapped = jax.jit(
        jax.shard_map(OPTIMAL, mesh=mesh, in_specs=(rows, rows), out_specs=rows, check_vma=False)
    )
    found = mapped(x, noise)
    for start in range(0, 16, 4):
        part = slice(start, start + 4)
        np.testing.assert_array_equal(found[part], OPTIMAL(x[part], noise[part]))


def test_the_ring_has_eight_equal_gaussians():
    points = np.asarray(Ring(5.0, 0.3).draw(KEY, (8000, 2)))
    angle = np.round(np.arctan2(points[:, 1], points[:, 0]) / (np.pi / 4)).astype(int) % 8
    counts = np.bincount(angle, minlength=8)
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)
    centre = 5 * np.stack([np.cos(np.pi / 4 * angle), np.sin(np.pi / 4 * angle)], -1)
    assert abs((points - centre).std() - 0.3) < 0.01
    assert abs(float(NormalNoise().draw(KEY, (8000, 2)).std()) - 1) < 0.05


def test_what_is_no_ring_is_refused():
    with pytest.raises(UserError, match="std must be above 0"):
        Ring(std=0.0)
    with pytest.raises(UserError, match="needs data of shape"):
        Ring().draw(KEY, (4, 3))
