"""Encoders that are networks: a masked language model trained here, or a BERT in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data.splits import digest
from genjax.data.storage import files_fingerprint
from genjax.data.text.codecs import TextCodec, Unencodable
from genjax.data.text.dataset import get_tokenizer
from genjax.errors import UserError
from genjax.families.masked_lm import MaskedLM, embed
from genjax.interop import huggingface, weights
from genjax.interop.tokenizers import FILE
from genjax.nets.transformer.token_net import TokenNet
from genjax.runs.run import Run, load
from genjax.store.index.encoders import Encoder, scale_to_unit

ROWS = 32  # texts in a batch
SHORTEST = 16  # tokens of a row; longer ones take the next power of two
LENGTH = 256  # tokens of a text that are read, where the folder does not say
LENGTHS = "sentence_bert_config.json"


class Network:
    """An encoder that takes the mean of a network's features over a text's tokens.

    Texts are put into rows of a few lengths, so that a network is compiled a few times; what is
    longer than ``length`` tokens is cut there. A text that the codec cannot spell gets zeros.
    """

    def __init__(
        self,
        name: str,
        codec: TextCodec,
        length: int,
        features: Callable[[jax.Array, jax.Array], jax.Array],
    ) -> None:
        """Makes it.

        Args:
          name: the encoder's id.
          codec: makes tokens.
          length: tokens at most.
          features: of tokens and segments, both int32 [B, T], 0 where there is padding: means
            float32 [B, D].
        """
        self.id, self._codec, self._length = name, codec, length
        self._features = jax.jit(features)
        tokens = jax.ShapeDtypeStruct((1, min(SHORTEST, length)), jnp.int32)
        self.dimension = int(jax.eval_shape(features, tokens, tokens).shape[-1])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See ``Encoder``."""
        rows = [self._tokenise(text) for text in texts]
        found = np.zeros((len(texts), self.dimension), np.float32)
        filled = [i for i in sorted(range(len(rows)), key=lambda i: len(rows[i])) if len(rows[i])]
        for start in range(0, len(filled), ROWS):
            part = filled[start : start + ROWS]
            length = SHORTEST
            while length < len(rows[part[-1]]):
                length *= 2
            count = ROWS if len(filled) > 1 else 1  # a query goes alone
            tokens = np.zeros((count, min(length, self._length)), np.int32)
            segments = np.zeros_like(tokens)
            for row, i in enumerate(part):
                tokens[row, : len(rows[i])] = rows[i]
                segments[row, : len(rows[i])] = 1
            found[part] = np.asarray(self._features(tokens, segments))[: len(part)]
        return scale_to_unit(found)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens that are read of the texts."""
        return sum(len(self._tokenise(text)) for text in texts)

    def _tokenise(self, text: str) -> np.ndarray:
        before, after = self._codec.start, self._codec.end
        first = [] if before is None else [before]
        last = [] if after is None else [after]
        try:
            middle = self._codec.encode(text)[: self._length - len(first) - len(last)]
        except Unencodable:  # it has no vector then, but can be found by its words
            return np.zeros(0, np.int32)
        ids = [*first, *middle.tolist(), *last]
        return np.array(ids if len(middle) else [], np.int32)


def open_folder(name: str) -> Encoder:
    """Return the encoder of a run directory of a masked language model, or of a folder of a BERT in
    Hugging Face's layout.

    Raises:
      UserError: it is neither.
    """
    config = Path(name).expanduser() / huggingface.CONFIG
    try:
        ours = "experiment" in json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        raise UserError(f"encoder must have a readable {config}", "encoder") from None
    return open_run(name) if ours else open_bert(name)


def open_run(run_dir: str) -> Network:
    """``make_encoder`` of a run directory."""
    return make_encoder(load(run_dir))


def make_encoder(run: Run) -> Network:
    """Return the features of a masked language model's run, averaged over ordinary tokens.

    Raises:
      UserError: it is of another family.
    """
    family, state = run.family, run.eval_state
    if not isinstance(family, MaskedLM):
        raise UserError(
            f"encoder must be the run of a MaskedLM, {run.run_dir} is of a {type(family).__name__}",
            "encoder",
        )

    def features(tokens: jax.Array, segments: jax.Array) -> jax.Array:
        return embed(family, state, {"tokens": tokens, "segment_ids": segments})

    codec: Any = get_tokenizer(run.codec)
    leaves = (np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state.params))
    name = f"run-{digest([*leaves, repr(codec).encode()])[:16]}"
    return Network(name, codec, family.net.context, features)


def open_bert(folder: str) -> Network:
    """Return the features of a BERT of sentences such as MiniLM, averaged over all tokens (Reimers
    and Gurevych, arXiv 1908.10084).
    """
    model = huggingface.load_encoder(folder)
    module: Any = TokenNet(model.net, model.vocabulary)

    def features(tokens: jax.Array, segments: jax.Array) -> jax.Array:
        hidden, _ = module.apply({"params": model.params}, tokens, segment_ids=segments)
        weight = (segments > 0).astype(jnp.float32)
        total = jnp.einsum("btc,bt->bc", hidden.astype(jnp.float32), weight)
        return total / jnp.maximum(weight.sum(-1, keepdims=True), 1)

    place = Path(folder).expanduser()
    files = [path for name in (weights.WHOLE, FILE) if (path := place / name).exists()]
    length = min(_read_length(place), model.net.context)
    return Network(f"bert-{files_fingerprint(files)[:16]}", model.codec, length, features)


def _read_length(folder: Path) -> int:
    """Tokens at most, as the folder says for sentences."""
    path = folder / LENGTHS
    if not path.exists():
        return LENGTH
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["max_seq_length"])
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{path} is damaged: it must name max_seq_length", str(path)) from None
