"""The questions of ``benchmarks.ablations``: which config is changed, how, and what is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from genjax.data.sources import Points
from genjax.evaluation.images.guidance import GuidanceCurve
from genjax.evaluation.images.modes import MixtureModes
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.likelihood.gauges import GameGauges
from genjax.experiment import Every, Keep
from genjax.nets.conv.resnet import ResNet
from genjax.nets.gan.generators import ConvBackbone, MLPGenerator
from genjax.nets.mlp import MLPBackbone
from genjax.optim import Adam, Players
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.lora import LoRA
from genjax.samplers.diffusion.processes import Straight, VPLinear
from genjax.schedules import Constant, Linear

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
            "Three failures of GANs, made on purpose, and what R1 does to them",
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
            "says so when both chase each other. A weight of 0.1 on R1 brings all modes "
            "back; where the generator is slow, few of its samples are good yet.",
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
            "A weight of 20 on the KL makes silence the best that training can find, and a weight "
            "that rises to it over the whole run ends the same. Latents that may say 0.25 nats "
            "each at no cost say some, and reconstructions improve.",
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
