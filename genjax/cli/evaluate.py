"""``genjax evaluate``: print a table, and write eval.json with every evaluated split and set."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence

from etils import epath

from genjax.cli.options import EvaluateOptions
from genjax.cli.parsing import explain_store, parse
from genjax.data.pictures import png_bytes
from genjax.evaluation.judge import Report
from genjax.machine import disk
from genjax.report.evaluations import JUDGED, read_judged
from genjax.runs import directory, writers
from genjax.runs.run import load


def evaluate_command(target: str, arguments: Sequence[str]) -> None:
    """Run ``genjax evaluate RUN_DIR``."""
    stored = directory.require_experiment(target)
    options = parse(
        EvaluateOptions(stored.data, stored.evaluators), f"evaluate {target}", arguments
    )
    run = load(target, best=options.best, devices=options.devices)
    judged = dataclasses.replace(run.experiment, evaluators=options.evaluators)
    run = dataclasses.replace(run, experiment=judged)
    other = () if options.data == stored.data else (options.data,)
    found = run.evaluate(options.split, *other)
    width = max(map(len, (*found.numbers, *found.pictures)))
    print(target)
    above = None
    for name, value in found.numbers.items():
        if found.protocols[name] != above:
            print(f" {(above := found.protocols[name])}")
        print(f"  {name:<{width}}  {value:.6g}")
    try:
        for line in _keep(run.run_dir, run.step, options.split, found):
            print(line)
    except OSError as error:
        if not disk.closed(error):
            raise
        print(
            f"note: {target} cannot be written ({error.strerror}): pictures and eval.json are lost"
        )
    for remark in found.remarks:
        print(f"note: {remark}")
    for caution in found.cautions:
        print(f"caution: {caution}")
    if options.store is not None:
        with explain_store():
            from genjax.cli.stored_judged import store_report

            count = store_report(options.store, run, options.split, found)
        print(f"{options.store}: {count:,} responses, {len(found.numbers)} scores of the run")


def _keep(run_dir: epath.Path, step: int, split: str, found: Report) -> Iterator[str]:
    """Write the pictures and numbers of an evaluation to the run directory; yield lines that say
    where.
    """
    where = {"step": step, "split": split, "data": found.data, "fingerprint": found.fingerprint}
    result = where | writers.finite(found.numbers)
    result |= {"protocols": dict(found.protocols), "remarks": found.remarks}
    result |= {"cautions": found.cautions}
    path = run_dir / "eval.json"
    others = [one for one in read_judged(path) if {n: one.get(n) for n in where} != where]
    disk.write(path, json.dumps(result | {JUDGED: [*others, result]}, indent=2) + "\n")
    width = max(map(len, (*found.numbers, *found.pictures)))
    if found.pictures:
        yield " pictures"
    of = f"_{_file_name(found.data)}_{found.fingerprint[:8]}" if found.data else ""
    for name, picture in found.pictures.items():
        path = run_dir / "samples" / f"{step:08d}_{split}{of}_{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write(path, png_bytes(picture))
        yield f"  {name:<{width}}  {path}"


def _file_name(title: str) -> str:
    """Return the part of a file name that stands for an evaluated set."""
    return re.sub(r"\W+", "_", title).strip("_")[:60]
