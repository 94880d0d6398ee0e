"""What is measured of masked language models."""

import numpy as np
import pytest

import genjax
from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Words
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError
from genjax.evaluation.text.pseudo_perplexity import PseudoPerplexity
from genjax.evaluation.text.sentence_neighbours import SentenceNeighbours, same_kind_share
from genjax.experiment import Every, Experiment
from genjax.families.masked_lm import MaskedLM
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant

NET = Transformer(layers=1, heads=2, width=16, context=13, causal=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Words of two files that share none but "the" and "is", in random order."""
    folder = tmp_path_factory.mktemp("texts")
    draw = np.random.default_rng(0)
    for name, words in (("day", "sun sky blue light noon"), ("night", "moon star dark owl sleep")):
        lines = [" ".join(draw.choice(words.split(), 8)) for _ in range(200)]
        (folder / f"{name}.txt").write_text("\n".join(f"the {line} is" for line in lines))
    data = TextFiles(
        str(folder),
        "*.txt",
        "lines",
        "utf-8",
        Words(),
        Documents(12),
        ByDocuments(0.2),
        str(folder),
    )
    every = Every(log=100, evaluate=0, sample=0, checkpoint=100)
    evaluators = (SentenceNeighbours(60, while_training=False), PseudoPerplexity(40))
    told = {
        "steps": 100,
        "batch_size": 32,
        "every": every,
        "evaluators": evaluators,
        "devices": Devices(count=1),
    }
    experiment = Experiment(MaskedLM(NET), data, Adam(Constant(0.01)), **told)
    return genjax.train(experiment, folder.parent / "run", quiet=True)


def test_the_others_tell_the_file_and_no_more(run):
    """Between "the" and "is" stand eight words of five that only the file decides: ln 5 nats
    each, 0 for the two.
    """
    found = run.evaluate().numbers
    least = 0.8 * np.log(5)
    assert least - 0.05 < found["pseudo_nll"] < least + 0.25
    assert found["pseudo_perplexity"] == pytest.approx(np.exp(found["pseudo_nll"]))
    assert 0 < found["pseudo_nll_error"] < 0.05
    # "the" and "is" are a tenth each, ten words share the rest; the special tokens do not count.
    assert found["unigram_nll"] == pytest.approx(
        0.2 * np.log(10) + 0.8 * np.log(10 / 0.8), abs=0.03
    )


def test_texts_of_one_file_are_neighbours(run):
    found = run.evaluate().numbers
    assert found["neighbours_same_domain"] > 0.95
    assert 0.4 < found["neighbours_chance"] < 0.6


def test_neighbours_of_a_kind_are_counted_by_hand():
    draw = np.random.default_rng(1)
    embedded, kind = draw.normal(size=(30, 4)) + 5, draw.integers(0, 3, 30)
    near = np.eye(30, dtype=bool)
    near[3, 4] = near[4, 3] = True
    x = embedded - embedded.mean(0)
    hits, chances = [], []
    for i in range(30):
        others = [j for j in range(30) if not near[i, j]]
        best = max(
            others, key=lambda j, i=i: x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])
        )
        hits.append(kind[best] == kind[i])
        chances.append(np.mean([kind[j] == kind[i] for j in others]))
    assert same_kind_share(embedded, kind, near) == pytest.approx((np.mean(hits), np.mean(chances)))


def test_too_few_rows_are_refused():
    with pytest.raises(UserError):
        SentenceNeighbours(3)
    with pytest.raises(UserError):
        PseudoPerplexity(1)
