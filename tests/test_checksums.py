"""Checksums: the same however an array is spread, another one for any flipped bit, for every
dtype.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.runs import checksums

DTYPES = ["bool", "int8", "uint8", "int16", "bfloat16", "float16", "int32", "uint32", "float32"]


def one(x):
    return checksums.hash_arrays({"x": x})["x"]


def array(dtype, shape=(16, 6)):
    return jnp.asarray(
        np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, shape)
    ).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_flipped_bit_changes_it(dtype):
    x = np.asarray(array(dtype, (3, 2)))
    seen = {one(x)}
    for place in range(x.nbytes * 8):
        raw = np.frombuffer(x.tobytes(), np.uint8).copy()
        raw[place // 8] ^= 1 << place % 8
        if dtype == "bool" and place % 8:  # no bool has such a bit
            continue
        seen.add(one(raw.view(x.dtype).reshape(x.shape)))
    assert len(seen) == 1 + x.size * (1 if dtype == "bool" else 8 * x.dtype.itemsize)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "spec", [PartitionSpec("a"), PartitionSpec("a", "b"), PartitionSpec(None, "b")]
)
def test_it_is_the_same_whole_sharded_and_on_the_host(dtype, spec, monkeypatch):
    x = array(dtype)
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
    sharded = jax.device_put(x, NamedSharding(mesh, spec))
    host = one(np.asarray(x))
    assert one(x) == one(sharded) == host
    monkeypatch.setattr(checksums, "LARGE", 0)  # as for large ones: added up on the devices
    assert one(x) == one(sharded) == host


def test_it_is_added_up_on_the_devices_that_hold_a_large_array(monkeypatch):
    monkeypatch.setattr(checksums, "LARGE", 0)
    x = array("float32")
    sharded = jax.device_put(
        x, NamedSharding(Mesh(np.array(jax.devices()), "a"), PartitionSpec("a"))
    )
    assert "all-gather" not in checksums._on_devices.lower(sharded).compile().as_text()


def test_order_shape_and_dtype_count():
    x = array("float32")
    assert (
        one(x) != one(x[::-1]) and one(x).rpartition(" ")[2] != one(x[:, ::-1]).rpartition(" ")[2]
    )
    assert one(x) != one(x.reshape(6, 16)) and one(x.reshape(6, 16)).startswith("float32[6, 16] ")
    zeros = {one(np.zeros(4, dtype)) for dtype in ("int32", "uint32", "float32")}
    assert len(zeros) == 3
    assert one(np.float32([0.0])) != one(np.float32([-0.0]))
    quiet, other = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)[:, None]
    assert one(quiet) != one(other)  # NaN by its bits


def test_strides_of_an_array_do_not_count():
    x = np.asarray(array("float32"))
    assert one(x.T) == one(np.ascontiguousarray(x.T))


def test_keys_are_their_data():
    keys = jax.random.split(jax.random.key(3), 4)
    sums = {one(key) for key in keys} | {one(keys), one(keys[::-1])}
    assert len(sums) == 6
    assert one(keys).rpartition(" ")[2] == one(jax.random.key_data(keys)).rpartition(" ")[2]
    assert one(keys).startswith("key<fry>[4] ")


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars_and_empty_arrays_have_one(dtype):
    assert one(jnp.ones((), dtype)) != one(jnp.zeros((), dtype))
    assert one(jnp.ones((), dtype)).rpartition(" ")[2] == one(jnp.ones(1, dtype)).rpartition(" ")[2]
    assert (
        one(jnp.ones((0, 3), dtype)) == one(np.ones((0, 3), dtype)) != one(jnp.ones((3, 0), dtype))
    )


def test_leaves_go_by_their_paths():
    tree = {"a": {"b": jnp.ones(2)}, "c": [jnp.ones(2), jnp.zeros(2)]}
    found = checksums.hash_arrays(tree)
    assert len(found) == 3 and found["a/b"] == one(jnp.ones(2))
    assert sorted(found.values()) == sorted([one(jnp.ones(2)), one(jnp.ones(2)), one(jnp.zeros(2))])


@pytest.mark.parametrize(
    "value", [None, {"b": 1, "a": [0.1, 1e-300, -0.0]}, {"x": float("inf")}, "ä\n", 2**60]
)
def test_json_has_the_same_one_after_it_was_written_and_read(value):
    assert checksums.hash_json(json.loads(json.dumps(value))) == checksums.hash_json(value)


def test_other_json_has_another():
    values = [None, 0, 1, 1.0, "1", [], {}, [1], {"a": 1}, {"a": 2}, {"b": 1}, False]
    assert len({checksums.hash_json(value) for value in values}) == len(values)
