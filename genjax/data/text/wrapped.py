"""Base class of codecs that wrap a text codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class AroundText:
    """Delegates everything about tokens to the codec ``text``."""

    @property
    def text(self) -> Any:
        """The wrapped text codec."""
        raise NotImplementedError

    @property
    def is_fitted(self) -> bool:
        return self.text.is_fitted

    @property
    def vocabulary(self) -> int:
        return self.text.vocabulary

    @property
    def start(self) -> int | None:
        return self.text.start

    @property
    def end(self) -> int | None:
        return self.text.end

    @property
    def pad(self) -> int | None:
        return self.text.pad

    @property
    def mask(self) -> int | None:
        return self.text.mask

    @property
    def unknown_token(self) -> int | None:
        return self.text.unknown_token

    @property
    def token_bytes(self) -> np.ndarray | None:
        return self.text.token_bytes

    @property
    def token_kinds(self) -> np.ndarray:
        return self.text.token_kinds

    @property
    def one_spelling(self) -> bool:
        return self.text.one_spelling

    @property
    def shown(self) -> int:
        return self.text.shown

    @property
    def levels(self) -> None:
        return None

    def encode(self, text: str) -> np.ndarray:
        return self.text.encode(text)

    def decode(self, ids: np.ndarray) -> str:
        return self.text.decode(ids)

    def until_end(self, ids: np.ndarray) -> np.ndarray:
        return self.text.until_end(ids)

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        return self.text.write(samples, stem)
