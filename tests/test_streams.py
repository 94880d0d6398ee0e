"""Output that nobody reads, or that was closed: commands end as those of Unix do, and training saves first."""

import os
import subprocess
import sys

from genjax.streams import BROKEN

GENJAX = f"{sys.executable} -m genjax"
QUICK = "--devices.count 1 --steps 8 --every.log 4"


def shell(command, folder):
    path = os.pathsep.join(p or os.getcwd() for p in ["", *sys.path])
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    found = shell(f"{GENJAX} show vae_digits | head -1", tmp_path)
    assert found.returncode in (0, BROKEN) and found.stderr == "" and found.stdout.count("\n") == 1


def test_training_with_closed_outputs_saves(tmp_path):
    found = shell(f"{GENJAX} train vae_digits --tiny --run-dir run {QUICK} >&- 2>&-", tmp_path)
    assert found.returncode == 0
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")] == ["8"]
