"""Real processes of one run on this machine, in the environment that a scheduler gives them."""

import json
import os
import socket
import subprocess
import sys

import numpy as np

CONFIG = """
from genjax.optim import Adam
from genjax.schedules import Constant
from tests import toy

def get_config(tiny=False):
    return toy.experiment(
        optimizer=Adam(Constant(0.01)), steps={steps}, every=toy.Every(log=1, checkpoint={every}),
        devices=toy.Devices(),
    )
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def write_config(folder, steps=20, every=0):
    """Write the config of a toy that trains on all devices."""
    path = folder / "toy_config.py"
    path.write_text(CONFIG.format(steps=steps, every=every))
    return path


def environment(**more):
    """The environment of a child: one CPU device, and nothing of a scheduler."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("SLURM_", "OMPI_", "TPU_"))}
    paths = os.pathsep.join([os.getcwd(), *sys.path])
    return kept | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"} | more


def start(*arguments, folder=None, **more):
    """Start ``genjax`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "genjax", *map(str, arguments)],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes, *codes):
    """Wait for the processes; return what each wrote to standard error."""
    try:
        said = [process.communicate(timeout=200)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    found = [process.returncode for process in processes]
    assert found == list(codes or [0] * len(processes)), said
    return said


def curve(run_dir):
    """Loss and gradient norm of every step of a run."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return np.array([[row["loss"], row["grad_norm"]] for row in rows])
