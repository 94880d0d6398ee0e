"""KTO on single answers: losses, gradients and baseline by hand; records with labels as rows."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.continued import apply_initial_params
from genjax.data.chat.labelled import CLASSES
from genjax.data.dataset import Spec
from genjax.data.sources import Instructions, LabelledAnswers
from genjax.data.text.codecs import Bytes
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import Trained, init_state, make_example
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.posttrain.continued import BASE
from genjax.posttrain.labelled_kto import LabelledKTO
from genjax.schedules import Constant
from tests.paired import (
    BASE_FAMILY,
    BASE_SPEC,
    KEY,
    B,
    P,
    T,
    V,
    batch_of,
    by_hand,
    close,
    moved,
)
from tests.paired import (
    SPEC as PAIRS,
)

SPEC = Spec("tokens", (T,), np.zeros(T, np.float32), vocabulary=V, classes=2, class_names=CLASSES)
OTHERS = {BASE: Trained("base", BASE_FAMILY, BASE_SPEC)}
FAMILY = LabelledKTO("base", beta=0.6, desirable=1.2, undesirable=0.7).resolve(OTHERS, SPEC)
GOOD = np.array([1, 0, 0, 1, 0, 1])


def state_of(by=0.0):
    """At step 0, of parameters that are moved ``by`` so much from the base's."""
    learned, _ = BASE_FAMILY.init(jax.random.key(5), make_example(BASE_SPEC), BASE_SPEC)
    params, variables = FAMILY.init(KEY, make_example(SPEC), SPEC)
    state = init_state(params, variables, SGD(Constant(0.1)).build(4), KEY)
    frozen = {BASE: {"params": learned, "variables": {}}}
    state = apply_initial_params(FAMILY, state.replace(frozen=frozen))
    return state.replace(params=moved(state.params, by=by))


def answers(seed=1):
    """Answers of the pairs' chosen sides, with labels."""
    pairs = batch_of(seed=seed)
    return {
        "tokens": pairs["chosen_tokens"],
        "loss_mask": pairs["chosen_response"],
        "label": jnp.asarray(GOOD, jnp.int32),
        "mask": jnp.ones(B),
    }


def log_p(params, tokens, said):
    batch = {f"{side}_tokens": tokens for side in ("chosen", "rejected")}
    batch |= {f"{side}_response": said for side in ("chosen", "rejected")}
    return by_hand(params, batch)[:, 0]


def swap(batch):
    """Each answer after the prompt of the row before, row by row."""
    tokens, said = np.zeros((B, T), np.int32), np.zeros((B, T), np.float32)
    for row in range(B):
        answer = np.asarray(batch["tokens"][row])[np.asarray(batch["loss_mask"][row]) > 0]
        whole = np.concatenate([np.asarray(batch["tokens"][row - 1])[:P], answer])[:T]
        tokens[row, : len(whole)], said[row, P : len(whole)] = whole, 1
    return jnp.asarray(tokens), jnp.asarray(said)


def loss_by_hand(params, reference, batch):
    """The losses [B] by the formulas of the paper, and z."""
    ratio = log_p(params, batch["tokens"], batch["loss_mask"])
    ratio -= log_p(reference, batch["tokens"], batch["loss_mask"])
    moved_on = log_p(params, *swap(batch)) - log_p(reference, *swap(batch))
    z = jax.lax.stop_gradient(jnp.maximum(moved_on.mean(), 0))
    value = 1 / (1 + jnp.exp(-0.6 * jnp.where(GOOD > 0, ratio - z, z - ratio)))
    weight = jnp.where(GOOD > 0, 1.2, 0.7)
    return weight - weight * value, z, ratio


def test_the_loss_and_metrics_are_those_of_the_paper():
    state, batch = state_of(), answers()
    reference = state.frozen[BASE]["params"]
    drifted = 0
    for seed in range(4):
        params = moved(state.params, seed, 0.2)
        losses, z, ratio = loss_by_hand(params, reference, batch)
        found = jax.jit(FAMILY.evaluate)(state.replace(params=params), batch, jax.random.key(0))
        close(found["loss"].value, losses.mean())
        close(found["drift"].value, z)
        close(found["desirable_reward"].value, 0.6 * ratio[GOOD > 0].mean())
        close(found["undesirable_reward"].value, 0.6 * ratio[GOOD == 0].mean())
        close(found["accuracy"].value, np.mean((np.asarray(ratio) > z) == (GOOD > 0)))
        drifted += bool(z > 0)
    assert drifted > 0


def test_a_loss_of_known_numbers():
    """Log-ratios of 0 at the start: half of each weight, whatever the answers."""
    state, batch = state_of(), answers()
    found = jax.jit(FAMILY.evaluate)(state, batch, jax.random.key(0))
    close(found["loss"].value, (3 * 1.2 + 3 * 0.7) / 2 / 6)
    close(found["accuracy"].value, 0.5)


@pytest.mark.parametrize("precomputed", [False, True])
def test_a_step_follows_the_gradient(precomputed):
    state, batch = state_of(by=0.2), answers()
    reference, rule = state.frozen[BASE]["params"], SGD(Constant(0.1))
    if precomputed:
        batch |= jax.jit(FAMILY.precompute)(state, batch)
    after, _ = jax.jit(lambda s, b: FAMILY.train_step(s, b, optimizer=rule.build(4)))(state, batch)
    slope = jax.grad(lambda p: loss_by_hand(p, reference, batch)[0].mean())(state.params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, slope)
    jax.tree.map(lambda one, other: close(one, other, atol=1e-5), after.params, expected)


def test_padding_counts_for_nothing():
    state, batch = state_of(by=0.2), answers()
    padded = {
        name: jnp.concatenate([part, jnp.zeros_like(part[:2])]) for name, part in batch.items()
    }
    one, other = (
        jax.jit(FAMILY.evaluate)(state, given, jax.random.key(0)) for given in (batch, padded)
    )
    for name in ("desirable_reward", "undesirable_reward"):
        close(one[name].value, other[name].value)
    assert float(other["loss"].weight) == B


def refused(call):
    with pytest.raises(UserError) as error:
        call()
    return error.value.field


def test_what_does_not_fit_is_refused():
    assert refused(lambda: LabelledKTO(beta=0)) == "beta"
    assert refused(lambda: LabelledKTO(undesirable=-1)) == "undesirable"
    assert refused(lambda: FAMILY.check_batch(1, 1, 1)) == "batch_size"
    assert refused(lambda: LabelledKTO("base").resolve(OTHERS, PAIRS)) == "data"
    assert refused(lambda: LabelledKTO("base").resolve(OTHERS, BASE_SPEC)) == "data"


RECORDS = [
    {"prompt": "2+2?", "completion": "4", "label": True},
    {"prompt": "2+2?", "completion": "5", "label": False},
    {
        "prompt": [{"role": "user", "content": "Hi"}],
        "completion": [{"role": "assistant", "content": "Go away"}],
        "label": 0,
    },
    {"instruction": "Add", "input": "1 and 2", "output": "3", "label": "true"},
]


def write(tmp_path, records, **options):
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records))
    return LabelledAnswers(
        str(path),
        codec=Bytes(delimiter=True),
        split=ByDocuments(0, 0.0),
        cache=str(tmp_path),
        **options,
    )


def test_records_become_rows_with_labels(tmp_path):
    data = write(tmp_path, RECORDS).open()
    rows = data.splits["train"].batch(np.arange(4))
    assert rows["label"].tolist() == [1, 0, 0, 1]
    assert data.spec.class_names == CLASSES
    assert {name: part.shape[1:] for name, part in rows.items()} == {
        name: shape for name, (shape, _) in data.spec.entries.items() if name != "mask"
    }
    said = [
        data.codec.decode(tokens[mask > 0])
        for tokens, mask in zip(rows["tokens"], rows["loss_mask"], strict=True)
    ]
    assert [text.strip() for text in said] == ["4", "5", "Go away", "3"]
    assert "2 desirable answers and 2 undesirable" in data.remarks


@pytest.mark.parametrize(
    "record, field",
    [
        ({"prompt": "a", "completion": "b"}, "label"),
        ({"prompt": "a", "completion": "b", "label": "maybe"}, "label"),
        ({"prompt": "a", "completion": "b", "label": 2}, "label"),
        ({"prompt": "a", "label": True}, "completion"),
        ({"completion": "a", "label": True}, "prompt"),
    ],
)
def test_records_without_a_part_are_refused_by_its_field(record, field, tmp_path):
    assert refused(write(tmp_path, [*RECORDS, record]).open) == field


def test_answers_of_one_label_or_too_long_are_refused(tmp_path):
    assert refused(write(tmp_path, RECORDS[:1]).open) == "label"
    assert refused(write(tmp_path, RECORDS, length=8, long="drop").open) == "length"
    assert refused(lambda: LabelledAnswers(long="keep")) == "long"


def test_a_run_learns_from_answers_and_is_sampled(tmp_path):
    """Base and policy are trained for a few steps; the base's own samplers draw from the policy."""
    asked = [{"prompt": f"{n}?", "completion": "ab"[n % 2], "label": n % 2} for n in range(40)]
    data = write(tmp_path, asked, length=96)
    data = dataclasses.replace(data, split=ByDocuments(0.2))
    net = Transformer(1, 2, 8, 96)
    texts = Instructions(str(tmp_path / "answers.jsonl"), codec=Bytes(delimiter=True), length=95)
    (tmp_path / "answers.jsonl").write_text(
        "\n".join(json.dumps({k: v for k, v in one.items() if k != "label"}) for one in asked)
    )
    every = Every(log=4, evaluate=8, sample=0, checkpoint=8)
    told = {"batch_size": 8, "every": every, "devices": Devices(count=1)}
    base = Experiment(Autoregressive(net), texts, steps=8, **told)
    genjax.train(base, tmp_path / "base")
    write(tmp_path, asked)
    family = LabelledKTO(str(tmp_path / "base"), beta=0.5)
    optimizer = Adam(Constant(0.03))
    run = genjax.train(
        Experiment(family, data, steps=24, optimizer=optimizer, **told),
        tmp_path / "kto",
    )
    found = run.evaluate("test").numbers
    assert found["desirable_reward"] > found["undesirable_reward"] + 0.1
    assert found["accuracy"] > 0.9
    assert run.sample(2).shape[0] == 2
