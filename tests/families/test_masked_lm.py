"""Masked language models: the right share is requested, by tokens, words and spans, and both
sides are seen.
"""

import dataclasses
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import parallel
from genjax.data.dataset import CONTINUED, CONTINUES, SPECIAL, Spec
from genjax.data.sources import TextFiles
from genjax.data.text.augment import real_mask
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.layouts import Blocks, Documents
from genjax.data.text.splits import ByCharacters
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families.masked_lm import (
    Filling,
    MaskedLM,
    embed,
    encode_gaps,
    fill_in,
    pseudo_log_likelihood,
)
from genjax.families.masking import Kinds, Masking, number_words
from genjax.family import init_state
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.runs.setup import initial_state, make_step
from genjax.schedules import Constant

KEY = jax.random.key(0)
V, T = 12, 9
NET = Transformer(layers=2, heads=2, width=16, context=T, causal=False, init_std=0.3)
FAMILY = MaskedLM(NET, Masking(rate=0.4))
KINDS = (SPECIAL, SPECIAL, *[CONTINUES + CONTINUED] * 6, *[CONTINUED] * 2, *[0] * 2)
SPEC = Spec("tokens", (T,), np.zeros(T, np.float32), vocabulary=V, token_kinds=KINDS, mask_token=1)


def kinds_of(spec=SPEC):
    return Kinds(**jax.jit(lambda: FAMILY.init(KEY, batch_of(1), spec))()[1])


def batch_of(n, seed=0):
    one, two = jax.random.split(jax.random.key(seed))
    sizes = jax.random.randint(one, (n, 1), 2, T + 1)
    inside = jnp.arange(T)[None] < sizes
    tokens = jax.random.randint(two, (n, T), 2, V) * inside
    loss_mask = (inside & (jnp.arange(T)[None] > 0)).astype(jnp.float32)
    return {"tokens": tokens, "loss_mask": loss_mask, "mask": jnp.ones(n)}


def state_of(family=FAMILY, spec=SPEC, optimizer=None):
    params, variables = jax.jit(lambda: family.init(KEY, batch_of(1), spec))()
    return init_state(params, variables, (optimizer or SGD()).build(1), KEY)


def masked(masking, tokens, seed=0, kinds=None):
    shown, asked = jax.jit(
        lambda key: masking(key, tokens, jnp.ones(tokens.shape, bool), kinds or kinds_of())
    )(jax.random.key(seed))
    return np.asarray(shown), np.asarray(asked)


@pytest.mark.parametrize("unit", ["tokens", "words", "spans"])
def test_the_share_asked_for_is_the_rate_and_eight_in_ten_of_it_are_masked(unit):
    tokens = jax.random.randint(KEY, (400, 500), 2, V)
    shown, asked = masked(Masking(unit, rate=0.15), tokens)
    error = (
        4 * math.sqrt(0.15 * 0.85 / tokens.size) * (6 if unit == "spans" else 3)
    )  # neighbours go together
    assert abs(asked.mean() - 0.15) < error
    assert (
        abs(asked[:, 0].mean() - 0.15) < 0.1
        and abs(asked[:, :2].mean() - asked[:, -2:].mean()) < 0.1
    )
    assert (shown[~asked] == np.asarray(tokens)[~asked]).all()
    of = shown[asked]
    kept = np.asarray(tokens)[asked] == of
    assert abs((of == 1).mean() - 0.8) < 0.01
    assert abs(kept.mean() - (0.1 + 0.1 / 10)) < 0.01, (
        "one in ten random tokens of ten is the token itself"
    )
    counts = np.bincount(of[(of != 1) & ~kept], minlength=V)
    assert counts[:2].sum() == 0 and counts[2:].min() > 0.85 * counts[2:].mean()


def test_spans_have_the_lengths_of_a_geometric_distribution_cut_off():
    masking = Masking("spans", rate=0.004, span_end=0.2, longest=10)
    _, asked = masked(masking, jnp.full((3000, 1000), 5))
    edges = np.diff(np.pad(asked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    found = np.bincount(lengths, minlength=11)[1:11] / len(lengths)
    told = np.array([0.2 * 0.8**k for k in range(9)] + [0.8**9])
    np.testing.assert_allclose(found, told, atol=0.02)  # at this rate few spans touch
    assert abs(lengths.mean() - 4.46) < 0.15


def test_words_are_masked_whole():
    kinds = kinds_of()
    tokens = jnp.array([[8, 2, 3, 10, 8, 2, 9, 11, 2]])  # "8 2 3", ".", "8 2", "9", ".", "2"
    assert number_words(tokens, kinds).tolist() == [[0, 0, 0, 1, 2, 2, 3, 4, 5]]
    _, asked = masked(Masking("words", rate=0.5), jnp.tile(tokens, (200, 1)))
    assert (asked[:, 0] == asked[:, 1]).all() and (asked[:, 1] == asked[:, 2]).all()
    assert (asked[:, 4] == asked[:, 5]).all()
    assert 0 < (asked[:, 2] != asked[:, 4]).mean() < 1


def test_neither_padding_nor_special_tokens_are_asked_for():
    batch = batch_of(50)
    kinds = kinds_of()
    tokens = batch["tokens"].at[:, 0].set(0)
    _, asked = jax.jit(lambda: Masking(rate=0.9)(KEY, tokens, real_mask(batch), kinds))()
    assert not (asked & ~real_mask(batch)).any() and not asked[:, 0].any() and asked.any()


@pytest.mark.parametrize(
    "codec", [Characters(), Bytes(delimiter=True), Words()], ids=lambda c: type(c).__name__
)
def test_codecs_tell_words_apart(codec):
    text = "the cat, sat on\na_mat 42"
    codec = codec.fit([text])
    flags = codec.token_kinds
    ids = codec.encode(text)
    assert flags.shape == (codec.vocabulary,) and not (flags[ids] == SPECIAL).any()
    kinds = Kinds(
        None, None, None, jnp.asarray(flags & CONTINUES > 0), jnp.asarray(flags & CONTINUED > 0)
    )
    number = np.asarray(number_words(jnp.asarray(ids)[None], kinds))[0]
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    pieces = ["".join(codec.decode(part)) for part in np.split(ids, starts[1:])]
    wanted = ["the", "cat", ",", "sat", "on", "a_mat", "42"]
    assert [piece for piece in pieces if piece.strip()] == wanted


@pytest.mark.parametrize("model", ["bpe", "wordpiece"])
def test_subwords_tell_words_apart(model):
    text = "lower lowest, newer newest wider widest. " * 20
    special = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
    codec = Subwords(
        model, 290 if model == "bpe" else 40, special, "[CLS]", "[SEP]", "[PAD]", "[MASK]"
    )
    codec = codec.fit([text])
    assert codec.mask == 3 and (codec.token_kinds[:4] == SPECIAL).all()
    flags, ids = codec.token_kinds, codec.encode("lowest, newer")
    kinds = Kinds(
        None, None, None, jnp.asarray(flags & CONTINUES > 0), jnp.asarray(flags & CONTINUED > 0)
    )
    number = np.asarray(number_words(jnp.asarray(ids)[None], kinds))[0]
    assert number[-1] == 2 and len(ids) >= 3


def test_the_loss_is_the_cross_entropy_of_what_was_asked_for():
    family, batch = FAMILY, batch_of(6)
    state = state_of()
    found = jax.jit(family.evaluate)(state, batch, KEY)["loss"]
    shown, asked = jax.jit(
        lambda: family.masking(KEY, batch["tokens"], real_mask(batch), Kinds(**state.variables))
    )()
    log_p = jax.nn.log_softmax(
        family.logits(state.params, family.features(state.params, batch, shown))
    )
    nll = -jnp.take_along_axis(log_p, batch["tokens"][..., None], -1)[..., 0]
    assert float(found.weight) == float(asked.sum()) > 0
    np.testing.assert_allclose(found.value, (nll * asked).sum() / asked.sum(), rtol=1e-5)


def test_every_token_sees_every_other_but_no_padding():
    family, state = FAMILY, state_of()
    batch = batch_of(1, seed=3)
    size = int(real_mask(batch).sum())
    assert size < T

    def of(tokens):
        return family.features(state.params, batch, tokens)[0]

    base = jax.jit(of)(batch["tokens"])
    for place in range(T):
        other = batch["tokens"].at[0, place].set(11 - batch["tokens"][0, place] % 4)
        moved = np.abs(np.asarray(jax.jit(of)(other) - base)).max(-1) > 1e-6
        assert moved[:size].all() if place < size else not moved[:size].any()


def test_gaps_are_filled_surest_first_and_a_filled_text_stays():
    state = state_of()
    tokens = jnp.array([[2, 1, 4, 1, 1, 7, 8, 9, 1]])
    filled = np.asarray(jax.jit(lambda: fill_in(FAMILY, state, KEY, tokens))())
    kept = np.asarray(tokens) != 1
    assert (filled[kept] == np.asarray(tokens)[kept]).all() and (filled > 1).all()
    by_hand = np.array(tokens)
    ones = {"loss_mask": jnp.ones((1, T))}
    for _ in range(4):
        logits = FAMILY.logits(
            state.params, FAMILY.features(state.params, ones, jnp.asarray(by_hand))
        )
        log_p = np.array(jax.nn.log_softmax(logits.at[..., :2].set(-jnp.inf)))[0]
        place = max(np.flatnonzero(by_hand[0] == 1), key=lambda i: log_p[i].max())
        by_hand[0, place] = log_p[place].argmax()
    np.testing.assert_array_equal(filled, by_hand)


def test_pseudo_likelihood_is_that_of_each_token_masked_alone():
    state, batch = state_of(), batch_of(3)
    total, count = jax.jit(lambda: pseudo_log_likelihood(FAMILY, state, batch))()
    wanted = np.zeros(3)
    for place in range(T):
        inputs = batch["tokens"].at[:, place].set(1)
        log_p = jax.nn.log_softmax(
            FAMILY.logits(state.params, FAMILY.features(state.params, batch, inputs))
        )
        mine = jnp.take_along_axis(log_p[:, place], batch["tokens"][:, place, None], 1)[:, 0]
        wanted += np.asarray(mine * real_mask(batch)[:, place])
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    np.testing.assert_array_equal(count, real_mask(batch).sum(1))


def test_embeddings_are_means_over_ordinary_tokens():
    state, batch = state_of(), batch_of(4)
    tokens = batch["tokens"].at[:, 0].set(0)
    batch = batch | {"tokens": tokens}
    hidden = FAMILY.features(state.params, batch, tokens)
    weight = np.array(real_mask(batch), np.float32)
    weight[:, 0] = 0
    wanted = (np.asarray(hidden) * weight[..., None]).sum(1) / np.maximum(
        weight.sum(1, keepdims=True), 1
    )
    np.testing.assert_allclose(
        jax.jit(lambda: embed(FAMILY, state, batch))(), wanted, rtol=1e-5, atol=1e-6
    )


@pytest.mark.long
def test_microbatches_of_uneven_weight_add_up_to_the_whole():
    """With a mask that leaves nothing to chance: each ordinary token is requested and masked."""
    family = MaskedLM(NET, Masking("tokens", rate=1 - 1e-7, masked=1.0, random=0.0))
    states = []
    for accumulate in (1, 4):
        rule = SGD(Constant(0.1), accumulate=accumulate).build(1)
        step = jax.jit(lambda s, b, rule=rule: family.train_step(s, b, optimizer=rule))
        state = init_state(*jax.jit(lambda: family.init(KEY, batch_of(1), SPEC))(), rule, KEY)
        states.append(step(state, batch_of(8, seed=1)))
    (one, metrics), (many, other) = states
    np.testing.assert_allclose(metrics["loss"].value, other["loss"].value, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7), one.params, many.params
    )


def source(tmp_path, codec=None, layout=None):
    (tmp_path / "text").mkdir(exist_ok=True)
    (tmp_path / "text" / "a.txt").write_text(
        "the cat sat on the mat. the dog sat on the log. " * 60
    )
    return TextFiles(
        root=str(tmp_path / "text"),
        codec=codec or Characters(),
        layout=layout or Blocks(T - 1),
        split=ByCharacters(test=0.1),
        cache=str(tmp_path / "cache"),
    )


def experiment(tmp_path, **fields):
    every = Every(log=2, evaluate=4, sample=4, checkpoint=4)
    told = {"optimizer": Adam(Constant(1e-3)), "steps": 8, "batch_size": 8, "every": every} | fields
    family = MaskedLM(
        replace(NET, dropout=0.1), Masking("spans", rate=0.3), sampler=Filling(length=5)
    )
    return Experiment(family, data=source(tmp_path), devices=Devices(count=1), **told)


@pytest.mark.long
def test_a_run_stopped_and_gone_on_with_is_bitwise_the_uninterrupted_one(tmp_path):
    whole = genjax.train(experiment(tmp_path), tmp_path / "whole", quiet=True)
    genjax.train(experiment(tmp_path, steps=4), tmp_path / "parts", quiet=True)
    parts = genjax.train(experiment(tmp_path), tmp_path / "parts", quiet=True)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(whole.state.params),
        jax.device_get(parts.state.params),
    )
    np.testing.assert_array_equal(whole.sample(num=2), parts.sample(num=2))


@pytest.mark.parametrize("mode", ["pmapped", "sharded"])
@pytest.mark.long
def test_many_devices_agree_with_one(tmp_path, mode):
    """Without chance in the mask, as mapped devices draw for their own rows."""
    family = MaskedLM(NET, Masking("tokens", rate=1 - 1e-7, masked=1.0, random=0.0))
    losses = {}
    for devices in (
        Devices(count=1),
        Devices(count=8, mode=mode, fsdp=2 if mode == "sharded" else 1),
    ):
        told = replace(
            experiment(tmp_path), family=family, optimizer=SGD(Constant(0.05)), devices=devices
        )
        layout = parallel.start(devices)
        data = told.data.open()
        make = initial_state(told, data.spec)
        step = layout.compile_step(make_step(told), layout.eval_shapes(make))
        state, found = layout.init(make), []
        for i in range(20):
            rows = data.splits["train"].batch(
                np.arange(8 * i, 8 * i + 8) % len(data.splits["train"])
            )
            state, metrics = step(state, layout.place({**rows, "mask": np.ones(8, np.float32)}))
            pairs = np.asarray(metrics.pairs).reshape(-1, len(metrics.names), 2)[0]
            at = metrics.names.index("loss")
            found.append(pairs[at, 0] / pairs[at, 1])
        losses[devices.count] = found
    np.testing.assert_allclose(losses[8], losses[1], rtol=1e-4)


def test_a_text_with_gaps_is_filled_by_the_run(tmp_path):
    run = genjax.train(experiment(tmp_path), tmp_path / "run", quiet=True)
    options = Filling("the [MASK]at", temperature=0.0)
    texts = [run.codec.decode(row) for row in run.sample(2, options=options)]
    assert all(text.startswith("the ") and text.endswith("at") and len(text) == 7 for text in texts)
    with pytest.raises(UserError, match="must have a gap"):
        run.sample(1, options=Filling("the cat"))
    with pytest.raises(UserError, match=r"a text must have at most 9 tokens \(context\), got 16"):
        run.sample(1, options=Filling("the cat sat on [MASK]"))


def test_a_gap_may_be_of_several_tokens():
    codec = Characters("abc")
    assert encode_gaps(codec, "a[MASK]b[MASK 3]") == [0, 3, 1, 3, 3, 3]
    assert encode_gaps(codec, "[MASK 2][MASK]cab") == [3, 3, 3, 2, 0, 1]


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="net.causal must be False"):
        MaskedLM(replace(NET, causal=True))
    with pytest.raises(UserError, match="words"):
        Masking("word")
    for wrong in ({"rate": 0.0}, {"masked": 0.9, "random": 0.2}, {"span_end": 0.0}, {"longest": 0}):
        with pytest.raises(UserError):
            Masking(**wrong)
    with pytest.raises(UserError, match="context must be >= 9"):
        MaskedLM(replace(NET, context=4)).init(KEY, batch_of(1), SPEC)
    with pytest.raises(UserError, match="which tokens are special"):
        FAMILY.init(KEY, batch_of(1), dataclasses.replace(SPEC, token_kinds=None))
    assert Documents(3).packed is False
