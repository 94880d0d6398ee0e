"""Run the tests that take hours, and write what came of them to docs/checked.json.

    python -m benchmarks.checked

A test of this kind is marked ``slow``; quicker ones of the same kinds are in ``make test-all``.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

RECORD = Path(__file__).parent.parent / "docs" / "checked.json"


def main() -> int:
    """Run them; returns the exit code of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "slow", f"--junitxml={report}"]
        code = subprocess.run(command, cwd=RECORD.parent.parent, check=False).returncode
        results = results_of(report)
    record = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": subprocess.run(
            ["git", "-C", str(RECORD.parent), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "tests": results,
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return code


def results_of(report: Path) -> dict[str, dict[str, str | float]]:
    """What a report of pytest's says of each test: its result and its seconds."""
    found: dict[str, dict[str, str | float]] = {}
    for case in ET.parse(report).iter("testcase"):
        bad = next(
            (child.tag for child in case if child.tag in ("failure", "error", "skipped")), None
        )
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        found[name] = {"result": bad or "passed", "seconds": float(case.get("time", 0))}
    return found


if __name__ == "__main__":
    sys.exit(main())
