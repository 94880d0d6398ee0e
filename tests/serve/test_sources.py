"""Translators and captioners are served: the prompt is the source, the text that of ``genjax
sample``.
"""

import dataclasses
import functools
import io
import json

import numpy as np
import pytest
from PIL import Image

import genjax
from genjax import gx
from genjax.data.text.captions import INLINE, inline
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


@pytest.fixture(scope="module")
def captioner(trained):
    return trained.once(
        "serve_captioner", functools.partial(serving.train_config, "caption_shapes")
    )


@pytest.fixture(scope="module")
def captioning(captioner):
    with serving.Served([f"caption={captioner}"], Limits(batch=2)) as served:
        yield served


def make_picture(run, seed):
    image = run.codec.image
    shape = (image.height, image.width, image.channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze() if shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def show(url, *more):
    content = [{"type": "image_url", "image_url": {"url": url}}, *more]
    return [{"role": "user", "content": content}]


def test_a_caption_is_what_sample_draws(captioning, captioner, tmp_path):
    run = genjax.load(captioner)
    for seed in (1, 2):
        file = tmp_path / f"{seed}.png"
        file.write_bytes(make_picture(run, seed))
        for options in ({"temperature": 0.9}, {"temperature": 0.0}):
            status, _, said = captioning.ask(
                "/v1/chat/completions",
                {"model": "caption", "messages": show(inline(file.read_bytes())), "seed": seed}
                | options,
            )
            assert status == 200, said
            found = json.loads(said)
            sampler = dataclasses.replace(run.family.sampler, beams=1, **options)
            (part,) = draw_for(run, "source", [str(file)], seed, sampler)
            assert (
                found["choices"][0]["message"]["content"] == part.decode_completions(run.codec)[0]
            )
            assert found["usage"]["prompt_tokens"] == 0


def test_pictures_that_cannot_be_described_are_refused(captioning, captioner, served, tmp_path):
    run = genjax.load(captioner)
    file = tmp_path / "a.png"
    file.write_bytes(make_picture(run, 1))
    good, small = inline(file.read_bytes()), io.BytesIO()
    Image.new("RGB", (3, 5)).save(small, "PNG")
    text = {"type": "text", "text": "What is it?"}
    for messages in (
        show(str(file)),  # a path of the server
        show(f"file://{file}"),
        show("http://127.0.0.1:1/a.png"),
        show(INLINE + "AAAA"),
        show(INLINE + "no base64!"),
        show(inline(small.getvalue())),
        show(inline(b"x" * 4_000_000)),
        show(good, text),
        show(good) * 2,
        show(good, *show(good)[0]["content"]),
        [{"role": "user", "content": "What is it?"}],
    ):
        status, _, said = captioning.ask(
            "/v1/chat/completions", {"model": "caption", "messages": messages}
        )
        assert status == 400, said
        assert json.loads(said)["error"]["param"].startswith("messages")
    body = {"model": "caption", "prompt": "a"}
    assert captioning.ask("/v1/completions", body)[0] == 400
    status, _, said = served.ask("/v1/chat/completions", {"model": "chat", "messages": show(good)})
    assert status == 400 and b"reads no pictures" in said
    serving.wait_for(lambda: captioning.idle)
