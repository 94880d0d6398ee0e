"""Draw how a run continues held-out clips, as a GIF for a page: true ones above, the model's below.

    python -m benchmarks.clips runs/video_moving_mnist
    python -m benchmarks.clips RUN_DIR --clips 6 --out docs/video.gif

Nothing is chosen by hand: these are the first of 64 clips evenly spaced over the split. While
frames are given, the model's row shows them with a dark line around; what it predicts has a bright
one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

import genjax
from genjax.data.video.codec import VideoCodec
from genjax.data.video.files import gif_bytes
from genjax.errors import UserError
from genjax.families.continuing import Continues

SPACED = 64  # clips, evenly spaced over the split, of which the first are drawn
GIVEN, OWN = 90, 255  # grey of the line around a frame
SCALE, LINE = 2, 2  # pixels


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw continued clips.")
    parser.add_argument("run")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/video.gif"))
    options = parser.parse_args(arguments)
    if not 1 <= options.clips <= SPACED:
        raise UserError(f"clips must be from 1 to {SPACED}, got {options.clips}", "clips")
    run = genjax.load(options.run)
    family, codec, sampler = run.experiment.family, run.codec, run.experiment.family.sampler
    if not isinstance(codec, VideoCodec) or not isinstance(family, Continues):
        raise UserError(f"{options.run} must be a run that continues video clips")
    test = run.experiment.data.open().splits["test"]
    true = test.batch(np.arange(options.clips) * len(test) // SPACED)["image"]
    given = family.select_given(true)
    key = jax.random.key(options.seed)
    own = np.asarray(family.roll_out(run.eval_state, key, given, sampler, true.shape[-1]))
    known = given.shape[-1] // codec.channels
    rows = [frame_clips(codec.cut_frames(clips), known) for clips in (true, own)]
    frames = np.concatenate(rows, 1)  # [T, H, W, C]
    options.out.write_bytes(gif_bytes(list(frames), codec.rate))
    print(options.out)
    return 0


def frame_clips(clips: np.ndarray, known: int) -> np.ndarray:
    """Lay clips uint8 [N, T, H, W, C] beside each other, enlarged and framed by a line that is dark
    up to frame ``known``: [T, H', W', C].
    """
    large = clips.repeat(SCALE, 2).repeat(SCALE, 3)
    space = ((0, 0), (0, 0), (LINE, LINE), (LINE, LINE), (0, 0))
    parts = [
        np.pad(large[:, :known], space, constant_values=GIVEN),
        np.pad(large[:, known:], space, constant_values=OWN),
    ]
    return np.concatenate(list(np.concatenate(parts, 1)), -2)


if __name__ == "__main__":
    raise SystemExit(main())
