"""The harness's scores are those computed directly from the logits."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.text.codecs import Characters
from genjax.errors import UserError
from genjax.interop.huggingface import Pretrained
from genjax.nets.transformer.token_net import TokenNet
from genjax.nets.transformer.transformer import Transformer

lm_eval = pytest.importorskip("lm_eval", reason="the harness is an extra: pip install '.[lm-eval]'")
from lm_eval.api.instance import Instance  # noqa: E402

from genjax.interop.lm_eval import GenjaxLM  # noqa: E402

CONTEXT = 24
LETTERS = Characters("".join(map(chr, range(32, 127))), delimiter=True)
END = LETTERS.end


def model_of(**options):
    net = Transformer(1, 2, 8, CONTEXT, tied=False, **options)
    shapes = jax.eval_shape(
        lambda: TokenNet(net, LETTERS.vocabulary).init(
            jax.random.key(0), jnp.zeros((1, 1), jnp.int32)
        )
    )
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(draw.normal(0, 1, leaf.shape), jnp.float32), shapes["params"]
    )
    return Pretrained(net, params, LETTERS)


MODEL = model_of()
HARNESS = GenjaxLM(MODEL, batch_size=3)


def asked(kind, *arguments):
    return [Instance(kind, {}, argument, i) for i, argument in enumerate(arguments)]


def encoded(text):
    return LETTERS.encode(text).tolist()


@jax.jit
def log_probs_of(tokens):
    return jax.nn.log_softmax(MODEL.logits(tokens))


def directly(context, target):
    """log p of the target's tokens, one row and no padding but behind, and whether all are the
    likeliest.
    """
    whole = np.zeros((1, CONTEXT), np.int32)
    tokens = [*context, *target]
    whole[0, : len(tokens) - 1] = tokens[:-1]
    log_probs = np.asarray(log_probs_of(whole))[0]
    places = range(len(context) - 1, len(tokens) - 1)
    score = sum(log_probs[place, tokens[place + 1]] for place in places)
    return score, all(log_probs[place].argmax() == tokens[place + 1] for place in places)


def test_continuations_are_scored_as_the_logits_say():
    pairs = [
        ("The for", " statement"),
        ("a", "b"),
        ("while it ", "runs"),
        ("", "no context"),
        ("x", " = 1"),
    ]
    first = np.asarray(log_probs_of(np.full((1, CONTEXT), END, np.int32)))[0, 0]
    pairs.append(("", LETTERS.decode(np.asarray([first.argmax()]))))
    found = HARNESS.loglikelihood(asked("loglikelihood", *pairs))
    for (context, target), (score, greedy) in zip(pairs, found, strict=True):
        target = context[len(context.rstrip()) :] + target  # the harness moves spaces over
        expected, right = directly([END, *encoded(context.rstrip())], encoded(target))
        np.testing.assert_allclose(score, expected, rtol=1e-4)
        assert greedy == right
    assert [greedy for _, greedy in found] == [False] * 5 + [True]


def test_a_context_too_long_loses_its_beginning():
    text = "0123456789" * 5
    (score, _), (short, _) = HARNESS.loglikelihood(
        asked("loglikelihood", (text, "end"), (text[-22:], "end"))
    )
    expected, _ = directly(encoded(text[-22:]), encoded("end"))
    np.testing.assert_allclose([score, short], expected, rtol=1e-4)
    with pytest.raises(
        UserError, match="a text to score must have at most 24 tokens .context., got 30"
    ):
        HARNESS.loglikelihood(asked("loglikelihood", ("a", "b" * 30)))


@pytest.mark.parametrize("length", [1, 23, 24, 25, 60])
def test_a_rolling_score_counts_every_token_once_with_as_much_before_it_as_fits(length):
    text = ("The for statement is used to iterate over the elements" * 2)[:length]
    (score,) = HARNESS.loglikelihood_rolling(asked("loglikelihood_rolling", (text,)))
    tokens = [END, *encoded(text)]
    expected, begin = 0.0, 1
    while begin < len(tokens):
        end = min(begin + CONTEXT, len(tokens))
        expected += directly(tokens[max(0, end - 1 - CONTEXT) : begin], tokens[begin:end])[0]
        begin = end
    np.testing.assert_allclose(score, expected, rtol=1e-4)


def greedy(prompt, steps):
    tokens = list(prompt)
    for _ in range(steps):
        row = np.zeros((1, CONTEXT), np.int32)
        row[0, : len(tokens)] = tokens
        tokens.append(int(np.asarray(log_probs_of(row))[0, len(tokens) - 1].argmax()))
        if tokens[-1] == END:
            break
    return MODEL.codec.decode(np.asarray(tokens[len(prompt) :]))


def test_texts_go_on_greedily_until_a_stop():
    contexts = ["The", "x = 1", "while", "a much longer context, cut at its beginning"]
    options = {"until": [], "max_gen_toks": 9}
    texts = HARNESS.generate_until(
        asked("generate_until", *((context, options) for context in contexts))
    )
    expected = [greedy([END, *encoded(context)][-(CONTEXT - 9) :], 9) for context in contexts]
    assert len(set(expected)) == 3
    assert expected[0] != greedy(encoded("The"), 9)
    assert texts == expected
    stop = expected[0][2:4]
    (cut,) = HARNESS.generate_until(
        asked("generate_until", ("The", options | {"until": [stop, "never there"]}))
    )
    assert cut == expected[0][: expected[0].index(stop)]


def test_samples_differ_and_what_is_not_known_is_refused():
    options = {"until": "\n", "max_gen_toks": 9, "do_sample": True, "temperature": 3.0, "top_k": 50}
    assert len(set(HARNESS.generate_until(asked("generate_until", *[("The", options)] * 6)))) > 3
    with pytest.raises(UserError, match="unsupported generation options of the harness: num_beams"):
        HARNESS.generate_until(
            asked("generate_until", ("The", {"num_beams": 3, "max_gen_toks": 9}))
        )
    with pytest.raises(UserError, match="max_gen_toks must be < 24"):
        HARNESS.generate_until(asked("generate_until", ("The", {"max_gen_toks": 24})))
    with pytest.raises(UserError, match="predicts the next token"):
        GenjaxLM(model_of(causal=False))


def test_scanned_layers_score_alike():
    flat = dict(MODEL.params)
    stacked = {"layers": jax.tree.map(lambda a: a[None], flat.pop("layer_0"))} | flat
    net = Transformer(1, 2, 8, CONTEXT, tied=False, scan_layers=True)
    scanned = GenjaxLM(Pretrained(net, stacked, MODEL.codec))
    one, other = (
        lm.loglikelihood(asked("loglikelihood", ("The", " end")))[0][0] for lm in (scanned, HARNESS)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.long
@pytest.mark.usefixtures("optimised")
def test_the_harness_runs_a_task_of_its_own_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [
        {"question": f"{a}+{b}=", "choices": [str(a + b), "no"], "gold": 0}
        for a in range(3)
        for b in range(3)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = {
        "task": "sums",
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(tmp_path / "rows.jsonl")},
            "cache_dir": str(tmp_path / "cache"),
        },
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    found = lm_eval.simple_evaluate(model=HARNESS, tasks=[task], bootstrap_iters=0)["results"][
        "sums"
    ]
    right = [
        np.argmax(
            [
                directly([END, *encoded(row["question"])], encoded(choice))[0]
                for choice in row["choices"]
            ]
        )
        == 0
        for row in rows
    ]
    assert found["acc,none"] == np.mean(right)
