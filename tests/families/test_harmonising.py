"""Tokens that are given, phases of positions, and a melody that is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.audio.notes import midi_bytes
from genjax.data.audio.voices import VoiceCodec
from genjax.data.text.codecs import Characters
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.generation import DrawLoop, TokenReader, draw_texts
from genjax.families.autoregressive.harmonising import Harmonising
from genjax.families.autoregressive.request import Decoding
from genjax.nets.bigram import Bigram
from genjax.nets.transformer.transformer import Transformer

NET = Transformer(layers=1, heads=2, width=8, context=32, positions="none", periods=(2, 8))


def params():
    found = NET.module(12).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    return jax.tree.map(
        lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), found
    )


def features(tokens, positions=None):
    return NET.module(12).apply({"params": params()}, tokens, positions)[0]


def test_given_tokens_are_kept_and_the_others_drawn():
    given = (3, -1, 5, -1, -1, 7)
    request = Decoding(steps=8, given=given).to_request()
    reader = Autoregressive(Bigram()).reader({"table": jnp.zeros((12, 12))}, request)
    rows = np.asarray(draw_texts(reader, request, jax.random.key(0), 16))
    assert rows.shape == (16, 9) and (rows[:, [1, 3, 6]] == [3, 5, 7]).all()
    assert all(len(set(rows[:, place].tolist())) > 2 for place in (2, 4, 5, 7, 8))


def test_given_tokens_that_do_not_fit_are_refused():
    for options in ({"draft": "runs/x"}, {"beams": 2}):
        with pytest.raises(UserError) as error:
            Decoding(given=(1,), **options)
        assert error.value.field == "given"
    with pytest.raises(UserError) as error:
        Autoregressive(NET).reader(params(), Decoding(given=(12,)).to_request())
    assert error.value.field == "given"
    with pytest.raises(UserError):
        Transformer(periods=(1,))


def test_a_token_knows_its_phase_and_nothing_else_of_its_place():
    tokens = jnp.ones((1, 16), jnp.int32)
    found = np.asarray(features(tokens, jnp.arange(16)[None]))[0]
    np.testing.assert_array_equal(found, np.asarray(features(tokens))[0])  # counted by default
    moved = np.asarray(features(tokens, 8 + jnp.arange(16)[None]))[0]
    np.testing.assert_allclose(moved, found, atol=1e-6)  # a whole period
    shifted = np.asarray(features(tokens, 1 + jnp.arange(16)[None]))[0]
    assert np.abs(shifted - found).max() > 1e-3


def test_texts_past_the_context_lose_whole_periods():
    for context, period in ((1024, 64), (32, 8), (32, 1), (8, 4)):
        reader = TokenReader(None, None, context, period)
        sliding = DrawLoop(reader, Decoding(steps=5000).to_request(), 1).sliding
        assert 1 <= sliding.keep <= context // 2 + 1
        assert (context + 1 - sliding.keep) % period == 0


def test_a_melody_is_the_soprano(tmp_path):
    pytest.importorskip("symusic", reason="symusic is not installed: the extra music")
    (tmp_path / "m.mid").write_bytes(midi_bytes([(60,), (60, 40), (62,)], 120, 90.0))
    codec = VoiceCodec(40, 70, chords=True)
    request = Harmonising(melody=str(tmp_path / "m.mid")).encode(codec, {})
    table = jnp.zeros((codec.vocabulary, codec.vocabulary))
    reader = Autoregressive(Bigram()).reader({"table": table}, request)
    rows = np.asarray(draw_texts(reader, request, jax.random.key(0), 4))
    assert rows.shape == (4, 1 + 3 * 5 + 1) and (rows[:, -1] == codec.end).all()
    assert (rows[:, 1:-1].reshape(4, 3, 5)[:, :, 1] == [22, 22, 24]).all()


def test_a_melody_needs_voices_and_no_prompt(tmp_path):
    pytest.importorskip("symusic", reason="symusic is not installed: the extra music")
    path = tmp_path / "m.mid"
    path.write_bytes(midi_bytes([(60,)], 120, 90.0))
    for codec, options in (
        (Characters("abc"), {}),
        (VoiceCodec(), {"tokens": (0,)}),
        (VoiceCodec(70, 80), {}),
    ):
        with pytest.raises(UserError) as error:
            Harmonising(melody=str(path), **options).encode(codec, {})
        assert error.value.field == "melody"
    with pytest.raises(UserError):
        Harmonising(melody=str(path)).to_request()
