"""Read sound files of several formats, and convert sounds to a common rate and channels."""

from __future__ import annotations

import io
import math

import numpy as np

from genjax.data.audio.mel import explain_package
from genjax.data.audio.signals import SCALE, Sound, from_floats, read_sound

WAV = frozenset({".wav", ".wave"})
OTHERS = frozenset({".flac", ".ogg"})  # read by libsndfile
RATES = 1_000, 768_000  # Hz that are resampled; headers that claim others are doubted


def read_file(content: bytes, suffix: str) -> Sound:
    """Read a sound file: WAV with ``read_sound``, FLAC and OGG with soundfile.

    Args:
      content: the bytes of the file.
      suffix: its suffix in lower case.

    Raises:
      ValueError: it cannot be read, or holds no sound; the message says why.
      UserError: soundfile is not installed.
    """
    if suffix in WAV:
        return read_sound(content)
    with explain_package(f"a {suffix} file"):
        import soundfile
    try:
        values, rate = soundfile.read(io.BytesIO(content), dtype="float64", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).rstrip(".")
        raise ValueError(f"it is no {suffix} file that can be read: {reason}") from None
    if not len(values):
        raise ValueError("it holds no sound")
    signal, clipped = from_floats(values)
    return Sound(signal, rate, clipped)


def mix_channels(sound: Sound) -> Sound:
    """Average the channels of a sound to one."""
    mean = sound.signal.mean(1, keepdims=True)
    return sound._replace(signal=np.rint(mean).astype(np.int16))


def resample(sound: Sound, rate: int, length: int) -> Sound:
    """Convert the first ``length`` steps of a sound to another rate, by SciPy's polyphase filter.

    Raises:
      ValueError: the rate of the sound is not one that sounds have.
    """
    from scipy.signal import resample_poly  # takes a while to import

    least, most = RATES
    if not least <= sound.rate <= most:
        raise ValueError(f"its rate must be from {least:,} to {most:,} Hz, got {sound.rate:,}")
    common = math.gcd(rate, sound.rate)
    up, down = rate // common, sound.rate // common
    margin = 20 * (down // up + 1)  # samples beyond the cut that the filter sees
    needed = length * sound.rate // rate + margin
    values = resample_poly(sound.signal[:needed].astype(np.float64), up, down, axis=0)
    signal, clipped = from_floats(values[:length] / SCALE)
    return Sound(signal, rate, sound.clipped + clipped)
