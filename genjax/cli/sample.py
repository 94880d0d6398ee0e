"""``genjax sample``: samples of a run as a file that a person opens, or as a synthetic data set."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import tyro

from genjax import checks
from genjax.checks import Component
from genjax.cli.as_dataset import write_dataset
from genjax.cli.best_of import draw_best
from genjax.errors import UserError
from genjax.experiment import MAX_SEED
from genjax.family import require_samples
from genjax.machine import streams
from genjax.runs.rewards import load_reward
from genjax.runs.run import load
from genjax.runs.setup import load_family


@checks.frozen
class SampleOptions:
    """Draw samples from a run.

    Attributes:
      sampler: how they are drawn.
      prompt: what texts start with, or what a diffusion of texts shows: short for sampler.prompt.
        Given several times, texts take the prompts in turn.
      stream: print text as it is drawn: the first of them a token at a time, the others after it.
      num: number of samples.
      seed: random seed of the draws.
      out: the file to write; samples/STEP_seed_SEED, or ..._best_of_N, under the run directory by
        default.
      as_dataset: the name of a synthetic data set to write instead, prepared/NAME unless ``out``
        says another folder.
      best: take the best checkpoint instead of the newest.
      best_of: draw so many for each sample and keep that of the highest reward.
      reward: for best_of, the run of a reward model or a Python function as "module:function".
    """

    sampler: Component
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    stream: bool = False
    num: int = 64
    seed: int = 0
    out: str | None = None
    as_dataset: str | None = None
    best: bool = False
    best_of: int = 1
    reward: str | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "num", "best_of")
        checks.between(self, 0, MAX_SEED, "seed")
        if (self.best_of != 1) != (self.reward is not None):
            raise UserError("best_of and reward go together: give both or neither", "best_of")
        if self.best_of != 1 and self.stream:
            raise UserError(
                "the best of several samples is known when all are drawn: leave stream out"
            )
        if self.as_dataset is not None and self.stream:
            raise UserError("a data set is written when all is drawn: leave stream out")
        if self.as_dataset is not None and not _is_name(self.as_dataset):
            cure = "letters, digits, _, - and dots within; out says where the data set goes"
            raise UserError(
                f"as_dataset must be a name of {cure}, got {self.as_dataset!r}", "as_dataset"
            )


def _is_name(text: str) -> bool:
    """Whether a text names a folder of its own, whatever the system: neither "." nor "..", nor
    a path.
    """
    return re.fullmatch(r"\w[\w.-]{0,99}", text) is not None


def sample_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax sample RUN_DIR``."""
    family = load_family(target)
    require_samples(family)
    options = tyro.cli(
        SampleOptions,
        default=SampleOptions(family.sampler),
        args=list(arguments),
        prog=f"genjax sample {target}",
        config=(tyro.conf.AvoidSubcommands,),
    )
    sampler = options.sampler
    if options.prompt:
        if not hasattr(sampler, "with_prompts"):
            raise UserError(f"the samples of {target}, a {type(family).__name__}, take no prompt")
        sampler = sampler.with_prompts(tuple(map(streams.typed, options.prompt)))
    run = load(target, best=options.best)
    if options.reward is not None:
        found = draw_best(
            run, load_reward(options.reward), options.best_of, options.num, options.seed, sampler
        )
        print(found.describe())
        samples = found.samples
    else:
        samples = run.sample(options.num, options.seed, sampler, _show if options.stream else None)
    if options.as_dataset is None:
        chosen = (
            {"best_of": options.best_of, "reward": options.reward}
            if options.reward is not None
            else None
        )
        print(run.write(samples, options.out, options.seed, chosen))
        return
    print(
        write_dataset(
            run, samples, options.as_dataset, options.seed, sampler, options.best_of, options.out
        )
    )


def _show(text: str) -> None:
    """Print a piece of a text at once; what the terminal has no letters for, as "?"."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), end="", flush=True)
