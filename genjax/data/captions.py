"""The codec of pictures with captions."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genjax.data.codecs import ImageCodec
from genjax.data.images import decode, header
from genjax.errors import UserError

INLINE = "data:image/png;base64,"  # a picture that is written out (RFC 2397) begins so


@dataclass(frozen=True)
class CaptionCodec:
    """The codec of the captions, and that of the pictures that they are about. Samples are captions.

    Attributes:
      tokens: of the captions.
      image: of the pictures.
    """

    tokens: Any
    image: ImageCodec

    @property
    def vocabulary(self) -> int:
        return self.tokens.vocabulary

    @property
    def start(self) -> int | None:
        return self.tokens.start

    @property
    def end(self) -> int | None:
        return self.tokens.end

    @property
    def pad(self) -> int | None:
        return self.tokens.pad

    @property
    def token_bytes(self) -> np.ndarray | None:
        return self.tokens.token_bytes

    @property
    def one_spelling(self) -> bool:
        return self.tokens.one_spelling

    @property
    def shown(self) -> int:
        return self.tokens.shown

    @property
    def levels(self) -> None:
        return None

    def encode(self, text: str) -> np.ndarray:
        return self.tokens.encode(text)

    def decode(self, ids: np.ndarray) -> str:
        return self.tokens.decode(ids)

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        return self.tokens.write(samples, stem)

    def picture(self, image: str) -> np.ndarray:
        """The picture float32 [H, W, C] in model space of a file, or of one that is written out as ``inline`` does.

        Raises:
          UserError: there is no such picture, or it is of another size than those of the data.
        """
        name = "the picture that is written out" if image.startswith(INLINE) else f"the picture {image}"
        try:
            if image.startswith(INLINE):
                content = base64.b64decode(image.removeprefix(INLINE), validate=True)
            else:
                content = Path(image).expanduser().read_bytes()
        except (OSError, binascii.Error) as error:
            raise UserError(f"{name} cannot be read: {error}") from None
        try:
            (height, width), _ = header(content)
        except Exception as error:  # PIL's readers raise many kinds
            raise UserError(f"{name} is no whole image: {error}") from None
        if (height, width) != (self.image.height, self.image.width):
            raise UserError(
                f"{name} is of {height}x{width} pixels, but the model reads pictures of "
                f"{self.image.height}x{self.image.width}: resize it first"
            )
        return self.image.encode(decode(content, None, self.image.channels))


def inline(content: bytes) -> str:
    """A PNG file written out, for where a picture is to be kept with a config instead of being named."""
    return INLINE + base64.b64encode(content).decode()
