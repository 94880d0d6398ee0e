"""``genjax sample``: draw samples of a run to a file, a synthetic data set or a store."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro

from genjax import checks
from genjax.checks import MAX_SEED, Component
from genjax.cli.as_dataset import write_dataset
from genjax.cli.best_of import draw_best
from genjax.cli.inputs import (
    FILES,
    ROWS,
    Inputs,
    join_parts,
    name_reading,
    read_inputs,
    write_rows,
)
from genjax.cli.parsing import explain_store, parse
from genjax.data.images.decode import note
from genjax.data.text.codecs import NOTHING
from genjax.errors import UserError
from genjax.families.autoregressive.request import Decoding
from genjax.family import require_samples
from genjax.machine import streams
from genjax.runs.inputs import Part, complete, draw_for
from genjax.runs.lineage import record_samples
from genjax.runs.rewards import load_reward
from genjax.runs.run import Run, load
from genjax.runs.setup import load_family
from genjax.samplers.options import Completes, Incomplete, Prompted

Drawn = tuple[int, np.ndarray, np.ndarray | None]  # a seed, its samples, and their scores
DRAWN = 64  # default number of samples


@checks.frozen
class SampleOptions:
    """Draw samples from a run.

    Attributes:
      sampler: options of the sampler.
      prompt: what texts start with, or the text to show for a diffusion (short for sampler.prompt).
        Several prompts are used in turn.
      source: text to translate, or picture to describe. May be given several times.
      labels: classes, by name or by number, used in turn.
      prompts: a file of prompts, each answered once: one per line, or JSON records with "prompt".
      sources: a file of sources, or of the paths of pictures: one per line, or JSON records with
        "source".
      stream: print text while it is generated: the first token by token, the others after it.
      num: number of samples; 64, or one for each given prompt, source or label.
      seed: random seed of the samples.
      out: file to write; samples/STEP_seed_SEED, or ..._best_of_N, in the run directory by default.
        A file that ends in .jsonl has a record for each sample with its input, which is the default
        for files of inputs.
      as_dataset: name of a synthetic data set to write instead, in prepared/NAME or the folder
        ``out``.
      store: store that gets all samples with their scores, see docs/store.md.
      best: use the best checkpoint instead of the newest.
      best_of: draw this many for each sample and keep the one with the highest reward.
      reward: for best_of, a run of a reward model or a Python function "module:function".
    """

    sampler: Component
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    source: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    labels: tuple[str, ...] = ()
    prompts: str | None = None
    sources: str | None = None
    stream: bool = False
    num: int | None = None
    seed: int = 0
    out: str | None = None
    as_dataset: str | None = None
    store: str | None = None
    best: bool = False
    best_of: int = 1
    reward: str | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "num", "best_of")
        checks.between(self, 0, MAX_SEED, "seed")
        if (self.best_of != 1) != (self.reward is not None):
            raise UserError("best_of and reward go together: give both or neither", "best_of")
        given = [
            name
            for name in ("prompt", "source", "labels", "prompts", "sources")
            if getattr(self, name)
        ]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} do not go together: give one", given[1])
        others = {"best_of": self.best_of != 1, "stream": self.stream}
        others |= {"as_dataset": self.as_dataset is not None}
        for other in (name for name, is_given in others.items() if is_given):
            if given and given[0] != "prompt":
                raise UserError(f"{given[0]} and {other} do not go together: leave one out", other)
            if other != "as_dataset" and (self.out or "").endswith(ROWS):
                raise UserError(f"{other} cannot write {ROWS}: give another name to out", other)
        if self.best_of != 1 and self.stream:
            raise UserError(
                "stream must be left out with best_of, which needs all samples first", "stream"
            )
        if self.as_dataset is not None and self.stream:
            raise UserError(
                "stream must be left out with as_dataset, which needs all samples first", "stream"
            )
        if self.as_dataset is not None and not _is_name(self.as_dataset):
            cure = "letters, digits, _, - and dots within; out says where the data set goes"
            raise UserError(
                f"as_dataset must be a name of {cure}, got {self.as_dataset!r}", "as_dataset"
            )


def _is_name(text: str) -> bool:
    """Return whether a text is a valid folder name on any operating system, not a path, "." or
    "..".
    """
    return re.fullmatch(r"\w[\w.-]{0,99}", text) is not None


def sample_command(target: str, arguments: Sequence[str]) -> None:
    """Run ``genjax sample RUN_DIR``."""
    family = load_family(target)
    require_samples(family)
    options = parse(SampleOptions(family.sampler), f"sample {target}", arguments)
    run = load(target, best=options.best)
    gaps = None
    if isinstance(options.sampler, Completes):
        gaps = options.sampler.read_incomplete(run.codec)
    if gaps is not None:
        print(_write_completed(run, gaps, options))
        return
    inputs = _inputs(options, run)
    rows = (options.out or "").endswith(ROWS)
    if inputs is not None and (inputs.kind != "prompt" or inputs.file is not None or rows):
        print(_write_answers(run, inputs.take(options.num), options, rows))
        return
    sampler = options.sampler
    if inputs is not None:
        if not isinstance(sampler, Prompted):
            raise UserError(
                f"the samples of {target}, a {type(family).__name__}, take no prompt", "prompt"
            )
        sampler = sampler.with_prompts(inputs.values)
    print(_write_samples(run, sampler, options, rows))


def _write_completed(run: Run, gaps: Incomplete, options: SampleOptions) -> Path:
    """Fill the gaps of examples and write them whole."""
    samples = complete(run, gaps, options.seed, options.sampler)
    name = f"{run.step:08d}_seed_{options.seed}_filled"
    out = Path(options.out).expanduser() if options.out else Path(run.run_dir) / "samples" / name
    stem = out.with_suffix("") if out.suffix in (".csv", ".png") else out
    stem.parent.mkdir(parents=True, exist_ok=True)
    return record_samples(
        run.run_dir,
        run.step,
        options.seed,
        stem,
        lambda: gaps.write(samples, run.codec, stem),
    )


def _write_answers(run: Run, inputs: Inputs, options: SampleOptions, rows: bool) -> Path:
    """Draw and write a sample for each input."""
    parts = list(draw_for(run, inputs.kind, inputs.values, options.seed, options.sampler))
    if options.store is not None:
        with explain_store():
            from genjax.cli.stored import store_inputs

            count = store_inputs(
                options.store,
                run,
                options.sampler,
                options.seed,
                inputs.kind,
                inputs.values,
                parts,
            )
        print(f"{options.store}: {count:,} responses")
    if rows or inputs.file is not None:
        return write_rows(run, inputs, parts, options.out, options.seed)
    return run.write(join_parts(parts, NOTHING), options.out, options.seed)


def _write_samples(run: Run, sampler: Component, options: SampleOptions, rows: bool) -> Path:
    """Draw and write samples without inputs, or with the sampler's own prompts."""
    num = options.num or DRAWN
    chosen, drawn = None, list[Drawn]()
    if options.reward is not None:
        reward = load_reward(options.reward)
        found = draw_best(run, reward, options.best_of, num, options.seed, sampler)
        print(found.describe())
        samples, chosen = found.samples, {"best_of": options.best_of, "reward": options.reward}
        first = options.best_of * options.seed
        drawn = [
            (first + k, draw, scores)
            for k, (draw, scores) in enumerate(zip(found.draws, found.rewards, strict=True))
        ]
    else:
        samples = run.sample(num, options.seed, sampler, _show if options.stream else None)
        drawn = [(options.seed, samples, None)]
    if options.store is not None:
        _store(options.store, run, sampler, drawn, options.reward)
    if options.as_dataset is not None:
        return write_dataset(
            run, samples, options.as_dataset, options.seed, sampler, options.best_of, options.out
        )
    if rows:
        return write_rows(run, None, [Part(samples, (0,) * num)], options.out, options.seed)
    return run.write(samples, options.out, options.seed, chosen)


def _inputs(options: SampleOptions, run: Run) -> Inputs | None:
    """Return the inputs of the samples; None without inputs.

    Raises:
      UserError: there is a prompt for a model that reads something else.
    """
    reads, sampler = name_reading(run), options.sampler
    if reads is not None and isinstance(sampler, Decoding) and (sampler.prompt or sampler.prompts):
        note(f"each answer begins with sampler.prompt; {run.run_dir} reads {reads}")
    if (options.prompt or options.prompts) and reads is not None:
        raise UserError(
            f"{run.run_dir} reads {reads}: give it with --source, or a file of them with "
            "--sources; sampler.prompt is what its answer begins with",
            "prompt" if options.prompt else "prompts",
        )
    if options.prompt:
        return Inputs.of("prompt", tuple(map(streams.typed, options.prompt)))
    if options.source:
        return Inputs.of("source", tuple(map(streams.typed, options.source)))
    if options.labels:
        one = Path(options.labels[0])
        listed = len(options.labels) == 1 and one.suffix in FILES and one.is_file()
        return read_inputs("label", one) if listed else Inputs.of("label", options.labels)
    if options.prompts is not None:
        return read_inputs("prompt", Path(options.prompts).expanduser())
    if options.sources is not None:
        return read_inputs("source", Path(options.sources).expanduser())
    return None


def _store(
    place: str, run: Run, sampler: Component, drawn: Sequence[Drawn], reward: str | None
) -> None:
    """Write samples to a store, by seed, perhaps with scores."""
    with explain_store():
        from genjax.cli.stored import store_draws

        count = store_draws(place, run, sampler, drawn, reward)
    print(f"{place}: {count:,} responses")


def _show(text: str) -> None:
    """Print a piece of text immediately, with "?" for characters that the terminal cannot show."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), end="", flush=True)
