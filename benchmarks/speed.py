"""Write the table of docs/speed.md from runs of ``benchmarks.peers``.

    python -m benchmarks.peers --all --json runs/speed1.json    # and likewise 2 and 3
    python -m benchmarks.speed runs/speed1.json runs/speed2.json runs/speed3.json
    python -m benchmarks.speed --add runs/speed4.json   # one more, beside those that are stored
    python -m benchmarks.speed            # write the page again, from docs/speed.json
    python -m benchmarks.speed --check    # exit with 1 if the page is not current

The runs, which must be of one processor, replace in docs/speed.json what it had of that processor,
unless ``--add`` is given.
The page has a table for each processor, between two marks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, Case
from genjax.errors import UserError

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = "speed.md"
STORED = "speed.json"
BEGIN, END = "<!-- benchmarks.speed writes from here -->", "<!-- to here -->"
HEAD = ("processor", "cores")  # of a run; what all runs of a table share
# Of a case on one number of cores: the ratio of each run, and milliseconds of each side.
Figures = dict[str, Any]


def main(arguments: Sequence[str] | None = None, docs: Path = DOCS) -> int:
    """Write or check the page; return the exit code: 1 if it is not current, 2 for a fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN.json")
    parser.add_argument("--check", action="store_true", help="write nothing, compare the page")
    parser.add_argument("--add", action="store_true", help="keep the runs that are stored")
    options = parser.parse_args(arguments)
    stored, page = docs / STORED, docs / PAGE
    try:
        machines = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
        if options.runs:
            merged = merge([read_run(path) for path in options.runs])
            processor = merged.pop("processor")
            if options.add and processor in machines:
                merged = add(machines[processor], merged)
            machines[processor] = merged
        old = page.read_text(encoding="utf-8")
        new = fill(old, machines)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.check:
        if new != old:
            print(f"{page} is not current: python -m benchmarks.speed", file=sys.stderr)
        return int(new != old)
    if options.runs:
        stored.write_text(dump(machines), encoding="utf-8")
    page.write_text(new, encoding="utf-8")
    return 0


def read_run(path: Path) -> dict[str, Any]:
    """Read a file of ``benchmarks.peers --json``.

    Raises:
      UserError: it is missing or not such a file, or has a case that is unknown.
    """
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = run["results"]
        numbers = ("cores", "genjax", "peer", "ratio")
        whole = all(float(row[key]) > 0 for row in rows for key in numbers)
        whole &= bool(rows) and all(isinstance(run[key], str) for key in ("processor", "date"))
        names = [str(row["name"]) for row in rows]
        run["versions"].items()
        int(run["cores"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise UserError(
            f"{path} must be a file of python -m benchmarks.peers --json: {fault!r}", str(path)
        ) from None
    if not whole:
        raise UserError(f"{path} must have results, all numbers above 0", str(path))
    for name in names:
        if name not in CASES:
            raise UserError(f"{path} has the case {name!r}, which is not known", str(path))
    return run


def merge(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge runs of one machine: {processor, cores, dates, versions, cases}.

    ``cases`` has by name and number of cores, as text, the ratio of each run and the medians of
    milliseconds a step of both sides.

    Raises:
      UserError: they are of different machines or versions.
    """
    first = runs[0]
    for key in (*HEAD, "versions"):
        for run in runs:
            if run[key] != first[key]:
                raise UserError(
                    f"the runs must be of one machine, but {key} is {first[key]} and {run[key]}",
                    key,
                )
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in (row for run in runs for row in run["results"]):
        found.setdefault(row["name"], {}).setdefault(str(row["cores"]), []).append(row)
    cases = {
        name: {cores: _figures(rows) for cores, rows in found[name].items()}
        for name in CASES
        if name in found
    }
    dates = sorted({run["date"] for run in runs})
    return {key: first[key] for key in HEAD} | {
        "dates": dates,
        "versions": dict(first["versions"]),
        "cases": cases,
    }


def add(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Add the ratios of later runs to those of earlier ones; milliseconds are of the later.

    Raises:
      UserError: the runs have other versions or numbers of cores.
    """
    for key in ("cores", "versions"):
        if earlier[key] != later[key]:
            raise UserError(
                f"{key} must be as in {STORED}, {earlier[key]}, got {later[key]}: leave out --add",
                key,
            )
    cases: dict[str, dict[str, Figures]] = {}
    for name in CASES:
        before, after = earlier["cases"].get(name, {}), later["cases"].get(name, {})
        for cores in sorted({*before, *after}, key=int, reverse=True):
            figures = after.get(cores) or before[cores]
            if cores in before and cores in after:
                ratios = [*before[cores]["ratios"], *after[cores]["ratios"]]
                figures = {**figures, "ratios": ratios}
            cases.setdefault(name, {})[cores] = figures
    dates = sorted({*earlier["dates"], *later["dates"]})
    return {**later, "dates": dates, "cases": cases}


def _figures(rows: Sequence[Mapping[str, Any]]) -> Figures:
    return {
        "ratios": [row["ratio"] for row in rows],
        "genjax": round(statistics.median(row["genjax"] for row in rows), 3),
        "peer": round(statistics.median(row["peer"] for row in rows), 3),
    }


def dump(machines: Mapping[str, Any]) -> str:
    """Return docs/speed.json: a line for each case."""
    lines = []
    for processor, machine in machines.items():
        head = {key: value for key, value in machine.items() if key != "cases"}
        cases = ",\n".join(
            f"   {json.dumps(name)}: {json.dumps(figures)}"
            for name, figures in machine["cases"].items()
        )
        begin = json.dumps(head)[:-1]
        lines.append(f' {json.dumps(processor)}: {begin},\n  "cases": {{\n{cases}\n  }}}}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def fill(page: str, machines: Mapping[str, Any]) -> str:
    """Return the page with the tables between its marks.

    Raises:
      UserError: the page does not have each mark once, in order.
    """
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end or BEGIN in rest or END in after:
        raise UserError(f"{PAGE} must have the marks {BEGIN} and {END}, once each", PAGE)
    tables = "\n\n".join(render(name, machine) for name, machine in machines.items())
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def render(processor: str, machine: Mapping[str, Any]) -> str:
    """Return the title and the table of one processor."""
    columns = sorted({int(n) for case in machine["cases"].values() for n in case}, reverse=True)
    heads = ["1 core" if n == 1 else f"{n} cores" for n in columns]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"## {processor}, {machine['cores']} cores",
        "",
        f"Measured on {' and '.join(machine['dates'])} with {versions}.",
        "",
        f"| case | next to | goal | {' | '.join(heads)} | ms |",
        "|---" * (4 + len(columns)) + "|",
    ]
    for name, found in machine["cases"].items():
        case = CASES[name]
        cells = [show_ratio(found.get(str(n)), case) for n in columns]
        most = found.get(str(columns[0])) or next(iter(found.values()))
        sides = f"{_milliseconds(most['genjax'])} / {_milliseconds(most['peer'])}"
        lines.append(
            f"| `{name}`: {case.what} | {case.peer} | {case.goal:g} | {' | '.join(cells)} | "
            f"{sides} |"
        )
    return "\n".join(lines)


def show_ratio(figures: Figures | None, case: Case) -> str:
    """Return the median ratio and its range over runs, in bold where it misses the goal."""
    if figures is None:
        return ""
    ratios = sorted(figures["ratios"])
    middle = statistics.median(ratios)
    shown = _ratio(middle)
    if middle > case.goal:
        shown = f"**{shown}**"
    return shown if len(ratios) == 1 else f"{shown} ({_ratio(ratios[0])}–{_ratio(ratios[-1])})"


def _ratio(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}"


def _milliseconds(took: float) -> str:
    return f"{took:,.0f}" if took >= 100 else f"{took:.3g}"


if __name__ == "__main__":
    sys.exit(main())
