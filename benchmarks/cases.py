"""The cases that ``benchmarks.peers`` measures, each with its goal."""

from __future__ import annotations

import dataclasses

TORCH = ("torch",)
GENERATION = ("torch", "transformers")
TRL = ("torch", "transformers", "datasets", "accelerate", "trl")


@dataclasses.dataclass(frozen=True)
class Case:
    """A case.

    Attributes:
      module: module of benchmarks that has both sides.
      goal: ratio genjax / peer that is wanted, lower is better.
      what: what one step does, for the page.
      peer: what it is compared with, for the page.
      packages: packages that the peer needs.
    """

    module: str
    goal: float
    what: str
    peer: str = "PyTorch"
    packages: tuple[str, ...] = TORCH


CASES = {
    "vae": Case("vae", 0.45, "perceptrons 784-400-20, batch 128, Adam"),
    "vae_conv": Case("vae", 0.6, "strided 4x4 convolutions of 32 and 64 channels, batch 128, Adam"),
    "dcgan": Case("dcgan", 0.8, "both players, 28x28, batch 64, Adam"),
    "unet": Case(
        "unet",
        0.8,
        "`UNet2DModel` of 6.5M parameters, 16 images of 32x32x3, AdamW",
        "diffusers",
        ("torch", "diffusers"),
    ),
    "diffusion_sample": Case(
        "unet",
        0.75,
        "five steps of DDIM by the same net, 16 images",
        "diffusers",
        ("torch", "diffusers"),
    ),
    "gpt": Case("gpt", 0.7, "nanoGPT's CPU model, 12 rows of 64, AdamW and clipping"),
    "gpt_compiled": Case("gpt", 0.8, "the same", "`torch.compile`"),
    "mlm": Case(
        "mlm",
        0.75,
        "BERT of 4 layers, 128 wide, 32 rows of 64 tokens",
        "transformers",
        GENERATION,
    ),
    "generate_small": Case(
        "gpt", 0.06, "one text of 64 characters", "`transformers.generate`", GENERATION
    ),
    "generate_small_16": Case("gpt", 0.2, "16 of them", "`transformers.generate`", GENERATION),
    "generate_124m": Case(
        "gpt", 0.75, "63 tokens by the smallest GPT-2", "`transformers.generate`", GENERATION
    ),
    "ppo": Case(
        "ppo", 0.3, "an iteration of `ppo_random_walks`' sizes", "PyTorch, transformers", GENERATION
    ),
    "ppo_text": Case(
        "ppo",
        0.6,
        "an iteration of 4 layers, 128 wide, 64 new tokens",
        "PyTorch, transformers",
        GENERATION,
    ),
    "grpo": Case(
        "posttraining",
        0.5,
        "an iteration of 4 updates, 4 groups of 8 responses of 32 tokens",
        "TRL's `GRPOTrainer`",
        TRL,
    ),
    "dpo": Case("posttraining", 0.5, "16 pairs of 64 tokens, AdamW", "TRL's `DPOTrainer`", TRL),
    "sft_lora": Case(
        "posttraining",
        0.5,
        "adapters of rank 8 on 16 rows of 64 tokens, AdamW",
        "peft",
        ("torch", "transformers", "accelerate", "peft"),
    ),
    "train_loop": Case(
        "loop",
        0.5,
        "epochs of `vae` on MNIST by the loop of `genjax.train`, with input, log and checkpoints",
        "a plain loop around `DataLoader`",
    ),
    "dedup": Case(
        "dedup",
        0.03,
        "near-duplicates among 100,000 texts by MinHash",
        "datasketch",
        ("datasketch",),
    ),
    "dedup_small": Case(
        "dedup",
        0.03,
        "near-duplicates among 2,000 texts; the goal is that of 100,000, `dedup`",
        "datasketch",
        ("datasketch",),
    ),
}
# A step of it takes the peer minutes.
ONLY_BY_NAME = ("dedup",)
ALL = tuple(name for name in CASES if name not in ONLY_BY_NAME)
