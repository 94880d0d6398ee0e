"""Take the samples of a run into a report: pictures scaled down, sounds, texts and rows of
tables, within a budget of bytes.
"""

from __future__ import annotations

import base64
import collections
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath
from PIL import Image

from genjax.runs import lineage

NAME = re.compile(r"(\d{8,12})(?:_(.+))?")
FORMS = {
    ".png": "picture",
    ".wav": "sound",
    ".mid": "music",
    ".txt": "text",
    ".jsonl": "text",
    ".csv": "table",
}
SHOWN = {"picture": 6, "sound": 2, "music": 1, "text": 3, "table": 1}  # of one kind, at most
BESIDES = 2  # pictures of any other kind than plain samples
WIDTHS = (640, 400, 240)  # pixels of a picture: the first with which it fits
SMALL = 200  # pixels below which a picture is enlarged without blurring
PIXELS = 60_000_000  # of a picture that is opened, at most
LONGEST = 1500  # characters of a text
ROWS, COLUMNS = 8, 12  # of a table
FILE = 64 * 2**20  # bytes of a file that is read, at most


@dataclass(frozen=True)
class Sample:
    """A file of samples.

    Attributes:
      step: when it was drawn; None if its name does not say.
      file: name of the file.
      form: "picture", "sound", "music", "text", "table", or "fault".
      content: data URI of a picture, sound or music; the text; what is wrong.
      rows: rows of a table.
      width: of the picture, in pixels.
      height: of the picture, in pixels.
      cut: whether more of the text or table is in the file.
    """

    step: int | None
    file: str
    form: str
    content: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    width: int = 0
    height: int = 0
    cut: bool = False

    @property
    def is_small(self) -> bool:
        """Whether its pixels may be shown enlarged."""
        return self.width < SMALL


@dataclass(frozen=True)
class Kind:
    """Samples of one kind, through training.

    Attributes:
      title: "samples", or what they show.
      samples: some of them, by step.
      count: how many files there are.
    """

    title: str
    samples: tuple[Sample, ...]
    count: int


def take_samples(run_dir: epath.Path, budget: int) -> tuple[list[Kind], int]:
    """Return the samples of a run by kind, and how many were left out as they are too large.

    Args:
      run_dir: the run directory.
      budget: bytes that they may take on the page.
    """
    groups = _group(run_dir / "samples")
    kinds, left = [], 0
    for number, ((title, form), files) in enumerate(groups.items()):
        most = SHOWN[form] if title == "samples" or form != "picture" else BESIDES
        share = budget // (len(groups) - number)
        taken: list[Sample] = []
        chosen = _spread(files, most)
        for place in reversed(range(len(chosen))):  # the newest first
            step, path = chosen[place]
            sample = _read(step, path, form, share // (place + 1))
            size = len(sample.content) + sum(len(cell) for row in sample.rows for cell in row)
            if size > share:
                left += 1
                continue
            share, budget = share - size, budget - size
            taken.append(sample)
        if taken:
            kinds.append(Kind(title, tuple(reversed(taken)), len(files)))
    return kinds, left


def _group(folder: epath.Path) -> dict[tuple[str, str], list[tuple[int | None, epath.Path]]]:
    """Return the files of samples by kind and form; plain samples come first."""
    found: dict[Any, list[tuple[int | None, epath.Path]]] = collections.defaultdict(list)
    try:
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError:
        return {}
    for path in paths:
        form = FORMS.get(path.suffix.lower())
        if form is None or path.name == lineage.SAMPLES or path.name.startswith("."):
            continue
        match = NAME.fullmatch(path.stem)
        step = int(match[1]) if match else None
        title = (match[2] or "samples") if match else path.stem
        found[title.replace("_", " "), form].append((step, path))
    forms = list(SHOWN)
    return dict(
        sorted(found.items(), key=lambda i: (i[0][0] != "samples", forms.index(i[0][1]), i[0][0]))
    )


def _spread(files: Sequence[tuple[Any, epath.Path]], most: int) -> list[tuple[Any, epath.Path]]:
    """Return at most ``most`` files, evenly spaced, with the newest."""
    if len(files) <= most:
        return list(files)
    if most == 1:
        return [files[-1]]
    places = [round(i * (len(files) - 1) / (most - 1)) for i in range(most)]
    return [files[place] for place in dict.fromkeys(places)]


def _read(step: int | None, path: epath.Path, form: str, room: int) -> Sample:
    """Read a file; one that cannot be read becomes a fault.

    Args:
      step: when it was drawn.
      path: the file.
      form: "picture", "sound", "music", "text" or "table".
      room: bytes that a picture may take.
    """
    try:
        if path.stat().length > FILE:
            return Sample(step, path.name, "fault", "too large to be shown")
        content = path.read_bytes()
        if form == "picture":
            return _read_picture(step, path.name, content, room)
    except Exception as error:  # of many types, from Pillow's readers
        said = f"cannot be read: {type(error).__name__}"
        return Sample(step, path.name, "fault", said)
    if form in ("sound", "music"):
        kind = "audio/wav" if form == "sound" else "audio/midi"
        return Sample(step, path.name, form, _embed(content, kind))
    text = content.decode("utf-8", "replace")
    if form == "text":
        return Sample(step, path.name, form, text[:LONGEST], cut=len(text) > LONGEST)
    return _read_table(step, path.name, text)


def _embed(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _read_picture(step: int | None, name: str, content: bytes, room: int) -> Sample:
    """Scale a picture down until it fits, and write it as PNG or JPEG, whichever is smaller."""
    image: Image.Image = Image.open(io.BytesIO(content))
    if image.width * image.height > PIXELS:
        return Sample(step, name, "fault", "too large to be shown")
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    for width in WIDTHS:
        image.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
        kinds = ("png",) if image.width < SMALL else ("png", "jpeg")
        written = min((_encode(image, kind) for kind in kinds), key=len)
        if len(written) <= room:
            break
    return Sample(step, name, "picture", written, width=image.width, height=image.height)


def _encode(image: Image.Image, kind: str) -> str:
    """Return a picture as a data URI."""
    file = io.BytesIO()
    image.save(file, kind, optimize=True, quality=82)
    return _embed(file.getvalue(), f"image/{kind}")


def _read_table(step: int | None, name: str, text: str) -> Sample:
    rows, cut = [], False
    try:
        for row in csv.reader(io.StringIO(text)):
            cut |= len(rows) > ROWS or len(row) > COLUMNS
            if len(rows) > ROWS:
                break
            rows.append(tuple(cell[:60] for cell in row[:COLUMNS]))
    except csv.Error as error:
        return Sample(step, name, "fault", f"cannot be read: {error}")
    return Sample(step, name, "table", rows=tuple(rows), cut=cut)
