"""Change one thing of a config at a time and show what it does: a picture for each question.

    python -m benchmarks.ablations                      # runs that docs/ablations.json lacks
    python -m benchmarks.ablations guidance lora_rank   # these questions alone
    python -m benchmarks.ablations --draw               # train nothing: the pictures and the page

The runs are short forms of configs, so that all take about an hour of two cores; the page,
docs/ablations.md, has their numbers. Runs are made under ``--folder``, and judged on held-out data.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import genjax
from genjax.config_files import load_config
from genjax.data.charts import new_figure
from genjax.data.sources import Points
from genjax.evaluation.images.guidance import GuidanceCurve
from genjax.evaluation.images.modes import MixtureModes
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.likelihood.gauges import GameGauges
from genjax.experiment import Every, Experiment, Keep
from genjax.nets.conv.resnet import ResNet
from genjax.nets.gan.generators import ConvBackbone, MLPGenerator
from genjax.nets.mlp import MLPBackbone
from genjax.optim import Adam, Players
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.lora import LoRA
from genjax.samplers.diffusion.processes import Straight, VPLinear
from genjax.schedules import Constant, Linear
from genjax.serial.fields import replace_fields

DOCS = Path(__file__).resolve().parent.parent / "docs"
STORED, PAGE, PICTURES = "ablations.json", "ablations.md", "ablations"
INTRODUCTION = """\
# Ablations

Each changes one thing of a short form of a config. `python -m benchmarks.ablations` runs them,
draws the pictures and writes this page. Numbers are of held-out data, one for each seed.
"""
WIDE = 300  # numbers that differ by more are drawn on a logarithmic axis
Changes = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Ablation:
    """A question, and the runs that answer it.

    Attributes:
      title: the question.
      config: the config that is changed.
      fixed: changes of all arms.
      arms: the changes of each arm, by what it is called.
      metrics: names of numbers and what to call them; ``{arm}`` stands for the arm.
      answer: what the runs show, for the page.
      seeds: seeds of each arm.
    """

    title: str
    config: str
    fixed: Changes
    arms: Mapping[str, Changes]
    metrics: Mapping[str, str]
    answer: str
    seeds: tuple[int, ...] = (0, 1)


def players(generator: float, discriminator: float, **fields: Any) -> Changes:
    """Return Adam for both players with these learning rates, and further changes of the family."""
    first, second = (Adam(Constant(rate), b1=0.5) for rate in (generator, discriminator))
    changed = {f"family.{name}": value for name, value in fields.items()}
    return {"optimizer": Players(first, second), **changed}


def short(steps: int) -> Changes:
    """Return the changes that end a run after so many steps and judge it at the end alone."""
    return {
        "steps": steps,
        "every": Every(log=min(steps, 100), evaluate=0, sample=0, checkpoint=steps),
    }


def list_ablations() -> dict[str, Ablation]:
    """Return all questions by name, in the order of the page."""
    eyes = "runs/classifier_digits"
    circle = Points("eight_gaussians", size=100_000)
    modes, std = circle.modes()
    centres = modes.tolist()
    adapters = {
        f"rank {rank}": {
            "family": LoRA("runs/gpt_rule", Adapters(rank)),
            "start_from.run": None,
        }
        for rank in (1, 4, 16)
    }
    return {
        "gan_failures": Ablation(
            "Three failures of GANs, made on purpose, and cured by R1",
            "gan_points",
            short(3000)
            | {
                "data": circle,
                "family.latent_dim": 8,
                "family.generator": MLPGenerator((128, 128)),
                "family.discriminator": MLPBackbone((128, 128)),
                "batch_size": 128,
                "ema": 0.995,
                "evaluators": (GameGauges(), MixtureModes(tuple(map(tuple, centres)), std)),
                "keep": Keep(best=None),
            },
            {
                "equal rates": players(1e-3, 1e-3),
                "modes lost": players(1e-3, 1e-2),
                "modes lost, R1": players(1e-3, 1e-2, r1=0.1),
                "collapse": players(1e-3, 1e-2, loss="minimax"),
                "collapse, R1": players(1e-3, 1e-2, loss="minimax", r1=0.1),
                "chase": players(1e-4, 1e-2),
                "chase, R1": players(1e-4, 1e-2, r1=0.1),
            },
            {
                "modes": "modes found, of 8",
                "good": "share of good samples",
                "strength": "strength of discriminator",
                "oscillation": "oscillation",
            },
            "Rates are those of generator and discriminator: 0.001 each, then 0.001 and 0.01, the "
            "same with the minimax loss, then 0.0001 and 0.01. A discriminator that learns faster "
            "loses modes, the more the less its generator can follow, and the gauge of oscillation "
            "says so when both chase each other. A weight of 0.1 on R1 brings the modes back.",
            (0, 1, 2),
        ),
        "posterior_collapse": Ablation(
            "When do latents say nothing, and what brings them back?",
            "vae_digits",
            short(1500) | {"evaluators": ()},
            {
                "weight 1": {"family.beta": Constant(1.0)},
                "weight 20": {"family.beta": Constant(20.0)},
                "rising to 20": {"family.beta": Linear(0.0, 20.0, 1500)},
                "weight 20, 0.25 nats free": {
                    "family.beta": Constant(20.0),
                    "family.free_bits": 0.25,
                },
            },
            {"kl": "KL, nats", "reconstruction": "reconstruction, nats"},
            "A weight of 20 on the KL makes silence the best that training can find, so that a "
            "weight that rises to it only comes there later. Free nats pay for a part of it, and "
            "reconstructions follow.",
        ),
        "guidance": Ablation(
            "Guidance: agreement against diversity",
            "diffusion_digits",
            short(600) | {"evaluators": (GuidanceCurve(eyes, (0.0, 1.0, 2.0, 4.0, 8.0)),)},
            {str(scale): {} for scale in (0, 1, 2, 4, 8)},
            {
                "agreement_at_{arm}": "samples of the requested digit",
                "diversity_at_{arm}": "distance between samples of a digit",
            },
            "Scale 0 ignores the label. From 2 on all samples are of their digit, and every "
            "further step takes diversity alone.",
        ),
        "schedules": Ablation(
            "Noise schedules",
            "diffusion_digits",
            short(600) | {"evaluators": (SampleQuality(eyes, 1000, kernel_subset=500),)},
            {
                "cosine": {},
                "linear": {"family.process": VPLinear()},
                "straight": {"family.process": Straight(), "family.target": "velocity"},
            },
            {"frechet_classifier_digits": "Fréchet distance, digits' features"},
            "",
        ),
        "little_data": Ablation(
            "Augmentation with little data",
            "classifier_mnist",
            short(300) | {"evaluators": ()},
            {
                f"{size:,} images{', shifted' if shifted else ''}": {
                    "data.validation": 60_000 - size,
                    **({} if shifted else {"augment": ()}),
                }
                for size in (100, 1000, 60_000)
                for shifted in (False, True)
            },
            {"accuracy": "accuracy"},
            "",
        ),
        "regularisation": Ablation(
            "Dropout and batch norm with 1,000 images",
            "classifier_mnist",
            short(300) | {"data.validation": 59_000, "augment": (), "evaluators": ()},
            {
                "perceptron": {"family.net": MLPBackbone((256, 256))},
                "dropout 0.3": {"family.net": MLPBackbone((256, 256), dropout=0.3)},
                "no norm": {"family.net": ResNet((16, 32, 64), norm="none")},
                "group norm": {"family.net": ResNet((16, 32, 64), norm="group")},
                "batch norm": {},
            },
            {"accuracy": "accuracy"},
            "",
        ),
        "steady_discriminator": Ablation(
            "What keeps a discriminator in bounds?",
            "gan_digits",
            short(600)
            | {
                "evaluators": (
                    GameGauges(),
                    SampleQuality(samples=1500, kernel_subset=500),
                ),
                "keep": Keep(best=None),
            },
            {
                "nothing": {"family.r1": 0.0},
                "R1": {},
                "spectral norm": {"family.r1": 0.0, "family.spectral_norm": "discriminator"},
                "batch norm": {
                    "family.r1": 0.0,
                    "family.discriminator": ConvBackbone((64, 128), batch_norm=True),
                },
            },
            {
                "frechet_pixels": "Fréchet distance, pixels",
                "recall_pixels": "recall",
                "strength": "strength of the discriminator",
            },
            "",
        ),
        "lora_rank": Ablation(
            "How many ranks does an adapter need?",
            "sft_rule",
            {},
            {**adapters, "all": {}},
            {"loss": "nats per token", "positivity": "positive words less negative ones"},
            "Here the rank makes no difference: in 100 steps at the same learning rate adapters of "
            "any rank move the model far less than a training of all parameters does.",
        ),
        "ppo_kl": Ablation(
            "The KL coefficient of PPO: reward against distance",
            "ppo_reward_model",
            short(30) | {"family.kl_target": None},
            {str(kl): {"family.kl": kl} for kl in (0.0, 0.02, 0.1, 0.5)},
            {
                "positivity": "positive words less negative ones",
                "train/kl": "KL in the last step, nats a response",
            },
            "From no penalty to one of 0.1 the KL falls from over 20 nats to 1.6 at about the same "
            "reward; at 0.5 the penalty costs reward.",
        ),
        "curriculum": Ablation(
            "Short texts first",
            "curriculum_shakespeare",
            short(300),
            {
                "short first": {},
                "long first": {"curriculum.order": "hard_first"},
                "no order": {"curriculum.pacing.start": 1.0},
            },
            {"loss": "nats per character"},
            "",
        ),
    }


def run_arm(ablation: Ablation, changes: Changes, seed: int, run_dir: Path) -> dict[str, float]:
    """Train an arm and return its held-out numbers, and the last of training as ``train/NAME``."""
    config, source = load_config(ablation.config)
    experiment: Experiment = replace_fields(config, {**ablation.fixed, **changes, "seed": seed})
    begin = time.process_time()
    run = genjax.train(experiment, run_dir, source=source, quiet=True)
    numbers = {name: float(value) for name, value in run.evaluate("test").numbers.items()}
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = [row for row in map(json.loads, lines) if row["split"] == "train"][-1]
    numbers |= {f"train/{name}": value for name, value in last.items() if name != "split"}
    return numbers | {"cpu_seconds": round(time.process_time() - begin, 1)}


def run_missing(names: list[str], folder: Path, stored: Path) -> None:
    """Run what is missing; arms with the same changes share a run."""
    found = read(stored)
    for name in names:
        ablation = list_ablations()[name]
        made: dict[str, dict[str, float]] = {}
        for arm, changes in ablation.arms.items():
            keys = [key.format(arm=arm) for key in (*ablation.metrics, "cpu_seconds")]
            for seed in ablation.seeds:
                here = found.setdefault(name, {}).setdefault(arm, {})
                if str(seed) in here:
                    continue
                same = repr((changes, seed))
                if same not in made:
                    run_dir = folder / f"{name}-{len(made)}-{seed}"
                    made[same] = run_arm(ablation, changes, seed, run_dir)
                here[str(seed)] = {key: made[same][key] for key in keys if key in made[same]}
                print(name, arm, seed, here[str(seed)], flush=True)
                stored.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read(stored: Path) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Read the numbers by question, arm and seed."""
    found: dict[str, Any] = {}
    if stored.exists():
        found = json.loads(stored.read_text(encoding="utf-8"))
    return found


def collect(
    ablation: Ablation, found: Mapping[str, Mapping[str, Mapping[str, float]]], key: str
) -> list[list[float]]:
    """Return a number of each seed of each arm."""
    return [
        [numbers.get(key.format(arm=arm), float("nan")) for numbers in found[arm].values()]
        for arm in ablation.arms
        if arm in found
    ]


def draw(ablation: Ablation, found: Mapping[str, Any], path: Path) -> None:
    """Draw the numbers of all arms: a panel for each metric, a point for each seed, a bar at the
    mean.
    """
    arms = [arm for arm in ablation.arms if arm in found]
    figure = new_figure(3.2 * len(ablation.metrics) + 1.2, 0.3 * len(arms) + 1.1, dpi=90)
    axes = figure.subplots(1, len(ablation.metrics), sharey=True, squeeze=False)[0]
    places = np.arange(len(arms))[::-1]
    for axis, (key, label) in zip(axes, ablation.metrics.items(), strict=True):
        columns = collect(ablation, found, key)
        least, most = np.nanmin(columns), np.nanmax(columns)
        if least > 0 and most / least > WIDE:
            axis.set_xscale("log")
        for place, values in zip(places, columns, strict=True):
            axis.barh(place, np.mean(values), height=0.6, color="#cfd8e6")
            axis.plot(values, [place] * len(values), "o", color="#24527a", markersize=4)
        axis.set_title(label, fontsize=9)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(places, arms)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


def write_page(found: Mapping[str, Any]) -> str:
    """Return the page: for each question its picture, its numbers and what they show."""
    parts = [INTRODUCTION]
    for name, ablation in list_ablations().items():
        if name not in found:
            continue
        numbers, labels = found[name], list(ablation.metrics.values())
        arms = [arm for arm in ablation.arms if arm in numbers]
        columns = [collect(ablation, numbers, key) for key in ablation.metrics]
        rows = [
            f"| {arm} | "
            + " | ".join(", ".join(f"{x:.3g}" for x in column[i]) for column in columns)
            + " |"
            for i, arm in enumerate(arms)
        ]
        # Arms that share a run have its seconds each.
        runs = {(at, each["cpu_seconds"]) for arm in numbers.values() for at, each in arm.items()}
        seconds = sum(time for _, time in runs)
        head = f"| `{ablation.config}` | {' | '.join(labels)} |\n|{'---|' * (len(labels) + 1)}\n"
        parts.append(
            f"## {ablation.title}\n\n![{ablation.title}]({PICTURES}/{name}.png)\n\n{head}"
            + "\n".join(rows)
            + "\n\n"
            + textwrap.fill(
                f"{ablation.answer} Seeds {', '.join(map(str, ablation.seeds))}; "
                f"{seconds / 60:.1f} minutes of CPU time.",
                100,
            )
            + "\n"
        )
    return "\n".join(parts)


def main() -> None:
    """Run what is missing, draw the pictures and write the page."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("names", nargs="*", metavar="QUESTION", help=", ".join(list_ablations()))
    parser.add_argument("--folder", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--docs", type=Path, default=DOCS)
    parser.add_argument("--draw", action="store_true", help="train nothing")
    given = parser.parse_args()
    known = list_ablations()
    if unknown := set(given.names) - set(known):
        parser.error(f"unknown questions: {', '.join(sorted(unknown))}")
    stored = given.docs / STORED
    if not given.draw:
        run_missing(given.names or list(known), given.folder, stored)
    found = read(stored)
    for name in filter(found.__contains__, known):
        draw(known[name], found[name], given.docs / PICTURES / f"{name}.png")
    (given.docs / PAGE).write_text(write_page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
