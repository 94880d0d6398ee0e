"""Count what reading skips, changes or leaves out in each file, and report it in one line."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from genjax.data.images.decode import note
from genjax.errors import UserError
from genjax.machine import disk
from genjax.serial.json_text import replace_halves

SHOWN = 12  # kinds of counts in a line
EMPTY_LINES = "empty lines skipped"
EMPTY_TEXTS = "rows without text skipped"
TRIMMED = "rows without the blanks after their delimiters"
MARKS = "byte order marks left out"
UNKNOWN_TOKENS = "tokens outside the vocabulary read as unknown"
HALVES = "halves of surrogate pairs replaced by U+FFFD"


class Tally:
    """Counts what was done to the data of each file. A file that is read again counts once."""

    def __init__(self) -> None:
        self._files: dict[str, Counter[str]] = {}

    @contextlib.contextmanager
    def reading(self, file: str) -> Iterator[Counter[str]]:
        """Provide the counter for one reading of a file, which may end early; of several readings
        the largest counts are kept.
        """
        found: Counter[str] = Counter()
        try:
            yield found
        finally:
            self.add(file, found)

    def add(self, file: str, counts: Mapping[str, int]) -> None:
        """Record the counts of one reading of a file."""
        self._files[file] = self._files.get(file, Counter()) | Counter(counts)

    @property
    def total(self) -> dict[str, int]:
        """How often each thing was done, over all files."""
        found: Counter[str] = Counter()
        for counts in self._files.values():
            found.update(counts)
        return dict(sorted(found.items()))

    def keep(self, path: Path) -> None:
        """Merge the counts of earlier readings from a file, and write the total back.

        Earlier readings count because their results are cached.
        """
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, RecursionError):
            for file, counts in json.loads(path.read_text(encoding="utf-8")).items():
                self.add(file, {str(name): int(count) for name, count in counts.items()})
        if any(self._files.values()):
            with contextlib.suppress(OSError, UserError):
                path.parent.mkdir(parents=True, exist_ok=True)
                disk.write(path, json.dumps(self._files, sort_keys=True) + "\n")

    def remarks(self, title: str) -> tuple[str, ...]:
        """Print what was done, if anything was, in one line; return the line, or ()."""
        line = format_counts(self.total)
        if not line:
            return ()
        note(f"{title}: {line}")
        return (f"{title}: {line}",)


def format_counts(counts: Mapping[str, int]) -> str:
    """Format counts as text, only the largest if there are many; "" if all are 0."""
    found = sorted(
        (item for item in counts.items() if item[1]), key=lambda item: (-item[1], item[0])
    )
    parts = [f"{count:,} {name}" for name, count in sorted(found[:SHOWN])]
    if rest := found[SHOWN:]:
        parts.append(f"{sum(count for _, count in rest):,} of {len(rest):,} other kinds")
    return ", ".join(parts)


def whole(text: str, left: Counter[str]) -> str:
    """Replace each half of a surrogate pair by U+FFFD, and count it in ``left``."""
    found, count = replace_halves(text)
    if count:
        left[HALVES] += count
    return str(found)
