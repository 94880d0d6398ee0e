"""Draw spectrograms of real recordings and of a run's samples, one column a label, for a page.

    python -m benchmarks.spectrograms runs/latent_diffusion_spoken_digits
    python -m benchmarks.spectrograms RUN_DIR --rows 2 --seed 0 --out docs/audio.png

Nothing is chosen by hand: of each label these are the first held-out recordings, the same after
Griffin-Lim, the first samples of the seed and the same after Griffin-Lim.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import genjax
from genjax.data.audio.mel import MelCodec
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.pictures import png_bytes
from genjax.errors import UserError
from genjax.evaluation.audio.waveform import through_waveform
from genjax.evaluation.drawing import cycle_labels


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw real and generated spectrograms.")
    parser.add_argument("run")
    parser.add_argument("--rows", type=int, default=1, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/audio.png"))
    options = parser.parse_args(arguments)
    run = genjax.load(options.run)
    codec, classes = run.codec, run.spec.classes
    if not isinstance(codec, MelCodec) or classes is None:
        raise UserError(f"{options.run} must be a run on mel spectrograms with labels")
    test = run.experiment.data.open().splits["test"]
    batch = test.batch(np.arange(len(test)))
    real = _first(batch["image"], batch["label"], classes, options.rows)
    drawn = np.clip(run.sample(num=classes * options.rows, seed=options.seed), -1, 1)
    drawn = _first(drawn, cycle_labels(len(drawn), classes), classes, options.rows)
    kinds = {
        "recorded": real,
        "recorded, after\nGriffin-Lim": through_waveform(codec, real),
        "generated": drawn,
        "generated, after\nGriffin-Lim": through_waveform(codec, drawn),
    }
    options.out.write_bytes(png_bytes(draw_rows(codec, kinds, classes)))
    print(options.out)
    return 0


def _first(images: np.ndarray, label: np.ndarray, classes: int, rows: int) -> np.ndarray:
    """Return the first ``rows`` images of each label, row by row."""
    chosen = np.stack([np.flatnonzero(label == one)[:rows] for one in range(classes)], 1)
    return images[chosen.ravel()]


def draw_rows(codec: MelCodec, kinds: dict[str, np.ndarray], classes: int) -> np.ndarray:
    """Draw images [rows * classes, H, W, 1] of each kind, below one another: uint8 [H', W', 3]."""
    rows = len(next(iter(kinds.values()))) // classes
    figure = new_figure(0.8 * classes + 0.6, 0.85 * rows * len(kinds) + 0.3, dpi=110)
    axes = figure.subplots(rows * len(kinds), classes, squeeze=False)
    for number, (name, images) in enumerate(kinds.items()):
        pictures = codec.decode(images)[..., 0].reshape(rows, classes, codec.bands, codec.frames)
        for row in range(rows):
            for label in range(classes):
                cell = axes[number * rows + row, label]
                cell.imshow(pictures[row, label], cmap="magma", vmin=0, vmax=255, aspect="auto")
                cell.set(xticks=[], yticks=[])
            axes[number * rows + row, 0].set_ylabel(name, fontsize=7)
    for label in range(classes):
        axes[0, label].set_title(str(label), fontsize=9)
    return figure_pixels(figure)


if __name__ == "__main__":
    raise SystemExit(main())
