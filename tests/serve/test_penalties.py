"""Penalties and biases, against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.serve.engine import Options, Row, TextEngine
from genjax.serve.slots import Programs, punish_rows

OPTIONS = [
    {"frequency_penalty": 1.5},
    {"presence_penalty": 2.0},
    {"presence_penalty": -2.0, "frequency_penalty": 0.3},
    {"biases": ((97, 3.0), (98, -100.0), (10, 2.5))},
    {"frequency_penalty": 0.7, "biases": ((101, 5.0),), "repetition_penalty": 1.4},
    {},
]


@pytest.fixture(scope="module")
def run(chat_run):
    return genjax.load(chat_run)


@pytest.fixture(scope="module")
def engine(run):
    params = run.eval_state.params
    return TextEngine(Programs(run.family, run.layout, (256,), 257), params, 4, 0.0, 4)


def draw(engine, *rows):
    """The drawn tokens of each row, and what is reported of them."""
    found = [[] for _ in rows]
    for (prompt, options), into in zip(rows, found, strict=True):
        engine.add(Row(prompt, options, into.append))
    while engine.busy:
        engine.step()
    return [
        ([t for one in into for t in one.tokens], [p for one in into for p in one.log_probs])
        for into in found
    ]


def punish(logits, prompt, drawn, options):
    """Plain numpy: repetition first, then OpenAI's formula on the drawn tokens, and the biases."""
    changed = logits.astype(np.float64)
    for token in {*prompt, *drawn}:
        factor = options.repetition_penalty
        changed[token] = changed[token] / factor if changed[token] > 0 else changed[token] * factor
    for token in set(drawn):
        changed[token] -= drawn.count(token) * options.frequency_penalty + options.presence_penalty
    for token, bias in options.biases:
        changed[token] += bias
    return changed


def test_greedy_texts_side_by_side_are_those_of_numpy(run, engine):
    @jax.jit
    def read(params, ids):
        reader = run.family.read_rows(params)
        return reader.model(jnp.maximum(ids, 0), ids >= 0, reader.new_cache(1, 224), 1)[0][0, 0]

    prompts = [run.codec.encode(text) for text in ("The", "a", "Who is it?")]
    for first in range(0, len(OPTIONS), 3):
        options = [
            Options(most=8, temperature=0.0, tops=True, **fields)
            for fields in OPTIONS[first : first + 3]
        ]
        found = draw(engine, *zip(prompts, options, strict=True))
        for prompt, one, (tokens, log_probs) in zip(prompts, options, found, strict=True):
            drawn = []
            for token, log_prob in zip(tokens, log_probs, strict=True):
                ids = np.full((1, 32), -1, np.int32)
                ids[0, 32 - len(prompt) - len(drawn) :] = [*prompt, *drawn]
                logits = np.asarray(read(run.eval_state.params, ids))
                assert token == punish(logits, prompt.tolist(), drawn, one).argmax()
                # What is reported is the model's own, whatever was punished.
                plain = logits - np.log(np.exp(logits.astype(np.float64)).sum())
                np.testing.assert_allclose(log_prob, plain[token], atol=1e-4)
                drawn.append(token)
            assert len(drawn) == 8


def test_counts_go_on_when_the_context_is_read_again(engine):
    """With this penalty no byte occurs twice before all have occurred."""
    options = Options(most=240, temperature=0.0, frequency_penalty=2.0, biases=((256, -100.0),))
    options = [options, Options(most=240, temperature=0.0)]
    (tokens, _), (free, _) = draw(engine, *((np.array([97], np.int32), one) for one in options))
    assert len(tokens) == len(set(tokens)) and len(tokens) == 240
    assert len(set(free)) < 100
    (alone, _) = draw(engine, (np.array([97], np.int32), options[1]))[0]
    assert alone == free  # whatever is punished beside it


def test_rows_without_penalties_are_left_as_they_are(engine):
    slots = engine._programs.empty(engine._params, 4)
    options = slots.options._replace(frequency=np.array([0, 1, 0, 0], np.float32))
    logits = np.random.default_rng(0).normal(size=(4, 257)).astype(np.float32)
    counts = np.ones((4, 257), np.int32)
    changed = np.asarray(punish_rows(logits, counts < 0, counts, options))
    np.testing.assert_array_equal(changed[[0, 2, 3]], logits[[0, 2, 3]])
    np.testing.assert_allclose(changed[1], logits[1] - 1)


def test_a_request_biases_its_text(client):
    common = {"model": "chat", "prompt": "The", "max_tokens": 12, "seed": 1}
    said = client.completions.create(**common, logit_bias={"120": 100, "121": 98})
    assert set(said.choices[0].text) <= {"x", "y"} and "x" in said.choices[0].text
    punished = client.completions.create(
        **common, logit_bias={"120": 20, "121": 20}, frequency_penalty=2, temperature=0, logprobs=2
    )
    text = punished.choices[0].text
    assert sorted(text) == ["x"] * 6 + ["y"] * 6  # each in turn
    assert max(punished.choices[0].logprobs.token_logprobs) < -1
