"""The API as the official client sees it."""

import base64
import dataclasses
import io

import numpy as np
import openai
import pytest
from PIL import Image

import genjax

ASKED = [{"role": "user", "content": "How was it?"}]


@pytest.fixture(scope="module")
def run(chat_run):
    return genjax.load(chat_run)


def sample(run, seed, prompt="How was it?", **options):
    """What ``genjax sample`` draws after a prompt: its text."""
    sampler = dataclasses.replace(run.family.sampler, prompt=prompt, **options)
    (row,) = run.sample(1, seed, sampler)
    begin = len(run.codec.decode(run.codec.whole_prompt(prompt)))
    return run.codec.decode(run.codec.until_end(row))[begin:]


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.9},
        {"temperature": 0.0},
        {"temperature": 1.0, "top_p": 0.5},
    ],
)
def test_an_answer_is_what_genjax_sample_draws(client, run, options):
    """Past the context, too: the prompt and 220 tokens are more than the 224 that are read."""
    answer = client.chat.completions.create(
        model="chat", messages=ASKED, seed=5, max_tokens=220, n=2, **options
    )
    said = [choice.message.content for choice in answer.choices]
    assert said == [sample(run, seed, steps=220, **options) for seed in (5, 6)]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage.prompt_tokens == len(run.codec.whole_prompt("How was it?"))
    assert answer.usage.completion_tokens <= 440
    assert answer.model_extra["seed"] == 5


def test_without_options_the_runs_own_sampler_decides(client, run):
    answer = client.chat.completions.create(model="chat", messages=ASKED, seed=1)
    assert answer.choices[0].message.content == sample(run, 1)
    assert answer.choices[0].finish_reason in ("length", "stop")


def test_top_k_and_the_others_of_our_own_are_taken(client, run):
    extra = {"top_k": 3, "min_p": 0.01, "repetition_penalty": 1.3}
    answer = client.chat.completions.create(
        model="chat", messages=ASKED, seed=2, max_tokens=30, extra_body=extra
    )
    assert answer.choices[0].message.content == sample(run, 2, steps=30, **extra)


def test_a_stream_says_what_a_whole_answer_does(client):
    common = {"model": "chat", "messages": ASKED, "seed": 9, "max_tokens": 40, "n": 3}
    whole = client.chat.completions.create(**common)
    events = list(
        client.chat.completions.create(
            **common, stream=True, stream_options={"include_usage": True}
        )
    )
    said, ends = ["", "", ""], {}
    for event in events:
        for choice in event.choices:
            said[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert said == [choice.message.content for choice in whole.choices]
    assert ends == {choice.index: choice.finish_reason for choice in whole.choices}
    assert events[-1].usage == whole.usage and not events[-1].choices
    assert events[0].choices[0].delta.role == "assistant"


def test_a_text_ends_before_a_stop(client):
    common = {"model": "chat", "prompt": "The", "seed": 3, "max_tokens": 50}
    whole = client.completions.create(**common).choices[0].text
    stop = whole[10:12]
    cut = client.completions.create(**common, stop=[stop, "\N{SNOWMAN}"]).choices[0]
    assert cut.text == whole[: whole.find(stop)] and cut.finish_reason == "stop"
    events = client.completions.create(**common, stop=stop, stream=True)
    streamed = "".join(choice.text for event in events for choice in event.choices)
    assert streamed == cut.text


def test_log_probabilities_are_those_of_the_model(client, run):
    answer = client.chat.completions.create(
        model="chat",
        messages=ASKED,
        temperature=0,
        max_tokens=5,
        seed=0,
        logprobs=True,
        top_logprobs=3,
    )
    content = answer.choices[0].logprobs.content
    for one in content:  # the likeliest token was taken
        assert one.logprob == pytest.approx(one.top_logprobs[0].logprob, abs=1e-6)
        assert len(one.top_logprobs) == 3 and one.logprob < 0
    assert "".join(one.token for one in content) == answer.choices[0].message.content
    first = run.family.read_rows(run.eval_state.params)
    prompt = run.codec.whole_prompt("How was it?")[None]
    cache = first.new_cache(1, prompt.shape[1])
    logits, _ = first.model(prompt, np.ones_like(prompt, bool), cache, 1)
    shifted = np.asarray(logits[0, 0], np.float64)
    log_probs = shifted - shifted.max() - np.log(np.exp(shifted - shifted.max()).sum())
    assert content[0].logprob == pytest.approx(log_probs.max(), abs=1e-5)


def test_completions_take_texts_and_tokens_and_repeat_them(client, run):
    text = client.completions.create(model="chat", prompt="abc", seed=4, max_tokens=9, echo=True)
    ids = [run.codec.start, *b"abc"] if run.codec.start is not None else [*b"abc"]
    tokens = client.completions.create(model="chat", prompt=ids, seed=4, max_tokens=9)
    assert text.choices[0].text == "abc" + tokens.choices[0].text
    several = client.completions.create(
        model="chat", prompt=["abc", "x"], seed=4, max_tokens=9, n=2, logprobs=1
    )
    assert len(several.choices) == 4
    assert several.choices[0].text == tokens.choices[0].text
    spelled = several.choices[0].logprobs
    assert "".join(spelled.tokens) == several.choices[0].text
    assert len(spelled.token_logprobs) == len(spelled.top_logprobs) == len(spelled.tokens)


def test_pictures_are_those_of_genjax_sample(client, places):
    found = client.images.generate(model="pictures", prompt="", n=2, extra_body={"seed": 7})
    run = genjax.load(dict(place.split("=") for place in places)["pictures"])
    want = run.codec.decode(run.sample(2, 7))
    for one, picture in zip(found.data, want, strict=True):
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(one.b64_json))))
        np.testing.assert_array_equal(image, picture[..., 0])


def test_a_picture_may_be_fetched_from_its_url(client, served):
    whole = client.images.generate(model="pictures", prompt="", extra_body={"seed": 1})
    linked = client.images.generate(
        model="pictures", prompt="", response_format="url", extra_body={"seed": 1}
    )
    status, headers, body = served.ask(linked.data[0].url.removeprefix(served.url))
    assert status == 200 and headers["content-type"] == "image/png"
    assert body == base64.b64decode(whole.data[0].b64_json)


def test_a_run_that_sounds_gives_a_wav_file(client):
    sound = client.audio.speech.create(
        model="tones", input="3", voice="any", response_format="wav", extra_body={"seed": 1}
    ).read()
    again = client.audio.speech.create(
        model="tones", input="3", voice="any", extra_body={"seed": 1}
    ).read()
    assert sound[:4] == b"RIFF" and sound == again


@pytest.mark.parametrize("name", ["encoder", "wordllama"])
def test_embeddings_have_length_one_and_belong_to_their_text(client, name):
    if name == "wordllama":
        pytest.importorskip("wordllama", reason="it is of an extra: pip install '.[store]'")
    texts = ["for the if", "while a list", "for the if"]
    found = client.embeddings.create(model=name, input=texts)
    vectors = np.array([one.embedding for one in found.data])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    assert vectors[0] @ vectors[1] < 0.9999 and found.usage.prompt_tokens > 3
    plain = client.embeddings.create(model=name, input=texts[0], encoding_format="float")
    np.testing.assert_allclose(plain.data[0].embedding, vectors[0], atol=1e-6)


def test_models_are_listed(client):
    names = [model.id for model in client.models.list()]
    assert names[:4] == ["chat", "pictures", "encoder", "tones"]
    assert client.models.retrieve("chat").owned_by == "genjax"
    with pytest.raises(openai.NotFoundError, match="did you mean 'chat'"):
        client.models.retrieve("chatt")
