"""Write the list of tests that `make test` leaves out because they take long.

    make test-all PYTEST_ADDOPTS="--junitxml=report.xml -o junit_duration_report=call"
    python -m benchmarks.test_times report.xml --seconds 1.5

A test that took that long by itself, without its fixtures, is marked ``long``, but not the quickest
one of each file, nor those that ``make test`` must not lack. Tests that the report lacks or that
were skipped keep their place in the list.
"""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

# One config of a kind is trained, and what a newcomer sees first works.
KEPT = ("::test_the_tiny_form_trains", "::test_the_python_of_the_front_page_runs")
LIST = Path(__file__).resolve().parent.parent / "tests" / "long_tests.txt"


def read_times(report: Path) -> dict[str, float]:
    """Return the seconds of each test of a report of pytest that was run, by its node id."""
    found = {}
    for case in ET.parse(report).iter("testcase"):
        if case.find("skipped") is None:
            path = case.get("classname", "").replace(".", "/")
            found[f"{path}.py::{case.get('name', '')}"] = float(case.get("time", 0))
    return found


def choose_long(times: dict[str, float], before: set[str], seconds: float) -> list[str]:
    """Return the node ids of the tests that are long, sorted.

    Args:
      times: seconds of each test, by node id.
      before: node ids that were long before.
      seconds: the least that a long test takes.
    """
    quickest: dict[str, str] = {}
    for name in sorted(times, key=lambda name: times[name]):
        quickest.setdefault(name.split("::")[0], name)
    long = {
        name
        for name, took in times.items()
        if took >= seconds and not any(kept in name for kept in KEPT)
    }
    return sorted((long - set(quickest.values())) | (before - times.keys()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="JUnit report of make test-all")
    parser.add_argument("--seconds", type=float, default=1.5, help="the least of a long test")
    given = parser.parse_args(arguments)
    before = set(LIST.read_text(encoding="utf-8").splitlines()) if LIST.exists() else set()
    found = choose_long(read_times(given.report), before, given.seconds)
    LIST.write_text("".join(f"{name}\n" for name in found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
