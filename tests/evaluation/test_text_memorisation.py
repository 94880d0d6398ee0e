"""Memorisation of texts: a sentence repeated a hundred times is extracted, and texts that come
once are not.
"""

import dataclasses

import jax
import numpy as np
import pytest

import genjax
from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Documents, Packed
from genjax.data.text.splits import ByFiles
from genjax.errors import UserError
from genjax.evaluation.judge import Subject
from genjax.evaluation.text.memorisation import (
    TextMemorisation,
    extract_rows,
    find_overlap_threshold,
    get_corpus,
    least_excess,
)
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant
from tests import toy
from tests.evaluation.bigrams import subject

LETTERS = list("abcdefghijkl")
SIZE = 40
JUDGE = TextMemorisation(samples=100, rows=400, prefix=8, size=24, while_training=False)


def lines(draw, count):
    return ["".join(draw.choice(LETTERS, SIZE)) for _ in range(count)]


def trained(folder, planted, steps=120):
    """A run on 400 lines of letters without a law, of which ``planted`` are the same one; and
    that line.
    """
    draw = np.random.default_rng(0)
    (secret,) = lines(draw, 1)
    train = lines(draw, 400 - planted) + [secret] * planted
    (folder / "train.txt").write_text("\n".join(train))
    (folder / "test.txt").write_text("\n".join(lines(draw, 400)))
    data = TextFiles(
        str(folder),
        unit="lines",
        codec=Characters(delimiter=True),
        layout=Documents(SIZE + 1),
        split=ByFiles("test*"),
        cache=str(folder / "cache"),
    )
    net = Transformer(layers=1, heads=2, width=32, context=SIZE + 1, init_std=0.1)
    experiment = Experiment(
        Autoregressive(net, sampler=Decoding(steps=SIZE)),
        data,
        Adam(Constant(1e-2)),
        steps=steps,
        batch_size=32,
        evaluators=(JUDGE,),
        every=Every(steps, 0, 0, steps),
        devices=Devices(count=1),
    )
    return genjax.train(experiment, folder / "run", quiet=True), secret


@pytest.mark.long
def test_a_sentence_repeated_a_hundred_times_is_extracted(tmp_path):
    run, secret = trained(tmp_path, 100)
    found = run.evaluate("test")
    assert (
        found.numbers["extracted"] == pytest.approx(0.25, abs=0.01)
        and found.numbers["extracted_held_out"] == 0
    )
    assert found.numbers["extracted_excess_low"] > 0.2
    gives, copies = (
        next(r for r in found.remarks if words in r)
        for words in ("reveals its training", "copies it")
    )
    assert (
        secret[7:31] in gives and secret[10:30] in copies
    )  # the prefix is the start and 7 letters
    assert found.numbers["copies"] > 0.15 > found.numbers["copies_expected"]
    assert (
        found.numbers["overlap_longest"] == SIZE and found.numbers["overlap_held_out_longest"] < 12
    )
    assert {"overlaps", "extraction"} <= set(found.pictures)

    data = run.experiment.data.open()
    asked = Subject(run.model(), data.splits, "test", jax.random.key(0), run.layout, 32)
    rows = extract_rows(asked, "train", 400, 8, 24)
    of_secret = np.array(
        [run.codec.decode(data.splits["train"].corpus.document(i)) == secret for i in rows.rows]
    )
    assert (
        of_secret.sum() == 100
        and (rows.agreed[of_secret] == 24).all()
        and (rows.agreed[~of_secret] < 24).all()
    )


@pytest.mark.long
def test_texts_that_come_once_are_not_extracted(tmp_path):
    found = trained(tmp_path, 0)[0].evaluate("test")
    assert found.numbers["extracted"] < 0.01 and not found.remarks
    assert found.numbers["copies"] < 0.05 and found.numbers["overlap_longest"] < 12


def uniform(folder, layout, sizes=(30, 12, 30, 5)):
    draw = np.random.default_rng(0)
    for name in ("train.txt", "test.txt"):
        (folder / name).write_text("\n".join("".join(draw.choice(LETTERS, n)) for n in sizes))
    data = TextFiles(
        str(folder),
        unit="lines",
        codec=Characters(delimiter=True),
        layout=layout,
        split=ByFiles("test*"),
        cache=str(folder / "cache"),
    ).open()
    return data, subject(data, np.full((data.spec.vocabulary,) * 2, 1 / data.spec.vocabulary))


def test_rows_too_short_are_left_out_and_documents_of_a_packed_row_are_not_mixed(tmp_path):
    _, asked = uniform(tmp_path, Documents(31))
    assert extract_rows(asked, "train", 10, 8, 16).rows.tolist() == [0, 2]
    data, asked = uniform(tmp_path, Packed(48))
    rows = extract_rows(asked, "train", 10, 4, 8)
    batch = data.splits["train"].batch(rows.rows)
    assert (batch["segment_ids"][:, :12] == 1).all() and (
        rows.texts == batch["tokens"][:, 4:12]
    ).all()
    found = dataclasses.replace(JUDGE, prefix=20, size=20)(asked)
    assert "nothing was extracted" in found.remarks[-1] and "extracted" not in found.numbers


def test_shares_and_thresholds_are_those_of_their_formulas():
    held_out = np.arange(1, 200)
    line = find_overlap_threshold(held_out, 0.01)
    assert (line.ratio, line.rank, line.expected) == (198, 2, 0.01) and (
        held_out > line.ratio
    ).mean() < 0.01
    # Newcombe (1998), 56/70 against 48/80: method 10 gives 0.0524 to 0.3339.
    flags = [np.arange(n) < k for k, n in ((56, 70), (48, 80))]
    assert least_excess(*flags) == pytest.approx(0.0524, abs=5e-5)


def test_what_does_not_fit_is_refused(tmp_path):
    data, asked = uniform(tmp_path, Documents(31))
    family = asked.model.family
    with pytest.raises(UserError, match="at least 1"):
        TextMemorisation(rows=0)
    with pytest.raises(UserError, match="flag_above must be at least 0 and below 1"):
        TextMemorisation(flag_above=1.0)
    with pytest.raises(
        UserError, match=r"prefix \+ size must be at most 32 .tokens of a row., got 40"
    ):
        TextMemorisation(prefix=20, size=20).check(family, data.spec, {})
    with pytest.raises(UserError, match="needs a Autoregressive"):
        JUDGE.check(toy.Toy(), data.spec, {})
    assert "not trained on" in JUDGE(dataclasses.replace(asked, split="train")).remarks[0]
    points = toy.ToyData().open().splits["train"]
    with pytest.raises(UserError, match="no corpus"):
        get_corpus(dataclasses.replace(asked, splits={"train": points}), "train")
