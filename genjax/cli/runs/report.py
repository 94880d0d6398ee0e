"""``genjax report RUN...``: one HTML page of runs, to look at and to send."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from genjax import checks
from genjax.cli.parsing import parse
from genjax.errors import UserError
from genjax.machine import disk
from genjax.report.collect import collect_runs
from genjax.report.page import render, write


@checks.frozen
class ReportOptions:
    """Write a page of one or several runs.

    Attributes:
      out: the file, ending in .html; report.html by default, in the run directory if there is one
        run.
      price: of a device for an hour, in any currency.
    """

    out: str | None = None
    price: float | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "price")
        if self.out is not None and Path(self.out).suffix.lower() not in (".html", ".htm"):
            raise UserError(f"out must be a file that ends in .html, got {self.out!r}", "out")


def report_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax report RUN...``."""
    more = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    options = parse(ReportOptions(), "report RUN...", arguments[len(more) :])
    for place in more:
        checks.check_path(place, "RUN")
    runs = collect_runs([target, *more])
    folder = runs[0].run_dir if len(runs) == 1 else epath.Path(".")
    out = folder / "report.html" if options.out is None else epath.Path(options.out).expanduser()
    try:
        print(write(render(runs, options.price), out))
    except OSError as error:
        if not disk.closed(error):
            raise
        said = f"{out} cannot be written: {error.strerror}; choose another file by --out"
        raise UserError(said, "out") from None
