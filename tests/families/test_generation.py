"""Texts from trained models: what is requested is what comes, however it is drawn."""

import functools
import json
import re
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import genjax
from genjax import __main__ as command_line
from genjax import parallel
from genjax.data.audio.music import ChoraleCodec
from genjax.data.dataset import Spec
from genjax.data.sources import TextFiles
from genjax.data.text.codecs import NOTHING, Bytes, Characters, Words, cut_at_end, format_samples
from genjax.data.text.layouts import RandomWindows
from genjax.data.text.splits import ByCharacters
from genjax.data.text.streaming import GrowingText, decode_settled
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.evaluation.drawing import CHUNK
from genjax.experiment import Every, Experiment, Keep
from genjax.families.autoregressive import generation
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import DRAFT, MOST_PROMPTS, Decoding, Request
from genjax.families.vae import VAE
from genjax.family import Trained
from genjax.nets.bigram import Bigram
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.runs.run import Run
from genjax.runs.setup import initial_state
from genjax.schedules import Constant
from tests import toy

KEY = jax.random.key(0)
V, T = 7, 8
NET = Transformer(layers=1, heads=2, width=16, context=T, positions="rotary", init_std=0.5)
GREEDY = Decoding(steps=4, temperature=0.0)


def run_of(codec, net=NET, folder="nowhere", seed=0):
    """A run that has learned nothing."""
    size = codec.token_bytes
    spec = Spec(
        "tokens",
        (net.context + 1,),
        np.zeros(net.context + 1, np.float32),
        vocabulary=codec.vocabulary,
        token_bytes=None if size is None else tuple(size.tolist()),
    )
    experiment = Experiment(Autoregressive(net), toy.Pictures(), SGD(Constant(0.1)), seed=seed)
    layout = parallel.start(Devices(count=1))
    state = layout.init(initial_state(experiment, spec))
    return Run(experiment, epath.Path(folder), 0, state, spec, codec, layout)


LETTERS = Characters(characters="\nabcdef")
RUN = run_of(LETTERS)
FAMILY, STATE = RUN.experiment.family, RUN.state


def sample(family, state, options, n, key=KEY):
    return np.asarray(
        jax.jit(type(family).sample, static_argnums=(0, 3, 4))(family, state, key, n, options)
    )


def likeliest(family, params, context):
    """A function from texts to the logits [V] after them, the whole text read anew."""
    if params is STATE.params:
        return logits_of_run()
    return reading(family, params, context)


@functools.cache
def logits_of_run():
    return reading(FAMILY, STATE.params, T)


def reading(family, params, context):
    reader = family.reader(params, Request(Decoding(), ((0,),)))
    read = jax.jit(
        lambda tokens, mask: reader.model(tokens, mask, reader.new_cache(1, context), 1)[0][0, 0]
    )

    def logits(text):
        row = [0] * (context - len(text)) + list(text)
        return read(jnp.asarray([row]), jnp.arange(context)[None] >= context - len(text))

    return logits


def test_prompts_of_unequal_lengths_are_taken_in_turn_and_each_is_as_alone():
    prompts = ("a", "fade", "be")
    got = RUN.sample(5, options=replace(GREEDY, prompts=prompts))
    assert got.shape == (5, 4 + 4)
    logits = likeliest(FAMILY, STATE.params, T)
    for row, prompt in zip(got, (*prompts, *prompts), strict=False):
        text = LETTERS.encode(prompt).tolist()
        for _ in range(4):
            text.append(int(jnp.argmax(logits(text))))
        assert row.tolist() == text + [NOTHING] * (8 - len(text))
    np.testing.assert_array_equal(
        RUN.sample(2, options=replace(GREEDY, prompts=prompts)), got[:2]
    )  # the first ones


def test_more_samples_than_are_drawn_at_once_begin_with_the_first_prompt_anew():
    assert MOST_PROMPTS == CHUNK
    got = RUN.sample(CHUNK + 2, options=Decoding(steps=1, prompts=("a", "b", "c")))[:, 0]
    np.testing.assert_array_equal(got, [1 + i % CHUNK % 3 for i in range(CHUNK + 2)])
    with pytest.raises(UserError, match="prompts must have at most 256 entries, got 257"):
        Decoding(prompts=("a",) * 257)


@pytest.mark.parametrize("net", [NET, replace(NET, positions="learned", context=3)], ids=["8", "3"])
def test_past_the_context_the_last_half_of_it_is_read_anew(net):
    """Against a loop that keeps the window by hand, for two rows that become full at different
    steps.
    """
    run = RUN if net is NET else run_of(LETTERS, net)
    context, steps, prompts = net.context, 2 * T + 3, ("abcde"[: net.context], "f")
    got = run.sample(2, options=replace(GREEDY, prompts=prompts, steps=steps))
    logits = likeliest(run.experiment.family, run.state.params, context)
    again = 0
    for row, prompt in zip(got, prompts, strict=True):
        text = window = LETTERS.encode(prompt).tolist()
        for _ in range(steps):
            if len(window) > context:
                window, again = text[-(context // 2) :], again + 1
            text = [*text, int(jnp.argmax(logits(window)))]
            window = [*window, text[-1]]
        assert row[: len(text)].tolist() == text
    assert again == {8: 6, 3: 12}[context]


def test_beams_find_what_all_texts_searched_through_say_and_begin_again_after_the_last():
    options = Decoding(steps=2, beams=V * V, length_penalty=0.0, prompts=("a", "bcd"))
    got = RUN.sample(10, options=options)
    for number, prompt in enumerate(options.prompts):
        begin = LETTERS.encode(prompt).tolist()
        logits = likeliest(FAMILY, STATE.params, T)
        first = jax.nn.log_softmax(logits(begin))
        scores = np.stack([first[a] + jax.nn.log_softmax(logits([*begin, a])) for a in range(V)])
        order = np.argsort(-scores, axis=None)[:5]
        for rank, best in enumerate(order):
            want = [*begin, best // V, best % V]
            assert got[number + 2 * rank][: len(want)].tolist() == want
    few = RUN.sample(5, options=replace(options, beams=2, prompts=(), prompt="a"))
    np.testing.assert_array_equal(few[:2], few[2:4])
    np.testing.assert_array_equal(few[0], few[4])
    assert (few[0] != few[1]).any()


def drafted(options, prompts):
    """A request whose draft is a table of the same tokens, and a state with it."""
    table = jax.random.normal(jax.random.key(5), (V, V))
    request = Request(options, prompts, draft=Autoregressive(Bigram(T)))
    return request, STATE.replace(frozen={DRAFT: {"params": {"table": table}, "variables": {}}})


def test_greedy_texts_with_a_draft_are_those_without():
    request, state = drafted(replace(GREEDY, draft_tokens=2), ((1,), (2, 3, 4)))
    with_draft = sample(FAMILY, state, request, 2)
    np.testing.assert_array_equal(
        with_draft, sample(FAMILY, STATE, replace(request, draft=None), 2)
    )


def test_texts_with_a_draft_are_drawn_with_the_probabilities_of_the_model():
    n, options = 6000, Decoding(steps=2, temperature=0.7, top_k=5)
    request, state = drafted(replace(options, draft_tokens=2), ((1, 4),))
    got = sample(FAMILY, state, request, n)[:, 2:]
    logits = likeliest(FAMILY, STATE.params, T)
    first = jax.nn.softmax(options.filter_logits(logits([1, 4])))
    law = np.stack(
        [first[a] * jax.nn.softmax(options.filter_logits(logits([1, 4, a]))) for a in range(V)]
    )
    seen = np.zeros((V, V))
    np.add.at(seen, (got[:, 0], got[:, 1]), 1)
    assert not seen[law == 0].any()
    often = law * n > 5
    chi_square = ((seen - law * n)[often] ** 2 / (law * n)[often]).sum() / (often.sum() - 1)
    assert chi_square < 2
    draft = jax.nn.softmax(
        options.filter_logits(likeliest(request.draft, state.frozen[DRAFT]["params"], T)([1, 4]))
    )
    assert np.abs(draft - first).sum() > 0.2  # it guesses otherwise


def test_a_stop_that_is_found_by_its_tokens_ends_a_text_before_itself():
    options = Decoding(steps=12, prompt="ab")
    free = RUN.sample(40, options=options)
    stop = ("cd", "e", "ff")
    got = RUN.sample(40, options=replace(options, stop=stop))
    cut = 0
    for row, whole in zip(got, free, strict=True):
        text = LETTERS.decode(whole)
        ends = [text.find(one, 2) for one in stop if text.find(one, 2) >= 0]
        assert LETTERS.decode(cut_at_end(row, None)) == text[: min(ends, default=len(text))]
        cut += bool(ends)
    assert cut > 10


SUBWORDS = Subwords("bpe", 290).fit(
    ["abab cdcd ab cd abcd cdab, ababcd " * 20]
)  # " ababcd" is a token
STOP = "ba"


def test_a_stop_is_found_in_the_text_where_it_has_several_spellings():
    """Some tokens hold the stop with letters before it, or with letters after, or half of it."""
    size, random = SUBWORDS.vocabulary, np.random.default_rng(0)
    straddling = [i for i in range(size) if STOP in SUBWORDS.decode(np.array([i])).strip()[1:-1]]
    assert straddling
    request = Decoding(stop=(STOP,), prompt="ab").encode(SUBWORDS, {})
    assert not request.stops
    rows = random.integers(0, size, (60, 12))
    rows[::2, 5] = random.choice(straddling, 30)
    rows = np.concatenate([np.tile(request.prompts[0], (60, 1)), rows], 1).astype(np.int32)
    got = request.decode(rows, SUBWORDS)
    cut = 0
    for row, whole in zip(got, rows, strict=True):
        text = SUBWORDS.decode(cut_at_end(whole, SUBWORDS.end))
        assert SUBWORDS.decode(cut_at_end(row, SUBWORDS.end)) == "ab" + text[2:].partition(STOP)[0]
        cut += STOP in text[2:]
    assert cut >= 20  # an end may come before
    prompted = Decoding(stop=(STOP,), prompt="abab").encode(
        SUBWORDS, {}
    )  # a part of the prompt is none
    np.testing.assert_array_equal(
        prompted.decode(np.array([prompted.prompts[0]]), SUBWORDS), [prompted.prompts[0]]
    )


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        (Bytes(), "naïve €5 \N{GRINNING FACE}!"),
        (Characters(characters=" !abï\N{GRINNING FACE}"), "aï \N{GRINNING FACE}b!"),
        (SUBWORDS, "ab \N{GRINNING FACE} cdab\n\nï"),
        (Words(("it", "is", "a", "cat", ".", "'s"), lower=False), "it is a cat. it's a cat"),
        (
            Subwords("wordpiece", 60, special=(), end_token=None).fit(
                ["it is a cat, do not . "] * 9
            ),
            "it is a cat, do not .",
        ),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, str) else "",
)
def test_what_is_shown_of_a_growing_text_stays(codec, text):
    ids = codec.encode(text)
    shown = [decode_settled(codec, ids[:n]) for n in range(len(ids) + 1)]
    whole = codec.decode(ids)
    assert all(whole.startswith(one) for one in shown)
    assert len(whole) - len(shown[-1]) <= (0 if codec.token_bytes is not None else 5)
    assert len(set(shown)) > 3
    for begin in range(0, len(ids), 3):
        prompt = len(codec.decode(ids[:begin]))
        for size in (1, 2, 5):
            growing = GrowingText(codec, codec.token_bytes is not None, ids[:begin])
            for n in range(begin, len(ids), size):
                growing.add(ids[n : n + size].tolist())
                here = ids[: n + size]
                assert growing.text == codec.decode(here)[prompt:]
                assert growing.settle(("ab",)) == decode_settled(codec, here, ("ab",))[prompt:]


def test_bytes_that_are_no_text_grow_as_they_are_decoded_at_once():
    codec, rng = Bytes(delimiter=True), np.random.default_rng(0)
    ids = rng.choice([0xC3, 0xA4, 0xF0, 0x9F, 0x98, 0x80, 0x61, 256], 300).astype(np.int32)
    growing = GrowingText(codec, True, ids[:1])
    for i in range(1, 300):
        growing.add(ids[i : i + 1].tolist())
        assert growing.text == codec.decode(ids[: i + 1])[1:]


def test_the_beginning_of_a_stop_is_not_shown_until_it_is_none():
    codec = Characters(characters="\nab")
    shown = [decode_settled(codec, codec.encode("ab\n\na"[:n]), ("\n\nb", "ba")) for n in range(6)]
    assert shown == ["", "a", "a", "ab", "ab", "ab\n\na"]


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        (LETTERS, Decoding(steps=11, prompts=("fa", "d", "cab"), stop=("ab",))),
        (
            Bytes(delimiter=True),
            Decoding(steps=11, prompt="€\N{GRINNING FACE}", top_k=40, repetition_penalty=1.5),
        ),
        (SUBWORDS, Decoding(steps=20, prompt="ab cd", stop=("b", "\n"), temperature=1.5)),
    ],
    ids=["characters", "bytes", "subwords"],
)
def test_a_stream_shows_what_the_file_holds_and_gives_the_tokens_of_the_loop(
    codec, options, tmp_path
):
    run = RUN if codec is LETTERS else run_of(codec, Bigram(T), tmp_path)
    pieces = []
    got = run.sample(3, 5, options, pieces.append)
    whole = run.sample(3, 5, options)
    np.testing.assert_array_equal(got, whole)
    assert "".join(pieces) == format_samples(codec, whole)
    assert sum(map(bool, pieces)) > 3


def test_a_stream_is_over_when_every_text_has_its_stop(monkeypatch):
    run = run_of(SUBWORDS, Bigram(T))
    calls = []
    monkeypatch.setattr(
        generation, "decode_settled", lambda *all: calls.append(1) or decode_settled(*all)
    )
    options = Decoding(steps=60, prompt="ab", stop=tuple(map(chr, range(32, 127))))
    got = run.sample(2, 1, options, lambda text: None)
    assert 1 <= len(calls) < 40
    np.testing.assert_array_equal(got, run.sample(2, 1, options))


def test_what_cannot_be_drawn_is_refused():
    for fields, words in (
        ({"beams": 0}, "beams must be from 1 to 10000"),
        ({"draft_tokens": 0}, "draft_tokens must be from 1 to 10000"),
        ({"length_penalty": -1.0}, "length_penalty"),
        ({"stop": ("a", "")}, "at least one character"),
        ({"prompt": "a", "prompts": ("b",)}, "exclude one another"),
        ({"prompts": ("b",), "tokens": (1,)}, "exclude one another"),
        ({"beams": 2, "temperature": 0.5}, "temperature must be 1.0 in a beam search"),
        ({"beams": 2, "top_k": 5}, "top_k must be None in a beam search"),
        ({"beams": 2, "draft": "runs/a"}, "draft must be None in a beam search"),
        ({"beams": 2, "stop": ("a",)}, "stop must be .* in a beam search"),
        ({"draft": "runs/a", "repetition_penalty": 2.0}, "repetition_penalty must be 1"),
    ):
        with pytest.raises(UserError, match=words):
            Decoding(**fields)
    for options, words in (
        (
            Decoding(steps=T, beams=2, prompt="abc"),
            "must stay within the context of 8 tokens",
        ),
        (Decoding(stop=("!",)), "U\\+0021.*of the stop is not in the vocabulary"),
        (
            Decoding(prompts=("a", "a!")),
            "U\\+0021.*character 1 of the prompt is not in the vocabulary",
        ),
        (
            Decoding(prompts=("a", "abcabcabc")),
            "the prompt must have <= 8 tokens .context., got 9",
        ),
        (Decoding(draft="nowhere"), "sampler.draft needs the run nowhere, which is not there"),
    ):
        with pytest.raises(UserError, match=words):
            RUN.sample(1, options=options)
    request, state = drafted(Decoding(steps=4, draft_tokens=4), ((1, 2),))
    with pytest.raises(
        UserError, match=r"speculative decoding \(draft\) must stay within the context of 8"
    ):
        FAMILY.sample(state, KEY, 1, request)
    with pytest.raises(UserError, match="must be encoded first"):
        FAMILY.sample(STATE, KEY, 1, Decoding(prompt="a"))
    for options in (Decoding(steps=2, beams=2), request):
        with pytest.raises(UserError, match="leave beams and draft out"):
            FAMILY.stream(state, KEY, 1, options, LETTERS, print)
    with pytest.raises(UserError, match="a stream needs a text codec, got a ChoraleCodec"):
        FAMILY.stream(STATE, KEY, 1, Decoding(), ChoraleCodec(), print)
    with pytest.raises(UserError, match="must be a language model, but runs/a is a VAE"):
        Decoding().encode(LETTERS, {DRAFT: Trained("runs/a", VAE(2), RUN.spec)})
    with pytest.raises(UserError, match="the stop must be tokens, as a ChoraleCodec"):
        Decoding(stop=("a",)).encode(ChoraleCodec(), {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs that have learned a little: "large", "small" and "bytes", which has another codec."""
    folder = tmp_path_factory.mktemp("generation")
    (folder / "text.txt").write_text("to be or not to be\nthat is the question\n" * 20)
    every = Every(log=6, evaluate=0, sample=0, checkpoint=6)
    for name, net, codec in (
        ("large", Bigram(16), Characters()),
        ("small", Bigram(17), Characters()),
        ("bytes", Bigram(16), Bytes()),
    ):
        data = TextFiles(
            str(folder / "text.txt"),
            codec=codec,
            layout=RandomWindows(15),
            split=ByCharacters(0.1),
            cache=str(folder / "cache"),
        )
        family = Autoregressive(net, sampler=Decoding(steps=6, temperature=0.8))
        experiment = Experiment(
            family, data, Adam(Constant(0.05)), steps=6, batch_size=8, every=every
        )
        experiment = replace(experiment, devices=Devices(count=1), keep=Keep(best=None))
        genjax.train(experiment, folder / name, quiet=True)
    return folder


@pytest.mark.long
def test_the_command_line_prompts_streams_and_drafts(folder, capsys):
    def drawn(*options):
        code = command_line.main(["sample", str(folder / "large"), "--num", "3", *options])
        out, err = capsys.readouterr()
        return code, out, err

    code, out, _ = drawn("--prompt", "to be", "--out", str(folder / "a"))
    text = (folder / "a.txt").read_text()
    assert code == 0 and out == f"{folder}/a.txt\n" and text.count("to be") >= 3
    code, out, _ = drawn("--prompt", "to be", "--stream", "--out", str(folder / "b"))
    assert code == 0 and out == f"{text}{folder}/b.txt\n" and (folder / "b.txt").read_text() == text
    code, _, _ = drawn("--sampler.prompt", "to be", "--out", str(folder / "c"))
    assert code == 0 and (folder / "c.txt").read_text() == text

    several = ("--prompt", "to", "--prompt", "be or not", "--sampler.temperature", "0")
    code, _, _ = drawn(*several, "--sampler.stop", "\n", "--out", str(folder / "d"))
    lines = (folder / "d.txt").read_text().splitlines()
    assert code == 0 and [
        line[: len(begin)] for line, begin in zip(lines, ("to", "be or not", "to"), strict=True)
    ] == [
        "to",
        "be or not",
        "to",
    ]
    plain = drawn(*several, "--out", str(folder / "e"))
    drafts = drawn(
        *several,
        "--sampler.draft",
        str(folder / "small"),
        "--sampler.draft-tokens",
        "2",
        "--out",
        str(folder / "f"),
    )
    assert (
        plain[0] == drafts[0] == 0
        and (folder / "e.txt").read_text() == (folder / "f.txt").read_text()
    )
    beams = drawn(
        "--prompt",
        "to",
        "--sampler.beams",
        "2",
        "--sampler.temperature",
        "1",
        "--out",
        str(folder / "g"),
    )
    assert beams[0] == 0

    for options, words in (
        (("--sampler.draft", str(folder / "bytes")), "the draft .*bytes has another codec"),
        (("--prompt", "to be, or"), "U\\+002C.* of the prompt is not in the vocabulary"),
        (("--prompt", "to be or not to be"), "must have <= 16 tokens .context., got 18"),
        (("--stream", "--sampler.draft", str(folder / "small")), "leave beams and draft out"),
    ):
        code, out, err = drawn(*options)
        assert code == 2 and not out
        assert re.search(words, err), err


def test_a_codec_of_another_run_is_told_from_the_checkpoint(folder, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(folder / "large", run_dir)
    stored = json.loads((run_dir / "codec.json").read_text())
    letters = stored["codec"]["characters"]
    stored["codec"]["characters"] = letters[:-1]
    (run_dir / "codec.json").write_text(json.dumps(stored))
    with pytest.raises(
        UserError,
        match="codec.json must hold the codec of the run's tokens",
    ):
        genjax.load(run_dir)
    shutil.copy(folder / "bytes" / "codec.json", run_dir / "codec.json")
    with pytest.raises(
        UserError,
        match=r"are not those of its checkpoint 6: params/table is float32\[14, 14\] there, "
        r"float32\[256, 256\]",
    ):
        genjax.load(run_dir)
