"""How fast a folder of text becomes tokens, beside ``datasets`` with ``tokenizers``.

    python -m benchmarks.tokens [--megabytes 200] [--folder DIR]

writes text files of random words, whose frequency falls with their rank, and trains a BPE tokenizer
of 4,096 tokens on some of it. Then both sides tokenise all lines with it on all cores, in turn and
each in a process of its own, with empty caches: ``TextFiles(unit="lines").open()`` reads the files
three times (fingerprint, codec, tokens) and writes a mapped array; ``datasets`` reads them into
Arrow, maps ``encode_batch_fast`` over them with as many processes as cores, and writes Arrow. It
prints for each side and size a JSON line: megabytes of text a second by the clock, seconds of CPU
time with child processes, and the peak memory of the largest process. A half and the whole of the
text are measured, to see whether time is in proportion. ``datasets`` is left out if it is not
installed. The files are removed at the end.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FILE = 10_000_000  # bytes of a file
WORDS, LINE = 30_000, 100  # distinct words; words of a line


def write_text(folder: Path, megabytes: int) -> None:
    """Write files of 10 MB, the last of which may be shorter."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(2, 11, WORDS)
    words = ["".join(map(chr, draw.integers(97, 123, n))) for n in lengths]
    folder.mkdir()
    left = megabytes * 1_000_000
    for number in range(-(-left // FILE)):
        ranks = (WORDS ** draw.random((FILE // 250, LINE))).astype(int)
        lines = "\n".join(" ".join(words[i] for i in row) for row in ranks.tolist())
        (folder / f"{number:05}.txt").write_text(lines[: min(FILE, left)], encoding="ascii")
        left -= FILE


def train_tokenizer(folder: Path, path: Path) -> None:
    """Train a tokenizer on a megabyte, and save it."""
    from genjax.data.text.subwords import Subwords

    text = (folder / "00000.txt").read_text(encoding="ascii")[:1_000_000]
    codec = Subwords(size=4096).fit(text.splitlines())
    path.write_text(codec.tokenizer, encoding="utf-8")


def tokenise_genjax(folder: Path, tokenizer: Path, cache: Path) -> int:
    """Tokenise every line; return the number of tokens without those that end documents."""
    import genjax.gx

    gx: Any = genjax.gx
    source = gx.TextFiles(
        str(folder),
        unit="lines",
        codec=gx.Subwords(file=str(tokenizer)),
        layout=gx.Blocks(64),
        split=gx.ByCharacters(test=0.0),
        cache=str(cache),
    )
    corpus = source.open().splits["train"].corpus
    return len(corpus.tokens) - len(corpus)


def tokenise_datasets(folder: Path, tokenizer: Path, cache: Path) -> int:
    """Do the same with ``datasets``."""
    import datasets
    from tokenizers import Tokenizer

    datasets.disable_progress_bars()
    loaded = Tokenizer.from_file(str(tokenizer))

    def encode(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        found = loaded.encode_batch_fast(rows["text"], add_special_tokens=False)
        return {"ids": [encoding.ids for encoding in found]}

    files = sorted(map(str, folder.iterdir()))
    texts = datasets.load_dataset("text", data_files=files, split="train", cache_dir=str(cache))
    mapped = texts.map(
        encode, batched=True, num_proc=len(os.sched_getaffinity(0)), remove_columns=["text"]
    )
    counts = mapped.map(
        lambda rows: {"n": [len(ids) for ids in rows["ids"]]}, batched=True, remove_columns=["ids"]
    )
    return sum(counts["n"])


SIDES: dict[str, Callable[[Path, Path, Path], int]] = {
    "genjax": tokenise_genjax,
    "datasets": tokenise_datasets,
}


def measure(side: str, folder: Path, tokenizer: Path) -> dict[str, object]:
    """Run a side in this process."""
    cache = Path(tempfile.mkdtemp(dir=tokenizer.parent))
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    begin = time.perf_counter()
    tokens = SIDES[side](folder, tokenizer, cache)
    seconds = time.perf_counter() - begin
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    shutil.rmtree(cache)
    return {
        "side": side,
        "megabytes": round(size),
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(size / seconds, 2),
        "cpu": round(sum(u.ru_utime + u.ru_stime for u in used), 1),
        "peak_mb": round(max(u.ru_maxrss for u in used) / 1e3),
    }


def main() -> None:
    """Write the text and measure both sides in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="folder for the text")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side, folder, tokenizer = options.side
        print(json.dumps(measure(side, Path(folder), Path(tokenizer))))
        return
    home = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        tokenizer = home / "tokenizer.json"
        write_text(home / "whole", options.megabytes)
        (home / "half").mkdir()
        files = sorted((home / "whole").iterdir())
        for path in files[: len(files) // 2]:
            os.link(path, home / "half" / path.name)
        train_tokenizer(home / "whole", tokenizer)
        sides = [s for s in SIDES if s == "genjax" or importlib.util.find_spec(s) is not None]
        for part in ("half", "whole") if len(files) > 1 else ("whole",):
            for side in sides:
                command = [sys.executable, "-m", "benchmarks.tokens", "--side", side]
                command += [str(home / part), str(tokenizer)]
                subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
