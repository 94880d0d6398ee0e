"""Mel spectrograms of the sounds of another source."""

from __future__ import annotations

import dataclasses

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.audio.mel import MelCodec
from genjax.data.audio.signals import SignalCodec
from genjax.data.dataset import Dataset, Split
from genjax.data.sources.sounds import SpokenDigits
from genjax.data.splits import Arrays, dataset, digest
from genjax.errors import UserError

READ = 1024  # sounds that are held at once
LOUD = 0.999  # share of the levels of the training part at or below the one that becomes 1


@checks.frozen
class MelSpectrograms:
    """Converts the sounds of another source to log-mel spectrograms, as grey images.

    Sounds longer than the frames are cut, shorter ones padded with silence, and each is scaled to
    full scale first. Spectrograms are computed once, when the source is opened, and held in memory.
    The level that becomes 1 is fitted to the training part, so all others are in the same scale.

    Attributes:
      source: source of the sounds, mono.
      bands: number of mel bands, the height of the image.
      frames: number of frames, the width of the image.
      window: samples of a frame.
      hop: samples from one frame to the next; a sound has hop (frames - 1) samples.
      range_db: levels this far below the highest or farther become -1.
      iterations: of Griffin-Lim, on the way back to sound.
    """

    source: Component = SpokenDigits(length=5_952)
    bands: int = 32
    frames: int = 32
    window: int = 512
    hop: int = 192
    range_db: float = 60.0
    iterations: int = 32

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "frames")
        self.codec(1)

    def codec(self, rate: int) -> MelCodec:
        """Return the codec for a sampling rate in Hz, not fitted."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["source"]
        return MelCodec(rate, **fields)

    def open(self) -> Dataset:
        """Open the data set; batches hold ``image`` float32 [B, bands, frames, 1] and what the
        source has for labels.

        Raises:
          UserError: the source has no mono sounds, or a package is missing.
        """
        inner = self.source.open()
        sounds = inner.codec
        if not isinstance(sounds, SignalCodec) or sounds.channels != 1:
            raise UserError(
                f"source must have mono sounds, got a {type(self.source).__name__} of "
                f"{inner.spec.entry} of shape {inner.spec.shape}",
                "source",
            )
        codec = self.codec(sounds.rate)
        read = {name: _read(split, sounds, codec) for name, split in inner.splits.items()}
        high = float(np.quantile(read["train"][0], LOUD))
        codec = dataclasses.replace(codec, high=round(high, 3))
        splits = {
            name: Arrays("image", levels, label, codec) for name, (levels, label) in read.items()
        }
        fields = f"mel {codec}".encode()
        found = dataset(
            splits,
            classes=inner.spec.classes,
            class_names=inner.spec.class_names,
            fingerprint=digest([inner.fingerprint.encode(), fields]),
        )
        return dataclasses.replace(found, origins=inner.origins, remarks=inner.remarks)


def _read(
    split: Split, sounds: SignalCodec, codec: MelCodec
) -> tuple[np.ndarray, np.ndarray | None]:
    """Analyse a split: levels in dB [N, bands, frames, 1] and labels [N]."""
    levels, labels = [], []
    for start in range(0, len(split), READ):
        batch = split.batch(np.arange(start, min(start + READ, len(split))))
        signals = sounds.decode(batch["signal"])[:, : codec.length]
        missing = codec.length - signals.shape[1]
        levels.append(codec.analyse(np.pad(signals, ((0, 0), (0, missing), (0, 0)))))
        labels += [batch["label"]] if "label" in batch else []
    return np.concatenate(levels), np.concatenate(labels) if labels else None
