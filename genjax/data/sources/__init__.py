"""Where examples come from: each source is a frozen dataclass whose ``open()`` gives a ``Dataset``."""

from genjax.data.sources.digits import Digits
from genjax.data.sources.folder import ImageFolder
from genjax.data.sources.points import Points
from genjax.data.sources.stacked import Stacked
from genjax.data.sources.tfds import TFDS

__all__ = ["TFDS", "Digits", "ImageFolder", "Points", "Stacked"]
