"""All methods of preferences and reinforcement on two tasks, from one start, with equal budgets.

    python -m benchmarks.preferences --seeds 0 1 2

The tasks are generated reviews, rewarded for positive words less negative ones, from ``sft_rule``;
and sums of one-digit numbers of the package reasoning-gym, scored by its verifier, from a model
that imitates answers of which three in ten are wrong (``pip install 'genjax-train[reasoning]'``).

Each method learns from ``--responses`` responses: those of pairs read once, or drawn by the policy.
Its learning rate is the best of three by the reward of seed 0, on the training prompts. The numbers
are the mean reward of a response to each held-out prompt at temperature 1, and the KL to the start
in nats per response, of the same draws. The results are kept in ``--out`` as they are made, and
what is there is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import genjax
from genjax.config_files import load_config
from genjax.data.reasoning.problems import ReasoningGym, Verifier
from genjax.data.sources.preferences import RulePreferences
from genjax.data.sources.rule_responses import RuleResponses, positivity
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.families.rewards import decode_rows, extract_prompts, score_texts
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam, AdamW
from genjax.posttrain.dpo import DPO
from genjax.posttrain.grpo import GRPO
from genjax.posttrain.kto import KTO
from genjax.posttrain.online_dpo import OnlineDPO
from genjax.posttrain.orpo import ORPO
from genjax.posttrain.ppo import PPO
from genjax.posttrain.rloo import RLOO
from genjax.posttrain.rollouts import draw_rollout, score_tokens
from genjax.posttrain.simpo import SimPO
from genjax.runs.run import Run
from genjax.runs.setup import set_up
from genjax.schedules import Linear, WarmUp

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "preferences.json"
BATCH = 64  # responses of a step
RATES = (3e-4, 1e-3, 3e-3)
PROMPTS = 500  # held-out prompts that are answered


@dataclasses.dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
      base: run directory of the start.
      reward: reward of responses.
      prompts: source of prompts.
      pairs: source of pairs.
      tokens: maximum length of a response.
      longest: maximum length of a prompt.
    """

    base: str
    reward: Callable[..., Any]
    prompts: Any
    pairs: Any
    tokens: int
    longest: int


def make_tasks(folder: Path) -> dict[str, Task]:
    """Return the tasks, and train their starts if they are missing."""
    sums = ReasoningGym("chain_sum", (("max_digits", 1), ("max_terms", 3)), length=96)
    start = Experiment(
        family=Autoregressive(
            Transformer(layers=2, heads=4, width=64, context=96), sampler=Decoding(steps=4)
        ),
        data=dataclasses.replace(sums, wrong=0.3),
        optimizer=AdamW(WarmUp(50, Linear(3e-3, 0.0)), clip=1.0),
        steps=1_000,
        batch_size=64,
        every=Every(log=100, evaluate=500, sample=0, checkpoint=1_000),
    )
    genjax.train(start, folder / "sums", quiet=True)
    rule, _ = load_config("sft_rule")
    genjax.train(rule, folder / "reviews", quiet=True)
    return {
        "reviews": Task(
            str(folder / "reviews"), positivity, RuleResponses(), RulePreferences(), 48, 16
        ),
        "sums": Task(
            str(folder / "sums"),
            Verifier(sums),
            sums,
            dataclasses.replace(sums, form="pairs"),
            4,
            90,
        ),
    }


def make_methods(task: Task) -> dict[str, Any]:
    """Return the methods by name; those that draw have a ``reward``."""
    draws: dict[str, Any] = {
        "reward": task.reward,
        "new_tokens": task.tokens,
        "longest_prompt": task.longest,
    }
    return {
        "DPO": DPO(task.base),
        "IPO": DPO(task.base, form="ipo"),
        "KTO": KTO(task.base),
        "ORPO": ORPO(task.base),
        "SimPO": SimPO(task.base),
        "online DPO": OnlineDPO(task.base, **draws),
        "RLOO": RLOO(task.base, **draws),
        "GRPO": GRPO(task.base, minibatches=1, **draws),
        "PPO": PPO(task.base, epochs=1, minibatches=1, **draws),
    }


def train(task: Task, family: Any, rate: float, responses: int, seed: int, run_dir: Path) -> Run:
    """Train a method on that many responses."""
    draws = isinstance(family, OnlineDPO | RLOO | GRPO | PPO)
    rows = BATCH if draws else BATCH // 2
    experiment = Experiment(
        family=family,
        data=task.prompts if draws else task.pairs,
        optimizer=Adam(WarmUp(5, Linear(rate, 0.0)), clip=1.0),
        steps=responses // BATCH,
        batch_size=rows,
        seed=seed,
        every=Every(log=10, evaluate=0, sample=0, checkpoint=responses // BATCH),
    )
    return genjax.train(experiment, run_dir, quiet=True)


def judge(task: Task, run: Run, split: str, seed: int) -> dict[str, float]:
    """Draw a response to each of ``PROMPTS`` prompts; return the mean reward and its standard
    error, and the KL to the start.
    """
    data = set_up(dataclasses.replace(build_start(task), data=task.prompts)).data
    part = data.splits[split]
    batch = part.batch(np.arange(min(PROMPTS, len(part))))
    prompts, asked = extract_prompts(
        jnp.asarray(batch["tokens"]), jnp.asarray(batch["prefix_mask"]), task.longest
    )
    family, params = run.family, run.eval_state.params
    start = genjax.load(task.base).eval_state.params
    end = data.codec.end
    drawn = draw_rollout(
        family, params, prompts, asked, task.tokens, jax.random.key(seed), ((end,),), end
    )
    mask = drawn.real[:, -task.tokens :]
    own, known = (
        score_tokens(family, one, drawn.tokens, drawn.real, task.tokens).log_probs
        for one in (params, start)
    )
    tokens, real = np.asarray(drawn.tokens), np.asarray(drawn.real)
    said = decode_rows(data.codec, tokens[:, : task.longest], real[:, : task.longest])
    texts = decode_rows(data.codec, tokens[:, task.longest :], real[:, task.longest :])
    rewards = score_texts(task.reward, said, texts).astype(np.float64)
    return {
        "reward": float(rewards.mean()),
        "error": float(rewards.std(ddof=1) / np.sqrt(len(rewards))),
        "kl": float(((own - known) * mask).sum(1).mean()),
        "tokens": float(mask.sum(1).mean()),
    }


def build_start(task: Task) -> Experiment:
    """Return the experiment of a task's start."""
    experiment: Experiment = genjax.load(task.base).experiment
    return experiment


def compare(folder: Path, responses: int, seeds: list[int], out: Path) -> dict[str, Any]:
    """Run all methods on both tasks; return the results by task, method and seed."""
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}

    def keep(place: list[str], result: Any) -> None:
        here = found
        for name in place[:-1]:
            here = here.setdefault(name, {})
        here[place[-1]] = result
        out.write_text(json.dumps(found, indent=1), encoding="utf-8")

    for name, task in make_tasks(folder).items():
        if "start" not in found.get(name, {}):
            keep([name, "start"], judge(task, genjax.load(task.base), "test", 0))
        for method, family in make_methods(task).items():
            known = found.get(name, {}).get(method, {})
            if "rate" not in known:
                rate = choose_rate(task, family, responses, folder / f"{name}-{method}")
                keep([name, method, "rate"], rate)
            rate = found[name][method]["rate"]
            for seed in seeds:
                if str(seed) in known:
                    continue
                begin = time.process_time()
                run_dir = folder / f"{name}-{method}-{rate:g}-{seed}"
                run = train(task, family, rate, responses, seed, run_dir)
                seconds = time.process_time() - begin
                result = judge(task, run, "test", seed) | {"cpu_seconds": round(seconds, 1)}
                keep([name, method, str(seed)], result)
                print(name, method, rate, seed, result, flush=True)
    return found


def choose_rate(task: Task, family: Any, responses: int, stem: Path) -> float:
    """Return the learning rate with the highest reward on training prompts, of seed 0."""
    rewards = {}
    for rate in RATES:
        run = train(task, family, rate, responses, 0, Path(f"{stem}-{rate:g}-0"))
        rewards[rate] = judge(task, run, "train", 0)["reward"]
        print(stem.name, rate, rewards[rate], flush=True)
    return max(rewards, key=lambda rate: rewards[rate])


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--responses", type=int, default=6_400, help="responses of each method")
    parser.add_argument("--folder", type=Path, default=Path("runs/preferences"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    compare(given.folder, given.responses, given.seeds, given.out)


if __name__ == "__main__":
    main()
