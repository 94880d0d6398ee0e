"""A translator is served: its prompt is the source, its text that of ``genjax sample``."""

import dataclasses
import json

import pytest

import genjax
from genjax import gx
from genjax.experiment import Experiment
from genjax.runs.inputs import draw_for
from genjax.serve.limits import Limits
from tests import serving

PAIRS = [("eine katze", "a cat"), ("ein hund", "a dog"), ("zwei katzen", "two cats")]


def train_translator(run_dir):
    folder = run_dir.parent / "serve_pairs"
    folder.mkdir(exist_ok=True)
    for name in ("train", "val", "test"):
        for number, language in enumerate(("de", "en")):
            lines = "".join(f"{pair[number]}\n" for pair in PAIRS * 4)
            (folder / f"{name}.{language}").write_text(lines, encoding="utf-8")
    net = gx.Transformer(layers=1, heads=2, width=16, context=16)
    serving.train_tiny(
        Experiment(
            family=gx.Autoregressive(
                net, sampler=gx.Decoding(steps=8, source="eine katze", beams=3)
            ),
            data=gx.SentencePairs(
                root=str(folder), test="test", source_length=16, length=16, cache=str(folder)
            ),
            optimizer=gx.SGD(gx.Constant(0.01)),
            steps=2,
            batch_size=8,
        ),
        run_dir,
    )


@pytest.fixture(scope="module")
def translator(trained):
    return trained.once("serve_translator", train_translator)


@pytest.fixture(scope="module")
def translating(translator):
    with serving.Served([f"de-en={translator}"], Limits(batch=2)) as served:
        yield served


@pytest.fixture(scope="module")
def run(translator):
    return genjax.load(translator)


def sample(run, source, seed, **options):
    """The text of ``genjax sample``; beams, of the run's own sampler, only without options."""
    beams = 1 if options else 3
    sampler = dataclasses.replace(run.family.sampler, source=source, beams=beams, **options)
    (part,) = draw_for(run, "source", [source], seed, sampler)
    return part.decode_completions(run.codec)[0]


def ask(served, path, **body):
    status, _, said = served.ask(path, {"model": "de-en"} | body)
    return status, said


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.0}, {"temperature": 0.8, "top_k": 3}, {"top_p": 0.6}]
)
def test_a_translation_is_what_sample_draws(translating, run, options):
    for source, seed in (("eine katze", 1), ("zwei hunde", 6)):
        said = [{"role": "user", "content": source}]
        status, answer = ask(
            translating, "/v1/chat/completions", messages=said, seed=seed, n=2, **options
        )
        assert status == 200, answer
        found = json.loads(answer)
        texts = [choice["message"]["content"] for choice in found["choices"]]
        assert texts == [sample(run, source, seed + i, **options) for i in range(2)]
        assert found["usage"]["prompt_tokens"] == 4 and found["choices"][1]["index"] == 1
    _, whole = ask(translating, "/v1/completions", prompt="eine katze", seed=1, **options)
    assert json.loads(whole)["choices"][0]["text"] == sample(run, "eine katze", 1, **options)


def test_a_stream_of_a_translation_has_its_text(translating, run):
    said = [{"role": "user", "content": "ein hund"}]
    status, events = ask(
        translating, "/v1/chat/completions", messages=said, seed=2, stream=True, temperature=0.9
    )
    assert status == 200
    parts = [json.loads(one[6:]) for one in events.decode().split("\n\n")[:-2]]
    text = "".join(c["delta"].get("content", "") for p in parts for c in p["choices"])
    assert text == sample(run, "ein hund", 2, temperature=0.9)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("chat/completions", {"messages": [{"role": "system", "content": "a"}]}, "messages"),
        ("chat/completions", {"messages": [{"role": "user", "content": "a"}] * 2}, "messages"),
        ("chat/completions", {"messages": [{"role": "user", "content": "ein " * 40}]}, "messages"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "ein"}], "logprobs": True},
            "logprobs",
        ),
        ("completions", {"prompt": [1, 2]}, "prompt"),
        ("completions", {"prompt": "ein " * 40}, "prompt"),
        ("completions", {"prompt": "ein", "logprobs": 1}, "logprobs"),
        ("completions", {"prompt": "ein", "logit_bias": {"1": 1}}, "logit_bias"),
        ("completions", {"prompt": "ein", "presence_penalty": 1}, "presence_penalty"),
    ],
)
def test_what_a_translator_cannot_do_is_refused(translating, path, body, field):
    status, said = ask(translating, f"/v1/{path}", **body)
    assert status == 400 and json.loads(said)["error"]["param"] == field, said
    serving.wait_for(lambda: translating.idle)
