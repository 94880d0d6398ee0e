"""Compare two runs: which one a reward prefers, their divergence, and the diversity of each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from genjax.checks import Component
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import HasQuestions
from genjax.data.pictures import grid, png_bytes
from genjax.data.text.codecs import NOTHING, RULE
from genjax.data.text.dataset import get_tokenizer
from genjax.errors import UserError, unknown_name
from genjax.evaluation.drawing import draw_samples
from genjax.evaluation.features.distances import mean_pairwise_distance
from genjax.evaluation.images.bias import wilson
from genjax.evaluation.judge import SAMPLES, Model
from genjax.evaluation.text.drawn import cut_at_end, split_texts
from genjax.evaluation.text.ngrams import distinct, self_bleu
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import MOST_PROMPTS, Request
from genjax.machine import disk
from genjax.runs import writers
from genjax.runs.directory import require_experiment
from genjax.runs.rewards import Reward, image_rewards, text_rewards
from genjax.runs.run import Run
from genjax.runs.setup import set_up
from genjax.samplers.options import decode_samples, encode_options

Z = 1.96  # standard deviations on either side of an interval of 95 %
PAIRS = 20_000  # most pairs of samples in the mean distance
SHOWN = 16


@dataclass(frozen=True)
class Comparison:
    """The comparison of two runs, A and B.

    Attributes:
      numbers: ``win_rate`` of B over A, with ties counting half, and the ends ``win_rate_low`` and
        ``win_rate_high`` of its 95 % interval (Wilson, 1927); ``reward_a``, ``reward_b``; for texts
        ``kl_b_from_a``, the nats per response by which B's samples are likelier under B than under
        A, and ``kl_a_from_b``; and the diversity of each.
      protocol: description of the samples.
      path: path of the samples side by side, with compare.json beside them.
      drawn: the samples themselves.
    """

    numbers: Mapping[str, float]
    protocol: str
    path: Path
    drawn: Sides


@dataclass(frozen=True)
class Sides:
    """What both runs drew.

    Attributes:
      prompts: of texts, [N]; the labels that images were requested for are in no list.
      texts: the responses of A and of B, [N] each; none of images.
      images: in model space, of A and of B, [N, H, W, C] each; none of texts.
      rewards: of A and of B, [N] each; none without a reward.
    """

    prompts: Sequence[str] = ()
    texts: Sequence[Sequence[str]] = ()
    images: Sequence[np.ndarray] = ()
    rewards: Sequence[np.ndarray] = ()


@dataclass(frozen=True)
class Answers:
    """The texts drawn by a run.

    Attributes:
      tokens: tokens int32 [N, T] of prompts and responses.
      counts: bool [N, T], whether a token was drawn by the model: responses and their ends.
      responses: responses as text, [N].
    """

    tokens: np.ndarray
    counts: np.ndarray
    responses: list[str]


@dataclass(frozen=True)
class Pair:
    """Two runs and how they are compared.

    Attributes:
      runs: runs A and B.
      models: their models.
      reward: reward; None compares without one.
      num: number of samples of each run.
      seed: seed of the samples.
      folder: folder to write to.
    """

    runs: tuple[Run, Run]
    models: tuple[Model, Model]
    reward: Reward | None
    num: int
    seed: int
    folder: Path


def compare(
    a: Run,
    b: Run,
    reward: Reward | None = None,
    num: int = 64,
    seed: int = 0,
    prompts: Sequence[str] = (),
    split: str = "test",
    out: str | Path | None = None,
) -> Comparison:
    """Draw samples from both runs with their own samplers, the same keys and the same prompts, and
    compare them.

    Args:
      a: run A.
      b: run B.
      reward: reward, see ``genjax.runs.rewards``; None compares without one.
      num: number of samples of each run.
      seed: seed of the samples.
      prompts: prompts for texts, used in turn; () for those of held-out conversations of B's data,
        or none for other data.
      split: split of B's data for such prompts.
      out: folder to write to; None for compare/NAME_OF_A in B's run directory.

    Raises:
      UserError: the runs draw different kinds of samples, or a reward is not a number.
    """
    if num < 2:
        raise UserError(f"num must be >= 2 for a comparison, got {num}", "num")
    folder = Path(out).expanduser() if out else Path(b.run_dir) / "compare" / a.run_dir.name
    pair = Pair((a, b), (a.model(), b.model()), reward, num, seed, folder)
    for run, model in zip(pair.runs, pair.models, strict=True):
        if model.family.no_samples is not None:
            raise UserError(f"{run.run_dir}: {model.family.no_samples}")
    if out is None and "://" in str(b.run_dir):
        raise UserError(f"{b.run_dir} is a bucket: name a folder here to write to (--out)")
    splits = set_up(require_experiment(b.run_dir), b.run_dir, layout=b.layout).data.splits
    if split not in splits:
        raise unknown_name("split", split, splits)
    if all(map(is_unprompted, pair.models)):
        found = _texts(pair, tuple(prompts) or _held_out_prompts(splits[split], num))
    elif all(isinstance(run.codec, ImageCodec) for run in pair.runs):
        if prompts:
            raise UserError(
                f"prompts must not be given for images, which {a.run_dir} and {b.run_dir} draw",
                "prompts",
            )
        found = _images(pair)
    else:
        raise UserError(f"{a.run_dir} and {b.run_dir} must both draw texts, or both images")
    record = {
        "a": str(a.run_dir),
        "b": str(b.run_dir),
        "protocol": found.protocol,
        "numbers": writers.finite(found.numbers),
    }
    disk.write(epath.Path(folder) / "compare.json", json.dumps(record, indent=2) + "\n")
    return found


def win_rates(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return how often B's rewards [N] exceed A's [N]; NaN ranks below all numbers."""
    a, b = (np.where(np.isnan(rewards), -np.inf, rewards) for rewards in (a, b))
    won = float((b > a).sum() + (b == a).sum() / 2)
    rate, low, high = (float(x) for x in wilson(np.asarray(won), len(a), Z))
    means = {
        f"reward_{name}": float(r[np.isfinite(r)].mean())
        for name, r in (("a", a), ("b", b))
        if np.isfinite(r).any()
    }
    return {"win_rate": rate, "win_rate_low": low, "win_rate_high": high, **means}


def is_unprompted(model: Model) -> bool:
    """Return whether a model can write texts without a source."""
    alone = model.spec.source_length is None and model.spec.image is None
    return alone and isinstance(model.family, Autoregressive)


def _held_out_prompts(chosen: Component, num: int) -> tuple[str, ...]:
    """Return prompts of held-out conversations; ("",) for data without them."""
    questions = chosen.questions() if isinstance(chosen, HasQuestions) else []
    count = min(num, len(questions), MOST_PROMPTS)
    return tuple(questions[i * len(questions) // count] for i in range(count)) or ("",)


def _texts(pair: Pair, prompts: tuple[str, ...]) -> Comparison:
    runs, models, num, seed = pair.runs, pair.models, pair.num, pair.seed
    if get_tokenizer(runs[0].codec) != get_tokenizer(runs[1].codec):
        raise UserError(
            f"{runs[0].run_dir} and {runs[1].run_dir} must have the same tokens to compare their "
            "texts"
        )
    requests = [
        encode_options(
            dataclasses.replace(model.family.sampler, draft=None).with_prompts(prompts), model.codec
        )
        for model in models
    ]
    drawn = [_answers(*each, num, seed) for each in zip(runs, models, requests, strict=True)]
    asked = [prompts[i % MOST_PROMPTS % len(prompts)] for i in range(num)]
    numbers: dict[str, float] = {}
    rewards: list[np.ndarray] = []
    if pair.reward is not None:
        rewards = [
            text_rewards(pair.reward, model.codec, request, asked, answers.responses)
            for model, request, answers in zip(models, requests, drawn, strict=True)
        ]
        numbers |= win_rates(*rewards)
    room = min(model.family.net.context for model in models) + 1
    for name, answers, mine, other in (("b_from_a", drawn[1], 1, 0), ("a_from_b", drawn[0], 0, 1)):
        likelihoods = [_log_likelihood(runs[i], models[i], answers, room) for i in (mine, other)]
        numbers[f"kl_{name}"] = float(np.mean(likelihoods[0] - likelihoods[1]))
    for name, run, answers in zip("ab", runs, drawn, strict=True):
        words = split_texts(
            run.codec, [row[keep] for row, keep in zip(answers.tokens, answers.counts, strict=True)]
        )
        numbers |= {
            f"distinct_2_{name}": distinct(words, 2),
            f"self_bleu_{name}": float(self_bleu(words).mean()),
        }
        numbers[f"tokens_{name}"] = float(answers.counts.sum(1).mean())
    path = pair.folder / "side_by_side.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.write(path, _pages(asked, drawn, rewards).encode("utf-8", "replace"))
    of = f"{len(set(asked)):,} prompts" if any(asked) else "no prompts"
    samplers = " and ".join(dict.fromkeys(str(model.family.sampler) for model in models))
    longest = max(answers.tokens.shape[1] for answers in drawn)
    cut = f"; divergence of the first {room:,} tokens" if longest > room else ""
    protocol = f"{num:,} texts of each run to {of}, seed {seed}, by {samplers}{cut}"
    sides = Sides(asked, [answers.responses for answers in drawn], rewards=rewards)
    return Comparison(numbers, protocol, path, sides)


def _answers(run: Run, model: Model, request: Request, num: int, seed: int) -> Answers:
    key = jax.random.fold_in(jax.random.key(seed), SAMPLES)
    rows = draw_samples(run.layout, model.family, model.state, key, num, request)
    return split_answers(decode_samples(rows, request, model.codec), request, model.codec)


def split_answers(rows: np.ndarray, request: Request, codec: Component) -> Answers:
    """Split finished samples [N, T] into prompts and responses."""
    counts = np.zeros(rows.shape, bool)
    texts: list[str] = []
    for number, row in enumerate(rows):
        first = len(request.get_prompt(number))
        response = cut_at_end(row[first:], (*request.ends, NOTHING))
        # A text that a stop may have cut has no end, nor has one of maximum length.
        ended = (
            len(response) < request.decoding.steps
            and bool(request.ends)
            and not request.decoding.stop
        )
        counts[number, first : first + len(response) + ended] = True
        texts.append(str(codec.decode(response)))
    return Answers(np.where(rows == NOTHING, 0, rows).astype(np.int32), counts, texts)


def _log_likelihood(run: Run, model: Model, answers: Answers, room: int) -> np.ndarray:
    """Return log p(response | prompt) [N] in nats, within the first ``room`` tokens."""
    family = model.family

    def judged(params: Any, tokens: jax.Array, counts: jax.Array) -> jax.Array:
        mask = jnp.asarray(counts, jnp.float32)
        batch = {
            "tokens": tokens,
            "loss_mask": mask,
            "mask": jnp.ones(len(tokens)),
            "prefix_mask": 1 - mask,
        }
        found = family.predict(params, batch)
        return -(found.nll * found.weight).sum(-1)

    compiled = run.layout.compile_evaluation(judged)
    size = min(32, len(answers.tokens))
    found = []
    for first in range(0, len(answers.tokens), size):
        rows = np.arange(first, first + size) % len(answers.tokens)  # one compiled size
        found.append(
            np.asarray(
                compiled(
                    model.state.params, answers.tokens[rows, :room], answers.counts[rows, :room]
                )
            )
        )
    return np.concatenate(found)[: len(answers.tokens)]


def _pages(prompts: Sequence[str], drawn: Sequence[Answers], rewards: Sequence[np.ndarray]) -> str:
    """Format the first responses of both runs, prompt by prompt."""
    pages = []
    for number, prompt in enumerate(prompts[:SHOWN]):
        lines = [f"prompt: {prompt}"] if prompt else []
        for side, answers in enumerate(drawn):
            score = f" ({rewards[side][number]:.3f})" if rewards else ""
            lines.append(f"{'AB'[side]}{score}: {answers.responses[number]}")
        pages.append("\n\n".join(lines))
    return RULE.join(pages) + "\n"


def _images(pair: Pair) -> Comparison:
    runs, models, num, seed = pair.runs, pair.models, pair.num, pair.seed
    if runs[0].codec != runs[1].codec:
        raise UserError(f"{runs[0].run_dir} and {runs[1].run_dir} must draw images of one size")
    samples = [run.sample(num, seed) for run in runs]
    drawn = [run.codec.decode(found) for run, found in zip(runs, samples, strict=True)]
    numbers: dict[str, float] = {}
    rewards: list[np.ndarray] = []
    if pair.reward is not None:
        both = zip(runs, samples, strict=True)
        rewards = [image_rewards(pair.reward, run, found) for run, found in both]
        numbers |= win_rates(*rewards)
    for name, images in zip("ab", drawn, strict=True):
        pixels = images.reshape(num, -1) / 255.0
        numbers[f"pairwise_pixels_{name}"] = mean_pairwise_distance(pixels, pairs=PAIRS)
    path = pair.folder / "side_by_side.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = [grid(images[: SHOWN * 2], 4) for images in drawn]
    between = np.full((halves[0].shape[0], 16, halves[0].shape[2]), 128, np.uint8)
    disk.write(path, png_bytes(np.concatenate([halves[0], between, halves[1]], 1)))
    samplers = " and ".join(dict.fromkeys(str(model.family.sampler) for model in models))
    protocol = f"{num:,} images of each run, A left and B right, seed {seed}, by {samplers}"
    return Comparison(numbers, protocol, path, Sides(images=samples, rewards=rewards))
