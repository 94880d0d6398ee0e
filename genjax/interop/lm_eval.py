"""Adapts language models to the LM Evaluation Harness
(https://github.com/EleutherAI/lm-evaluation-harness).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from lm_eval.api.model import TemplateLM

from genjax.data.text.codecs import cut_at_end
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.continuation import continue_prompts
from genjax.families.autoregressive.request import Decoding
from genjax.interop.huggingface import Pretrained
from genjax.samplers.tokens.decoding import Prompts, TokenSampler, pad_prompts
from genjax.serial.json_text import Json

SHORTEST = 16  # rows are padded to a power of 2 from this on, so that few lengths are compiled
MOST = 256  # new tokens, if a task does not say


class GenjaxLM(TemplateLM):
    """A model for ``lm_eval.simple_evaluate(model=GenjaxLM(model), tasks=[...])``.

    Texts without a context start with the codec's start token, or else its end token, or else a
    newline. Contexts that are too long are cut at the start.

    Args:
      model: model from ``huggingface.load``, or of a run from ``exports.pretrained``.
      batch_size: rows per batch.
      seed: random seed for tasks that need samples.
    """

    def __init__(self, model: Pretrained, batch_size: int = 8, seed: int = 0) -> None:
        super().__init__()
        if not model.net.causal:
            raise UserError(
                "net.causal must be True: the harness needs a model that predicts the next token"
            )
        self._codec, self._net, self.batch_size = model.codec, model.net, batch_size
        self._params = dict(model.params)
        self._module: Any = self._net.module(model.vocabulary)
        self._keys = (jax.random.fold_in(jax.random.key(seed), i) for i in itertools.count())

    @property
    def eot_token_id(self) -> int:
        return self.prefix_token_id if self._codec.end is None else self._codec.end

    @property
    def prefix_token_id(self) -> int:
        codec = self._codec
        known = codec.start if codec.start is not None else codec.end
        return Decoding().encode(codec, {}).prompts[0][-1] if known is None else known

    @property
    def max_length(self) -> int:
        """The context of the model, in tokens."""
        return self._net.context

    @property
    def tokenizer_name(self) -> str:
        return type(self._codec).__name__

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Encode a text, after the codec's start token if it has one and ``add_special_tokens`` is
        not False.
        """
        start = (
            [] if add_special_tokens is False or self._codec.start is None else [self._codec.start]
        )
        return start + self._codec.encode(string).tolist()

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Compute log p of each whole text in nats, in adjacent windows, each with as much context
        as fits.
        """
        texts = [self._codec.encode(request.args[0]).tolist() for request in requests]
        windows = [
            (i, *window) for i, tokens in enumerate(texts) for window in self._split_windows(tokens)
        ]
        scores = self._score_pairs([(context, target) for _, context, target in windows])
        totals = [0.0] * len(requests)
        for (i, _, _), (score, _) in zip(windows, scores, strict=True):
            totals[i] += score
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Continue each context up to the first of its ``until`` strings, which is left out."""
        drawn: list[str] = [""] * len(requests)
        asked = [(request.args[0], dict(request.args[1])) for request in requests]
        order = sorted(
            range(len(asked)), key=lambda i: (repr(sorted(asked[i][1].items())), len(asked[i][0]))
        )
        for _, group in itertools.groupby(order, key=lambda i: repr(sorted(asked[i][1].items()))):
            rows = list(group)
            for at in range(0, len(rows), self.batch_size):
                some = rows[at : at + self.batch_size]
                for i, text in zip(
                    some,
                    self._generate_texts([asked[i][0] for i in some], asked[some[0]][1]),
                    strict=True,
                ):
                    drawn[i] = text
        return drawn

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        return self._score_pairs([(context, target) for _, context, target in requests])

    def _split_windows(self, tokens: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Yield windows of a text: (context tokens, predicted tokens)."""
        whole = [self.prefix_token_id, *tokens]
        for begin in range(1, len(whole), self.max_length):
            end = min(begin + self.max_length, len(whole))
            yield whole[max(0, end - 1 - self.max_length) : begin], whole[begin:end]

    def _score_pairs(
        self, pairs: Sequence[tuple[list[int], list[int]]]
    ) -> list[tuple[float, bool]]:
        """Compute log p of each second part given the first, in nats, and whether greedy decoding
        gives it.
        """
        found: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
        rows = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
        for at in range(0, len(rows), self.batch_size):
            some = rows[at : at + self.batch_size]
            longest = max(len(pairs[i][0]) + len(pairs[i][1]) - 1 for i in some)
            length = self._round_length(longest)
            tokens = np.zeros((self.batch_size, length + 1), np.int32)
            weight = np.zeros((self.batch_size, length), bool)
            for row, i in enumerate(some):
                context, target = pairs[i]
                if not len(target) <= length:
                    raise UserError(
                        f"a text to score must have at most {length:,} tokens (context), got "
                        f"{len(target):,}"
                    )
                whole = [*context, *target][-length - 1 :]
                tokens[row, : len(whole)] = whole
                weight[row, len(whole) - 1 - len(target) : len(whole) - 1] = True
            log_probs, likeliest = jax.device_get(self._scored(self._params, tokens, weight))
            for row, i in enumerate(some):
                found[i] = float(log_probs[row]), bool(likeliest[row])
        return found

    @functools.cached_property
    def _scored(self) -> Any:
        def scored(
            params: Any, tokens: jax.Array, weight: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            hidden, _ = self._module.apply({"params": params}, tokens[:, :-1])
            logits = self._module.apply({"params": params}, hidden, method="logits")  # [B, T, V]
            targets = tokens[:, 1:]
            log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[
                ..., 0
            ]
            right = (jnp.argmax(logits, -1) == targets) | ~weight
            return jnp.sum(jnp.where(weight, log_probs, 0), 1), right.all(1)

        return jax.jit(scored)

    def _generate_texts(self, contexts: Sequence[str], asked: dict[str, Json]) -> list[str]:
        until = asked.pop("until", None) or []
        until = [until] if isinstance(until, str) else list(until)
        steps = int(asked.pop("max_gen_toks", MOST))
        if steps >= self.max_length:
            raise UserError(
                f"max_gen_toks must be < {self.max_length} (context), got {steps}", "max_gen_toks"
            )
        warm = bool(asked.pop("do_sample", float(asked.get("temperature", 0)) > 0))
        temperature = float(asked.pop("temperature", 1.0)) if warm else 0.0
        filters = {
            name: asked.pop(name)
            for name in ("top_k", "top_p", "min_p")
            if asked.get(name) is not None
        }
        if asked:
            raise UserError(
                f"unsupported generation options of the harness: {', '.join(sorted(asked))}"
            )
        prompts = [
            self.tok_encode(text)[-(self.max_length - steps) :] or [self.prefix_token_id]
            for text in contexts
        ]
        prompts += [[self.prefix_token_id]] * (self.batch_size - len(prompts))
        tokens, mask = pad_prompts(prompts)
        spare = min(self._round_length(tokens.shape[1]), self.max_length - steps) - tokens.shape[1]
        tokens, mask = (np.pad(array, ((0, 0), (spare, 0))) for array in (tokens, mask))
        drawing = self._generate(
            self._params,
            tokens,
            mask,
            next(self._keys),
            TokenSampler(steps, 1.0, temperature, **filters),
        )
        texts = [
            self._codec.decode(cut_at_end(row, self._codec.end))
            for row in np.asarray(drawing)[: len(contexts)]
        ]
        return [_cut_at_stop(text, until) for text in texts]

    @functools.cached_property
    def _generate(self) -> Any:
        stops = () if self._codec.end is None else ((self._codec.end,),)

        family, pad = Autoregressive(self._net), stops[0][0] if stops else 0

        def drawn(
            params: Any, tokens: jax.Array, mask: jax.Array, key: jax.Array, sampler: TokenSampler
        ) -> jax.Array:
            return continue_prompts(
                family, params, Prompts(tokens, mask), sampler, key, stops, pad
            ).tokens

        return jax.jit(drawn, static_argnums=4)

    def _round_length(self, wanted: int) -> int:
        """Round up to a power of 2, within the context."""
        return min(self.max_length, max(SHORTEST, 1 << (wanted - 1).bit_length()))


def _cut_at_stop(text: str, until: Sequence[str]) -> str:
    """Cut a text before the first of the strings."""
    return text[
        : min((at for stop in until if stop and (at := text.find(stop)) >= 0), default=len(text))
    ]
