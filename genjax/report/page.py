"""Make the page of a report: one HTML file that fetches nothing."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from etils import epath
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from genjax.machine import disk
from genjax.report import facts
from genjax.report.collect import Collected
from genjax.report.curves import find_curves
from genjax.report.draw import draw_chart
from genjax.report.samples import Kind, take_samples
from genjax.serve.pages.rendering import show_amount

OPEN = 12  # charts that are shown at once; the others are behind a click
BUDGET = 3_200_000  # bytes of samples in a page
LONGEST = 400_000  # characters of the configs and lineages in a page


@dataclass(frozen=True)
class View:
    """A run on the page.

    Attributes:
      run: what its files say.
      kinds: its samples.
      left: samples that were too large for the page.
      command: the command that started it; None if it was not one.
      versions: the requirements of pip that bring its versions.
      starts: a line for each start.
      source: its config file, cut to the room on the page.
      lineage: its origin, cut as well.
    """

    run: Collected
    kinds: Sequence[Kind]
    left: int
    command: str | None
    versions: str
    starts: Sequence[str]
    source: str
    lineage: str

    @property
    def has_results(self) -> bool:
        """Whether its config states numbers."""
        return bool(self.run.results)


def render(runs: Sequence[Collected], price: float | None = None, live: bool = False) -> str:
    """Return the page of one or several runs.

    Args:
      runs: the runs.
      price: of a device for an hour; None if unknown.
      live: whether the page of `genjax watch` is made, which refreshes itself.
    """
    curves, more = find_curves(runs)
    charts = [draw_chart(curve) for curve in curves]
    return (
        make_environment()
        .get_template("report.html")
        .render(
            title=", ".join(run.name for run in runs) if len(runs) < 4 else f"{len(runs)} runs",
            made=datetime.now(UTC),
            live=live,
            views=[make_view(run, len(runs)) for run in runs],
            overview=facts.compare_runs(runs, price),
            differences=facts.list_differences(runs),
            evaluations=facts.list_evaluations(runs),
            charts=charts[:OPEN],
            hidden=charts[OPEN:],
            more=more,
        )
    )


def make_view(run: Collected, count: int) -> View:
    """Choose what of a run is shown on a page of ``count`` runs."""
    kinds, left = take_samples(run.run_dir, BUDGET // count)
    room = LONGEST // (2 * count)
    return View(
        run=run,
        kinds=kinds,
        left=left,
        command=facts.find_command(run),
        versions=facts.list_versions(run),
        starts=facts.list_starts(run)[-20:],
        source=cut(run.source or "", room),
        lineage=cut(run.lineage or "", room),
    )


def cut(text: str, room: int) -> str:
    """Return a text, or its beginning where it is longer than ``room``."""
    return text if len(text) <= room else f"{text[:room]}\n… {len(text) - room:,} characters more"


def write(page: str, out: epath.Path) -> epath.Path:
    """Write a page atomically."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return disk.write(out, page)


@functools.cache
def make_environment() -> Environment:
    """Build the environment of the templates beside this file, with the style of the web pages."""
    environment = Environment(
        loader=PackageLoader("genjax.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    styles = (
        resources.files("genjax.serve.pages") / "static" / "style.css",
        Path(__file__).parent / "templates" / "report.css",
    )
    environment.filters |= {"amount": show_amount, "number": show_number}
    environment.globals["style"] = Markup("".join(s.read_text(encoding="utf-8") for s in styles))
    return environment


def show_number(value: float) -> str:
    """Format a value of a chart."""
    return "not finite" if math.isnan(value) else f"{value:.5g}"
