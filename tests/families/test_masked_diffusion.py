"""Masked diffusion: the bound is that of all orders, and samplers draw what it says."""

import functools
import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import parallel
from genjax.data.dataset import Spec
from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Blocks
from genjax.data.text.splits import ByCharacters
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families import masked_diffusion
from genjax.families.masked_diffusion import MaskedDiffusion, draw_masks, spread_evenly, weigh_time
from genjax.families.unmasking import Unmasking, share_masked, unmask
from genjax.family import init_state, with_inputs
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.runs.setup import initial_state, make_step
from genjax.schedules import Constant

KEY = jax.random.key(0)
V, T = 4, 3  # tokens, and those of a row after the first
NET = Transformer(1, 2, 8, 8, causal=False, init_std=1.0)
FAMILY = MaskedDiffusion(NET)
SPEC = Spec("tokens", (T + 1,), np.zeros(T + 1, np.float32), vocabulary=V)
ORDERS = ("ancestral", "random", "confident", "margin")


def rows_of(tokens, **more):
    tokens = jnp.asarray(tokens, jnp.int32)
    loss_mask = jnp.ones(tokens.shape).at[:, 0].set(0.0)
    return {"tokens": tokens, "loss_mask": loss_mask, "mask": jnp.ones(len(tokens)), **more}


@functools.cache
def state_of(family=FAMILY, optimizer=SGD(), **changes):
    spec = replace(SPEC, **changes)
    example = rows_of(np.zeros((1, 1 + T), np.int32))
    params, variables = jax.jit(lambda: family.init(KEY, example, spec))()
    return init_state(params, variables, optimizer.build(10), KEY)


@functools.partial(jax.jit, static_argnums=0)
def bound_of(family, *arguments):
    return family.bound(*arguments)


@functools.partial(jax.jit, static_argnums=0)
def evaluated(family, state, batch):
    return family.evaluate(state, batch, KEY)["loss"]


def costs(family, state, row, given=1, **more):
    """The sum of -log p of each set of masked tokens of a row, given all others."""
    places = range(given, len(row))
    sets = [s for k in range(1, len(places) + 1) for s in itertools.combinations(places, k)]
    masked = np.zeros((len(sets), len(row)), bool)
    for one, which in zip(masked, sets, strict=True):
        one[list(which)] = True
    batch = rows_of(np.tile(row, (len(sets), 1)), **more)
    ones = jnp.ones(len(sets))
    found = bound_of(family, state.params, state.variables, batch, masked, ones)
    return dict(zip(sets, np.asarray(found, np.float64), strict=True))


def any_order(family, state, row):
    """The mean over all orders of -log p, token by token, and -log of the mean of p."""
    places, found = range(1, len(row)), []
    at = {}  # -log p of a token given those that are not masked
    for which in costs(family, state, row):
        shown = jnp.where(jnp.isin(jnp.arange(len(row)), jnp.array(which)), 9, jnp.array(row))
        at[which] = log_p(family, state, shown)
    for order in itertools.permutations(places):
        left = [tuple(sorted(order[i:])) for i in range(len(order))]
        found.append(-sum(at[s][i, row[i]] for s, i in zip(left, order, strict=True)))
    return np.mean(found), -np.log(np.mean(np.exp(-np.array(found))))


def log_p(family, state, shown):
    """log p [T, V] of every token from a row in which 9 is a gap."""
    batch, mask = rows_of(shown[None]), state.variables["mask"]
    tokens = jnp.where(shown == 9, mask, shown)[None]
    logits = logits_of(family, state.params, batch, tokens)
    return np.asarray(jax.nn.log_softmax(logits.at[..., mask].set(-jnp.inf))[0], np.float64)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(family, params, batch, tokens, label=None):
    hidden = family.features(params, batch, tokens, label)
    return family._make_network(params).apply({"params": params}, hidden, method="logits")


@pytest.mark.parametrize("mask", [V, 1])
def test_for_one_token_the_bound_is_the_exact_likelihood(mask):
    """Also with a codec that has a mask token of its own, among the others."""
    state = state_of() if mask == V else state_of(vocabulary=V + 1, mask_token=mask)
    known = [token for token in range(V + 1) if token != mask]
    found = [evaluated(FAMILY, state, rows_of([[known[2], token]])) for token in known]
    np.testing.assert_allclose(sum(np.exp(-float(one.value)) for one in found), 1, rtol=1e-5)
    exact = log_p(FAMILY, state, jnp.array([known[2], 9]))[1, known]
    np.testing.assert_allclose([-float(one.value) for one in found], exact, rtol=1e-5)
    assert np.ptp(exact) > 0.1 and all(float(one.weight) == 1 for one in found)


def test_the_bound_is_the_mean_over_all_orders_and_above_the_likelihood():
    state = state_of()
    for row in ([0, 1, 2, 3], [3, 0, 0, 1]):
        cost = costs(FAMILY, state, row)
        bound, likelihood = any_order(FAMILY, state, row)
        counts = sum(c / len(s) / np.sum([len(s) == len(o) for o in cost]) for s, c in cost.items())
        np.testing.assert_allclose(counts, bound, rtol=1e-5)
        assert bound > likelihood + 1e-3
        t = (np.arange(20_000) + 0.5) / 20_000
        for masks in ("linear", "cosine"):
            share, rate = np.asarray(share_masked(masks, t)), weigh_time(masks, jnp.asarray(t))
            integral = sum(
                cost[s] * np.mean(rate * share ** len(s) * (1 - share) ** (T - len(s)))
                for s in cost
            )
            np.testing.assert_allclose(integral, bound, rtol=1e-3)


@pytest.mark.parametrize("masks", ["linear", "cosine", "counts"])
def test_drawn_masks_give_that_bound_in_the_mean(masks):
    state, row, n = state_of(), [0, 1, 2, 3], 20_000
    cost = costs(FAMILY, state, row)
    free = jnp.ones((n, T + 1), bool).at[:, 0].set(False)
    masked, weight = jax.jit(lambda: draw_masks(masks, KEY, spread_evenly(KEY, n), free))()
    assert not masked[:, 0].any()
    named = np.asarray(masked) @ (1 << np.arange(T + 1))
    table = np.zeros(2 ** (T + 1))
    for which, value in cost.items():
        table[sum(1 << i for i in which)] = value
    drawn = np.asarray(weight) * table[named]
    bound, _ = any_order(FAMILY, state, row)
    assert abs(drawn.mean() - bound) < 4 * drawn.std() / np.sqrt(n) + 2e-3 * bound
    counted = np.bincount(np.asarray(masked).sum(1), minlength=T + 1)
    if masks == "counts":  # each number as often, as they are spread evenly
        assert counted[0] == 0 and np.ptp(counted[1:]) <= 2


def test_held_out_rows_are_judged_by_the_bound_of_what_is_not_given():
    state, row, n = state_of(), [0, 1, 2, 3], 2000
    found = evaluated(FAMILY, state, rows_of([row] * n))
    bound, _ = any_order(FAMILY, state, row)
    assert float(found.weight) == n * T
    np.testing.assert_allclose(found.value * T, bound, rtol=0.02)
    prefixed = rows_of([row], prefix_mask=jnp.array([[1.0, 1.0, 1.0, 0.0]]))
    found = evaluated(FAMILY, state, prefixed)
    alone = costs(FAMILY, state, row)[(3,)]
    np.testing.assert_allclose([found.sum, found.weight], [alone, 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("order", "steps"),
    [
        ("random", 2),
        ("ancestral", 3),
        *(pytest.param(order, 1, marks=pytest.mark.long) for order in ("random", "ancestral")),
    ],
)
def test_samples_have_the_distribution_of_the_orders(order, steps):
    """Both at once with the share that steps leave: then they do not know of each other."""
    state, n = state_of(), 20_000
    options = Unmasking(tokens=(2, V, V), steps=steps, order=order)
    drawn = np.asarray(jax.jit(lambda: FAMILY.sample(state, KEY, n, options))())
    assert (drawn[:, 0] == 2).all() and drawn.max() < V
    first = log_p(FAMILY, state, jnp.array([2, 9, 9]))
    together = {"random": steps == 1, "ancestral": 1 / steps}[order]
    for a, b in itertools.product(range(V), repeat=2):
        one = first[1, a] + log_p(FAMILY, state, jnp.array([2, a, 9]))[2, b]
        two = first[2, b] + log_p(FAMILY, state, jnp.array([2, 9, b]))[1, a]
        apart = (np.exp(one) + np.exp(two)) / 2
        p = together * np.exp(first[1, a] + first[2, b]) + (1 - together) * apart
        found = ((drawn[:, 1] == a) & (drawn[:, 2] == b)).mean()
        assert abs(found - p) < 4.5 * np.sqrt(p * (1 - p) / n) + 1e-5


def when_filled(options, text, seed=0):
    """What a guess of "as many gaps as there are" writes into a text: when each was filled."""
    mask = 63
    ahead = jnp.arange(len(text))  # later places are surer

    def guess(tokens):
        gaps = (tokens == mask).sum(1)
        hot = jnp.arange(mask + 1)[None, None] == gaps[:, None, None]
        return jnp.where(hot, -1.0 / (1 + ahead)[None, :, None], -20.0)

    tokens = jnp.array([text, text])
    found, calls = jax.jit(
        lambda: unmask(guess, jax.random.key(seed), tokens, jnp.array(mask), options)
    )()
    return np.asarray(found), int(calls)


@pytest.mark.parametrize("order", ORDERS)
def test_a_step_fills_its_share_of_the_gaps_and_no_other_place(order):
    text = [60, 63, 63, 63, 61, 63, 63]
    found, calls = when_filled(Unmasking(temperature=0.0, steps=2, order=order), text)
    assert (found[:, [0, 4]] == [60, 61]).all() and calls == 2
    if order != "ancestral":
        assert (np.sort(found[:, [1, 2, 3, 5, 6]]) == [2, 2, 5, 5, 5]).all()
    if order in ("confident", "margin"):
        assert (found[:, [6, 5, 3]] == 5).all()
    slow, calls = when_filled(Unmasking(temperature=0.0, steps=50, order=order), text)
    assert calls <= 10 if order == "ancestral" else calls == 5
    assert order == "ancestral" or sorted(slow[0, [1, 2, 3, 5, 6]]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("order", ["ancestral", "confident"])
def test_blocks_are_filled_from_left_to_right(order):
    text = [63] * 6
    options = Unmasking(temperature=0.0, steps=6, order=order, block=2)
    found, calls = when_filled(options, text)
    first, second, third = found[:, :2], found[:, 2:4], found[:, 4:]
    assert (first > 4).all() and (second > 2).all() and (second <= 4).all() and (third <= 2).all()
    assert calls <= 6 and (order == "ancestral" or calls == 6)
    # A block that is given costs nothing.
    assert when_filled(options, [1, 2, 3, 4, 63, 63])[1] <= 2


def test_the_cosine_fills_fewer_at_first():
    text, fields = [63] * 10, {"temperature": 0.0, "steps": 2, "order": "random"}
    first = {
        schedule: (when_filled(Unmasking(schedule=schedule, **fields), text)[0][0] == 10).sum()
        for schedule in ("linear", "cosine")
    }
    assert first == {"linear": 5, "cosine": 3}  # 7.07 gaps are left, rounded down


def test_guidance_moves_away_from_what_is_drawn_without_a_label():
    family = MaskedDiffusion(NET, conditional=True)
    state = state_of(family, classes=2)
    text = (2, V, 1, 0)
    batch = rows_of([text])

    def read(label):
        logits = logits_of(family, state.params, batch, batch["tokens"], jnp.array([label]))
        return jax.nn.log_softmax(logits[0, 1, :V])

    own, free, n = read(1), read(2), 20_000
    assert jnp.abs(own - free).max() > 0.1
    for scale in (0.0, 3.0):
        options = Unmasking(tokens=text, steps=1, guidance_scale=scale, label=1)
        drawn = jax.jit(lambda o=options: family.sample(state, KEY, n, o))()
        p = np.asarray(jax.nn.softmax(free + scale * (own - free)))
        found = np.bincount(np.asarray(drawn)[:, 1], minlength=V) / n
        np.testing.assert_allclose(found, p, atol=4.5 * np.sqrt(0.25 / n))
    with pytest.raises(UserError) as error:
        FAMILY.sample(state_of(), KEY, 2, Unmasking(guidance_scale=2.0))
    assert error.value.field == "guidance_scale"
    with pytest.raises(UserError) as error:
        family.sample(state, KEY, 2, Unmasking(label=2))
    assert error.value.field == "label"


@pytest.mark.long
def test_a_label_is_seen_and_sometimes_hidden():
    family = MaskedDiffusion(NET, conditional=True, drop_label=0.999999)
    state = state_of(family, SGD(Constant(1.0)), classes=2)
    batch = rows_of([[2, 1, 0, 3]] * 4, label=jnp.array([0, 0, 1, 1]))
    rule = SGD(Constant(1.0)).build(10)
    step = jax.jit(lambda f, s: f.train_step(s, batch, optimizer=rule)[0], static_argnums=0)
    hidden = step(family, state).params["type_embedding"] - state.params["type_embedding"]
    assert not jnp.any(hidden[:2]) and jnp.abs(hidden[2]).max() > 0
    seen = step(replace(family, drop_label=0.0), state).params["type_embedding"]
    assert jnp.abs(seen - state.params["type_embedding"])[:2].max(1).min() > 0


def test_documents_of_a_packed_row_do_not_see_each_other():
    state, one, two = state_of(), [0, 1, 2], [3, 1, 0, 2]
    packed = rows_of([one + two]) | {
        "segment_ids": jnp.array([[1] * 3 + [2] * 4]),
        "positions": jnp.array([[0, 1, 2, 0, 1, 2, 3]]),
    }
    masked = jnp.array([[False, True, True, False, True, False, True]])
    whole = bound_of(FAMILY, state.params, state.variables, packed, masked, jnp.ones(1))
    parts = costs(FAMILY, state, one)[(1, 2)] + costs(FAMILY, state, two)[(1, 3)]
    np.testing.assert_allclose(whole[0], parts, rtol=1e-5)


def test_prompts_of_several_rows_keep_what_is_given_and_their_padding():
    state = state_of()
    given = jnp.array([[2, V, 1, -1], [V, V, V, V], [0, 1, 2, V]])
    drawn = FAMILY.sample(with_inputs(state, {"prompt": given}), KEY, 3, Unmasking())
    keep = np.asarray(given) != V
    np.testing.assert_array_equal(np.asarray(drawn)[keep], np.asarray(given)[keep])
    assert (np.asarray(drawn) < V).all()


def source(tmp_path):
    (tmp_path / "text").mkdir(exist_ok=True)
    text = "the cat sat on the mat. the dog sat on the log. " * 60
    (tmp_path / "text" / "a.txt").write_text(text, encoding="utf-8")
    root, cache = str(tmp_path / "text"), str(tmp_path / "cache")
    split = ByCharacters(test=0.1)
    return TextFiles(root=root, codec=Characters(), layout=Blocks(8), split=split, cache=cache)


def experiment(tmp_path, family=None, **fields):
    every = Every(log=2, evaluate=4, sample=4, checkpoint=4)
    told = {"optimizer": Adam(Constant(1e-3)), "steps": 8, "batch_size": 8, "every": every} | fields
    net = Transformer(1, 2, 16, 16, causal=False, dropout=0.1)
    family = family or MaskedDiffusion(net, sampler=Unmasking(length=5, steps=4))
    return Experiment(family, data=source(tmp_path), **({"devices": Devices(count=1)} | told))


@pytest.mark.long
def test_a_run_is_resumed_bitwise_and_fills_a_text_anywhere(tmp_path):
    whole = genjax.train(experiment(tmp_path), tmp_path / "whole", quiet=True)
    genjax.train(experiment(tmp_path, steps=4), tmp_path / "parts", quiet=True)
    parts = genjax.train(experiment(tmp_path), tmp_path / "parts", quiet=True)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(whole.state.params),
        jax.device_get(parts.state.params),
    )
    np.testing.assert_array_equal(whole.sample(num=2), parts.sample(num=2))

    def fill(prompt, **fields):
        rows = whole.sample(2, options=Unmasking(prompt, steps=3, **fields))
        return [whole.codec.decode(row) for row in rows]

    for text in fill("[MASK]he [MASK 3] at[MASK 2]"):
        assert len(text) == 12 and text[1:4] == "he " and text[7:10] == " at"
    for text in fill("the ", length=6):
        assert len(text) == 10 and text.startswith("the ")
    assert all(len(text) == 7 for text in fill("", length=7))
    with pytest.raises(UserError) as error:
        fill("the cat sat on [MASK 3]")
    assert error.value.field == "sampler.length"


@pytest.mark.parametrize("mode", ["pmapped", "sharded"])
@pytest.mark.long
def test_eight_devices_agree_with_one(tmp_path, mode, monkeypatch):
    """Mapped devices draw for their own rows: there all tokens are masked."""
    family = MaskedDiffusion(Transformer(1, 2, 16, 16, causal=False))
    if mode == "pmapped":

        def draw(masks, key, spread, free):
            return free, jnp.ones(len(free))

        monkeypatch.setattr(masked_diffusion, "draw_masks", draw)
    losses = {}
    for count in (1, 8):
        devices = Devices(count=count, mode=mode, fsdp=2 if (mode, count) == ("sharded", 8) else 1)
        told = experiment(tmp_path, family, optimizer=SGD(Constant(0.05)), devices=devices)
        layout = parallel.start(devices)
        split = told.data.open().splits["train"]
        make = initial_state(told, told.data.open().spec)
        step = layout.compile_step(make_step(told), layout.eval_shapes(make))
        state, found = layout.init(make), []
        for i in range(10):
            rows = split.batch(np.arange(8 * i, 8 * i + 8) % len(split))
            state, metrics = step(state, layout.place({**rows, "mask": np.ones(8, np.float32)}))
            pairs = np.asarray(metrics.pairs).reshape(-1, len(metrics.names), 2)[0]
            at = metrics.names.index("loss")
            found.append(pairs[at, 0] / pairs[at, 1])
        losses[count] = found
    np.testing.assert_allclose(losses[8], losses[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: MaskedDiffusion(replace(NET, causal=True)), "net.causal"),
        (lambda: MaskedDiffusion(replace(NET, cross_attention=True)), "net.cross_attention"),
        (lambda: MaskedDiffusion(replace(NET, token_types=2)), "net.token_types"),
        (lambda: MaskedDiffusion(NET, masks="quadratic"), "masks"),
        (lambda: MaskedDiffusion(NET, draws=0), "draws"),
        (lambda: MaskedDiffusion(NET, drop_label=1.0), "drop_label"),
        (lambda: Unmasking(steps=0), "steps"),
        (lambda: Unmasking(block=0), "block"),
        (lambda: Unmasking(order="likely"), "order"),
        (lambda: state_of(replace(FAMILY, conditional=True)), "family.conditional"),
        (
            lambda: state_of(replace(FAMILY, conditional=True), classes=2, packed=True),
            "family.conditional",
        ),
        (lambda: state_of(MaskedDiffusion(replace(NET, context=3))), "family.net.context"),
    ],
)
def test_what_does_not_fit_is_refused(make, field):
    with pytest.raises(UserError) as error:
        make()
    assert error.value.field == field
