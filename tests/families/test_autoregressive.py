"""Autoregressive models: no token sees what it predicts, and nothing but the text decides the
loss.
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
from genjax.data.dataset import Spec
from genjax.data.sources import SentencePairs, TextFiles
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.layouts import Documents, Packed
from genjax.data.text.prefixes import Prefixed
from genjax.data.text.splits import ByCharacters
from genjax.errors import UserError
from genjax.experiment import Every, Experiment, Keep
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding, Request
from genjax.family import init_state
from genjax.nets.bigram import Bigram
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.runs.setup import initial_state, make_step
from genjax.schedules import Constant, Linear
from tests import toy

KEY = jax.random.key(0)
V, T, S = 11, 8, 5
NET = Transformer(layers=2, heads=2, width=16, context=T, positions="rotary", init_std=0.3)
SMALL = Autoregressive(NET, sampler=Decoding(steps=6))
PAIRED = replace(SMALL, sampler=Decoding(steps=6, source_tokens=(1, 2, 3)))
TEXT = Spec(
    "tokens",
    (T + 1,),
    np.zeros(T + 1, np.float32),
    vocabulary=V,
    token_bytes=(0, *[1] * 5, *[2] * 5),
)
PACKED = replace(TEXT, packed=True)
PAIRS = replace(TEXT, source_length=S, source_vocabulary=7, token_bytes=None)


def batch_of(n, seed=0, spec=TEXT):
    """Rows of uneven lengths."""
    one, two, three, four = jax.random.split(jax.random.key(seed), 4)
    sizes = jax.random.randint(one, (n, 1), 2, T + 2)
    places = jnp.arange(T + 1)[None]
    real = (places < sizes).astype(jnp.float32)
    batch = {
        "tokens": jax.random.randint(two, (n, T + 1), 0, V) * real.astype(jnp.int32),
        "loss_mask": real * (places > 0),
        "mask": jnp.ones(n),
    }
    if spec.source_length is not None:
        batch["source_tokens"] = jax.random.randint(three, (n, S), 0, 7)
        batch["source_mask"] = (
            jnp.arange(S)[None] < jax.random.randint(four, (n, 1), 1, S + 1)
        ).astype(jnp.float32)
    return batch


def state_of(family, spec=TEXT, optimizer=None):
    params, variables = jax.jit(lambda: family.init(KEY, batch_of(1, spec=spec), spec))()
    return init_state(params, variables, (optimizer or SGD(Constant(0.1))).build(10), KEY)


def test_no_prediction_depends_on_what_comes_after_it():
    state, batch = state_of(SMALL), batch_of(1) | {"loss_mask": jnp.ones((1, T + 1))}
    nll = jax.jit(lambda tokens: SMALL.predict(state.params, batch | {"tokens": tokens}).nll[0])
    before = nll(batch["tokens"])
    for place in range(T + 1):
        after = nll(batch["tokens"].at[0, place].add(1).__mod__(V))
        changed = np.flatnonzero(np.abs(np.asarray(after - before)) > 1e-6)
        # Prediction i is of token i + 1 and reads the tokens 0 to i.
        assert changed.tolist() == list(range(max(place - 1, 0), T))


def test_gradients_by_what_is_read_are_zero_for_the_past_alone():
    """By the rows of the table of embeddings, each token of the row another one."""
    family = replace(SMALL, net=replace(NET, tied=False))
    state = state_of(family)
    batch = {
        "tokens": jnp.arange(T + 1)[None],
        "loss_mask": jnp.ones((1, T + 1)),
        "mask": jnp.ones(1),
    }

    def nll(embedding):
        return family.predict({**state.params, "embedding": embedding}, batch).nll[0]

    slope = np.abs(np.asarray(jax.jit(jax.jacrev(nll))(state.params["embedding"]))).sum(-1)[
        :, :T
    ]  # [T, tokens]
    assert (slope[np.tril_indices(T)] > 0).all() and (slope[np.triu_indices(T, 1)] == 0).all()


def test_a_packed_row_predicts_what_its_documents_predict_alone():
    state = state_of(SMALL, PACKED)
    rows = np.random.default_rng(0).integers(1, V, (2, 4))
    nothing = np.zeros((1, T + 1), np.int32)
    packed = {name: nothing.copy() for name in ("tokens", "segment_ids", "positions")} | {
        "mask": jnp.ones(1)
    }
    packed["loss_mask"] = nothing.astype(np.float32)
    for number, row in enumerate(rows):
        part = slice(4 * number, 4 * number + 4)
        packed["tokens"][0, part], packed["segment_ids"][0, part] = row, number + 1
        packed["positions"][0, part], packed["loss_mask"][0, part] = np.arange(4), np.arange(4) > 0
    alone = {"tokens": jnp.asarray(rows), "loss_mask": jnp.ones((2, 4)), "mask": jnp.ones(2)}
    together = SMALL.predict(state.params, jax.tree.map(jnp.asarray, packed))
    apart = SMALL.predict(state.params, alone)
    assert together.weight.sum() == apart.weight.sum() == 6
    np.testing.assert_allclose(together.nll[0, :3], apart.nll[0], rtol=1e-5)
    np.testing.assert_allclose(together.nll[0, 4:7], apart.nll[1], rtol=1e-5)
    metrics = SMALL.evaluate(state, jax.tree.map(jnp.asarray, packed), KEY)
    np.testing.assert_allclose(metrics["loss"].value, apart.nll.mean(), rtol=1e-5)


def test_a_prefix_lm_reads_its_prefix_both_ways_and_predicts_the_rest_from_the_past():
    """By what changes with each token, and packed with another document as alone."""
    family = replace(SMALL, prefix_lm=True)
    state = state_of(family, replace(PACKED, prefixed=True))
    tokens = jax.random.randint(KEY, (1, T + 1), 0, V)
    # Five tokens of which three are given, then four of which two are.
    given = jnp.asarray([[1.0] * 3 + [0] * 2 + [1] * 2 + [0] * 2])
    places = {"positions": jnp.asarray([[0, 1, 2, 3, 4, 0, 1, 2, 3]])}
    packed = places | {"prefix_mask": given, "loss_mask": jnp.ones((1, T + 1)), "mask": jnp.ones(1)}
    packed["segment_ids"] = jnp.asarray([[1] * 5 + [2] * 4])

    @jax.jit
    def predicted(tokens):
        found = family.predict(state.params, packed | {"tokens": tokens})
        return found.nll[0], found.weight[0]

    nll, weight = predicted(tokens)
    np.testing.assert_array_equal(weight, [0, 0, 1, 1, 0, 0, 1, 1])  # nothing that is seen before
    changes = {
        0: [2, 3],
        1: [2, 3],
        2: [2, 3],
        3: [2, 3],
        4: [3],
        5: [6, 7],
        6: [6, 7],
        7: [6, 7],
        8: [7],
    }
    for place, wanted in changes.items():
        moved = np.abs(
            np.asarray(predicted(tokens.at[0, place].add(1).__mod__(V))[0] - nll)
        ) * np.asarray(weight)
        assert np.flatnonzero(moved > 1e-6).tolist() == wanted
    # The first token of a prefix feels its third.
    hidden = lambda t: family.predict(state.params, packed | {"tokens": t}).nll[0, 0]  # noqa: E731
    assert jnp.abs(hidden(tokens.at[0, 2].add(1).__mod__(V)) - nll[0]) > 1e-6
    for first, last in ((0, 5), (5, 9)):
        alone = {name: packed[name][:, first:last] for name in ("prefix_mask", "loss_mask")} | {
            "mask": jnp.ones(1)
        }
        apart = family.predict(state.params, alone | {"tokens": tokens[:, first:last]})
        np.testing.assert_allclose(apart.nll[0], nll[first : last - 1], rtol=1e-5)


@pytest.mark.long
def test_the_prompt_of_a_prefix_lm_is_its_prefix():
    family = replace(SMALL, prefix_lm=True)
    state = state_of(family, replace(TEXT, prefixed=True))
    options = Decoding(steps=T + 1 - 3, temperature=0.0, tokens=(3, 1, 4))
    found = np.asarray(jax.jit(lambda: family.sample(state, KEY, 2, options))())
    row = [3, 1, 4]
    score = jax.jit(lambda batch: family.predict(state.params, batch).nll[:, -1])
    for _ in range(T + 1 - 3):
        rows = jnp.concatenate([jnp.tile(jnp.asarray([row]), (V, 1)), jnp.arange(V)[:, None]], 1)
        given = jnp.broadcast_to(jnp.arange(rows.shape[1]) < 3, rows.shape).astype(jnp.float32)
        batch = {
            "tokens": rows,
            "prefix_mask": given,
            "loss_mask": jnp.ones(rows.shape),
            "mask": jnp.ones(V),
        }
        row.append(int(score(batch).argmin()))
    assert found.tolist() == [row, row]
    causal = np.asarray(jax.jit(lambda: SMALL.sample(state, KEY, 1, options))())
    assert causal[0].tolist() != row


@pytest.mark.long
def test_a_prefix_lm_learns_answers_from_what_stands_anywhere_in_their_prompt(tmp_path):
    """The answer to a prompt is its first letter and its last."""
    rng = np.random.default_rng(0)
    prompts = ["".join(rng.choice(list("abcd"), 4)) for _ in range(60)]
    (tmp_path / "talk.txt").write_text(
        "\n".join(f"{prompt}={prompt[0] + prompt[3]}" for prompt in prompts)
    )
    data = TextFiles(
        str(tmp_path / "talk.txt"),
        unit="lines",
        codec=Characters(delimiter=True),
        layout=Prefixed(Packed(23, "drop"), until="="),
        split=ByCharacters(0.2),
        cache=str(tmp_path / "cache"),
    )
    net = Transformer(layers=2, heads=2, width=16, context=23, positions="learned")
    family = Autoregressive(
        net, sampler=Decoding(steps=4, temperature=0.0, prompt="bacd="), prefix_lm=True
    )
    every = Every(log=100, evaluate=300, sample=300, checkpoint=300)
    experiment = Experiment(
        family, data, Adam(Constant(0.01)), steps=300, batch_size=16, every=every
    )
    run = genjax.train(replace(experiment, devices=Devices(count=1)), tmp_path / "run", quiet=True)
    assert run.evaluate("test").numbers["loss"] < 0.1
    assert run.write_samples(tmp_path / "answer", 1).read_text().strip() == "bacd=bd"


@pytest.mark.parametrize("spec", [TEXT, PAIRS], ids=["text", "pairs"])
@pytest.mark.long
def test_accumulated_steps_equal_the_full_batch_whatever_the_lengths(spec):
    family = PAIRED if spec is PAIRS else replace(SMALL, chunk=8, z_loss=0.1)
    batch = batch_of(8, spec=spec)
    batch["loss_mask"] = batch["loss_mask"].at[::2].multiply(jnp.arange(T + 1)[None] < 3)
    batch["mask"] = batch["mask"].at[5].set(0)
    found = []
    for pieces in (1, 4):
        rule = SGD(Constant(0.1), accumulate=pieces).build(10)
        state, metrics = jax.jit(lambda s, b, rule=rule: family.train_step(s, b, optimizer=rule))(
            state_of(family, spec), batch
        )
        found.append((state.params, metrics["loss"], metrics["grad_norm"]))
    assert found[0][1].weight == (batch["loss_mask"][:, 1:] * batch["mask"][:, None]).sum()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *found)


def test_the_loss_is_a_mean_over_tokens_and_bits_are_a_byte_of_text():
    state, batch = state_of(SMALL), batch_of(6)
    found, metrics = SMALL.predict(state.params, batch), SMALL.evaluate(state, batch, KEY)
    weight = np.asarray(batch["loss_mask"][:, 1:])
    nll = (np.asarray(found.nll) * weight).sum()
    np.testing.assert_allclose(metrics["loss"].value, nll / weight.sum(), rtol=1e-6)
    in_bytes = (np.asarray(TEXT.token_bytes)[np.asarray(batch["tokens"])[:, 1:]] * weight).sum()
    np.testing.assert_allclose(
        metrics["bits_per_byte"].value, nll / math.log(2) / in_bytes, rtol=1e-6
    )
    chunked = replace(SMALL, chunk=5).evaluate(state, batch, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), chunked, metrics)


def test_a_batch_without_a_target_weighs_nothing_and_moves_nothing():
    batch = batch_of(4) | {"loss_mask": jnp.zeros((4, T + 1))}
    for family in (SMALL, replace(SMALL, chunk=8)):
        state = state_of(family)
        rule = SGD(Constant(0.1)).build(10)
        after, metrics = jax.jit(
            lambda s, f=family, rule=rule: f.train_step(s, batch, optimizer=rule)
        )(state)
        assert (
            metrics["loss"].weight == 0
            and metrics["loss"].sum == 0
            and metrics["grad_norm"].value == 0
        )
        jax.tree.map(np.testing.assert_array_equal, after.params, state.params)


def test_a_token_that_is_hidden_from_the_model_is_predicted_still():
    state, batch = state_of(SMALL), batch_of(2)
    damaged = batch | {
        "inputs": jnp.where(jnp.arange(T + 1) == 2, 0, batch["tokens"] % (V - 1) + 1)
    }
    whole = batch | {"inputs": batch["tokens"]}
    plain = SMALL.predict(state.params, batch).nll
    np.testing.assert_array_equal(SMALL.predict(state.params, whole).nll, plain)
    assert not np.allclose(SMALL.predict(state.params, damaged).nll, plain)


@pytest.mark.parametrize("scan", [False, True], ids=["layers", "scanned"])
def test_greedy_texts_are_those_of_a_model_that_reads_all_of_them_anew(scan):
    family = replace(SMALL, net=replace(NET, scan_layers=scan))
    state = state_of(family)
    greedy = Decoding(steps=T + 1 - 3, temperature=0.0, tokens=(3, 1, 4))
    found = np.asarray(jax.jit(lambda: family.sample(state, KEY, 2, greedy))())
    row = [3, 1, 4]
    score = jax.jit(lambda batch: family.predict(state.params, batch).nll[:, -1])
    for _ in range(T + 1 - 3):
        rows = jnp.concatenate([jnp.tile(jnp.asarray([row]), (V, 1)), jnp.arange(V)[:, None]], 1)
        row.append(
            int(
                score(
                    {"tokens": rows, "loss_mask": jnp.ones(rows.shape), "mask": jnp.ones(V)}
                ).argmin()
            )
        )
    assert found.tolist() == [row, row]


@pytest.mark.long
def test_samples_of_a_pair_follow_their_source_and_the_padding_of_a_source_is_not_read():
    state, batch = state_of(PAIRED, PAIRS), batch_of(3, spec=PAIRS)
    nll = jax.jit(lambda batch: PAIRED.predict(state.params, batch).nll)
    plain = nll(batch)
    real = batch["source_mask"].astype(jnp.int32)
    padded = batch | {"source_tokens": batch["source_tokens"] * real + 6 * (1 - real)}
    np.testing.assert_allclose(nll(padded), plain, rtol=1e-5)
    other = batch | {"source_tokens": (batch["source_tokens"] + 1) % 7}
    assert not np.allclose(nll(other), plain)

    greedy = Decoding(steps=5, temperature=0.0, tokens=(2,), source_tokens=(1, 2, 3))
    row = np.asarray(jax.jit(lambda: PAIRED.sample(state, KEY, 1, greedy))())
    again = {"tokens": jnp.asarray(row), "loss_mask": jnp.ones(row.shape), "mask": jnp.ones(1)}
    again |= {"source_tokens": jnp.asarray([[1, 2, 3]]), "source_mask": jnp.ones((1, 3))}
    for place in range(5):  # each token drawn is the likeliest after those before it
        rows = jnp.tile(again["tokens"], (V, 1)).at[:, place + 1].set(jnp.arange(V))
        tiled = {name: jnp.repeat(x, V, 0) for name, x in again.items()} | {"tokens": rows}
        assert nll(tiled)[:, place].argmin() == row[0, place + 1]


def test_a_text_that_has_ended_is_filled_up_with_its_end():
    state = state_of(SMALL)
    sample = jax.jit(lambda options: SMALL.sample(state, KEY, 8, options), static_argnums=0)
    free = np.asarray(sample(Decoding(steps=7, tokens=(2,))))
    end = int(free[0, 3])
    found = np.asarray(sample(Decoding(steps=7, tokens=(2,), ends=(end,))))
    for row, whole in zip(found, free, strict=True):
        stops = np.flatnonzero(whole[1:] == end)
        size = stops[0] + 2 if len(stops) else len(whole)
        np.testing.assert_array_equal(row[:size], whole[:size])
        assert (row[size:] == end).all()


def test_a_prompt_is_encoded_by_the_codec_of_the_run():
    codec = Characters(characters="\nabc", delimiter=True)
    asked = Decoding(prompt="cab")
    assert asked.encode(codec, {}) == Request(asked, ((0, 4, 2, 3),), ends=(0,))
    assert Decoding().encode(codec, {}).prompts == ((0,),)
    assert Decoding().encode(Characters(characters="\nabc"), {}).prompts == ((0,),)
    assert (
        Decoding().encode(Bytes(), {}).prompts == ((10,),)
        and not Decoding().encode(Bytes(), {}).ends
    )  # a new line
    assert Decoding().encode(Characters(characters="abc"), {}).prompts == ((0,),)
    assert Decoding(tokens=(1, 2)).encode(codec, {}).prompts == ((1, 2),)
    with pytest.raises(
        UserError, match="'d'.*character 1 of the prompt is not in the vocabulary of 5"
    ):
        Decoding(prompt="ad").encode(codec, {})
    with pytest.raises(UserError, match="have no source"):
        Decoding(source="ab").encode(codec, {})


def trajectory(devices, family, spec):
    layout = parallel.start(devices)
    experiment = Experiment(family, toy.Pictures(), SGD(Constant(0.1)), steps=20, batch_size=16)
    make = initial_state(experiment, spec)
    state, step = (
        layout.init(make),
        layout.compile_step(make_step(experiment), layout.eval_shapes(make)),
    )
    found = []
    for number in range(20):
        batch = batch_of(16, number, spec) | {"mask": jnp.ones(16).at[3].set(0)}
        state, packed = step(state, layout.place(batch))
        found.append(np.asarray(packed.pairs)[..., 0] / np.asarray(packed.pairs)[..., 1])
    return np.array(found)


@pytest.mark.parametrize(
    "devices",
    [Devices(count=8, mode="sharded", fsdp=2), Devices(count=8)],
    ids=["sharded", "mapped"],
)
@pytest.mark.long
def test_eight_devices_equal_one(devices):
    family = replace(SMALL, net=replace(NET, layers=1), chunk=4096)
    one, eight = (trajectory(d, family, TEXT) for d in (Devices(count=1), devices))
    np.testing.assert_allclose(eight, one, rtol=2e-4, atol=1e-5)


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "names.txt").write_text(
        "\n".join(["emma", "olivia", "ava", "isabella", "sophia", "mia"] * 20)
    )
    return TextFiles(
        str(tmp_path / "names.txt"),
        unit="lines",
        codec=Characters(delimiter=True),
        layout=Packed(15),
        split=ByCharacters(0.1),
        cache=str(tmp_path / "cache"),
    )


def test_a_table_of_bigrams_comes_to_the_law_of_the_counts(corpus, tmp_path):
    data = replace(corpus, layout=Documents(9), split=ByCharacters(0.0))
    every = Every(log=100, evaluate=0, sample=0, checkpoint=0)
    experiment = Experiment(
        Autoregressive(Bigram()),
        data,
        Adam(Linear(0.3, 0.0)),
        steps=300,
        batch_size=120,
        every=every,
    )
    run = genjax.train(replace(experiment, devices=Devices(count=1)), tmp_path / "run", quiet=True)
    split, size = data.open().splits["train"], run.spec.vocabulary
    rows = split.batch(np.arange(len(split)))
    real = rows["loss_mask"][:, 1:] == 1
    counts = np.zeros((size, size))
    np.add.at(counts, (rows["tokens"][:, :-1][real], rows["tokens"][:, 1:][real]), 1)
    law = counts / counts.sum(1, keepdims=True)
    floor = -(counts * np.log(np.where(counts, law, 1))).sum() / counts.sum()
    numbers = run.evaluate("train").numbers
    assert floor < numbers["loss"] < floor + 1e-3
    np.testing.assert_allclose(jax.nn.softmax(run.state.params["table"]), law, atol=2e-3)
    drawn = run.sample(1000)
    assert drawn.shape == (1000, 257) and (drawn[:, 0] == 0).all()
    first = np.bincount(drawn[:, 1], minlength=size) / 1000
    np.testing.assert_allclose(first, law[0], atol=0.06)


@pytest.mark.long
def test_a_stopped_run_goes_on_bitwise_and_writes_what_it_is_prompted(corpus, tmp_path):
    net = Transformer(layers=1, heads=2, width=8, context=15, dropout=0.2)
    every = Every(log=2, evaluate=4, sample=4, checkpoint=2)
    family = Autoregressive(net, sampler=Decoding(steps=8, prompt="mi"))
    whole = Experiment(
        family, corpus, Adam(), steps=6, batch_size=4, ema=0.9, every=every, keep=Keep(best=None)
    )
    whole = replace(whole, devices=Devices(count=1))
    straight = genjax.train(whole, tmp_path / "whole", quiet=True)
    genjax.train(replace(whole, steps=2), tmp_path / "parts", quiet=True)
    resumed = genjax.train(whole, tmp_path / "parts", quiet=True)
    jax.tree.map(
        np.testing.assert_array_equal,
        *(
            jax.device_get((r.state.params, r.state.opt_state, r.state.ema))
            for r in (straight, resumed)
        ),
    )
    texts = (tmp_path / "parts" / "samples" / "00000004.txt").read_text().splitlines()
    assert len(texts) == 8 and all(text.startswith("mi") for text in texts)
    assert {"loss", "bits_per_byte"} <= straight.evaluate().numbers.keys()
    (tmp_path / "names.txt").unlink()
    run = genjax.load(tmp_path / "parts")
    full = replace(family.sampler, prompt="a" * 14)  # with the start as long as the context
    assert run.sample(1, options=full).shape == (1, 15 + 8)
    options = replace(family.sampler, prompt="oli")
    assert run.write_samples(tmp_path / "out", 3, options=options).read_text().count("oli") >= 3
    with pytest.raises(UserError, match="the prompt must have <= 15 tokens .context., got 16"):
        run.sample(1, options=replace(options, prompt="mia" * 5))
    with pytest.raises(UserError, match="U\\+0021.*of the prompt is not in the vocabulary"):
        run.sample(1, options=replace(options, prompt="mia!"))
    other = dataclasses.replace(run, codec=Bytes())
    with pytest.raises(
        UserError, match="the prompt has a token outside the model's vocabulary of 12"
    ):
        other.sample(1, options=options)


@pytest.mark.long
def test_a_model_of_pairs_learns_from_files_and_translates(tmp_path):
    for part in ("train", "val", "test_2016_flickr"):
        (tmp_path / f"{part}.de").write_text("ein hund\neine katze\n" * 4)
        (tmp_path / f"{part}.en").write_text("a dog\na cat\n" * 4)
    data = SentencePairs(
        str(tmp_path),
        source_codec=Words(),
        target_codec=Words(),
        source_length=4,
        length=4,
        cache=str(tmp_path / "c"),
    )
    net = Transformer(layers=1, heads=2, width=16, context=8)
    family = Autoregressive(net, sampler=Decoding(steps=4, temperature=0.0, source="ein hund"))
    every = Every(log=10, evaluate=60, sample=60, checkpoint=60)
    experiment = Experiment(family, data, Adam(Constant(0.01)), steps=60, batch_size=8, every=every)
    run = genjax.train(replace(experiment, devices=Devices(count=1)), tmp_path / "run", quiet=True)
    assert run.evaluate("validation").numbers["loss"] < 0.2
    assert run.write_samples(tmp_path / "dog", 1).read_text() == "a dog\n"
    cat = replace(family.sampler, source="eine katze")
    assert run.write_samples(tmp_path / "cat", 1, options=cat).read_text() == "a cat\n"
    beams = replace(cat, beams=2, temperature=1.0, prompts=("a", ""))
    assert run.write_samples(tmp_path / "cats", 2, options=beams).read_text() == "a cat\na cat\n"
    with pytest.raises(UserError, match=r"sampler\.source is needed: this model reads a source"):
        run.sample(1, options=Decoding(steps=4))


def test_what_does_not_fit_is_refused():
    for fields, words in (
        ({"chunk": 0}, "chunk"),
        ({"z_loss": -1.0}, "z_loss"),
        ({"net": replace(NET, causal=False)}, "net.causal must be True"),
        ({"net": Bigram(T), "prefix_lm": True}, "got a Bigram"),
        ({"net": replace(NET, attention="kernel"), "prefix_lm": True}, "kernel"),
    ):
        with pytest.raises(UserError, match=words):
            replace(SMALL, **fields)
    for family, spec, words in (
        (
            SMALL,
            Spec("points", (2,), np.zeros(2, np.float32)),
            "needs tokens, but the data are points",
        ),
        (SMALL, replace(TEXT, shape=(T + 2,)), "have 9 predictions, got 8"),
        (
            SMALL,
            replace(PAIRS, source_length=20),
            "20 source tokens, got 8",
        ),
        (SMALL, PAIRS, "needed for samples"),
        (replace(SMALL, prefix_lm=True), TEXT, "a layout Prefixed"),
    ):
        with pytest.raises(UserError, match=words):
            family.init(KEY, batch_of(1, spec=PAIRS), spec)
    state = state_of(SMALL)
    for options, words in (
        (Decoding(tokens=(V,)), "outside the model's vocabulary of 11"),
        (Decoding(tokens=(1,) * 9), "must have <= 8 tokens .context., got 9"),
        (Decoding(source_tokens=(1,)), "reads no source"),
        (Decoding(ends=(-1,)), "the end has a token outside"),
    ):
        with pytest.raises(UserError, match=words):
            SMALL.sample(state, KEY, 1, options)
    for both in ({"prompt": "a", "tokens": (1,)}, {"source": "a", "source_tokens": (1,)}):
        with pytest.raises(UserError, match="exclude one another"):
            Decoding(**both)
