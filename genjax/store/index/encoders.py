"""Encode texts as vectors: the protocol, and the default, a matrix that needs no network."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from genjax.errors import UserError
from genjax.store.index.engine import EXTRA

WORDLLAMA = "wordllama"
WEIGHTS, TOKENIZER = "weights/l2_supercat_256.safetensors", "l2_supercat_tokenizer_config.json"
CHUNK = 256  # texts tokenised at once


class Encoder(Protocol):
    """Maps texts to vectors."""

    @property
    def id(self) -> str:
        """Id that an index stores; encoders with the same id give a text the same vector."""

    @property
    def dimension(self) -> int:
        """Dimension of the vectors, D."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return vectors float32 [N, D] of length 1; zeros for a text without tokens."""


class WordLlama:
    """Encodes a text as the mean of a row for each of its tokens, from the matrix of the
    package ``wordllama`` (https://github.com/dleemiller/WordLlama), scaled to length 1.
    """

    id = "wordllama-l2_supercat_256"

    def __init__(self) -> None:
        folder = _find_package(WORDLLAMA)
        weights = folder / WEIGHTS
        tokenizer = next(iter(sorted(folder.rglob(TOKENIZER))), None)
        try:
            with safe_open(weights, framework="numpy") as file:
                self._matrix = file.get_tensor("embedding.weight").astype(np.float32)
            if tokenizer is None:
                raise FileNotFoundError(folder / TOKENIZER)
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except (OSError, SafetensorError) as error:
            raise UserError(f"encoder: {folder} lacks its weights: {error}", "encoder") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @property
    def dimension(self) -> int:
        """See ``Encoder``."""
        return int(self._matrix.shape[1])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See ``Encoder``."""
        means = np.zeros((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), CHUNK):
            part = list(texts[start : start + CHUNK])
            coded = self._tokenizer.encode_batch_fast(part, add_special_tokens=False)
            for i, tokens in enumerate(coded, start):
                if tokens.ids:
                    means[i] = self._matrix[tokens.ids].mean(0)
        return scale_to_unit(means)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of the texts."""
        coded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return sum(len(tokens.ids) for tokens in coded)


def scale_to_unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows [N, D] to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _find_package(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise UserError(f"encoder {name!r} needs the package {name}: {EXTRA}", "encoder")
    return Path(spec.origin).parent
