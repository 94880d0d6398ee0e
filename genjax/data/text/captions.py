"""The codec of pictures with captions."""

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

INLINE = "data:image/png;base64,"  # a picture that is written out (RFC 2397) starts like this


@dataclass(frozen=True)
class CaptionCodec(AroundText):
    """The codec of the captions, and that of the pictures that they are about. Samples are
    captions.

    Attributes:
      tokens: of the captions.
      image: of the pictures.
    """

    tokens: Component
    image: ImageCodec

    @property
    def text(self) -> Any:
        return self.tokens

    def load_picture(self, image: str) -> np.ndarray:
        """The picture float32 [H, W, C] in model space of a file, or of one that is written out as
        ``inline`` does.

        Raises:
          UserError: there is no such picture, or it is of another size than those of the data.
        """
        name = (
            "the picture that is written out"
            if image.startswith(INLINE)
            else f"the picture {image}"
        )
        try:
            if image.startswith(INLINE):
                content = base64.b64decode(image.removeprefix(INLINE), validate=True)
            else:
                path = Path(image).expanduser()
                # reading a pipe would wait for somebody to write
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
                f"{name} is of {height}x{width} pixels, but the model reads pictures of "
                f"{self.image.height}x{self.image.width}: resize it first"
            )
        return self.image.encode(decode(content, None, self.image.channels))


def inline(content: bytes) -> str:
    """A PNG file written out, for where a picture is to be kept with a config instead of being
    named.
    """
    return INLINE + base64.b64encode(content).decode()
