"""Augmentations of text: rates, what is left alone, and a plain Python form of the substitution."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.text.augment import Substitution, TokenDropout, TokenSwaps, encode_pairs, real_mask
from genjax.data.text.codecs import Bytes
from genjax.errors import UserError

ROWS, WIDTH = 64, 40
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def packed() -> dict[str, jax.Array]:
    """Rows of three segments and padding; every token says where it stands."""
    rng = np.random.default_rng(0)
    segment_ids = np.sort(rng.integers(1, 5, (ROWS, WIDTH)), 1) % 4
    segment_ids = np.where(segment_ids == 0, 9, segment_ids)
    segment_ids = np.where(np.sort(segment_ids, 1) == 9, 0, np.sort(segment_ids, 1))
    begins = np.diff(segment_ids, axis=1, prepend=-1) != 0
    tokens = np.where(segment_ids > 0, 100 * segment_ids + np.arange(WIDTH), 0)
    batch = {
        "tokens": tokens,
        "segment_ids": segment_ids,
        "loss_mask": ((segment_ids > 0) & ~begins) * 1.0,
    }
    return {
        name: jnp.asarray(x, np.float32 if name == "loss_mask" else np.int32)
        for name, x in batch.items()
    }


@pytest.fixture(scope="module")
def plain() -> dict[str, jax.Array]:
    """Rows of one document each, without segment ids."""
    length = 5 + np.arange(ROWS) % (WIDTH - 4)
    inside = np.arange(WIDTH) < length[:, None]
    loss_mask = inside & (np.arange(WIDTH) > 0)
    tokens = np.where(inside, np.random.default_rng(1).integers(1, 7, (ROWS, WIDTH)), 0)
    return {
        "tokens": jnp.asarray(tokens, np.int32),
        "loss_mask": jnp.asarray(loss_mask, np.float32),
    }


def test_padding_is_known_with_and_without_segments(packed, plain):
    assert np.array_equal(real_mask(packed), packed["segment_ids"] > 0)
    assert np.array_equal(real_mask(plain), plain["tokens"] > 0)


@pytest.mark.parametrize("augment", [TokenDropout(7, 0.3), TokenSwaps(0.6)])
@pytest.mark.parametrize("form", ["packed", "plain"])
def test_what_is_predicted_stays_and_padding_is_not_touched(augment, form, request):
    batch = request.getfixturevalue(form)
    found = jax.jit(augment)(KEY, batch)
    assert all(
        found[name] is batch[name] or np.array_equal(found[name], batch[name]) for name in batch
    )
    assert found.keys() - batch.keys() == {"inputs"}
    assert found["inputs"].dtype == np.int32 and not np.array_equal(
        found["inputs"], batch["tokens"]
    )
    assert not np.asarray(found["inputs"])[~np.asarray(real_mask(batch))].any()
    assert np.array_equal(found["inputs"], augment(KEY, batch)["inputs"])
    assert not np.array_equal(found["inputs"], augment(jax.random.key(1), batch)["inputs"])


def test_dropout_has_its_rate_and_keeps_what_it_is_told(plain):
    batch = {name: jnp.tile(x, (20, 1)) for name, x in plain.items()}
    found = np.asarray(TokenDropout(9, 0.25, keep=(3, 4))(KEY, batch)["inputs"])
    free = np.asarray(real_mask(batch)) & ~np.isin(batch["tokens"], (3, 4))
    count = free.sum()
    assert abs((found[free] == 9).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / count)
    assert np.array_equal(found[~free], np.asarray(batch["tokens"])[~free])


def test_swaps_move_tokens_to_their_neighbours_place_within_a_segment(packed):
    found = np.asarray(TokenSwaps(1.0)(KEY, packed)["inputs"])
    tokens, segments = np.asarray(packed["tokens"]), np.asarray(packed["segment_ids"])
    assert np.array_equal(np.sort(found, 1), np.sort(tokens, 1))
    inside = segments > 0
    assert np.array_equal(found[inside] // 100, segments[inside])  # no token leaves its segment
    moved = np.where(inside, found % 100 - np.arange(WIDTH), 0)
    assert set(np.unique(moved)) == {-1, 0, 1} and (moved != 0)[inside].mean() > 0.7
    kept = TokenSwaps(1.0, keep=tuple(range(100, 140)))(KEY, packed)["inputs"]
    assert np.array_equal(np.asarray(kept)[segments == 1], tokens[segments == 1])


def test_swaps_have_their_rate(plain):
    batch = {name: jnp.tile(x, (20, 1)) for name, x in plain.items()}
    batch["tokens"] = jnp.where(batch["tokens"] > 0, jnp.arange(WIDTH)[None] + 1, 0)  # distinct
    found = TokenSwaps(0.2)(KEY, batch)["inputs"]
    length = np.asarray(real_mask(batch)).sum(1)
    pairs = (length - 1).sum() / 2  # those that are looked at
    swapped = (np.asarray(found) != np.asarray(batch["tokens"])).sum() / 2
    assert abs(swapped / pairs - 0.2) < 5 * np.sqrt(0.16 / pairs)


TABLE = (((1, 2), (8, 9, 9)), ((3,), (7,)), ((4, 4, 5), (6,)), ((2, 1), (1,)))


def substituted(tokens, segments, loss_mask):
    """One row, by hand."""
    out, i = [], 0
    while i < len(tokens) and segments[i] > 0:
        for old, new in TABLE:
            stop = i + len(old)
            if tuple(tokens[i:stop]) == old and (segments[i:stop] == segments[i]).all():
                out += [
                    (t, segments[i], loss_mask[i + min(j, len(old) - 1)]) for j, t in enumerate(new)
                ]
                i = stop
                break
        else:
            out.append((tokens[i], segments[i], loss_mask[i]))
            i += 1
    out = (out + [(0, 0, 0)] * len(tokens))[: len(tokens)]
    return [np.array(part) for part in zip(*out, strict=True)]


def test_substitution_is_that_of_a_plain_loop(packed):
    tokens = np.where(
        packed["segment_ids"] > 0, np.random.default_rng(2).integers(1, 6, (ROWS, WIDTH)), 0
    )
    batch = packed | {
        "tokens": jnp.asarray(tokens, np.int32),
        "positions": jnp.zeros((ROWS, WIDTH), np.int32),
    }
    found = jax.jit(Substitution(TABLE, 1.0))(KEY, batch)
    for row in range(ROWS):
        ids, segments, loss_mask = substituted(
            *(np.asarray(batch[k][row]) for k in ("tokens", "segment_ids", "loss_mask"))
        )
        assert np.array_equal(found["tokens"][row], ids)
        assert np.array_equal(found["segment_ids"][row], segments)
        assert np.array_equal(found["loss_mask"][row], loss_mask)
        for segment in range(1, 4):
            here = segments == segment
            assert np.asarray(found["positions"][row])[here].tolist() == list(range(here.sum()))
    assert found["tokens"].dtype == np.int32 and "inputs" not in found


def test_substitution_has_its_rate_and_goes_without_segments(plain):
    found = np.asarray(Substitution((((3,), (8,)),), 0.5)(KEY, plain)["tokens"])
    tokens = np.asarray(plain["tokens"])
    assert np.array_equal(found[tokens != 3], tokens[tokens != 3])
    count = (tokens == 3).sum()
    assert abs((found[tokens == 3] == 8).mean() - 0.5) < 5 * np.sqrt(0.25 / count)
    shorter = Substitution((((1, 2), (5,)),), 1.0)(KEY, plain)
    assert np.asarray(shorter["loss_mask"]).sum() < np.asarray(plain["loss_mask"]).sum()
    assert not np.asarray(shorter["tokens"])[~np.asarray(real_mask(shorter))].any()


def test_a_table_of_texts_is_encoded():
    assert encode_pairs(Bytes(), [("ab", "c")]) == (((97, 98), (99,)),)


@pytest.mark.parametrize("augment", [TokenDropout(), TokenSwaps(), Substitution((((1,), (2,)),))])
def test_no_strength_changes_nothing_and_other_data_are_refused(augment, plain):
    off = dataclasses.replace(augment, prob=0.0)
    assert off(KEY, plain).keys() == plain.keys()
    with pytest.raises(
        UserError,
        match=f"{type(augment).__name__} needs a batch with tokens, but these data have image",
    ):
        augment(KEY, {"image": jnp.zeros((1, 2, 2, 1))})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenDropout(prob=1.5), "TokenDropout.prob must be from 0 to 1"),
        (lambda: TokenDropout(-1), "replacement must be at least 0"),
        (lambda: TokenSwaps(-0.1), "TokenSwaps.prob"),
        (
            lambda: Substitution((((1,), ()),)),
            r"Substitution.table must hold pairs of token sequences, got \(\(1,\), \(\)\)",
        ),
        (lambda: Substitution((((1,),),)), "table.0 must be a tuple of 2"),
    ],
)
def test_bad_augmentations_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_substitution_comes_first(plain):
    batch = TokenDropout()(KEY, plain)
    with pytest.raises(UserError, match="must come before"):
        Substitution((((1,), (2,)),))(KEY, batch)
