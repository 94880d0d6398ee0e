"""The user's own music: folders of MIDI files."""

from __future__ import annotations

import dataclasses
from typing import Any

from genjax import checks
from genjax.data.audio.midi import find_steps, read_notes, round_notes
from genjax.data.audio.music import ChoraleCodec
from genjax.data.audio.notes import Frame
from genjax.data.dataset import Dataset
from genjax.data.images.folders import choose_rows, find_files
from genjax.data.sources.chorales import join_pieces
from genjax.data.splits import digest
from genjax.data.storage import find_folder
from genjax.data.tally import Tally
from genjax.data.text.dataset import token_dataset
from genjax.data.text.layouts import Packed
from genjax.errors import UserError

SUFFIXES = frozenset({".mid", ".midi"})
NAMED = 3  # bad files that a message names; the rest are counted
OFF = 0.05  # steps that a note may start beside one without being counted as moved


@checks.frozen
class MidiFolder:
    """Reads the MIDI files below a folder as the notes that sound in each of equal time steps.

    All tracks are joined; drums are left out. Notes are moved to the nearest step and sound for at
    least one; how many were moved, and left out, is counted in one line. Damaged files are refused
    by name, links to folders followed, hidden files and files of other kinds skipped and counted.
    Folders train, val and test are splits.

    Attributes:
      root: folder of the files; a relative one that does not exist is searched below $GENJAX_DATA.
      codec: notes that are known, steps in a quarter note, and the tempo of samples.
      layout: how pieces become rows.
      test_fraction: fraction of the files held out as "test"; 0 for none. The choice depends only
        on each file's path below the root, so adding files moves no other file.
      closed: whether links that lead out of the root are skipped, for folders from strangers.
    """

    root: str
    codec: ChoraleCodec = ChoraleCodec(steps_per_quarter=4)
    layout: Any = Packed(1024)
    test_fraction: float = 0.1
    closed: bool = False

    def __post_init__(self) -> None:
        checks.share(self, "test_fraction")

    def open(self) -> Dataset:
        """Open the data set; batches hold ``tokens`` and the other entries of the layout.

        Raises:
          UserError: there is no folder or no MIDI file, a file cannot be used, or symusic is
            missing.
        """
        root = find_folder(self.root)
        found = find_files(root, SUFFIXES, "MIDI files", classes=False, closed=self.closed)
        left, pieces, bad, hashes = Tally(), [], [], []
        for name in found.names:
            try:
                content = (root / name).read_bytes()
                steps, counts = self._read_steps(content)
                pieces.append(self.codec.encode(steps))
            except (OSError, ValueError) as error:
                bad.append(f"{name} ({error})")
                continue
            left.add(name, counts)
            hashes.append(f"{name} {digest([content])}")
        if bad:
            more = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
            raise UserError(
                f"{len(bad):,} of {len(found.names):,} MIDI files in {root} cannot be used: "
                f"{', '.join(bad[:NAMED])}{more}"
            )
        rows = choose_rows(found, str(root), self.test_fraction, "MIDI file")
        corpora = {
            part: join_pieces([pieces[row] for row in chosen], self.codec)
            for part, chosen in rows.items()
        }
        titles = {part: f"{root}, {part}" for part in corpora}
        data = token_dataset(corpora, self.codec, self.layout, hashes, titles)
        return dataclasses.replace(data, remarks=left.remarks(str(root)))

    def _read_steps(self, content: bytes) -> tuple[list[Frame], dict[str, int]]:
        """Return the notes of each step of a file, and counts of what was changed.

        Raises:
          ValueError: the file is damaged, or holds no notes or one that the codec does not know.
        """
        notes = read_notes(content, self.codec.steps_per_quarter)
        low, high = self.codec.lowest, self.codec.highest
        outside = notes.pitch[(notes.pitch < low) | (notes.pitch > high)]
        if len(outside):
            raise ValueError(f"its notes must be from {low} to {high}, got {outside[0]}")
        moved = int((abs(notes.start - round_notes(notes)[0]) > OFF).sum())
        counts = {"notes moved to a step": moved, "notes of drums left out": notes.drums}
        return find_steps(notes), counts
