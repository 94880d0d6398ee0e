"""The codec of captions of pictures."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genjax.checks import Component
from genjax.data.codecs import ImageCodec
from genjax.data.images.decode import decode, header
from genjax.data.text.wrapped import AroundText
from genjax.errors import UserError

INLINE = "data:image/png;base64,"  # how a picture that is written inline begins (RFC 2397)


@dataclass(frozen=True)
class CaptionCodec(AroundText):
    """Holds the codecs of captions and of the pictures they describe. Samples are captions.

    Attributes:
      tokens: codec of the captions.
      image: codec of the pictures.
    """

    tokens: Component
    image: ImageCodec

    @property
    def text(self) -> Any:
        return self.tokens

    def load_picture(self, image: str) -> np.ndarray:
        """Load a picture float32 [H, W, C] in model space from a file or the result of ``inline``.

        Raises:
          UserError: the picture cannot be read, or its size differs from the data's.
        """
        name = "the inline picture" if image.startswith(INLINE) else f"the picture {image}"
        try:
            if image.startswith(INLINE):
                content = base64.b64decode(image.removeprefix(INLINE), validate=True)
            else:
                path = Path(image).expanduser()
                # Reading a pipe would wait for a writer.
                if path.exists() and not path.is_file():
                    raise UserError(f"{name} is not a file", image)
                content = path.read_bytes()
        except (OSError, binascii.Error) as error:
            raise UserError(f"{name} cannot be read: {error}") from None
        try:
            height, width = header(content).size
        except Exception as error:  # PIL's readers raise many kinds
            raise UserError(f"{name} is not a complete image: {error}") from None
        if (height, width) != (self.image.height, self.image.width):
            raise UserError(
                f"{name} must have {self.image.height}x{self.image.width} pixels, got "
                f"{height}x{width}: resize it first"
            )
        return self.image.encode(decode(content, None, self.image.channels))


def inline(content: bytes) -> str:
    """Write a PNG file as text, so that a config can hold the picture instead of its path."""
    return INLINE + base64.b64encode(content).decode()
