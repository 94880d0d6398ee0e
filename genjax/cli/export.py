"""``genjax export``: write a run for other programs."""

from __future__ import annotations

from collections.abc import Sequence

from genjax.cli.options import ExportOptions, SamplingExportOptions
from genjax.cli.parsing import parse
from genjax.runs import export as exports
from genjax.runs.example import EXAMPLE, describe_use
from genjax.runs.run import load
from genjax.runs.setup import load_family


def export_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax export RUN_DIR``."""
    family = load_family(target)
    sampler = None if family.no_samples is not None else family.sampler
    default = ExportOptions() if sampler is None else SamplingExportOptions(sampler=sampler)
    options = parse(default, f"export {target}", arguments)
    run = load(target, best=options.best)
    chosen = options.sampler if isinstance(options, SamplingExportOptions) else None
    paths = exports.export(run, options.to, options.out, options.num, chosen)
    for path in paths:
        print(path)
    if paths[-1].name == EXAMPLE:
        print(f"\n{describe_use(paths[-1].parent)}", end="")
