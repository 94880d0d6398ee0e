"""Supervised fine-tuning: answers alone teach, packed or not; a run goes on bitwise and
answers what it is asked.
"""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.data.chat.template import ChatCodec, ChatTemplate
from genjax.data.sources import Instructions, TextPairs
from genjax.data.text.codecs import Characters
from genjax.data.text.splits import ByDocuments
from genjax.evaluation.text.translation import TranslationQuality, score_corpus
from genjax.experiment import Every, Experiment, Keep
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.family import init_state
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.schedules import Constant

KEY = jax.random.key(0)
TEMPLATE = ChatTemplate((("user", "Q:", "\n"), ("assistant", "A:", "\n")))
TURNS = [("user", "up"), ("assistant", "down"), ("user", "in"), ("assistant", "out")]
RECORDS = [
    {"instruction": "one", "output": "two"},
    {"messages": [{"role": role, "content": text} for role, text in TURNS]},
    {"instruction": "a", "output": "bcd"},
    {"instruction": "left", "output": "right"},
]
NET = Transformer(layers=2, heads=2, width=16, context=40, init_std=0.3)
FAMILY = Autoregressive(NET)


def source(folder, packed=False, records=RECORDS, test=0.0):
    (folder / "some.json").write_text(json.dumps(records))
    codec = Characters(delimiter=True)
    split = ByDocuments(test=test)
    return Instructions(
        str(folder / "some.json"),
        template=TEMPLATE,
        codec=codec,
        length=40,
        packed=packed,
        split=split,
        cache=str(folder / "cache"),
    )


def whole(data, part="train"):
    rows = data.splits[part].batch(np.arange(len(data.splits[part])))
    return jax.tree.map(jnp.asarray, rows | {"mask": np.ones(len(rows["tokens"]), np.float32)})


def state_of(data, optimizer=None):
    params, variables = jax.jit(lambda: FAMILY.init(KEY, whole(data), data.spec))()
    return init_state(params, variables, (optimizer or SGD()).build(1), KEY)


def loss_of(state, batch):
    return float(jax.jit(FAMILY.evaluate)(state, batch, KEY)["loss"].value)


@pytest.mark.parametrize("packed", [False, True])
def test_the_loss_has_no_gradient_by_any_prediction_but_those_of_answers(
    tmp_path, monkeypatch, packed
):
    """By the logits: added to the head as noughts, so that the slope of the loss by each of
    them is seen.
    """
    data = source(tmp_path, packed).open()
    state, batch = state_of(data), whole(data)
    learned = np.asarray(batch["loss_mask"])[:, 1:] > 0
    size = data.spec.vocabulary

    def loss(noughts):
        def seen(rows, kernel, targets, *, bias, weights, softcap, chunk):
            logits = rows @ kernel.T + (0 if bias is None else bias) + noughts.reshape(-1, size)
            total = jax.nn.logsumexp(logits, -1)
            return total - jnp.take_along_axis(logits, targets[:, None], 1)[:, 0], total

        monkeypatch.setattr(
            "genjax.families.autoregressive.predictions.chunked_cross_entropy", seen
        )
        return FAMILY.evaluate(state, batch, KEY)["loss"].value

    noughts = jnp.zeros((*learned.shape, size))
    value, slope = jax.jit(jax.value_and_grad(loss))(noughts)
    monkeypatch.undo()
    np.testing.assert_allclose(value, loss_of(state, batch), rtol=1e-5)
    slope = np.abs(np.asarray(slope)).sum(-1)
    assert (slope[~learned] == 0).all() and (slope[learned] > 0).all()
    assert learned.sum() == sum(len(text) + 1 for text in ("two", "down", "out", "bcd", "right"))


def test_what_a_prompt_says_next_changes_no_loss_and_what_an_answer_says_does(tmp_path):
    """What is read stays, one token at a time of what is to be predicted is another."""
    data = source(tmp_path).open()
    state, batch = state_of(data), whole(data)
    tokens, learned = batch["tokens"], np.asarray(batch["loss_mask"]) > 0
    one = jnp.eye(tokens.size, dtype=jnp.int32).reshape(-1, *tokens.shape)
    changed = (
        tokens[None] + jnp.concatenate([jnp.zeros_like(one[:1]), one])
    ) % data.spec.vocabulary

    def loss(others):
        return FAMILY.evaluate(state, batch | {"inputs": tokens, "tokens": others}, KEY)[
            "loss"
        ].value

    before, *after = np.asarray(jax.jit(jax.vmap(loss))(changed)).tolist()
    assert [value != before for value in after] == learned.ravel().tolist()


def test_packed_rows_have_the_losses_and_gradients_of_rows_of_their_own(tmp_path):
    plain, packed = source(tmp_path).open(), source(tmp_path, packed=True).open()
    assert len(packed.splits["train"]) < len(plain.splits["train"]) == 4
    state = state_of(plain)

    def value(params, batch):
        found = FAMILY.predict(params, batch)
        return jnp.sum(found.nll * found.weight) / jnp.sum(found.weight)

    one, two = (
        jax.jit(jax.value_and_grad(value))(state.params, whole(data)) for data in (plain, packed)
    )
    np.testing.assert_allclose(one[0], two[0], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), one[1], two[1]
    )

    def losses(data):
        found = jax.jit(FAMILY.predict)(state.params, whole(data))
        return np.sort(np.asarray(found.nll)[np.asarray(found.weight) > 0])

    np.testing.assert_allclose(losses(plain), losses(packed), rtol=1e-4, atol=1e-5)


def experiment(data, **fields):
    net = Transformer(layers=1, heads=2, width=16, context=64, dropout=0.1)
    told = {
        "steps": 6,
        "every": Every(log=2, evaluate=4, sample=4, checkpoint=2),
        "keep": Keep(best=None),
    } | fields
    family = Autoregressive(net, sampler=Decoding(steps=8, prompt="one"))
    return Experiment(
        family, data, Adam(Constant(0.01)), batch_size=2, devices=Devices(count=1), **told
    )


@pytest.mark.long
def test_a_stopped_run_goes_on_bitwise_and_samples_begin_as_training_rows_do(tmp_path):
    records = [
        {"instruction": "one", "output": text}
        for text in ("two", "ten", "net", "wet", "tow", "not")
    ]
    data = source(tmp_path, packed=True, records=records, test=0.2)
    straight = genjax.train(experiment(data), tmp_path / "whole", quiet=True)
    genjax.train(experiment(data, steps=4), tmp_path / "parts", quiet=True)
    resumed = genjax.train(experiment(data), tmp_path / "parts", quiet=True)
    jax.tree.map(
        np.testing.assert_array_equal,
        *(jax.device_get((run.state.params, run.state.opt_state)) for run in (straight, resumed)),
    )
    numbers = straight.evaluate("test").numbers
    assert {"loss", "bits_per_byte"} <= numbers.keys()
    np.testing.assert_allclose(
        numbers["bits_per_byte"] * 3 * np.log(2), numbers["loss"] * 4, rtol=1e-5
    )

    run = genjax.load(tmp_path / "parts")
    assert isinstance(run.codec, ChatCodec) and run.codec.template == TEMPLATE
    rows = data.open().splits["test"].batch(np.array([0]))
    prompt = rows["tokens"][0][rows["prefix_mask"][0] > 0]
    drawn = run.sample(3)
    assert (drawn[:, : len(prompt)] == prompt).all()
    assert run.codec.decode(prompt[1:]) == "Q:one\nA:"
    assert (tmp_path / "parts" / "samples" / "00000004.txt").read_text().count("Q:one") == 8


@pytest.mark.long
def test_translations_that_a_decoder_has_learned_by_heart_are_scored_as_answers(tmp_path):
    german = ["ein hund rennt schnell .", "eine katze", "der mann sieht einen hund ."]
    english = ["a dog runs fast .", "a cat", "the man sees a dog ."]
    for part, last in (("train", english[2]), ("test", "the man sees a cat .")):
        (tmp_path / f"{part}.de").write_text("\n".join(german))
        (tmp_path / f"{part}.en").write_text("\n".join([*english[:2], last]))
    data = TextPairs(
        str(tmp_path),
        validation=None,
        test="test",
        prompt="{source}",
        template=TEMPLATE,
        codec=Characters(delimiter=True),
        length=60,
        cache=str(tmp_path / "c"),
    )
    told = experiment(
        data, steps=150, every=Every(150, 0, 0, 150), evaluators=(TranslationQuality(),)
    )
    told = replace(
        told, family=replace(told.family, net=replace(told.family.net, width=32, dropout=0.0))
    )
    run = genjax.train(replace(told, batch_size=3), tmp_path / "run", quiet=True)
    found = run.evaluate("test")
    expected, signature = score_corpus(english, [*english[:2], "the man sees a cat ."])
    for name, value in expected.items():
        np.testing.assert_allclose(found.numbers[name], value)
    longest = 1 + len(f"Q:{german[2]}\nA:")
    protocol = found.protocols["bleu"]
    assert signature in protocol and f"at most {64 + 1 - longest} tokens" in protocol
