"""How soon training starts on a folder of many small images: the first time, and after that.

    python -m benchmarks.folder [--images 200000] [--side 32] [--folder DIR]

writes PNG files of random pixels into 100 folders of classes, and then, each in a process of its
own: opens them for the first time; a second time; after three files were changed, added and
removed; and with one of them damaged. It prints for each the seconds by the clock from ``set_up``
to the first batch (imports and compilation are not counted), those of CPU time with child
processes, the peak memory, and how fast batches come after that. The files are removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Dataset
from genjax.data.splits import Arrays, dataset

CLASSES = 100


def png(pixels: np.ndarray) -> bytes:
    """Return pixels uint8 [H, W, 3] as a PNG file."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 1)),
        (b"IEND", b""),
    )
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def write_images(root: Path, count: int, side: int) -> None:
    """Write images, each of one colour with a block of noise, so that they compress as usual."""
    draw = np.random.default_rng(0)
    for number in range(CLASSES):
        (root / f"class{number:02}").mkdir(parents=True)
    for i in range(count):
        pixels = np.empty((side, side, 3), np.uint8)
        pixels[:] = draw.integers(0, 256, 3)
        pixels[: side // 2] = draw.integers(0, 256, (side // 2, side, 3))
        (root / f"class{i % CLASSES:02}" / f"{i:07}.png").write_bytes(png(pixels))


def start(root: str, cache: str, side: int) -> dict[str, Any]:
    """Set up a run on the folder and take its first batch; return what that cost."""
    import jax

    import genjax.gx
    from genjax.runs.first_state import examples, first_state
    from genjax.runs.setup import set_up

    gx: Any = genjax.gx
    experiment = gx.Experiment(
        family=gx.VAE(latent_dim=4, coder=gx.MLPCoder(hidden=(16,))),
        data=gx.ImageFolder(root, cache=cache, on_error="skip"),
        batch_size=128,
    )
    jax.block_until_ready(jax.random.key(0))
    state = first_state(set_up(experiment, data=_blank(side))).state  # compiles
    before, begin = _spent(), time.perf_counter()
    setup = set_up(experiment)
    with examples(setup, state) as (source, _):
        jax.block_until_ready(next(source))
        seconds, cpu = time.perf_counter() - begin, _spent() - before
        begin = time.perf_counter()
        for _ in range(100):
            jax.block_until_ready(next(source))
        rate = 100 * experiment.batch_size / (time.perf_counter() - begin)
    return {
        "seconds": round(seconds, 2),
        "cpu": round(cpu, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "images": sum(map(len, setup.data.splits.values())),
        "images_per_second": round(rate),
    }


def _blank(side: int) -> Dataset:
    """Return a data set of the same shape and classes, for the first state."""
    codec = ImageCodec(side, side, 3)
    images = Arrays("image", np.zeros((4, side, side, 3), np.uint8), np.zeros(4, np.int32), codec)
    return dataset({"train": images}, classes=CLASSES, fingerprint="blank")


def _spent() -> float:
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)


def main() -> None:
    """Write the images and start four times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--folder", type=Path, help="folder for the images")
    parser.add_argument("--start", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        print(json.dumps(start(options.start[0], options.start[1], options.side)))
        return
    home = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        root, cache = home / "images", home / "cache"
        begin = time.perf_counter()
        write_images(root, options.images, options.side)
        print(f"wrote {options.images:,} images in {time.perf_counter() - begin:.0f} s", flush=True)
        time.sleep(2.1)  # files are trusted to be unchanged once they are two seconds old
        one, two = sorted((root / "class00").iterdir())[:2]
        for case in ("first", "second", "after changes", "with a damaged file"):
            if case == "after changes":
                one.unlink()
                two.write_bytes(png(np.zeros((options.side, options.side, 3), np.uint8)))
                shutil.copy(two, two.with_name("added.png"))
            if case == "with a damaged file":
                two.write_bytes(two.read_bytes()[:-20])
            command = [sys.executable, "-m", "benchmarks.folder", "--start", str(root), str(cache)]
            command += ["--side", str(options.side)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(json.dumps({"case": case} | json.loads(done.stdout)))
            print(*(line for line in done.stderr.splitlines() if str(root) in line), sep="\n")
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
