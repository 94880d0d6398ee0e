"""What `genjax launch` starts and writes runs as real processes, is stopped and killed, and resumes
with the same curve. There is no SLURM, TPU, Kubernetes or other host here: stand-ins of their
commands give the processes the variables that the real ones give.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import genjax
from genjax.config_files import load_config
from genjax.parallel import Devices
from tests import launched, toy

pytestmark = pytest.mark.long

# Starts its tasks with SLURM's variables, passes SIGTERM on, and returns the largest exit code.
SRUN = """
import os, signal, subprocess, sys
command = sys.argv[1 + next(i for i, w in enumerate(sys.argv[1:]) if not w.startswith("--")):]
count = os.environ["SLURM_NTASKS"]
tasks = []
for i in range(int(count)):
    own = {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "SLURM_STEP_NODELIST": "localhost",
           "SLURM_STEP_TASKS_PER_NODE": count}
    tasks.append(subprocess.Popen(command, env=os.environ | own))
signal.signal(signal.SIGTERM, lambda *_: [task.send_signal(signal.SIGTERM) for task in tasks])
codes = []
for task in tasks:
    while task.poll() is None:
        try:
            task.wait(0.1)
        except subprocess.TimeoutExpired:
            pass
    codes.append(task.returncode)
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = (
    "import os, sys\nopen(os.environ['REQUEUED'], 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
)
# Runs the last word in a shell of this machine, which gets SIGHUP as if its terminal was closed.
SSH = """
import os, signal, subprocess, sys
assert sys.argv[1] == "-tt", sys.argv
number = str(int(sys.argv[-2] != "localhost"))
process = subprocess.Popen(
    ["bash", "-c", sys.argv[-1]], start_new_session=True, env=os.environ | {"HOST_NUMBER": number}
)
signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGHUP))
code = process.wait()
sys.exit(code if code >= 0 else 255)
"""
# Makes nothing; runs a command of `ssh --worker=all` once for each worker, with its variables.
GCLOUD = """
import os, subprocess, sys
action, *words = sys.argv[4:]
with open(os.environ["CALLED"], "a") as file:
    file.write(" ".join([action, *words]) + "\\n")
if action == "describe":
    sys.exit(1)
if action == "ssh":
    assert "--worker=all" in words
    command = next(w for w in words if w.startswith("--command=")).partition("=")[2]
    workers = [
        subprocess.Popen(["bash", "-c", command], env=os.environ | {
            "TPU_WORKER_ID": str(i), "TPU_WORKER_HOSTNAMES": "localhost,localhost"})
        for i in range(2)
    ]
    sys.exit(max([worker.wait() for worker in workers]))
"""
STAND_INS = {"srun": SRUN, "scontrol": SCONTROL, "ssh": SSH, "gcloud": GCLOUD}


@pytest.fixture
def tools(tmp_path):
    """Variables with the stand-ins first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in STAND_INS.items():
        (folder / name).write_text(f"#!{sys.executable}\n{text}")
        (folder / name).chmod(0o755)
    return {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "REQUEUED": str(tmp_path / "requeued"),
        "CALLED": str(tmp_path / "called"),
        "JAX_COORDINATOR_PORT": str(launched.free_port()),
    }


@pytest.fixture
def config(tmp_path):
    return launched.write_config(tmp_path, steps=300, every=0)


def whole(config, folder, count):
    """The curve of an uninterrupted run in one process, with as many devices."""
    devices = Devices(count=count, mode="pmapped" if count > 1 else "auto")
    one, _ = load_config(str(config))
    genjax.train(
        toy.experiment(optimizer=one.optimizer, steps=one.steps, devices=devices),
        folder,
        quiet=True,
    )
    return launched.curve(folder)


def await_steps(run_dir, count, process):
    """Wait until a run has taken so many steps."""
    path, end = run_dir / "metrics.jsonl", time.monotonic() + 120
    while not path.exists() or path.read_text(encoding="utf-8").count("\n") < count:
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)


def write_script(kind, config, *options):
    words = ["launch", kind, str(config), "--out", str(config.parent / "script"), *options]
    launched.finish([launched.start(*words)], 0)
    return config.parent / "script"


def submit(script, count, tools):
    """Run a batch script as SLURM does."""
    variables = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": str(count), "SLURM_PROCID": "0"}
    return subprocess.Popen(
        ["bash", str(script)],
        env=launched.environment(**tools) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("count", [1, 2])
def test_a_slurm_job_is_requeued_before_its_time_is_over_and_resumes(
    tmp_path, config, tools, count
):
    script = write_script(
        "slurm", config, "--nodes", str(count), "--run-dir", str(tmp_path / "run")
    )
    steps = 0
    # Its time is nearly over; then it is preempted, and SLURM itself queues it again.
    for number in (signal.SIGUSR1, signal.SIGTERM)[: 3 - count]:
        job = submit(script, count, tools)
        await_steps(tmp_path / "run", steps + 20, job)
        job.send_signal(number)
        launched.finish([job], 143)
        assert Path(tools["REQUEUED"]).read_text(encoding="utf-8") == "requeue 4711\n"
        before, steps = steps, len(launched.curve(tmp_path / "run"))
        assert before + 20 <= steps < 300
    said = launched.finish([submit(script, count, tools)], 0)
    assert "resuming from step" in said[0]
    found, expected = launched.curve(tmp_path / "run"), whole(config, tmp_path / "one", count)
    if count == 1:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def children(process):
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return list(map(int, path.read_text(encoding="utf-8").split()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_moves_between_numbers_of_processes_and_outlives_a_lost_one(tmp_path):
    """Two processes that are stopped, then four of which one is killed, then one with eight
    devices: the curve of an uninterrupted run.
    """
    config, run_dir = launched.write_config(tmp_path, steps=300, every=50), tmp_path / "run"
    local = ["launch", "local", config, "--run-dir", run_dir, "--processes"]
    two = launched.start(*local, 2)
    await_steps(run_dir, 20, two)
    two.send_signal(signal.SIGTERM)
    (said,) = launched.finish([two], 143)
    assert "the same command continues" in said
    steps = len(launched.curve(run_dir))
    four = launched.start(*local, 4)
    await_steps(run_dir, 110, four)
    os.kill(children(four)[2], signal.SIGKILL)
    begin = time.monotonic()
    (said,) = launched.finish([four], 137)
    assert time.monotonic() - begin < 60
    assert f"resuming from step {steps}" in said
    assert "another process of this run has ended: start all of them again" in said
    assert "genjax: process 2 was killed by signal 9\n" in said
    one, _ = load_config(str(config))
    devices = Devices(count=8, mode="pmapped")
    rest = toy.experiment(
        optimizer=one.optimizer, steps=one.steps, every=one.every, devices=devices
    )
    genjax.train(rest, run_dir, quiet=True)
    np.testing.assert_allclose(
        launched.curve(run_dir), whole(config, tmp_path / "one", 1), rtol=1e-4
    )


def test_hosts_over_ssh_save_together_and_resume(tmp_path, config, tools):
    hosts = ["--hosts", "localhost", "me@127.0.0.1", "--port", tools["JAX_COORDINATOR_PORT"]]
    ssh = ["launch", "ssh", config, "--run-dir", tmp_path / "run", *hosts]
    first = launched.start(*ssh, **tools)
    await_steps(tmp_path / "run", 20, first)
    first.send_signal(signal.SIGTERM)
    launched.finish([first], 143)
    steps = len(launched.curve(tmp_path / "run"))
    assert 20 <= steps < 300
    (said,) = launched.finish([launched.start(*ssh, "--steps", steps + 20, **tools)], 0)
    assert f"resuming from step {steps}" in said
    expected = whole(config, tmp_path / "one", 2)[: steps + 20]
    np.testing.assert_allclose(launched.curve(tmp_path / "run"), expected, rtol=1e-4)


def test_a_host_that_fails_ends_the_others_with_its_name(tmp_path, config, tools):
    hosts = ["--hosts", "localhost", "127.0.0.1", "--port", tools["JAX_COORDINATOR_PORT"]]
    ssh = ["launch", "ssh", config, "--run-dir", tmp_path / "run", *hosts]
    # A host where the files are not at the same place.
    wrong = ["--setup", '[ "$HOST_NUMBER" = 0 ]']
    begin = time.monotonic()
    (said,) = launched.finish([launched.start(*ssh, *wrong, **tools)], 1)
    assert "genjax: process 1 127.0.0.1 ended with exit code 1\n" in said
    assert time.monotonic() - begin < 60 and not (tmp_path / "run").exists()


def test_a_tpu_slice_trains_on_all_its_hosts(tmp_path, config, tools):
    options = ["--zone", "us-central1-a", "--type", "v5litepod-8", "--setup", "true", "--spot"]
    options += ["--run-dir", str(tmp_path / "run"), "--steps", "20"]
    script = write_script("tpu", config, *options)
    python = tmp_path / "genjax" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    subprocess.run(
        ["bash", script], env=launched.environment(**tools), cwd=tmp_path, check=True, timeout=300
    )
    np.testing.assert_allclose(
        launched.curve(tmp_path / "run"), whole(config, tmp_path / "one", 2)[:20], rtol=1e-4
    )
    called = Path(tools["CALLED"]).read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in called] == ["describe", "create", "scp", "ssh", "ssh"]
    assert called[1] == (
        "create toy-config --zone=us-central1-a --accelerator-type=v5litepod-8 "
        "--version=tpu-ubuntu2204-base --spot"
    )


def test_pods_of_a_jobset_train_together(tmp_path, config):
    options = ["--image", "genjax:1", "--nodes", "2", "--run-dir", f"file://{tmp_path}/run"]
    found = yaml.safe_load(
        write_script("kubernetes", config, *options, "--steps", "20").read_text(encoding="utf-8")
    )
    (pod,) = found["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
        "containers"
    ]
    # The name service of the cluster is not here.
    address = f"localhost:{launched.free_port()}"
    words = [address if ":8476" in word else word for word in pod["command"][3:]]
    words = [word.removeprefix("file://") for word in words]
    launched.finish([launched.start(*words, JOB_COMPLETION_INDEX=str(i)) for i in range(2)])
    np.testing.assert_allclose(
        launched.curve(tmp_path / "run"), whole(config, tmp_path / "one", 2)[:20], rtol=1e-4
    )
