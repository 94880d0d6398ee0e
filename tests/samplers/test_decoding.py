"""Drawing tokens: filters against their definitions, loops against laws that can be counted out."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.samplers.tokens.beam import BeamSearch, beam_search
from genjax.samplers.tokens.decoding import TokenSampler, advance, generate, pad_prompts, start
from genjax.samplers.tokens.speculative import Speculator, accept_guesses, speculate

KEY = jax.random.key(0)
V = 4
TABLE = 1.5 * jax.random.normal(KEY, (V, V, V))  # logits of the next token from the last two
OTHER = TABLE + jax.random.normal(jax.random.key(1), (V, V, V))


def model(table):
    """A network in the form that decoders know: its cache holds the last tokens of each row,
    newest last.
    """

    def run(tokens, mask, cache, last):
        def read(seen, new):
            token, real = new
            seen = jnp.where(real[:, None], jnp.concatenate([seen[:, 1:], token[:, None]], 1), seen)
            return seen, table[seen[:, -2], seen[:, -1]]

        cache, logits = jax.lax.scan(read, cache, (tokens.T, mask.T))
        return logits.swapaxes(0, 1)[:, -last:], cache

    return run


def fresh(rows=1):
    return jnp.zeros((rows, 12), jnp.int32)


def rewind(cache, tokens):
    return jax.vmap(jnp.roll)(cache, tokens)


def take(cache, rows):
    return cache[rows]


def law(prompt, steps, table=TABLE, stop=None, sampler=TokenSampler(1)):
    """Every text that can follow with its probability."""
    texts = {(): 1.0}
    for _ in range(steps):
        grown = {}
        for text, p in texts.items():
            if stop is not None and text and text[-1] == stop:
                grown[text] = p
                continue
            a, b = ([0, 0, *prompt, *text])[-2:]
            q = np.asarray(jax.nn.softmax(sampler.filter_logits(table[a, b])), np.float64)
            grown |= {(*text, token): p * q[token] for token in range(V)}
        texts = grown
    return texts


LOGITS = jnp.log(jnp.asarray([[0.4, 0.3, 0.2, 0.1], [0.25, 0.05, 0.6, 0.1]]))


@pytest.mark.parametrize(
    ("sampler", "kept"),
    [
        (TokenSampler(), [[0, 1, 2, 3], [0, 1, 2, 3]]),
        (TokenSampler(top_k=2), [[0, 1], [2, 0]]),
        (TokenSampler(top_k=9), [[0, 1, 2, 3], [0, 1, 2, 3]]),
        (TokenSampler(top_p=0.65), [[0, 1], [2, 0]]),
        (TokenSampler(top_p=0.3), [[0], [2]]),
        (TokenSampler(top_p=0.75), [[0, 1, 2], [2, 0]]),
        (TokenSampler(min_p=0.45), [[0, 1, 2], [2]]),
        (TokenSampler(top_k=3, top_p=0.7), [[0, 1], [2, 0]]),  # of the mass that top_k leaves
        (TokenSampler(temperature=0.0), [[0], [2]]),
    ],
    ids=str,
)
def test_filters_keep_what_their_definitions_say(sampler, kept):
    got = np.asarray(jax.nn.softmax(sampler.filter_logits(LOGITS)))
    for row, names in enumerate(kept):
        want = np.zeros(V)
        want[names] = np.exp(np.asarray(LOGITS))[row, names]
        want = want / want.sum() if sampler.temperature else want > 0
        np.testing.assert_allclose(got[row], want, atol=1e-6)


@pytest.mark.parametrize("top_p", [0.2, 0.5, 0.9, 0.99])
def test_top_p_is_the_smallest_set_of_enough_mass(top_p):
    logits = 2 * jax.random.normal(KEY, (20, 9))
    kept = np.isfinite(TokenSampler(top_p=top_p).filter_logits(logits))
    for p, chosen in zip(np.asarray(jax.nn.softmax(logits)), kept, strict=True):
        mass = p[chosen].sum()
        assert mass >= top_p - 1e-6 and mass - p[chosen].min() < top_p
        assert p[chosen].min() > p[~chosen].max(initial=0)


def test_temperature_and_the_penalty_of_seen_tokens():
    logits = jnp.asarray([[1.0, -1.0, 2.0, 0.5]])
    np.testing.assert_allclose(TokenSampler(temperature=2.0).filter_logits(logits), logits / 2)
    seen = jnp.asarray([[True, True, False, False]])
    got = TokenSampler(repetition_penalty=2.0).filter_logits(logits, seen)
    np.testing.assert_allclose(got, [[0.5, -2.0, 2.0, 0.5]])


def test_a_penalty_counts_the_prompt_and_what_was_drawn():
    flat = jnp.zeros((V, V, V)) + jnp.asarray([4.0, 3.0, 2.0, 1.0]).reshape(1, 1, V)
    sampler = TokenSampler(3, repetition_penalty=100.0, temperature=0.0)
    out = generate(model(flat), fresh(), pad_prompts([[0]]), sampler, KEY)
    np.testing.assert_array_equal(out.tokens, [[1, 2, 3]])


def greedy(prompt, steps):
    text = [0, 0, *prompt]
    for _ in range(steps):
        text.append(int(jnp.argmax(TABLE[text[-2], text[-1]])))
    return text[len(prompt) + 2 :]


def test_greedy_rows_of_unequal_prompts_equal_each_alone():
    prompts = [[1], [3, 2, 0, 1], [2, 2]]
    out = jax.jit(
        lambda p: generate(model(TABLE), fresh(3), p, TokenSampler(6, temperature=0.0), KEY)
    )(pad_prompts(prompts))
    np.testing.assert_array_equal(out.tokens, [greedy(p, 6) for p in prompts])
    log_p = jax.nn.log_softmax(TABLE)
    for row, prompt in enumerate(prompts):
        text = [0, 0, *prompt, *out.tokens[row].tolist()]
        want = [log_p[text[i - 2], text[i - 1], text[i]] for i in range(len(text) - 6, len(text))]
        np.testing.assert_allclose(out.log_probs[row], want, rtol=1e-5)


def test_steps_one_at_a_time_equal_the_loop():
    sampler, prompts = TokenSampler(5), pad_prompts([[1], [2, 3]])
    whole = generate(model(TABLE), fresh(2), prompts, sampler, KEY)
    drawing = start(model(TABLE), fresh(2), prompts, sampler, KEY)
    step = jax.jit(lambda drawing: advance(model(TABLE), drawing, sampler))
    for i in range(1, 5):
        np.testing.assert_array_equal(drawing.tokens[:, :i], whole.tokens[:, :i])
        drawing = step(drawing)
    np.testing.assert_array_equal(drawing.tokens, whole.tokens)


def test_a_stop_sequence_ends_its_row_and_is_counted():
    text = greedy([1], 8)
    stop = tuple(text[2:4])
    first = next(i for i in range(1, 8) if tuple(text[i - 1 : i + 1]) == stop)
    sampler = TokenSampler(8, temperature=0.0)
    out = generate(
        model(TABLE), fresh(), pad_prompts([[1]]), sampler, KEY, stops=(stop, (9,) * 20), pad=7
    )
    assert out.lengths[0] == first + 1 and out.done[0]
    np.testing.assert_array_equal(out.tokens[0], text[: first + 1] + [7] * (7 - first))
    assert not out.log_probs[0, first + 1 :].any()
    alone = generate(model(TABLE), fresh(), pad_prompts([[1]]), sampler, KEY, stops=((text[0],),))
    assert alone.lengths[0] == 1 and alone.step == 1  # the loop is over when all rows are


def chi_square(texts, counts, n):
    """Per degree of freedom."""
    expected = np.asarray([n * texts[t] for t in texts])
    seen = np.asarray([counts.get(t, 0) for t in texts])
    often = expected > 5
    assert not seen[expected == 0].any()
    rest = (expected[~often].sum(), seen[~often].sum())
    total = ((seen - expected)[often] ** 2 / expected[often]).sum()
    total += (rest[1] - rest[0]) ** 2 / rest[0] if rest[0] > 5 else 0
    return total / (often.sum() - 1)


def counted(tokens, lengths):
    counts = {}
    for row, length in zip(np.asarray(tokens), np.asarray(lengths), strict=True):
        text = tuple(row[:length].tolist())
        counts[text] = counts.get(text, 0) + 1
    return counts


N = 4000


@pytest.mark.parametrize(
    "sampler", [TokenSampler(3), TokenSampler(3, temperature=0.7, top_p=0.9)], ids=str
)
def test_texts_are_drawn_with_their_probabilities_by_loop_and_by_speculation(sampler):
    prompt = [2, 1]
    texts = law(prompt, 3, stop=3, sampler=sampler)
    prompts = pad_prompts([prompt] * N)
    out = jax.jit(lambda p: generate(model(TABLE), fresh(N), p, sampler, KEY, ((3,),)))(prompts)
    assert chi_square(texts, counted(out.tokens, out.lengths), N) < 2
    rounds = {}
    for name, draft in {"other": OTHER, "same": TABLE}.items():
        both = Speculator(model(TABLE), model(draft), rewind, sampler, ahead=2, stops=((3,),))
        run = lambda p, both=both: speculate(both, fresh(), fresh(), p, KEY)  # noqa: E731
        got = jax.jit(run)(prompts)
        assert chi_square(texts, counted(got.tokens, got.lengths), N) < 2
        rounds[name] = float(got.rounds.mean())
    assert rounds["same"] < rounds["other"] < float(out.lengths.mean()) - 1
    assert rounds["same"] <= 1  # two guesses that always stand complete three tokens


def test_acceptance_gives_the_target_whatever_the_draft():
    q, p = jnp.asarray([[0.7, 0.2, 0.1, 0.0]]), jnp.asarray([[0.1, 0.3, 0.2, 0.4], [0.25] * 4])
    keys = jax.random.split(KEY, 20_000)

    def first(key):
        a, b = jax.random.split(key)
        guess = jax.random.categorical(a, jnp.log(q[0]))[None]
        count, token = accept_guesses(b, guess, q, p)
        return jnp.where(count > 0, guess[0], token), count

    token, count = jax.jit(jax.vmap(first))(keys)
    np.testing.assert_allclose(np.bincount(token, minlength=4) / len(keys), p[0], atol=0.012)
    np.testing.assert_allclose(count.mean(), jnp.minimum(p[0], q[0]).sum(), atol=0.012)


def test_greedy_speculation_is_greedy():
    sampler = TokenSampler(8, temperature=0.0)
    prompts = [[1], [3, 2, 0, 1]]
    both = Speculator(model(TABLE), model(OTHER), rewind, sampler, ahead=3)
    got = speculate(both, fresh(), fresh(), pad_prompts(prompts), KEY)
    np.testing.assert_array_equal(got.tokens, [greedy(p, 8) for p in prompts])


@pytest.mark.parametrize(("stop", "alpha"), [(None, 0.0), (3, 0.0), (3, 2.0)])
def test_a_beam_of_everything_equals_exhaustive_search(stop, alpha):
    search = BeamSearch(4, V**3, alpha)
    prompts = [[1], [2, 0]]
    stops = () if stop is None else (stop,)
    got = jax.jit(lambda p: beam_search(model(TABLE), take, fresh(2), p, search, stops, pad=9))(
        pad_prompts(prompts)
    )
    for row, prompt in enumerate(prompts):
        texts = law(prompt, 4, stop=stop)
        score = lambda text, texts=texts: np.log(texts[text]) / ((5 + len(text)) / 6) ** alpha  # noqa: E731
        best = sorted(texts, key=score, reverse=True)[:5]
        for i, text in enumerate(best):
            assert got.lengths[row, i] == len(text)
            np.testing.assert_array_equal(got.tokens[row, i], [*text, *[9] * (4 - len(text))])
            np.testing.assert_allclose(got.scores[row, i], score(text), rtol=1e-4)


def test_a_beam_of_one_is_greedy_and_a_wider_one_is_no_worse():
    one, four = (
        beam_search(model(TABLE), take, fresh(), pad_prompts([[1]]), BeamSearch(6, width, 0.0))
        for width in (1, 4)
    )
    np.testing.assert_array_equal(one.tokens[0, 0], greedy([1], 6))
    assert four.scores[0, 0] >= one.scores[0, 0] - 1e-5
    assert (np.diff(four.scores[0]) <= 0).all()
    for text, score in zip(np.asarray(four.tokens[0]), four.scores[0], strict=True):
        whole = [0, 1, *text]
        want = sum(
            jax.nn.log_softmax(TABLE[a, b])[c]
            for a, b, c in zip(whole, whole[1:], whole[2:], strict=False)
        )
        np.testing.assert_allclose(score, want, rtol=1e-4)
    assert len(set(itertools.chain(map(tuple, np.asarray(four.tokens[0]).tolist())))) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenSampler(0), "steps"),
        (lambda: TokenSampler(temperature=-1.0), "temperature"),
        (lambda: TokenSampler(top_k=0), "top_k"),
        (lambda: TokenSampler(top_p=0.0), "top_p"),
        (lambda: TokenSampler(min_p=1.5), "min_p"),
        (lambda: TokenSampler(repetition_penalty=0.0), "repetition_penalty"),
        (lambda: BeamSearch(width=0), "width must be from 1 to 10000"),
        (lambda: BeamSearch(length_penalty=-1.0), "length_penalty"),
        (lambda: pad_prompts([[1], []]), "at least one token"),
        (lambda: pad_prompts([]), "at least one token"),
        (
            lambda: generate(
                model(TABLE), fresh(), pad_prompts([[1]]), TokenSampler(1), KEY, ((),)
            ),
            "stops must",
        ),
    ],
)
def test_bad_values_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(("sampler", "ahead"), [(TokenSampler(1, 2.0), 2), (TokenSampler(1), 0)])
def test_speculation_refuses_what_it_cannot_do(sampler, ahead):
    with pytest.raises(UserError, match="speculative"):
        Speculator(model(TABLE), model(TABLE), rewind, sampler, ahead)
