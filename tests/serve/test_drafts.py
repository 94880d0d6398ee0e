"""A run with a draft says what ``genjax sample`` with that draft does."""

import dataclasses
import functools
import json
import re

import pytest

import genjax
from genjax import __main__ as command_line
from genjax import gx
from genjax.experiment import Experiment
from genjax.serve.limits import Limits
from tests import serving


def train_draft(run_dir):
    """A smaller run of the same bytes."""
    net = gx.Transformer(layers=1, heads=1, width=8, context=serving.CONTEXT)
    codec = gx.Bytes(delimiter=True)
    serving.train_tiny(
        Experiment(
            family=gx.Autoregressive(net, sampler=gx.Decoding(steps=24)),
            data=gx.RuleResponses(size=32, test_size=16, length=serving.CONTEXT, codec=codec),
            optimizer=gx.SGD(gx.Constant(0.01)),
            steps=2,
            batch_size=8,
            seed=1,
        ),
        run_dir,
    )


@pytest.fixture(scope="module")
def draft_run(trained):
    return str(trained.once("serve_draft", train_draft))


@pytest.fixture(scope="module")
def drafted(chat_run, draft_run):
    with serving.Served([f"chat={chat_run}"], Limits(batch=3), drafts=[draft_run]) as served:
        yield served


@pytest.fixture(scope="module")
def run(chat_run):
    return genjax.load(chat_run)


def sample(run, prompt, seed, **options):
    """The text of ``genjax sample`` after a prompt."""
    decoding = dataclasses.replace(run.family.sampler, source=None, **options)
    (ids,) = decoding.with_prompts((prompt,)).encode(run.codec.tokens, {}).prompts
    (row,) = run.sample(1, seed, dataclasses.replace(decoding, tokens=ids))
    begin = len(run.codec.decode(row[: len(ids)]))
    return run.codec.decode(run.codec.tokens.until_end(row[1:]))[begin:]


def ask(served, **body):
    status, _, said = served.ask("/v1/completions", {"model": "chat"} | body)
    assert status == 200, said
    return json.loads(said)["choices"]


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.9},
        {"temperature": 0.0},
        {"temperature": 1.1, "top_k": 20},
        {"temperature": 0.8, "top_p": 0.7, "min_p": 0.001},
    ],
)
def test_a_text_is_what_sample_draws_with_the_draft(drafted, draft_run, run, options):
    found = ask(drafted, prompt="The cat", seed=7, max_tokens=60, n=2, **options)
    own = {"steps": 60, **options}
    for seed, choice in zip((7, 8), found, strict=True):
        assert choice["text"] == sample(run, "The cat", seed, draft=draft_run, **own)
    if options["temperature"] == 0:
        assert found[0]["text"] == sample(run, "The cat", 7, **own)


def count(served, name):
    said = served.ask("/metrics")[2].decode()
    return float(re.search(rf"\ngenjax_draft_{name} (\S+)", said)[1])


def test_guesses_are_counted(drafted):
    guessed, accepted = count(drafted, "guesses"), count(drafted, "accepted")
    body = {"model": "chat", "prompt": "The", "seed": 3, "max_tokens": 40}
    drawn = json.loads(drafted.ask("/v1/completions", body)[2])["usage"]["completion_tokens"]
    rounds, accepted = (
        (count(drafted, "guesses") - guessed) / 4,
        count(drafted, "accepted") - accepted,
    )
    assert 0 < accepted < 4 * rounds
    assert drawn <= 1 + rounds + accepted < drawn + 5 + 1  # the end token is not counted


def test_many_rows_take_turns(drafted):
    found = ask(drafted, prompt=["a", "The cat sat", "b"] * 3, seed=3, max_tokens=9)
    assert [c["finish_reason"] in ("length", "stop") for c in found] == [True] * 9
    alone = ask(drafted, prompt="The cat sat", seed=4, max_tokens=9)[0]["text"]
    assert found[1]["text"] == alone
    serving.wait_for(lambda: drafted.idle)


def test_log_probs_are_those_of_the_run_itself(drafted, served):
    body = {"prompt": "The cat", "seed": 1, "max_tokens": 10, "temperature": 0, "logprobs": 3}
    with_draft, without = ask(drafted, **body)[0], ask(served, **body)[0]
    assert with_draft["text"] == without["text"]
    for name in ("token_logprobs", "tokens"):
        assert with_draft["logprobs"][name] == pytest.approx(without["logprobs"][name], abs=1e-4)
    tops = with_draft["logprobs"]["top_logprobs"]
    assert len(tops) == 10 and all(len(one) <= 3 for one in tops)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_tokens": 300}, "max_tokens"),
        ({"repetition_penalty": 1.2}, "repetition_penalty"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"logit_bias": {"97": 1}}, "logit_bias"),
    ],
)
def test_what_a_draft_cannot_do_is_refused(drafted, options, field):
    for stream in (False, True):
        body = {"model": "chat", "prompt": "a", "stream": stream, **options}
        status, _, said = drafted.ask("/v1/completions", body)
        assert status == 400 and field.encode() in said and b"draft" in said
    serving.wait_for(lambda: drafted.idle)


def test_drafts_that_do_not_fit_are_one_line(chat_run, draft_run, places, trained, capsys):
    encoder = places[2].partition("=")[2]
    other = trained.once("serve_other", functools.partial(serving.train_config, "gpt_docs"))
    for drafts, runs in (
        ([str(other)], [f"chat={chat_run}"]),  # its vocabulary is another
        (["no/such/run"], [f"chat={chat_run}"]),
        ([encoder], [f"chat={chat_run}"]),
        ([draft_run], [f"a={chat_run}", f"b={chat_run}"]),
        ([f"c={draft_run}"], [f"a={chat_run}", f"b={chat_run}"]),
    ):
        assert command_line.main(["serve", *runs, "--draft", *drafts]) == 2
        said = capsys.readouterr().err
        assert "draft" in said and said.count("\n") == 1, said
