"""Draw samples of a run for the user's inputs: one for each prompt, source or label."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from genjax.checks import Component
from genjax.data.chat.template import before_end
from genjax.data.text.captions import CaptionCodec
from genjax.errors import UserError
from genjax.evaluation.drawing import CHUNK, draw_finished, draw_samples
from genjax.evaluation.judge import SAMPLES
from genjax.families.autoregressive.request import Decoding, Request, encode_source
from genjax.family import State, TakesInputs, with_inputs
from genjax.runs.run import Run
from genjax.samplers.options import Incomplete, Prompted, decode_samples, number_label

Kind = Literal["prompt", "source", "label"]
PARTS = 2**31  # folded into the key for the second and later parts of the inputs


@dataclass(frozen=True)
class Part:
    """Samples for some of the inputs.

    Attributes:
      samples: samples in model space, [N, ...].
      starts: number of prompt tokens that each text starts with, [N]; 0 for other samples.
    """

    samples: np.ndarray
    starts: tuple[int, ...]

    def decode_completions(self, codec: Component) -> list[str]:
        """Return the part of each text after its prompt."""
        found = []
        for row, start in zip(self.samples, self.starts, strict=True):
            ids = before_end(codec, row)
            found.append(codec.decode(ids)[len(codec.decode(ids[:start])) :])
        return found


def draw_for(
    run: Run, kind: Kind, values: Sequence[str], seed: int = 0, options: Component = None
) -> Iterator[Part]:
    """Yield a sample for each of any number of inputs, in order, at most 256 at once.

    The first 256 are those that ``run.sample`` draws with the same seed.

    Args:
      run: the run.
      kind: kind of input: prompts of a model of texts, sources of a translator, pictures of a
        captioner, or labels of a class-conditional model.
      values: texts, image files, or names or numbers of labels.
      seed: seed of the samples.
      options: options of the sampler; None for the family's own.

    Raises:
      UserError: the model does not take such inputs, or cannot read one; the message has its
        number.
    """
    options = run.family.sampler if options is None else options
    if kind == "prompt" and not isinstance(options, Decoding):
        yield from _one_by_one(run, values, seed, options)
        return
    options = dataclasses.replace(options, prompt="", prompts=()) if kind == "prompt" else options
    request, state = run.prepare_drawing(options)
    _require(run, kind, state, request)
    rows = [_encode(run, kind, value, number, options) for number, value in enumerate(values, 1)]
    key = jax.random.fold_in(jax.random.key(seed), SAMPLES)
    padded = _pad(rows) if rows[0].dtype == np.int32 and rows[0].ndim else np.stack(rows)
    for number, begin in enumerate(range(0, len(rows), CHUNK)):
        given = padded[begin : begin + CHUNK]
        count, short = len(given), CHUNK - len(given) if number else 0
        given = np.concatenate([given, np.repeat(given[-1:], short, 0)])  # one compiled size
        part_key = jax.random.fold_in(key, PARTS + number) if number else key
        fed = with_inputs(state, {_name(run, kind): jnp.asarray(given)})
        drawn = draw_samples(run.layout, run.family, fed, part_key, len(given), request)[:count]
        starts, part = (0,) * count, request
        if isinstance(request, Request):
            prompts = request.prompts * count
            if kind == "prompt":
                prompts = tuple(tuple(row.tolist()) for row in rows[begin : begin + count])
            part = dataclasses.replace(request, prompts=prompts[:count])
            starts = tuple(map(len, prompts[:count]))
        yield Part(decode_samples(drawn, part, run.codec), starts)


def complete(run: Run, rows: Incomplete, seed: int = 0, options: Component = None) -> np.ndarray:
    """Complete examples with gaps, at most 256 at once; return samples in model space [N, ...]."""
    request, state = run.prepare_drawing(run.family.sampler if options is None else options)
    known = run.family.describe_inputs(state, request)
    key = jax.random.fold_in(jax.random.key(seed), SAMPLES)
    given = {name: np.asarray(rows.inputs[name], kind) for name, (_, kind) in known.items()}
    count = len(next(iter(given.values())))
    size, found = min(count, CHUNK), []
    for number, begin in enumerate(range(0, count, size)):
        chunk = np.minimum(np.arange(begin, begin + size), count - 1)  # one compiled size
        fed = with_inputs(state, {name: jnp.asarray(x[chunk]) for name, x in given.items()})
        part_key = jax.random.fold_in(key, PARTS + number) if number else key
        drawn = draw_finished(run.layout, run.family, fed, part_key, size, request, run.codec)
        found.append(drawn[: count - begin])
    return np.concatenate(found)


def _one_by_one(run: Run, values: Sequence[str], seed: int, options: Component) -> Iterator[Part]:
    """Yield samples for prompts of a sampler that takes only one at a time."""
    if not isinstance(options, Prompted):
        raise UserError(f"the samples of {run.run_dir} take no prompt", "prompts")
    for number, value in enumerate(values):
        shown = options.with_prompts((value,))
        yield Part(run.sample(1, (seed + number) % 2**32, shown), (0,))


def _name(run: Run, kind: Kind) -> str:
    """Return the family's name for an input: the source of a captioner is a picture."""
    return "image" if kind == "source" and isinstance(run.codec, CaptionCodec) else kind


def _require(run: Run, kind: Kind, state: State, request: Any) -> None:
    """Refuse an input that the model does not take, and list those that it does."""
    family = run.family
    known = family.describe_inputs(state, request) if isinstance(family, TakesInputs) else {}
    if _name(run, kind) not in known:
        takes = " and ".join(f"a {name}" for name in known) or "nothing but a seed"
        raise UserError(
            f"the samples of {run.run_dir}, a {type(family).__name__}, take {takes}, not a {kind}",
            f"{kind}s",
        )


def _encode(run: Run, kind: Kind, value: str, number: int, options: Component) -> np.ndarray:
    """Encode one input for the model."""
    codec: Component = run.codec
    try:
        if kind == "label":
            return np.array(number_label(value, run.spec.class_names, run.spec.classes), np.int32)
        if _name(run, kind) == "image":
            return np.asarray(codec.load_picture(value), np.float32)
        if kind == "source":
            tokens = encode_source(codec, value)
        else:
            (tokens,) = options.with_prompts((value,)).encode(codec, {}).prompts
    except UserError as error:
        raise UserError(f"{kind} {number:,}, {_shorten(value)}: {error}", f"{kind}s") from None
    context = run.family.net.context
    if not 0 < len(tokens) <= context:
        raise UserError(
            f"{kind} {number:,}, {_shorten(value)}, has {len(tokens):,} tokens; the model reads 1 "
            f"to {context:,}: shorten it",
            f"{kind}s",
        )
    return np.array(tokens, np.int32)


def _pad(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Pad rows of tokens with -1 to [B, T] int32."""
    found = np.full((len(rows), max(map(len, rows))), -1, np.int32)
    for target, row in zip(found, rows, strict=True):
        target[: len(row)] = row
    return found


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
