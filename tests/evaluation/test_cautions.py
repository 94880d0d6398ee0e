"""Scores that suggest a broken measurement come with a caution, on the screen and in eval.json."""

import json

import numpy as np
import pytest
from toy import Toy, experiment

import genjax
from genjax import __main__ as command_line
from genjax import checks, gx
from genjax.evaluation.cautions import doubt_metrics, doubt_numbers
from genjax.evaluation.judge import Evaluator, Findings
from genjax.evaluation.tables.correlations import TabularCorrelations, find_constant
from genjax.evaluation.text.diversity import measure_diversity
from genjax.experiment import Every

MANIFOLD = ("precision_pixels", "recall_pixels", "density_pixels", "coverage_pixels")


def manifold(*values):
    return dict(zip(MANIFOLD, values, strict=True))


UTILITY = {"tstr_auc": 0.8, "trtr_auc": 0.85, "tstr_accuracy": 0.7, "trtr_accuracy": 0.75}
PAIRS = {"preference_accuracy": 0.7, "preference_error": 0.02, "longer_wins": 0.6}


@pytest.mark.parametrize(
    ("evaluator", "fine", "bad", "words"),
    [
        (gx.SampleQuality(), manifold(0.7, 0.6, 0.9, 0.8), manifold(0.7, 0.6, 15.0, 0.8), "15"),
        (gx.SampleQuality(), {}, manifold(0.999, 0.1, 1.0, 0.5), "blurred averages"),
        (gx.SampleQuality(), {}, manifold(0.0, 0.5, 0.0, 0.0), "lie far"),
        (
            gx.TextDiversity(),
            {"self_bleu": 0.3},
            {"self_bleu": 0.99},
            "the samples are nearly the same",
        ),
        (gx.TextDiversity(), {}, {"self_bleu_held_out": 1.0}, "held-out rows are nearly the same"),
        (gx.TranslationQuality(), {"bleu": 35, "chrf": 60}, {"bleu": 100.0, "chrf": 100}, "equal"),
        (gx.TranslationQuality(), {"bleu": 2, "chrf": 20}, {"bleu": 0.0, "chrf": 5}, "empty"),
        (gx.TranslationQuality(), {}, {"bleu": 0.0, "chrf": 70}, "tokenised differently"),
        (gx.PreferenceQuality(), PAIRS, PAIRS | {"preference_accuracy": 0.3}, "changed places"),
        (gx.PreferenceQuality(), {}, PAIRS | {"longer_wins": 1.0}, "surface"),
        (gx.TrainOnSynthetic(), UTILITY, UTILITY | {"tstr_auc": 0.2}, "inverted"),
        (gx.TrainOnSynthetic(), {}, UTILITY | {"tstr_accuracy": 0.95}, "above that from real rows"),
        (gx.TrainOnSynthetic(), {}, UTILITY | {"trtr_auc": 1.0}, "a copy of it"),
        (gx.TrainOnSynthetic(), {"tstr_r2": 0.3, "trtr_r2": 0.5}, {"trtr_r2": 1.0}, "a copy"),
        (gx.TabularCorrelations(), {"constant_columns": 0.0}, {"constant_columns": 2.0}, "2 col"),
    ],
)
def test_what_an_evaluator_doubts(evaluator, fine, bad, words):
    assert not evaluator.cautions(fine)
    (said,) = evaluator.cautions(bad)
    assert words in said


def test_numbers_that_are_not_finite_are_named_and_the_others_still_doubted():
    found = doubt_numbers(
        {"bleu": 100.0, "chrf": 99.0, "bleu_tokenised": np.nan}, gx.TranslationQuality().cautions
    )
    assert len(found) == 2 and found[0].startswith("bleu_tokenised: not finite")
    for evaluator in (gx.TranslationQuality(), gx.PreferenceQuality(), TabularCorrelations()):
        assert evaluator.cautions({}) == ()
    assert doubt_metrics({"bits_per_byte": 1.2, "loss": -3.0}) == ()
    assert "less than any text has" in doubt_metrics({"bits_per_byte": 0.001})[0]


def test_identical_texts_and_constant_columns_reach_the_numbers_that_are_doubted():
    texts = [np.arange(9)] * 4
    alike = measure_diversity(texts, 4).to_metrics()
    assert gx.TextDiversity().cautions(alike)
    columns = {"a": np.array([1.0, np.nan, 1.0]), "b": np.array(["x", "y", "y"]), "c": np.ones(3)}
    assert find_constant(columns) == {"a", "c"}


@checks.frozen
class Doubtful(Evaluator):
    """Finds a score that it doubts."""

    def __call__(self, subject):
        return Findings({"score": 1.0})

    def cautions(self, numbers):
        return (f"score {numbers['score']} is too good",)


def test_cautions_are_printed_at_the_end_and_kept(tmp_path, capsys):
    every = Every(log=1, evaluate=2, sample=0, checkpoint=4)
    wanted = experiment(family=Toy(), steps=4, every=every, evaluators=(Doubtful(),))
    genjax.train(wanted, tmp_path / "run")
    assert capsys.readouterr().err.count("caution: score 1.0 is too good") == 1
    assert command_line.main(["evaluate", str(tmp_path / "run"), "--trust"]) == 0
    assert "caution: score 1.0 is too good" in capsys.readouterr().out
    kept = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert kept["cautions"] == kept["judged"][-1]["cautions"] == ["score 1.0 is too good"]
