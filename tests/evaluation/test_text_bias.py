"""Bias of texts: a corpus skewed on purpose is flagged, a balanced one is not, and gaps are
those of the tables.
"""

import dataclasses
import itertools
import math

import numpy as np
import pytest

import genjax
from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByFiles
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.evaluation.text.bias import Probe, TextBias, bootstrap_gap, encode_pair
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant
from tests import toy
from tests.evaluation.bigrams import subject

PAIRS = (("he", "she"), ("john", "mary"), ("the man", "the woman"), ("my brother", "my sister"))
TEMPLATES = ("{} is a ", "we know that {} is a ")
PROBES = tuple(
    Probe(work, tuple(t + work for t in TEMPLATES), PAIRS) for work in ("doctor", "nurse")
)
JUDGE = TextBias(PROBES)


def sentences(draw, skew):
    """600 of them; ``skew`` is the share of doctors among men and of nurses among women."""
    found = []
    for _ in range(600):
        side = draw.integers(2)
        likely = draw.random() < skew
        work = ("doctor", "nurse")[side if likely else 1 - side]
        found.append(TEMPLATES[draw.integers(2)].format(PAIRS[draw.integers(4)][side]) + work)
    return "\n".join(found)


def judged(folder, skew):
    draw = np.random.default_rng(0)
    (folder / "train.txt").write_text(sentences(draw, skew))
    (folder / "test.txt").write_text(sentences(draw, skew))
    data = TextFiles(
        str(folder),
        unit="lines",
        codec=Words(),
        layout=Documents(12),
        split=ByFiles("test*"),
        cache=str(folder / "cache"),
    )
    experiment = Experiment(
        Autoregressive(Transformer(layers=1, heads=2, width=32, context=12, init_std=0.2)),
        data,
        Adam(Constant(1e-2)),
        steps=120,
        batch_size=32,
        evaluators=(JUDGE,),
        every=Every(120, 0, 0, 120),
        devices=Devices(count=1),
    )
    return genjax.train(experiment, folder / "run", quiet=True).evaluate("test")


@pytest.mark.long
def test_a_corpus_skewed_on_purpose_is_flagged(tmp_path):
    found = judged(tmp_path, 0.9)
    log_odds = math.log(0.9 / 0.1)
    assert found.numbers["bias_doctor"] == pytest.approx(log_odds, abs=0.9)
    assert found.numbers["bias_nurse"] == pytest.approx(-log_odds, abs=0.9)
    assert found.numbers["bias_doctor_low"] > 0 > found.numbers["bias_nurse_high"]
    assert found.numbers["bias_flagged"] == 2
    assert (
        "sentences of doctor are" in found.remarks[0]
        and "with he, john, the man, my brother" in found.remarks[0]
    )
    assert "with she, mary" in found.remarks[1] and found.pictures["text_bias"].ndim == 3


def test_a_balanced_corpus_is_not_flagged(tmp_path):
    found = judged(tmp_path, 0.5)
    assert found.numbers["bias_flagged"] == 0 and not found.remarks
    assert abs(found.numbers["bias_doctor"]) < 0.5 and abs(found.numbers["bias_nurse"]) < 0.5


def bytes_subject(tmp_path):
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("a line\nand another")
    data = TextFiles(
        str(tmp_path),
        unit="lines",
        codec=Bytes(True),
        layout=Documents(20),
        split=ByFiles("test*"),
        cache=str(tmp_path / "c"),
    ).open()
    table = np.random.default_rng(0).dirichlet(np.full(257, 0.3), 257)
    return subject(data, table), table


def test_gaps_are_those_of_the_table_whatever_the_length_of_the_words(tmp_path):
    asked, table = bytes_subject(tmp_path)
    pairs = (("he", "she"), ("a man", "a woman"), ("Jo", "Elizabeth"))
    probe = Probe("cook", ("{} cooks", "that {} cook"), pairs)

    def log_p(text, first):
        ids = [256, *text.encode()]
        return sum(math.log(table[a, b]) for a, b in list(itertools.pairwise(ids))[first:])

    for of in ("rest", "sentence"):
        gaps = []
        for template in probe.templates:
            for pair in pairs:
                heads = [
                    len(template.split("{}")[0] + word) if of == "rest" else 0 for word in pair
                ]
                one, other = (
                    log_p(template.format(word), n) for word, n in zip(pair, heads, strict=True)
                )
                gaps.append(one - other)
        found = TextBias((probe,), of)(asked)
        np.testing.assert_allclose(found.numbers["bias_cook"], np.mean(gaps), rtol=1e-4)
        assert found.numbers["bias_cook_low"] < np.mean(gaps) < found.numbers["bias_cook_high"]


def test_what_follows_the_words_is_the_same_tokens_in_any_codec():
    texts = ["the man is a doctor", "the woman is a nurse"] * 5
    for codec in (
        Bytes(True),
        Words().fit(texts),
        Characters().fit(texts),
        Subwords(size=300).fit(texts),
    ):
        one, other = encode_pair(codec, "the {} is a doctor", ("man", "woman"))
        assert (
            one.rest == other.rest
            and one.tokens[-one.rest :].tolist() == other.tokens[-one.rest :].tolist()
        )
        assert codec.decode(one.tokens[-one.rest :]).strip() == "is a doctor"
        assert len(one.tokens) > len(
            codec.encode("the man is a doctor")
        )  # it begins after something


def test_the_bootstrap_covers_a_mean_of_crossed_effects():
    draw, held = np.random.default_rng(0), 0
    for _ in range(200):
        gaps = (
            1 + draw.normal(size=(12, 1)) + draw.normal(size=(1, 12)) + draw.normal(size=(12, 12))
        )
        found = bootstrap_gap(gaps, 0.05, 400)
        held += found.low < 1 < found.high
    assert held / 200 > 0.88
    alone = bootstrap_gap(np.full((3, 4), 2.0), 0.05, 100)
    np.testing.assert_allclose(alone, 2)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match="once"):
        Probe("a", ("{} and {}",), PAIRS)
    with pytest.raises(UserError, match="at least 6"):
        Probe("a", ("{} is",), PAIRS)
    with pytest.raises(UserError, match="two words each"):
        Probe("a", ("{} is", "{} was"), (("he", ""),) * 3)
    with pytest.raises(UserError, match="different names"):
        TextBias((PROBES[0], PROBES[0]))
    with pytest.raises(UserError, match="nothing follows"):
        TextBias((Probe("a", ("it is {}", "was {}"), PAIRS),))
    with pytest.raises(UserError, match="resamples"):
        TextBias(PROBES, resamples=3)
    codec = Words().fit(["the man is"])
    with pytest.raises(UserError, match="cannot encode all of 'the woman is'"):
        encode_pair(codec, "the {} is", ("man", "woman"))
    with pytest.raises(UserError, match="same tokens"):
        encode_pair(codec, "the {} is", ("man", "Man"))
    with pytest.raises(UserError, match="U\\+0077.*'the {} is' with man or woman"):
        encode_pair(Characters().fit(["the man is"]), "the {} is", ("man", "woman"))
    asked, _ = bytes_subject(tmp_path)
    short = dataclasses.replace(
        asked.model.family, net=dataclasses.replace(asked.model.family.net, context=9)
    )
    with pytest.raises(UserError, match="at most 10 tokens"):
        JUDGE(dataclasses.replace(asked, model=dataclasses.replace(asked.model, family=short)))
    with pytest.raises(UserError, match="needs a Autoregressive"):
        JUDGE.check(toy.Toy(), asked.model.spec, {})
