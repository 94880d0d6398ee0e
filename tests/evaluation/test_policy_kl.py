"""The KL of policies whose law is written down, and what is refused."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.data.sources import RulePreferences
from genjax.data.text.codecs import Words
from genjax.errors import UserError
from genjax.evaluation.text.policy_kl import PolicyKL
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.posttrain.continued import BASE
from genjax.posttrain.dpo import DPO
from tests.evaluation.bigrams import subject

DATA = RulePreferences(8, 300, codec=Words()).open()
V, END = DATA.spec.vocabulary, DATA.codec.end
SPEC = Spec("chosen_tokens", (8,), np.zeros(8, np.float32), vocabulary=V, preferences=True)


def table(seed):
    """Random probabilities [V, V]; an end in one of five tokens or so."""
    logits = np.random.default_rng(seed).normal(size=(V, V))
    logits[:, END] += np.log(V / 4)
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


POLICY, REFERENCE = table(0), table(1)


def judged(policy, reference):
    """The subject of a policy that was trained by DPO, both tables of probabilities."""
    found = subject(DATA, policy)
    family = dataclasses.replace(DPO("base"), base=found.model.family)
    params = {"table": jnp.log(jnp.asarray(reference, jnp.float32))}
    state = found.model.state.replace(frozen={BASE: {"params": params, "variables": {}}})
    return dataclasses.replace(
        found, model=dataclasses.replace(found.model, family=family, state=state)
    )


def expected(steps):
    """KL and length of responses of up to this many tokens, exactly; all prompts end with the
    same token.
    """
    batch = DATA.splits["test"].batch(np.arange(300))
    sizes = (batch["chosen_mask"] - batch["chosen_response"]).sum(1).astype(int)
    (last,) = {int(row[size - 1]) for row, size in zip(batch["chosen_tokens"], sizes, strict=True)}
    here, kl, length = np.eye(V)[last], 0.0, 0.0
    each = (POLICY * np.log(POLICY / REFERENCE)).sum(1)
    for _ in range(steps):
        kl, length = kl + here @ each, length + here.sum()
        here = here @ POLICY
        here[END] = 0
    return kl, length


@pytest.mark.parametrize("steps", [1, 6])
def test_the_mean_of_a_markov_chain_is_the_exact_one(steps):
    evaluator = PolicyKL(steps)
    on = judged(POLICY, REFERENCE)
    evaluator.check(on.model.family, DATA.spec, {})
    found = evaluator(on).numbers
    kl, length = expected(steps)
    assert (
        0 < found["policy_kl_error"] < 0.2 * kl
        and abs(found["policy_kl"] - kl) < 3 * found["policy_kl_error"]
    )
    assert abs(found["policy_length"] - length) < 0.1 * length


def test_of_the_reference_itself_it_is_0():
    report = PolicyKL(6, limit=20)(judged(POLICY, POLICY))
    assert report.numbers["policy_kl"] == report.numbers["policy_kl_error"] == 0
    assert "20 prompts of test, at most 6 tokens" in report.protocol


def test_what_does_not_fit_is_refused():
    for settings in ({"steps": 0}, {"limit": 1}):
        with pytest.raises(UserError, match=f"^{next(iter(settings))} must be"):
            PolicyKL(**settings)
    with pytest.raises(UserError, match="keeps a reference, such as DPO, got a Autoregressive"):
        PolicyKL().check(Autoregressive(), SPEC, {})
    family = dataclasses.replace(DPO("base"), base=Autoregressive())
    with pytest.raises(UserError, match="needs pairs of responses, but the data are tokens"):
        PolicyKL().check(family, dataclasses.replace(SPEC, entry="tokens", preferences=False), {})
    with pytest.raises(UserError, match=r"steps must be <= 1024 \(context\), got 2000"):
        PolicyKL(2000).check(family, SPEC, {})
