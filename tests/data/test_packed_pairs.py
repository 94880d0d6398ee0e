"""Packed pairs: each stands once, reads its own source alone, and is predicted as if it had a
row for itself.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.sources import SentencePairs
from genjax.data.text.codecs import Words
from genjax.data.text.packed_pairs import OPEN, pack_pairs
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer

GERMAN = [
    "ein hund",
    "eine katze schläft heute",
    "zwei",
    "drei kleine hunde laufen",
    "ein kind",
    "der mann",
]
ENGLISH = [
    "a dog runs",
    "a cat",
    "two of them",
    "three little dogs run",
    "one",
    "the man is here today",
]


@pytest.fixture
def data(tmp_path):
    for part, rows in (("train", slice(None)), ("val", slice(2))):
        for language, lines in (("de", GERMAN), ("en", ENGLISH)):
            (tmp_path / f"{part}.{language}").write_text("\n".join(lines[rows]) + "\n")
    return SentencePairs(
        str(tmp_path),
        source_codec=Words(),
        target_codec=Words(),
        test=None,
        source_length=12,
        length=11,
        cache=str(tmp_path / "cache"),
        packed=True,
    )


def test_each_pair_stands_once_beside_its_own_source(data):
    opened = data.open()
    split, codec = opened.splits["train"], opened.codec
    assert len(split) < len(GERMAN) and sorted(split.members.tolist()) == list(range(len(GERMAN)))
    found = split.batch(np.arange(len(split)))
    sizes = [[len(side) for side in split.pairs.pair(number)] for number in range(len(GERMAN))]
    assert split.pairs.sizes.tolist() == sizes
    seen = []
    for row in range(len(split)):
        source, target = (found[f"{side}segment_ids"][row] for side in ("source_", ""))
        assert source.max() == target.max() >= 1
        for segment in range(1, target.max() + 1):
            german = codec.source.decode(found["source_tokens"][row][source == segment])
            seen.append((german, codec.decode(found["tokens"][row][target == segment])))
            for side, ids in (("source_", source), ("", target)):
                places = found[f"{side}positions"][row][ids == segment]
                assert places.tolist() == list(range(len(places)))
        assert found["loss_mask"][row].sum() == (target > 0).sum() - target.max()
    assert sorted(seen) == sorted(zip(GERMAN, ENGLISH, strict=True))
    np.testing.assert_array_equal(found["source_mask"], found["source_segment_ids"] > 0)
    entries = {name: (x.shape[1:], x.dtype.type) for name, x in found.items()}
    assert entries == {name: entry for name, entry in opened.spec.entries.items() if name != "mask"}
    assert opened.splits["validation"].references() == ENGLISH[:2]  # held-out ones have a row each


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Pairs of given sizes, of 10 and 8 tokens at most."""

    sizes: np.ndarray
    source_length = 10
    length = 7


def test_rows_are_full_and_none_overflows():
    sizes = np.random.default_rng(0).integers(1, 5, (3 * OPEN * 4, 2))
    rows = pack_pairs(Sizes(sizes))
    sums = np.add.reduceat(sizes[rows.members], rows.first[:-1])
    assert (sums <= [10, 8]).all() and rows.first[-1] == len(sizes)
    assert sums[:, 1].mean() > 7.7  # of 8: the narrower side is nearly full


@pytest.mark.long
def test_a_packed_pair_is_predicted_as_one_alone(data):
    """With learned positions and both kinds of norm; a wrong source, place or neighbour would
    show.
    """
    one, many = dataclasses.replace(data, packed=False).open(), data.open()
    spec, rows = many.spec, many.splits["train"]
    for norm_first in (False, True):
        net = Transformer(
            layers=2, heads=2, width=8, context=12, norm_first=norm_first, tied=False, init_std=0.5
        )
        family = Autoregressive(net, sampler=Decoding(source_tokens=(2, 3)))
        alone = jax.tree.map(jnp.asarray, one.splits["train"].batch(np.arange(len(GERMAN))))
        together = jax.tree.map(jnp.asarray, rows.batch(np.arange(len(rows))))
        alone["mask"], together["mask"] = jnp.ones(len(GERMAN)), jnp.ones(len(rows))
        params, _ = family.init(jax.random.key(0), alone, spec)
        by_row = jax.jit(family.predict)(params, together)
        by_pair = jax.jit(family.predict)(params, alone)
        found, real = np.asarray(by_row.nll), np.asarray(by_row.weight) > 0
        segment = np.asarray(together["segment_ids"])[:, 1:]
        for row in range(len(rows)):
            for number, pair in enumerate(rows.members[rows.first[row] : rows.first[row + 1]], 1):
                want = np.asarray(by_pair.nll)[pair][np.asarray(by_pair.weight)[pair] > 0]
                np.testing.assert_allclose(
                    found[row][real[row] & (segment[row] == number)], want, rtol=1e-4
                )
        other = {**together, "source_segment_ids": jnp.maximum(together["source_segment_ids"], 1)}
        assert not np.allclose(
            np.where(real, jax.jit(family.predict)(params, other).nll - found, 0), 0, atol=1e-2
        )
