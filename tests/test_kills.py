"""A run that is killed at random moments ends as one that was left alone."""

import os
import re
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(3, marks=pytest.mark.long),
        pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
    ],
)
def test_a_run_survives_kills_at_random_moments(kills, tmp_path):
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", str(kills), "--seed", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^\| \d+ \|.*\| continued \|$", done.stdout, re.MULTILINE)) == kills
    assert "bitwise equal" in done.stdout and "the same, each once" in done.stdout
