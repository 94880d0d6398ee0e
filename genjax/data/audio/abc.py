"""Tunes in ABC notation (abcnotation.com) as characters, and as files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genjax import checks
from genjax.data.text.codecs import Characters
from genjax.machine import disk

FIELDS = "MLQKPV"  # kept lines of a header: metre, unit, tempo, key, parts, voice


class Tune(NamedTuple):
    """A tune.

    Attributes:
      title: its title; "" if there is none.
      text: its music: lines of its metre, key and so on, and of notes, each with a line feed.
    """

    title: str
    text: str


def split_tunes(text: str) -> Iterator[Tune]:
    """Yield the tunes of a file in ABC notation. What is no music is left out: numbers, titles,
    sources, remarks and empty lines.
    """
    for part in re.split(r"^X:.*$", text.replace("\r\n", "\n"), flags=re.MULTILINE)[1:]:
        title, lines = "", []
        for line in part.split("\n"):
            line = line.partition("%")[0].rstrip()
            field = re.match(r"([A-Za-z]):", line)
            if field and field[1] == "T":
                title = title or line[2:].strip()
            if line and (not field or field[1] in FIELDS):
                lines.append(line.lstrip())
        if any(not re.match(r"[A-Z]:", line) for line in lines):
            yield Tune(title, "".join(f"{line}\n" for line in lines))


def reduce_tune(text: str) -> str:
    """Return the notes and rests of a tune without its header, chords, bars and spacing: what two
    copies of a tune that differ only in these share.
    """
    body = "\n".join(line for line in text.split("\n") if not re.match(r"[A-Z]:", line))
    return re.sub(r'"[^"]*"|![^!]*!|\{[^}]*\}|[^A-Ga-gz0-9_^=/,\']', "", body)


@checks.frozen
class AbcTunes(Characters):
    """Encodes each character of a tune in ABC notation as a token, as ``Characters`` does, and
    writes samples as tunes.
    """

    delimiter: bool = True

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write samples [N, T], each up to its first end, as the tunes of an .abc file; return its
        path.
        """
        texts = [self.decode(self.until_end(row)).strip("\n") for row in np.asarray(samples)]
        tunes = [f"X:{n}\nT:Sample {n}\n{text}\n" for n, text in enumerate(texts, 1)]
        stem.parent.mkdir(parents=True, exist_ok=True)
        path = stem.parent / f"{stem.name}.abc"
        return disk.write(path, "\n".join(tunes).encode("utf-8", "replace"))
