"""The user's own videos: folders of MP4, GIF and other files, cut into clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genjax import checks
from genjax.data.dataset import Dataset
from genjax.data.images.folders import Found, choose_rows, find_files
from genjax.data.splits import Arrays, array_fingerprint, dataset
from genjax.data.storage import find_folder
from genjax.data.video.codec import VideoCodec
from genjax.data.video.files import GIF, OTHERS, read_frames, resize_frame
from genjax.errors import UserError

NAMED = 3  # bad files that a message names; the rest are counted


@checks.frozen
class VideoFolder:
    """Reads the videos below a folder as clips of equal length, one after another; frames that are
    left at a file's end are dropped.

    GIF is read by Pillow; MP4, MOV, AVI, MKV, M4V and WebM need the extra "video". All clips are
    held in memory. Damaged files and files too short for a clip are refused by name, links to
    folders followed, hidden files and files of other kinds skipped and counted. Folders train, val
    and test are splits. Of a single video, the last clips are held out.

    Attributes:
      root: folder of the files; a relative one that does not exist is searched below $GENJAX_DATA.
      size: (height, width) to which frames are resized and cut in the middle.
      frames: frames of a clip.
      every: every so many frames of a file one is taken.
      channels: of a frame, 1 (grey) or 3 (RGB).
      rate: frames per second of samples.
      test_fraction: fraction of the files held out as "test"; 0 for none. The choice depends only
        on each file's path below the root, so adding files moves no other file.
      closed: whether links that lead out of the root are skipped, for folders from strangers.
    """

    root: str
    size: tuple[int, int] = (64, 64)
    frames: int = 20
    every: int = 1
    channels: int = 1
    rate: float = 10.0
    test_fraction: float = 0.1
    closed: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "size", "every")
        checks.at_least(self, 2, "frames")
        checks.share(self, "test_fraction")
        self.codec()

    def codec(self) -> VideoCodec:
        return VideoCodec(*self.size, self.channels, self.rate)

    def open(self) -> Dataset:
        """Open the data set; batches hold ``image`` float32 [B, H, W, T C] in [-1, 1].

        Raises:
          UserError: there is no folder or no video, a file cannot be used, or imageio is missing.
        """
        root = find_folder(self.root)
        found = find_files(root, GIF | OTHERS, "videos", classes=False, closed=self.closed)
        clips, bad, total = [], [], 0
        for name in found.names:
            try:
                clips.append(self._cut_clips(root / name))
            except (OSError, ValueError) as error:
                bad.append(f"{name} ({error})")
                continue
            total += clips[-1].nbytes
            checks.check_size(float(total), "the clips", "data.size", cure="take a smaller size")
        if bad:
            more = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
            raise UserError(
                f"{len(bad):,} of {len(found.names):,} videos in {root} cannot be used: "
                f"{', '.join(bad[:NAMED])}{more}",
                str(root),
            )
        splits = {
            part: Arrays("image", clip, None, self.codec())
            for part, clip in self._split(found, root, clips).items()
        }
        return dataset(splits, classes=None, fingerprint=array_fingerprint(splits))

    def _cut_clips(self, path: Path) -> np.ndarray:
        """Return the clips of a file, uint8 [N, T, H, W, C].

        Raises:
          ValueError: it cannot be read, or is too short for a clip.
        """
        kept = [
            resize_frame(frame, self.size, self.channels)
            for number, frame in enumerate(read_frames(path))
            if number % self.every == 0
        ]
        count = len(kept) // self.frames
        if not count:
            step = f", of which every {self.every} is taken" if self.every > 1 else ""
            raise ValueError(
                f"its frames must be >= {self.frames} for a clip, got {len(kept)}{step}: lower "
                "data.frames, or take the file out"
            )
        return np.stack(kept[: count * self.frames]).reshape(count, self.frames, *kept[0].shape)

    def _split(self, found: Found, root: Path, clips: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Return the clips [N, T, H, W, C] of each split."""
        if len(clips) == 1 and found.parts is None:
            (whole,) = clips
            held = max(1, round(self.test_fraction * len(whole))) if self.test_fraction else 0
            if held >= len(whole):
                raise UserError(
                    f"{root} has one video of {len(whole)} clip, so that none can be held out: add "
                    "a video, lower data.frames, or set data.test_fraction to 0",
                    "test_fraction",
                )
            parts = {"train": whole[: len(whole) - held], "test": whole[len(whole) - held :]}
            return {name: part for name, part in parts.items() if len(part)}
        rows = choose_rows(found, str(root), self.test_fraction, "video")
        return {
            name: np.concatenate([clips[row] for row in chosen]) for name, chosen in rows.items()
        }
