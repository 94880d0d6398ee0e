"""Music in voices: likelihoods that a plain loop gives, faults planted one by one, and copies in
another key.
"""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

from genjax import parallel
from genjax.data.audio.notes import find_frames
from genjax.data.audio.voices import VoiceCodec
from genjax.data.sources.chorales import join_pieces
from genjax.data.text.codecs import Characters
from genjax.data.text.dataset import token_dataset
from genjax.data.text.layouts import Documents, Packed
from genjax.errors import UserError
from genjax.evaluation.judge import Model, Subject
from genjax.evaluation.music.memorisation import MusicMemorisation
from genjax.evaluation.music.pieces import number_steps
from genjax.evaluation.music.voice_leading import VoiceLeading, count_faults
from genjax.evaluation.music.voice_likelihood import VoiceLikelihood
from genjax.evaluation.music.windows import PieceWindows
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.harmonising import Harmonising
from genjax.family import init_state
from genjax.nets.bigram import Bigram
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant

RNG = np.random.default_rng(0)
PIECES = [np.sort(RNG.integers(50, 70, (n, 4)), 1)[:, ::-1] for n in (3, 5, 4, 6)]


def subject(codec, layout, steps=20):
    corpus = join_pieces([codec.encode(piece) for piece in PIECES], codec)
    parts = {"train": corpus, "test": corpus}
    data = token_dataset(parts, codec, layout, ["pieces"], dict.fromkeys(parts, "pieces"))
    family = Autoregressive(Bigram(), sampler=Harmonising(steps=steps))
    table = jax.random.normal(jax.random.key(0), (codec.vocabulary, codec.vocabulary))
    state = init_state({"table": table}, {}, Adam(Constant(0.1)).build(1), jax.random.key(0))
    devices = parallel.start(Devices(count=1))
    model = Model(family, devices.init(lambda: state), data.spec, codec, "planted")
    return Subject(model, data.splits, "test", jax.random.key(1), devices, 3), np.asarray(table)


@pytest.mark.parametrize("chords", [False, True])
@pytest.mark.parametrize("layout", [Documents(40), Packed(60)], ids=["documents", "packed"])
def test_likelihoods_are_those_of_a_plain_loop(layout, chords):
    codec = VoiceCodec(50, 69, chords=chords)
    found, table = subject(codec, layout)
    log_p = np.asarray(jax.nn.log_softmax(table))
    every, means, steps, hits, soprano = [], [], [], [], []
    for piece in PIECES:
        ids = [0, *codec.encode(piece).tolist(), 0]
        nll = np.array([-log_p[a, b] for a, b in itertools.pairwise(ids)])
        hits += [table[a].argmax() == b for a, b in itertools.pairwise(ids)]
        every += nll.tolist()
        means.append(nll[1:].mean())
        steps += nll[:-1].reshape(len(piece), -1).sum(1).tolist()
        soprano += nll[:-1].reshape(len(piece), -1)[:, int(chords)].tolist()
    numbers = VoiceLikelihood()(found).numbers
    expected = {
        "nll_per_token": np.mean(every),
        "accuracy": np.mean(hits),
        "nll_per_step": np.mean(steps),
        "nll_per_token_later": np.mean(means),
        "nll_soprano": np.mean(soprano),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(numbers[name], value, rtol=1e-5, err_msg=name)
    assert ("nll_chord" in numbers) == chords


@pytest.mark.parametrize("stride", [1, 4, 7, 16])
def test_a_moving_context_counts_each_token_once(stride):
    codec = VoiceCodec(50, 69)
    whole, cut = (subject(codec, Packed(length))[0] for length in (60, 16))
    expected = VoiceLikelihood()(whole).numbers
    numbers = VoiceLikelihood(stride)(cut).numbers  # a bigram needs one token of context
    for name, value in expected.items():
        np.testing.assert_allclose(numbers[name], value, rtol=1e-5, err_msg=name)


def test_a_moving_context_is_as_long_as_promised():
    codec = VoiceCodec(50, 69)
    corpus = join_pieces([codec.encode(piece) for piece in PIECES], codec)
    rows = PieceWindows.cut(corpus, 16, 4, codec.start)
    seen = []
    for number, row in enumerate(rows.batch(np.arange(len(rows)))["loss_mask"]):
        counted = np.flatnonzero(row)
        place = rows.begin[number] + counted
        assert (np.minimum(place, 13) <= counted).all()  # at least T - stride tokens before
        seen += [(rows.piece[number], p) for p in place]
    sizes = np.diff(corpus.starts)
    assert seen == [(d, p) for d, size in enumerate(sizes) for p in range(1, size + 1)]


def test_a_stride_must_fit_the_rows():
    with pytest.raises(UserError) as refused:
        VoiceLikelihood(17)(subject(VoiceCodec(50, 69), Packed(16))[0])
    assert refused.value.field == "stride"


CLEAN = [[72, 67, 64, 48], [71, 67, 62, 55]]


def test_clean_chords_have_no_faults():
    assert not any(count_faults([np.array(CLEAN)] * 2).values())
    held = np.repeat(np.array(CLEAN), 4, axis=0)  # steps that repeat count once
    assert count_faults([held]) == count_faults([np.array(CLEAN)])
    assert np.isnan(count_faults([])["leaps"])


def test_each_fault_is_counted_once():
    def count(name, *steps):
        return count_faults([np.array(steps)])[name] * len(steps) / 100

    assert count("parallel_fifths", [72, 67, 64, 57], [74, 67, 65, 59]) == 0  # 15 and 15: no fifth
    assert count("parallel_fifths", [79, 67, 64, 48], [81, 67, 62, 50]) == 1  # soprano over bass
    assert count("parallel_fifths", [79, 67, 64, 48], [79, 67, 62, 48]) == 0  # they stay
    assert count("parallel_octaves", [72, 67, 64, 60], [74, 67, 65, 62]) == 1
    assert count("parallel_octaves", [72, 67, 64, 60], [72, 67, 65, 60]) == 0
    assert count("leaps", [72, 67, 64, 60], [62, 67, 64, 60]) == 1
    assert count("leaps", [72, 67, 64, 60], [72, 67, 64, 48]) == 0  # an octave
    assert count("crossings", [72, 67, 64, 60], [72, 62, 64, 60]) == 1
    assert count("out_of_range", [72, 67, 64, 60], [72, 67, 64, 36]) == 1
    assert count("out_of_range", [72, 67, 64, 60], [72, -1, 64, 60]) == 0  # silence


def test_samples_are_compared_with_held_out_pieces():
    found, _ = subject(VoiceCodec(50, 69), Documents(40))
    result = VoiceLeading(4)(found)
    held_out = count_faults(PIECES)
    for name, value in held_out.items():
        np.testing.assert_allclose(result.numbers[f"{name}_held_out"], value)
    assert (
        result.pictures["rolls"].shape[-1] == 3 and np.isfinite(list(result.numbers.values())).all()
    )


def test_a_copy_is_found_in_any_key_and_at_any_speed():
    moved = [np.repeat(piece + 3, 2, axis=0) for piece in PIECES]
    for one, other in zip(
        *(number_steps([find_frames(p) for p in ps]) for ps in (PIECES, moved)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    changed = PIECES[0].copy()
    changed[1, 0] += 1
    before, after = number_steps([find_frames(PIECES[0]), find_frames(changed)])
    assert before[0] == after[0] and before[1] != after[1]


def test_held_out_pieces_that_were_trained_on_are_whole_copies():
    found, _ = subject(VoiceCodec(50, 69), Documents(40), 24)
    numbers = MusicMemorisation(4)(found).numbers
    assert numbers["copied_longest_held_out"] >= 2 and numbers["copied_longest"] <= 2
    assert numbers["copied_mean_held_out"] > numbers["copied_mean"]


def test_other_data_are_refused():
    found, _ = subject(VoiceCodec(50, 69), Documents(40))
    other = replace(found, model=replace(found.model, codec=Characters("ab", delimiter=True)))
    for evaluator in (VoiceLikelihood(), VoiceLeading(2), MusicMemorisation(2)):
        with pytest.raises(UserError):
            evaluator(other)
