"""Show the progress of training: a bar on a terminal, lines in a pipe, and in a notebook an updated
line with the newest picture below it.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from etils import epath

BAR, SHORT = 20, 8  # characters; where otherwise numbers had to go
CLEAR = "\r\x1b[K"  # the line of a terminal
GAPS = 0.1, 5.0, 60.0  # seconds between redrawn lines; between lines of a log, at first and last
MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclass(frozen=True)
class Status:
    """The progress of a run.

    Attributes:
      step: last step with known metrics.
      numbers: means of the training metrics to show, in this order.
      steps_per_second: speed without evaluation, samples and checkpoints.
      examples_per_second: the same speed in examples.
      seconds_left: remaining time including these; not finite while unknown.
    """

    step: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    steps_per_second: float = 0.0
    examples_per_second: float = 0.0
    seconds_left: float = math.inf


class Lines:
    """Prints a line now and then, for a pipe, a file or a simple terminal: less often the longer a
    run takes, but at least once a minute.
    """

    def __init__(self, total_steps: int) -> None:
        self._total = total_steps
        self._start = self._shown = time.monotonic()
        self._first = True

    def show(self, status: Status) -> None:
        """Show the progress, if enough time has passed or it is the last step."""
        now = time.monotonic()
        due = self._first or now - self._shown >= self._gap(now)
        if due or status.step >= self._total:
            self._shown, self._first = now, False
            self._draw(status)

    def say(self, line: str) -> None:
        """Print a permanent line."""
        print(line, file=sys.stderr, flush=True)

    def show_picture(self, path: epath.Path) -> None:
        """Show a picture, if the screen can."""

    def close(self) -> None:
        """Release the screen."""

    def _gap(self, now: float) -> float:
        return min(max(GAPS[1], 0.02 * (now - self._start)), GAPS[2])

    def _draw(self, status: Status) -> None:
        print(describe(status, self._total), file=sys.stderr, flush=True)


class Terminal(Lines):
    """A bar that is redrawn, no wider than the terminal, below the lines that stay."""

    def __init__(self, total_steps: int) -> None:
        super().__init__(total_steps)
        self._bar = ""

    def say(self, line: str) -> None:
        lines = _fold(line, _width())
        self._write("".join(f"{CLEAR}{line}\n" for line in lines) + self._bar)

    def close(self) -> None:
        if self._bar:
            self._write("\n")
        self._bar = ""

    def _gap(self, now: float) -> float:
        return GAPS[0]

    def _draw(self, status: Status) -> None:
        share, said = status.step / max(self._total, 1), describe(status, self._total)
        fits = [_fit(f"{draw_bar(share, bar)} {said}", _width()) for bar in (BAR, SHORT)]
        self._bar = max(fits, key=lambda line: line.count("  "))
        self._write(f"{CLEAR}{self._bar}")

    def _write(self, text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)


class Notebook(Lines):
    """Updates one output, and another one for the newest picture."""

    def __init__(self, total_steps: int) -> None:
        super().__init__(total_steps)
        self._handles: dict[str, Any] = {}

    def show_picture(self, path: epath.Path) -> None:
        from IPython.display import Image

        if path.exists():
            self._display("picture", Image(data=path.read_bytes()))

    def _gap(self, now: float) -> float:
        return 5 * GAPS[0]

    def _draw(self, status: Status) -> None:
        whole = f"{draw_bar(status.step / max(self._total, 1))} {describe(status, self._total)}"
        self._display("line", _Text(whole))

    def _display(self, name: str, shown: Any) -> None:
        from IPython.display import display

        if name in self._handles:
            self._handles[name].update(shown)
        else:
            self._handles[name] = display(shown, display_id=True)


@dataclass(frozen=True)
class _Text:
    """A line that a notebook displays without quotes."""

    line: str

    def __repr__(self) -> str:
        return self.line


def choose_screen(total_steps: int) -> Lines:
    """Return the kind of screen for standard error."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return Terminal(total_steps)
    if _in_notebook():
        return Notebook(total_steps)
    return Lines(total_steps)


def _in_notebook() -> bool:
    """Return whether a notebook kernel runs this process: only a kernel imports these modules and
    replaces standard error.
    """
    if "ipykernel" not in sys.modules or "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell is not None and type(sys.stderr).__module__.startswith("ipykernel")


def describe(status: Status, total: int) -> str:
    """Format ``step 1200/5000  loss 23.4  kl 3.1  512 steps/s  65,536 examples/s  0:07 left``."""
    parts = [
        f"step {status.step}/{total}",
        *format_numbers(status.numbers.items()),
        f"{status.steps_per_second:,.4g} steps/s",
        f"{status.examples_per_second:,.0f} examples/s",
        f"{format_time(status.seconds_left)} left",
    ]
    return "  ".join(parts)


def format_numbers(numbers: Iterable[tuple[str, float]]) -> list[str]:
    """Format each name and value as one text."""
    return [f"{name} {value:.5g}" for name, value in numbers]


def format_time(seconds: float) -> str:
    """Format a time as ``0:07``, ``59:59``, ``3 h 05 min`` or ``2 d 7 h``; ``?`` if unknown."""
    if not 0 <= seconds < math.inf:
        return "?"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE}:{whole % MINUTE:02d}"
    if whole < DAY:
        minutes = round(whole / MINUTE)
        return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 24 * 60 else "1 d 0 h"
    hours = round(whole / HOUR)
    return f"{hours // 24:,} d {hours % 24} h"


def draw_bar(share: float, width: int = BAR) -> str:
    """Draw a bar of ``width`` characters that standard error can encode."""
    full, rest = ("█", "░") if _writes("█░") else ("#", "-")
    done = int(min(max(share, 0.0), 1.0) * width)
    return full * done + rest * (width - done)


def _writes(text: str) -> bool:
    try:
        text.encode(sys.stderr.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _width() -> int:
    """Return the columns of the terminal, as a wider line would wrap and could not be redrawn."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or shutil.get_terminal_size().columns


def _fold(line: str, width: int) -> list[str]:
    """A line as several that are no wider: numbers stay with their names and words whole. What
    holds a command is left to the terminal, from which it can then be copied whole.
    """
    if "  " not in line and "genjax " not in line:
        return textwrap.wrap(
            line, width - 1, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    first, *pairs = line.split("  ")
    lines = [first]
    for pair in pairs:
        if len(lines[-1]) + len(pair) + 2 < width:
            lines[-1] += f"  {pair}"
        else:
            lines.append(f"  {pair}")
    return lines


def _fit(line: str, width: int) -> str:
    """Shorten a line by dropping parts from its middle; the beginning and the time left stay."""
    parts = line.split("  ")
    while len("  ".join(parts)) >= width and len(parts) > 3:
        del parts[-2]
    return "  ".join(parts)[: max(width - 1, 0)]
