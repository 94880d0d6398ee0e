"""Distillation: divergences against numbers by hand, no loss from oneself, refusals by name."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from genjax.continued import apply_initial_params
from genjax.data.dataset import Spec
from genjax.data.text.codecs import Characters
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.classifier import Classifier, predict_logits
from genjax.families.masked_lm import MaskedLM
from genjax.family import Trained, init_state, make_example
from genjax.nets.bigram import Bigram
from genjax.nets.conv.resnet import ResNet
from genjax.nets.mlp import MLPBackbone
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD
from genjax.posttrain.distillation import (
    DRAWN,
    TEACHER,
    Distillation,
    OnPolicyDistillation,
    map_chunks,
    measure_divergence,
)
from genjax.schedules import Constant

KEY = jax.random.key(0)
V, T = 6, 9
# Two of the smallest nets; another seed makes another model.
GPT, LARGE = Autoregressive(Bigram(16)), Autoregressive(Bigram(20))
TEXT = Spec("tokens", (T,), np.zeros(T, np.float32), vocabulary=V)
PROMPTS = replace(TEXT, prefixed=True)
CODEC = Characters("bcdef", delimiter=True)  # token 0 ends a text
JUDGE = Classifier(MLPBackbone((5,)))
POINTS = Spec("points", (3,), np.zeros(3, np.float32), classes=4)
P, Q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])


def params_of(family, spec, seed=0):
    """Parameters and variables; a bigram starts with equal probabilities, and is moved."""
    key = jax.random.key(seed)
    params, variables = jax.jit(lambda: family.init(key, make_example(spec), spec))()
    if isinstance(family.net, Bigram):
        params = jax.tree.map(lambda x: x + jax.random.normal(key, x.shape), params)
    return params, variables


def resolve(family, teacher, spec):
    found = family.resolve({TEACHER: Trained("runs/large", teacher, spec)}, spec)
    return found.with_codec(CODEC)


def state_of(family, teacher, spec, seed=1, optimizer=SGD(Constant(0.1))):
    params, variables = params_of(family.student, spec)
    state = init_state(params, variables, optimizer.build(10), KEY)
    known = dict(zip(("params", "variables"), params_of(teacher, spec, seed), strict=True))
    return apply_initial_params(family, state.replace(frozen={TEACHER: known}))


def text_batch(rows=8, prefixed=False):
    tokens = jax.random.randint(KEY, (rows, T), 1, V)
    sizes = jnp.arange(rows)[:, None] % 3 + 1
    place = jnp.arange(T)[None]
    prefix = place < (sizes if prefixed else 1)
    end = 6 + sizes
    found = {
        "tokens": jnp.where(place < end, tokens, 0),
        "loss_mask": (~prefix & (place < end)).astype(jnp.float32),
        "mask": jnp.ones(rows).at[-1].set(0.0),
    }
    return found | ({"prefix_mask": prefix.astype(jnp.float32)} if prefixed else {})


def label_batch(rows=6):
    x = jax.random.normal(KEY, (rows, 3))
    return {"points": x, "label": jnp.arange(rows) % 4, "mask": jnp.ones(rows)}


@functools.partial(jax.jit, static_argnums=0)
def texts(family, params, teacher, batch):
    return family.compare_texts(params, teacher, batch)


@functools.partial(jax.jit, static_argnums=(0, 3))
def stepped(family, state, batch, optimizer=SGD(Constant(0.1))):
    return family.train_step(state, batch, optimizer=optimizer.build(10))


def test_divergences_are_those_by_hand():
    found = {b: float(measure_divergence(jnp.log(P), jnp.log(Q), b)) for b in (0.0, 1.0, 0.25)}
    # 0.7 ln 1.4 + 0.2 ln 0.8 + 0.1 ln 0.4 and 0.5 ln(1/1.4) + 0.25 ln 1.25 + 0.25 ln 2.5
    np.testing.assert_allclose([found[0.0], found[1.0]], [0.0992739, 0.1166217], rtol=1e-4)
    # The mean has 0.55, 0.2375 and 0.2125: 0.25 * 0.0590 + 0.75 * 0.0057
    m = 0.25 * P + 0.75 * Q
    np.testing.assert_allclose(m, [0.55, 0.2375, 0.2125])
    wanted = 0.25 * (P * np.log(P / m)).sum() + 0.75 * (Q * np.log(Q / m)).sum()
    np.testing.assert_allclose(found[0.25], wanted, rtol=1e-4)


def test_the_limits_of_the_jensen_shannon_divergence_are_both_kls():
    log_p, log_q = jnp.log(P), jnp.log(Q)
    forward, reverse = (measure_divergence(log_p, log_q, beta) for beta in (0.0, 1.0))
    near = 1e-2
    low = (measure_divergence(log_p, log_q, b) / b for b in (near, 2 * near))
    high = (measure_divergence(log_p, log_q, 1 - b) / b for b in (near, 2 * near))
    for (one, two), limit in ((low, forward), (high, reverse)):
        np.testing.assert_allclose(2 * one - two, limit, rtol=2e-3)  # to second order in beta
        assert abs(one - limit) < abs(two - limit)
    both = [measure_divergence(a, b, 0.5) for a, b in ((log_p, log_q), (log_q, log_p))]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-5)


def test_a_teacher_that_is_the_student_gives_no_loss_and_no_gradient():
    own, other = params_of(GPT, TEXT)[0], params_of(GPT, TEXT, 3)[0]
    judge, batch, examples = params_of(JUDGE, POINTS), text_batch(), label_batch()

    def of_texts(params, teacher, beta):
        family = Distillation(GPT, GPT, 1.0, 2.0, beta)
        return family.compare_texts(params, teacher, batch)["loss"].value

    def of_classes(params, beta):
        teacher = dict(zip(("params", "variables"), judge, strict=True))
        family = Distillation(JUDGE, JUDGE, 1.0, 2.0, beta)
        return family.compare_classes(params, judge[1], teacher, examples, KEY)[0]["loss"].value

    @jax.jit
    def measure():
        of_own = [
            jax.value_and_grad(of_texts)(own, own, 0.0),
            jax.value_and_grad(of_texts)(own, own, 0.3),
            jax.value_and_grad(of_texts)(own, own, 1.0),
            jax.value_and_grad(of_classes)(judge[0], 0.0),
        ]
        pairs = [*of_own, jax.value_and_grad(of_texts)(own, other, 0.0)]
        return jnp.array([(value, optax.tree.norm(slope)) for value, slope in pairs])

    found = np.asarray(measure())
    assert np.abs(found[:4, 0]).max() < 1e-6 and found[:4, 1].max() < 1e-5
    assert (found[4] > 1e-2).all()


def test_texts_are_compared_token_by_token_at_the_temperature():
    family = resolve(Distillation("runs/large", GPT, 0.3, 2.0, 0.0), LARGE, TEXT)
    state, batch = state_of(family, LARGE, TEXT), text_batch()
    found = texts(family, state.params, state.frozen[TEACHER]["params"], batch)
    weight = np.asarray(batch["loss_mask"][:, 1:] * batch["mask"][:, None])

    def log_p(model, params, temperature):
        head, hidden, _ = model.open_head(params, batch)
        return scipy.special.log_softmax(np.asarray(head(hidden), np.float64) / temperature, -1)

    log_q = {t: log_p(GPT, state.params, t) for t in (1.0, 2.0)}
    known = log_p(LARGE, state.frozen[TEACHER]["params"], 2.0)
    far = 4 * (np.exp(known) * (known - log_q[2.0])).sum(-1)
    nll = -np.take_along_axis(log_q[1.0], np.asarray(batch["tokens"])[:, 1:, None], -1)[..., 0]
    wanted = {"divergence": far, "nll": nll, "loss": 0.3 * far + 0.7 * nll}
    for name, values in wanted.items():
        np.testing.assert_allclose(
            found[name].value, (values * weight).sum() / weight.sum(), rtol=1e-4
        )
    own = jax.jit(GPT.evaluate)(state, batch, KEY)["loss"]
    np.testing.assert_allclose(found["nll"].value, own.value, rtol=1e-5)


def test_chunks_of_tokens_are_the_whole():
    params, teacher, batch = params_of(GPT, TEXT)[0], params_of(LARGE, TEXT, 1)[0], text_batch()

    def measure(params, chunk):
        family = Distillation(LARGE, replace(GPT, chunk=chunk), 0.5, 1.0, 0.5)
        metrics = family.compare_texts(params, teacher, batch)
        return metrics["loss"].value, metrics

    both = jax.jit(
        lambda params: [jax.value_and_grad(measure, has_aux=True)(params, n) for n in (7, 99)]
    )(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *both)
    (doubled,) = map_chunks(lambda x: (2 * x[0],), [jnp.arange(5.0)], 2)
    np.testing.assert_array_equal(doubled, 2 * np.arange(5))


def test_classes_are_compared_at_the_temperature_and_mixed_with_the_labels():
    student = Classifier(MLPBackbone((4,)), label_smoothing=0.1)
    family = resolve(Distillation("runs/large", student, 0.25, 3.0), JUDGE, POINTS)
    state, batch = state_of(family, JUDGE, POINTS), label_batch()
    _, metrics = stepped(family, state, batch)
    teacher = state.frozen[TEACHER]
    logits = [
        np.asarray(predict_logits(f, p, v, batch), np.float64)
        for f, p, v in (
            (student, state.params, state.variables),
            (JUDGE, teacher["params"], teacher["variables"]),
        )
    ]
    log_q, log_p = (scipy.special.log_softmax(x / 3, -1) for x in logits)
    far = 9 * (np.exp(log_p) * (log_p - log_q)).sum(-1)
    own = scipy.special.log_softmax(logits[0], -1)
    nll = -0.9 * own[np.arange(6), np.asarray(batch["label"])] - 0.1 * own.mean(-1)
    np.testing.assert_allclose(metrics["divergence"].value, far.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["nll"].value, nll.mean(), rtol=1e-4)
    wanted = 0.25 * far.mean() + 0.75 * nll.mean()
    np.testing.assert_allclose(metrics["loss"].value, wanted, rtol=1e-4)


ON_POLICY = OnPolicyDistillation("runs/large", GPT, 0.5, on_policy=0.5, longest_prompt=3)


@pytest.mark.parametrize("prefixed", [True, False])
def test_the_student_continues_prompts_in_the_place_of_the_rest(prefixed):
    family = replace(ON_POLICY, longest_prompt=3 if prefixed else 2)
    family = resolve(family, LARGE, PROMPTS if prefixed else TEXT)
    state, batch = state_of(family, LARGE, TEXT), text_batch(8, prefixed)
    found = jax.device_get(family.collect(state, batch, KEY))
    asked = np.asarray(batch["tokens"])
    assert found[DRAWN].tolist() == [1.0] * 4 + [0.0] * 4
    for name in batch:
        np.testing.assert_array_equal(found[name][4:], batch[name][4:])
        assert found[name].shape == batch[name].shape and found[name].dtype == batch[name].dtype
    for row in range(4):
        size = row % 3 + 1 if prefixed else 2
        tokens, counted = found["tokens"][row], found["loss_mask"][row]
        np.testing.assert_array_equal(tokens[:size], asked[row, :size])
        ends = np.flatnonzero((tokens == 0) & (np.arange(T) >= size))
        stop = ends[0] + 1 if len(ends) else T
        np.testing.assert_array_equal(counted, (np.arange(T) >= size) & (np.arange(T) < stop))
        assert not tokens[stop:].any()
        if prefixed:
            np.testing.assert_array_equal(found["prefix_mask"][row], np.arange(T) < size)
    assert any(not np.array_equal(found["tokens"][i], asked[i]) for i in range(4))
    shapes = family.shape_collected(state, batch)
    assert {n: x.shape for n, x in found.items()} == {n: x.shape for n, x in shapes.items()}


def test_what_the_student_wrote_has_no_loss_of_the_data():
    family = resolve(ON_POLICY, LARGE, PROMPTS)
    state, batch = state_of(family, LARGE, PROMPTS), text_batch(8, True)
    teacher = state.frozen[TEACHER]["params"]
    drawn = family.collect(state, batch, KEY)
    found = texts(family, state.params, teacher, drawn)
    plain = resolve(Distillation("runs/large", GPT, 0.5), LARGE, PROMPTS)
    rows = {
        name: {n: x[part] for n, x in drawn.items() if n != DRAWN}
        for name, part in (("written", slice(4)), ("given", slice(4, 8)))
    }
    apart = {name: texts(plain, state.params, teacher, batch) for name, batch in rows.items()}
    far = [apart[name]["divergence"] for name in ("written", "given")]
    np.testing.assert_allclose(found["divergence"].sum, far[0].sum + far[1].sum, rtol=1e-5)
    np.testing.assert_allclose(found["nll"].sum, apart["given"]["nll"].sum, rtol=1e-5)
    np.testing.assert_allclose(found["nll"].weight, apart["given"]["nll"].weight)
    wanted = 0.5 * found["divergence"].sum + 0.5 * found["nll"].sum
    np.testing.assert_allclose(found["loss"].sum, wanted, rtol=1e-5)
    np.testing.assert_allclose(found["loss"].weight, far[0].weight + far[1].weight)
    length = np.asarray(drawn["loss_mask"][:4].sum(1)).mean()
    np.testing.assert_allclose(found["response_length"].value, length)


def test_the_run_is_evaluated_as_its_student():
    family = resolve(ON_POLICY, LARGE, PROMPTS)
    state = family.eval_state(state_of(family, LARGE, PROMPTS))
    assert family.wrapped == GPT and state.frozen is None
    assert jax.tree.all(jax.tree.map(jnp.array_equal, state.params, params_of(GPT, PROMPTS)[0]))


@pytest.mark.long
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_a_student_of_the_same_size_becomes_its_teacher(beta):
    family = OnPolicyDistillation("runs/large", GPT, 1.0, 1.0, beta, longest_prompt=3)
    family = resolve(family, GPT, PROMPTS)
    rate = SGD(Constant(1.0))
    state, batch = state_of(family, GPT, PROMPTS, optimizer=rate), text_batch(64, True)
    found = []
    for i in range(150):
        drawn = family.collect(state, batch, jax.random.fold_in(KEY, i))
        state, metrics = stepped(family, state, drawn, rate)
        found.append(float(metrics["divergence"].value))
    assert np.mean(found[-10:]) < 0.2 * found[0]


@pytest.mark.parametrize(
    ("family", "teacher", "spec", "theirs"),
    [
        (Distillation(student=GPT), GPT, TEXT, replace(TEXT, vocabulary=7)),
        (Distillation(student=GPT), MaskedLM(), TEXT, TEXT),
        (Distillation(student=GPT), JUDGE, TEXT, TEXT),
        (Distillation(student=GPT), Autoregressive(Bigram(7)), TEXT, TEXT),
        (
            Distillation(student=GPT),
            Autoregressive(Transformer(1, 2, 8, 16), prefix_lm=True),
            PROMPTS,
            PROMPTS,
        ),
        (Distillation(student=JUDGE), JUDGE, POINTS, replace(POINTS, classes=5)),
        (Distillation(student=JUDGE), GPT, POINTS, TEXT),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_by_name(family, teacher, spec, theirs):
    with pytest.raises(UserError, match="runs/large") as error:
        family.resolve({TEACHER: Trained("runs/large", teacher, theirs)}, spec)
    assert error.value.field == "teacher" and "\n" not in str(error.value)


def test_teachers_of_other_nets_and_sizes_fit():
    for teacher in (LARGE, Autoregressive(Transformer(1, 2, 8, 16))):
        assert resolve(Distillation("runs/large", GPT), teacher, TEXT).teacher == teacher
    assert resolve(Distillation("runs/large", JUDGE), Classifier(MLPBackbone((9, 9))), POINTS)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Distillation(weight=1.5), "weight"),
        (lambda: Distillation(beta=-0.1), "beta"),
        (lambda: Distillation(temperature=0.0), "temperature"),
        (lambda: Distillation(student=MaskedLM()), "student"),
        (lambda: OnPolicyDistillation(student=JUDGE), "student"),
        (lambda: OnPolicyDistillation(on_policy=0.0), "on_policy"),
        (lambda: OnPolicyDistillation(new_tokens=0), "new_tokens"),
        (lambda: resolve(replace(ON_POLICY, longest_prompt=T), LARGE, TEXT), "longest_prompt"),
        (lambda: resolve(ON_POLICY, LARGE, replace(TEXT, packed=True)), None),
    ],
)
def test_settings_that_do_not_fit_are_refused(make, field):
    with pytest.raises(UserError) as error:
        make()
    assert error.value.field == field


def test_prompts_that_are_too_long_and_averages_with_batch_norm_are_refused():
    family = resolve(replace(ON_POLICY, longest_prompt=2), LARGE, PROMPTS)
    with pytest.raises(UserError) as error:
        family.collect(state_of(family, LARGE, PROMPTS), text_batch(8, True), KEY)
    assert error.value.field == "family.longest_prompt"
    image = Spec("image", (8, 8, 1), np.zeros((8, 8, 1), np.float32), classes=4)
    net = Classifier(ResNet((4,), (1,)))
    family = resolve(Distillation("runs/large", net), net, image)
    rule = replace(SGD().build(1), ema=0.9)
    with pytest.raises(UserError) as error:
        family.train_step(state_of(family, net, image), {}, optimizer=rule)
    assert error.value.field == "ema"
