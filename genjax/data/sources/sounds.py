"""Recorded sounds: folders of sound files, and the Free Spoken Digit Dataset."""

from __future__ import annotations

import itertools
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from genjax import checks
from genjax.data.audio.formants import RATE as SPOKEN_RATE
from genjax.data.audio.formants import Spoken
from genjax.data.audio.signals import SignalCodec, Sound, pad_signal
from genjax.data.audio.sound_files import OTHERS, WAV, mix_channels, read_file, resample
from genjax.data.compressed import check_npz
from genjax.data.dataset import Dataset
from genjax.data.images.decode import note
from genjax.data.images.files import name_words, number_words
from genjax.data.images.folders import Found, choose_rows, find_files, label_files
from genjax.data.splits import Arrays, Lazy, Raw, Stored, array_fingerprint, dataset, digest
from genjax.data.stand_in import spoken_digits
from genjax.data.storage import data_folder, find_folder
from genjax.errors import UserError

SUFFIXES = WAV | OTHERS
NAMED = 3  # bad files that a message names; the rest are counted
TEST_INDEX = 5  # recordings 0 to 4 of each speaker and digit are the published test set
STORED = "audio", "offsets", "label", "speaker", "index"  # arrays of fsdd.npz, as in Spoken

LabelKind = Literal["digit", "speaker"]


@checks.frozen
class WavFolder:
    """Reads the WAV, FLAC and OGG files below a folder, cut or padded with silence to one length.

    Every file is read once when the source is opened; FLAC and OGG need the package soundfile.
    Damaged and empty files are refused by name, and so are files with another rate or number of
    channels unless ``resample`` or ``mix`` converts them. Links to folders are followed. Hidden
    files and files of other kinds are skipped and counted in one line.

    Attributes:
      root: folder of the files; a relative one that does not exist is searched below $GENJAX_DATA.
      rate: sampling rate of the examples, in Hz.
      length: time steps of an example; longer files are cut.
      channels: number of channels of the examples.
      resample: whether files of another rate are resampled instead of refused.
      mix: whether files of several channels are averaged to one instead of refused; needs
        ``channels`` 1.
      pattern: regular expression whose first group, matched in a file's path below the root, is its
        label, such as "([^/_]+)_[^/]*$" for the name up to its first "_"; None for the folders
        directly under the root, if there are at least two and every file is in one. Labels are
        numbered alphabetically. Folders train, val and test are splits, which contain the folders
        of labels.
      test_fraction: fraction of the files held out as "test"; 0 for none. The choice depends only
        on each file's path below the root, so adding files moves no other file.
      memory_gb: up to this size the sounds are held in memory; larger sets are read as needed.
      closed: whether links that lead out of the root are skipped, for folders from strangers.
    """

    root: str
    rate: int
    length: int
    channels: int = 1
    pattern: str | None = None
    test_fraction: float = 0.1
    memory_gb: float = 2.0
    closed: bool = False
    resample: bool = False
    mix: bool = False

    def __post_init__(self) -> None:
        self.codec()
        if self.mix and self.channels != 1:
            raise UserError(f"mix needs channels = 1, got {self.channels}", "mix")
        checks.share(self, "test_fraction")
        try:
            groups = None if self.pattern is None else re.compile(self.pattern).groups
        except re.error as error:
            raise UserError(
                f"pattern must be a regular expression, got {self.pattern!r}: {error}", "pattern"
            ) from None
        if groups == 0:
            raise UserError(
                f"pattern must have a group ( ) for the label, got {self.pattern!r}", "pattern"
            )

    def codec(self) -> SignalCodec:
        return SignalCodec(self.rate, self.length, self.channels)

    def open(self) -> Dataset:
        """Open the data set; batches hold ``signal`` float32 [B, T, C] and, with labels, ``label``
        int32 [B].

        Raises:
          UserError: there is no folder or no sound file, a file cannot be used, or a name has no
            label.
        """
        root = find_folder(self.root)
        found = find_files(
            root, SUFFIXES, "sound files", classes=self.pattern is None, closed=self.closed
        )
        names = found.names
        label, class_names = self._read_labels(found)
        read = WavReader(
            str(root), names, self.rate, self.length, self.channels, label, self.resample, self.mix
        )
        bad, hashes, clipped = [], [], []
        in_memory = 2 * len(names) * self.length * self.channels <= self.memory_gb * 2**30
        signals = np.empty((len(names) if in_memory else 0, self.length, self.channels), np.int16)
        for row, name in enumerate(names):
            try:
                content = (root / name).read_bytes()
                sound = read.read_signal(content, name)
            except (ValueError, OSError) as error:
                bad.append(f"{name} ({error})")
                continue
            hashes.append(f"{name} {digest([content])}\n".encode())
            clipped += [sound.clipped] if sound.clipped else []
            if in_memory:
                signals[row] = sound.signal
        if bad:
            more = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
            listing = ", ".join(bad[:NAMED]) + more
            raise UserError(
                f"{len(bad):,} of {len(names):,} sound files in {root} cannot be used: {listing}"
            )
        if clipped:
            note(
                f"{root}: {len(clipped):,} of {len(names):,} sound files have values beyond "
                f"full scale; {sum(clipped):,} are clipped"
            )
        stored: Stored = (
            Arrays("signal", signals, label, self.codec())
            if in_memory
            else Lazy("signal", read, np.arange(len(names)), self.codec())
        )
        rows = choose_rows(found, str(root), self.test_fraction, "sound file")
        splits = {name: stored.take(chosen) for name, chosen in rows.items()}
        fields = f"{self.rate} {self.length} {self.channels} {self.pattern}".encode()
        fields += b" resampled" * self.resample + b" mixed" * self.mix
        classes = None if class_names is None else len(class_names)
        return dataset(
            splits, classes=classes, fingerprint=digest([fields, *hashes]), class_names=class_names
        )

    def _read_labels(self, found: Found) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
        """Return labels [N] int32 and their names, or None and None."""
        if self.pattern is None:
            return label_files(found, None)
        matches = [re.search(self.pattern, name) for name in found.names]
        for name, match in zip(found.names, matches, strict=True):
            if match is None or match[1] is None:
                raise UserError(f"pattern {self.pattern!r} finds no label in {name}", "pattern")
        words = [match[1] for match in matches if match is not None]
        return number_words(words)[0], name_words(words)


@dataclass(frozen=True)
class WavReader:
    """Reads rows [B] from files as signals int16 [B, T, C] and labels [B]."""

    root: str
    names: tuple[str, ...]
    rate: int
    length: int
    channels: int
    label: np.ndarray | None
    resample: bool = False
    mix: bool = False

    def __call__(self, rows: np.ndarray) -> Raw:
        signals = np.empty((len(rows), self.length, self.channels), np.int16)
        for i, row in enumerate(rows):
            name = self.names[row]
            try:
                signals[i] = self.read_signal((Path(self.root) / name).read_bytes(), name).signal
            except (ValueError, OSError) as error:
                raise UserError(f"{self.root}/{name}: {error}") from error
        return signals, None if self.label is None else self.label[rows]

    def read_signal(self, content: bytes, name: str) -> Sound:
        """Return the sound of a file, cut or padded to the common length.

        Raises:
          ValueError: its rate or number of channels differs, or it cannot be read.
        """
        sound = read_file(content, Path(name).suffix.lower())
        if self.mix and sound.signal.shape[1] > 1:
            sound = mix_channels(sound)
        if sound.signal.shape[1] != self.channels:
            cure = "; mix averages them" if self.channels == 1 else ""
            raise ValueError(
                f"its channels must be {self.channels}, got {sound.signal.shape[1]}{cure}"
            )
        if sound.rate != self.rate and self.resample:
            sound = resample(sound, self.rate, self.length)
        if sound.rate != self.rate:
            raise ValueError(
                f"its rate must be {self.rate:,} Hz, got {sound.rate:,}; resample converts it"
            )
        return sound._replace(signal=pad_signal(sound.signal, self.length))


@checks.frozen
class SpokenDigits:
    """Reads the Free Spoken Digit Dataset (Jackson et al., 2018): digits by six speakers, 8 kHz,
    mono.

    There are 50 recordings of each speaker and digit, the first five of which are the published
    test set; they are cut or padded with silence to one length. The file ``fsdd.npz`` holds
    ``audio`` int16 end to end, ``offsets``, ``label``, ``speaker``, ``index`` and ``sample_rate``.

    Attributes:
      root: folder of ``fsdd.npz``; None for $GENJAX_DATA/audio, or for digits spoken by formant
        synthesis if that is not set.
      length: time steps of an example; 19 of 20 recordings are shorter than 5,300.
      label: what the labels are, "digit" or "speaker".
    """

    root: str | None = None
    length: int = 4_096
    label: LabelKind = "digit"

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "length")

    def open(self) -> Dataset:
        """Open the data set; batches hold ``signal`` float32 [B, T, 1] and ``label`` int32 [B].

        Raises:
          UserError: the file is missing or damaged.
        """
        folder = data_folder("audio", self.root)
        if folder is None:
            spoken, rate = spoken_digits(), SPOKEN_RATE
        else:
            spoken, rate = _load_digits(Path(folder).expanduser() / "fsdd.npz")
        raw = np.stack(
            [
                pad_signal(spoken.audio[a:b, None], self.length)
                for a, b in itertools.pairwise(spoken.offsets)
            ]
        )
        label = (spoken.label if self.label == "digit" else spoken.speaker).astype(np.int32)
        everything = Arrays("signal", raw, label, SignalCodec(rate, self.length))
        test = spoken.take < TEST_INDEX
        splits = {
            "train": everything.take(np.flatnonzero(~test)),
            "test": everything.take(np.flatnonzero(test)),
        }
        return dataset(splits, classes=int(label.max()) + 1, fingerprint=array_fingerprint(splits))


def _load_digits(path: Path) -> tuple[Spoken, int]:
    """Return the recordings of a file and their rate in Hz.

    Raises:
      UserError: the file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(
            f"there is no {path}; set GENJAX_DATA to the folder of audio/fsdd.npz, or give "
            "data.root"
        )
    try:
        check_npz(path)
        with np.load(path) as stored:
            return Spoken(*(stored[name] for name in STORED)), int(stored["sample_rate"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged: {error}") from error
