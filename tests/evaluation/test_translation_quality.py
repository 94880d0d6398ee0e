"""BLEU and chrF against other implementations, and a model whose translations are known."""

import collections
import math

import jax
import numpy as np
import pytest

import genjax
from genjax.data.sources import SentencePairs
from genjax.data.text.codecs import Words
from genjax.errors import UserError
from genjax.evaluation.judge import Subject
from genjax.evaluation.text.translation import (
    TranslationQuality,
    compute_tokenised_bleu,
    score_corpus,
)
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant
from tests import toy


def plain_bleu(translations, references):
    """By the formula: clipped counts of the whole corpus, a geometric mean without smoothing,
    the brevity penalty.
    """
    matched, total = np.zeros(4), np.zeros(4)
    for one, other in zip(translations, references, strict=True):
        for n in range(1, 5):
            counts, known = (
                collections.Counter(tuple(x[i : i + n]) for i in range(len(x) - n + 1))
                for x in (one, other)
            )
            matched[n - 1] += sum((counts & known).values())
            total[n - 1] += max(len(one) - n + 1, 0)
    if not matched.all():
        return 0.0
    size, reference = (sum(map(len, texts)) for texts in (translations, references))
    return 100 * math.exp(np.log(matched / total).mean() + min(0.0, 1 - reference / size))


def noisy(draw, words):
    return [word if draw.random() < 0.8 else "other" for word in words if draw.random() < 0.9]


def test_tokenised_bleu_is_the_formula():
    draw = np.random.default_rng(0)
    references = [[str(w) for w in draw.integers(0, 9, draw.integers(4, 20))] for _ in range(30)]
    translations = [noisy(draw, reference) for reference in references]
    np.testing.assert_allclose(
        compute_tokenised_bleu(translations, references), plain_bleu(translations, references)
    )
    assert compute_tokenised_bleu(references, references) == pytest.approx(100)
    assert (
        compute_tokenised_bleu([["a", "b"]], [["a", "b"]]) == 0
    )  # no 4-gram, and nothing stands in for one


def test_scores_of_texts_as_they_are_read():
    texts = ["A dog runs over the green grass.", "Two men are talking, aren't they?"]
    scores, signature = score_corpus(texts, texts)
    assert scores["bleu"] == pytest.approx(100) and scores["chrf"] == pytest.approx(100)
    assert "case:mixed" in signature and "tok:13a" in signature and "nc:6" in signature
    small = [text.lower() for text in texts]
    mixed, (lower, signed) = score_corpus(small, texts)[0], score_corpus(small, texts, lower=True)
    assert mixed["bleu"] < 90 < lower["bleu"] and "case:lc" in signed
    # 13a parts the full stop from the word, so that what a codec of words wrote with a space there
    # is the same.
    assert score_corpus(["A dog runs over the green grass ."], texts[:1])[0][
        "bleu"
    ] == pytest.approx(100)


def pairs(folder, codec, steps=100):
    german = {
        "train": ["ein hund rennt schnell .", "eine katze", "der mann sieht einen großen hund ."]
        * 4
    }
    english = {"train": ["A dog runs fast.", "A cat", "The man sees a large dog."] * 4}
    german["test"], english["test"] = (
        german["train"][:3],
        [*english["train"][:2], "The man sees a big dog."],
    )
    for part in ("train", "test"):
        (folder / f"{part}.de").write_text("\n".join(german[part]))
        (folder / f"{part}.en").write_text("\n".join(english[part]))
    data = SentencePairs(
        str(folder),
        validation=None,
        test="test",
        source_codec=Words(),
        target_codec=codec,
        source_length=10,
        length=9,
        cache=str(folder / "c"),
    )
    net = Transformer(layers=1, heads=2, width=16, context=10, init_std=0.2)
    return Experiment(
        Autoregressive(net, sampler=Decoding(steps=8, temperature=0.0, source="eine katze")),
        data,
        Adam(Constant(0.01)),
        steps=steps,
        batch_size=12,
        evaluators=(TranslationQuality(while_training=False),),
        every=Every(steps, 0, 0, steps),
        devices=Devices(count=1),
    )


class Unwritten:
    """A split of pairs that are known as tokens alone."""

    def __init__(self, split):
        self.in_memory, self.batch, self._size = split.in_memory, split.batch, len(split)

    def __len__(self):
        return self._size


@pytest.mark.long
def test_translations_learned_by_heart_are_scored_as_their_sentences_are(tmp_path):
    run = genjax.train(pairs(tmp_path, Words()), tmp_path / "run", quiet=True)
    found = run.evaluate("test")
    known = ["a dog runs fast.", "a cat", "the man sees a large dog."]
    references = ["A dog runs fast.", "A cat", "The man sees a big dog."]
    expected, signature = score_corpus(known, references, lower=True)
    for name, value in expected.items():
        np.testing.assert_allclose(found.numbers[name], value)
    split = Words().split
    plain = plain_bleu([split(text) for text in known], [split(text) for text in references])
    np.testing.assert_allclose(found.numbers["bleu_tokenised"], plain)
    protocol = found.protocols["bleu"]
    assert (
        signature in protocol and "3 pairs of test" in protocol and "at most 9 tokens" in protocol
    )
    splits = {part: Unwritten(split) for part, split in run.experiment.data.open().splits.items()}
    with pytest.raises(UserError, match="no original sentences"):
        TranslationQuality()(Subject(run.model(), splits, "test", jax.random.key(0), run.layout, 4))


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match="limit must be at least 1"):
        TranslationQuality(0)
    with pytest.raises(UserError, match="needs a Autoregressive"):
        TranslationQuality().check(toy.Toy(), toy.ToyData().open().spec, {})
    spec = pairs(tmp_path, Words()).data.open().spec
    TranslationQuality().check(Autoregressive(), spec, {})
    text = type(spec)("tokens", (5,), np.zeros(5, np.float32), vocabulary=256)
    with pytest.raises(UserError, match="no source"):
        TranslationQuality().check(Autoregressive(), text, {})
