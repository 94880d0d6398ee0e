"""Where examples come from: each source is a frozen dataclass whose ``open()`` gives a ``Dataset``."""

from genjax.data.sources.captioned import CaptionedShapes
from genjax.data.sources.digits import Digits
from genjax.data.sources.folder import ImageFolder
from genjax.data.sources.points import Points
from genjax.data.sources.sounds import SpokenDigits, WavFolder
from genjax.data.sources.stacked import Stacked
from genjax.data.sources.tfds import TFDS
from genjax.data.sources.tones import Tones

__all__ = [
    "TFDS",
    "CaptionedShapes",
    "Digits",
    "ImageFolder",
    "Points",
    "SpokenDigits",
    "Stacked",
    "Tones",
    "WavFolder",
]
