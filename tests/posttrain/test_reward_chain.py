"""From pre-training to PPO on trained runs: a policy learns what a reward run prefers, whose
truth is known.
"""

import dataclasses

import numpy as np
import pytest

import genjax
from genjax.data.sources import RulePreferences, RuleResponses
from genjax.data.sources.rule_responses import positivity
from genjax.data.text.codecs import Words
from genjax.errors import UserError
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.nets.transformer.token_backbone import TokenBackbone
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.posttrain.ppo import PPO
from genjax.posttrain.reward import RewardModel
from genjax.schedules import Constant

NET = Transformer(layers=1, heads=2, width=16, context=64)
RESPONSES = RuleResponses(400, 30)
EVERY = Every(log=5, evaluate=0, sample=0, checkpoint=0)


def trained(family, data, folder, **changes):
    settings = {"steps": 60, "batch_size": 16, "every": EVERY, "devices": Devices(count=1)}
    experiment = Experiment(
        family, data, changes.pop("optimizer", Adam(Constant(1e-2))), **settings | changes
    )
    return genjax.train(experiment, folder, quiet=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    base = trained(Autoregressive(NET), RESPONSES, folder / "base")
    judge = trained(
        RewardModel(TokenBackbone(NET, "last")),
        RulePreferences(400, 30),
        folder / "judge",
        steps=120,
    )
    return base, judge


@pytest.mark.long
def test_a_policy_learns_what_a_reward_run_prefers(runs, tmp_path):
    base, judge = (str(run.run_dir) for run in runs)
    family = PPO(base, reward_run=judge, new_tokens=32, longest_prompt=16, epochs=2, kl=0.02)
    told = (RewardOfSamples(positivity, "positivity", steps=32),)
    run = trained(family, RESPONSES, tmp_path / "ppo", steps=15, batch_size=32, evaluators=told)
    before = dataclasses.replace(
        runs[0], experiment=dataclasses.replace(runs[0].experiment, evaluators=told)
    )
    start = before.evaluate().numbers
    found = run.evaluate().numbers
    margin = 3 * np.hypot(start["positivity_error"], found["positivity_error"])
    assert found["positivity"] > start["positivity"] + margin
    loaded = genjax.load(tmp_path / "ppo")
    np.testing.assert_array_equal(loaded.sample(num=2), run.sample(num=2))


@pytest.mark.long
def test_a_judge_of_other_tokens_is_refused(runs, tmp_path):
    words = tuple(sorted(runs[0].codec.tokens.words))
    other = RulePreferences(40, 20, codec=Words(words))
    judge = trained(RewardModel(TokenBackbone(NET, "last")), other, tmp_path / "judge", steps=1)
    family = PPO(
        str(runs[0].run_dir), reward_run=str(judge.run_dir), new_tokens=8, longest_prompt=16
    )
    with pytest.raises(UserError, match="the tokens of .*judge are not those of these data"):
        trained(family, RESPONSES, tmp_path / "ppo", steps=1)
