"""Plan every config for machines that are not there, and write docs/plans.md.

    GENJAX_PLAN_PLUGINS=FOLDER python -m benchmarks.plans            # what docs/plans.json lacks
    GENJAX_PLAN_PLUGINS=FOLDER python -m benchmarks.plans --quick    # its tiny forms alone
    GENJAX_PLAN_PLUGINS=FOLDER python -m benchmarks.plans vae_digits --again
    python -m benchmarks.plans --check      # exit with 1 if the page is not current

FOLDER is where the compilers are: ``pip install --target FOLDER libtpu jax-cuda12-plugin``. Each
config is compiled in a process of its own. Where its whole form takes more minutes of a processor
than ``--minutes``, a shallower or the tiny one is compiled instead, and the row says so.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.plans_page import write_page
from genjax.__main__ import main as run_command
from genjax.plan.topology import PLUGINS
from genjax.serial.config_places import list_configs

DOCS = Path(__file__).resolve().parent.parent / "docs"
STORED, PAGE = "plans.json", "plans.md"
MACHINES = ("v5e:1x1", "v5e:2x2", "h200")
NOT_TRAINED = "prepare"  # the folder of configs that make data


KEPT = (
    *("fits", "devices", "mode", "memory", "flops", "moved_bytes", "collectives"),
    *("roofline_s", "step_s", "steps", "hours", "compile_s"),
)


@dataclass(frozen=True)
class Job:
    """A config to compile for a machine.

    Attributes:
      config: its name.
      on: the machine.
      options: more options of the config.
      forms: options of the forms that are compiled, until one does not take too long.
      minutes: for its whole form; None for those of the command.
    """

    config: str
    on: str
    options: str = ""
    forms: tuple[str, ...] = ("",)
    minutes: float | None = None


SHARDED = "--devices.mode sharded --devices.fsdp"
GPT2_ON_8 = f"{SHARDED} 8 --optimizer.accumulate 5"  # microbatches of 12 rows on each device
HOUR = 60.0
# Too large for one TPU: planned for what it is made for, with the reason that the page gives.
TOO_LARGE = {"llama_1b_gpu": "needs many devices: its plans are below"}
CIFAR10 = ("edm_cifar10", "edm_cifar10_gpu", "sngan_cifar10", "sngan_cifar10_gpu", "vae_cifar10")
# Of the shapes of the config's own: text that is at hand gives fewer tokens, and of CIFAR-10 there
# is a lossy copy.
SAME_SHAPES = {
    "gpt2_124m_gpu": "--data.codec.rows 50257",
    **dict.fromkeys(CIFAR10, "--data.name cifar10_jpeg"),
}
# In full, whatever it takes.
LARGE = (
    Job("gpt2_124m_gpu", "v5e:2x4", f"{SAME_SHAPES['gpt2_124m_gpu']} {GPT2_ON_8}", minutes=HOUR),
    Job("gpt2_124m_gpu", "h200:8", f"{SAME_SHAPES['gpt2_124m_gpu']} {GPT2_ON_8}", minutes=HOUR),
    Job(
        "llama_1b_gpu",
        "v5e:16x16",
        f"{SHARDED} 64 --devices.tensor 4 --optimizer.accumulate 1",
        minutes=HOUR,
    ),
    Job("llama_1b_gpu", "h200:8", f"{SHARDED} 8 --optimizer.accumulate 16", minutes=HOUR),
    Job("edm_cifar10_gpu", "h200:8", SAME_SHAPES["edm_cifar10_gpu"], minutes=HOUR),
    Job("edm_cifar10_gpu", "v5e:2x4", SAME_SHAPES["edm_cifar10_gpu"], minutes=HOUR),
)
# Batches of tiny forms that four devices cannot divide.
INDIVISIBLE = ("gpt2_124m_gpu", "makemore_mlp", "music_abc", "music_jsb", "music_jsb_16th")
DIVISIBLE = "--batch-size 8"
# The compiler for TPUs takes a second or two of a processor for each convolution and each of its
# gradients. Fewer blocks have the same kinds of them.
ONE_BLOCK = "--family.net.blocks 1"
SHALLOW = {
    "ddpm_mnist_gpu": ONE_BLOCK,
    "latent_diffusion_mnist": ONE_BLOCK,
    "vdm_mnist": ONE_BLOCK,
    "edm_cifar10_gpu": f"{ONE_BLOCK} --family.net.channels 128 256",
}


def list_jobs() -> list[Job]:
    """Return all that the page has: every config on each machine, and the large ones."""
    names = [
        name
        for name, path in list_configs().items()
        if path.parent.name != NOT_TRAINED and name not in TOO_LARGE
    ]
    common = [
        Job(name, on, SAME_SHAPES.get(name, ""), _forms(name, on))
        for name in names
        for on in MACHINES
    ]
    return [*common, *LARGE]


def _forms(name: str, on: str) -> tuple[str, ...]:
    is_deep = name in SHALLOW and on.startswith("v5e")
    return (SHALLOW[name] if is_deep else "", _tiny(name))


def _tiny(name: str) -> str:
    return f"--tiny {DIVISIBLE}" if name in INDIVISIBLE else "--tiny"


def main(arguments: Sequence[str] | None = None, docs: Path = DOCS) -> int:
    """Write or check the page; return the exit code: 1 for a fault or a page not current."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="*", metavar="CONFIG")
    parser.add_argument("--on", nargs="*", help="these machines only")
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    parser.add_argument("--minutes", type=float, default=3.0, help="of a processor, for one form")
    parser.add_argument("--quick", action="store_true", help="the tiny forms, in one process")
    parser.add_argument("--page", action="store_true", help="compile nothing, write the page")
    parser.add_argument("--check", action="store_true", help="compile nothing, compare the page")
    options = parser.parse_args(arguments)
    stored, page = docs / STORED, docs / PAGE
    found = read(stored)
    if options.check:
        current = page.exists() and page.read_text(encoding="utf-8") == write_page(found)
        if not current:
            print(f"{page} is not current: python -m benchmarks.plans", file=sys.stderr)
        return int(not current)
    wanted = [
        job
        for job in ([] if options.page else list_jobs())
        if (not options.configs or job.config in options.configs)
        and (not options.on or job.on in options.on)
    ]
    missing = [
        job for job in wanted if options.again or "fits" not in (find_row(found["rows"], job) or {})
    ]
    if options.quick:
        missing = [dataclasses.replace(job, forms=(_tiny(job.config),)) for job in missing]
    for jobs in group(missing):
        for row in plan(jobs, 0 if options.quick else 60 * options.minutes):
            row["quick"] = options.quick
            found = read(stored) | describe_machine()  # another process may have added rows
            found["rows"] = put(found["rows"], row)
            write(stored, found)
            page.write_text(write_page(read(stored)), encoding="utf-8")
    found = read(stored)
    page.write_text(write_page(found), encoding="utf-8")
    rows = [find_row(found["rows"], job) or {} for job in wanted]
    return int(not all(row.get("fits") for row in rows))


def group(jobs: Sequence[Job]) -> list[list[Job]]:
    """Return jobs that differ in the machine alone together: one process compiles for all."""
    found: dict[tuple[str, str, tuple[str, ...]], list[Job]] = {}
    for job in jobs:
        found.setdefault((job.config, job.options, job.forms), []).append(job)
    return list(found.values())


def plan(jobs: Sequence[Job], seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the rows of jobs of one config: each its plan, or its fault."""
    left = list(jobs)
    seconds = seconds if jobs[0].minutes is None else 60 * jobs[0].minutes
    for more in jobs[0].forms:
        lines, fault = compile_for(left, more, seconds * len(left))
        for job, line in zip(left, lines, strict=False):
            print(f"{job.config} {more} on {job.on}: {line['compile_s']} s", flush=True)
            yield _head(job) | {"instead": more} | line
        left = left[len(lines) :]
        if fault and left:  # the rest may be well
            yield _head(left[0]) | {"instead": more, "fault": fault}
            print(f"{left[0].config} {more} on {left[0].on}: {fault}", flush=True)
            if left[1:]:
                yield from plan(left[1:], seconds)
            return
        if not left:
            return
        print(f"{left[0].config} {more} on {left[0].on}: takes too long", flush=True)
    for job in left:
        yield _head(job) | {"fault": "takes too long to compile"}


def _head(job: Job) -> dict[str, Any]:
    return {"config": job.config, "on": job.on, "options": job.options}


def compile_for(jobs: Sequence[Job], more: str, seconds: float) -> tuple[list[Any], str | None]:
    """Return what ``genjax plan`` says of each machine until the time is over or a fault, and the
    fault; with 0 seconds in this process.
    """
    words = ["plan", jobs[0].config, "--json", "--on", *(job.on for job in jobs)]
    words += [*jobs[0].options.split(), *more.split()]
    code, out, said = run_here(words) if seconds == 0 else run_there(words, seconds)
    fault = None
    if code not in (0, -signal.SIGXCPU, -signal.SIGKILL):
        fault = said[-1][:300] if said else f"exit code {code}"
    lines = [json.loads(line) for line in out]
    return [{name: line[name] for name in KEPT} for line in lines], fault


def run_there(words: Sequence[str], seconds: float) -> tuple[int, list[str], list[str]]:
    """Run a command in a process of its own that may take so many seconds of a processor; return
    its code and the lines of its two outputs.
    """
    places = [os.environ.get(PLUGINS), os.environ.get("PYTHONPATH")]
    # A limit by the clock would end other configs on a machine with other work.
    limit = (round(seconds), round(seconds) + 5)
    done = subprocess.run(
        [sys.executable, "-m", "genjax", *words],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, limit),
    )
    out, said = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return done.returncode, out.splitlines(), said.strip().splitlines()


def run_here(words: Sequence[str]) -> tuple[int, list[str], list[str]]:
    """Run a command in this process, which saves starting one for each."""
    if os.environ.get(PLUGINS, ".") not in sys.path:
        sys.path.insert(0, os.environ.get(PLUGINS, "."))
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        try:
            code = run_command(list(words))
        except Exception as error:
            code = 1
            said.write(f"{type(error).__name__}: {error}\n")
    return code, out.getvalue().splitlines(), said.getvalue().strip().splitlines()


def describe_machine() -> dict[str, str]:
    """Return the versions and the date of the rows."""
    versions = [f"jax {version('jax')}", *_plugin_versions()]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": today, "versions": ", ".join(versions)}


def _plugin_versions() -> Iterator[str]:
    for path in sorted(Path(os.environ.get(PLUGINS, ".")).glob("*.dist-info")):
        name, _, number = path.stem.partition("-")
        if name in ("libtpu", "jax_cuda12_pjrt"):
            yield f"{name.replace('_', '-')} {number}"


def is_done(row: dict[str, Any] | None, quick: bool) -> bool:
    """Return whether a row is there: a plan, and of the whole form unless that is not wanted or
    took too long.
    """
    return row is not None and "fits" in row and (quick or not row["quick"])


def find_row(rows: Sequence[dict[str, Any]], job: Job) -> dict[str, Any] | None:
    """Return the row of a job; None if it is not there."""
    key = (job.config, job.on, job.options)
    return next((row for row in rows if _key(row) == key), None)


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["config"], row["on"], row["options"]


def put(rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows with a new one, in the order of the jobs, without those of none."""
    found = {_key(one): one for one in rows} | {_key(row): row}
    keys = [(job.config, job.on, job.options) for job in list_jobs()]
    return [found[key] for key in keys if key in found]


def read(path: Path) -> dict[str, Any]:
    """Read docs/plans.json; without rows if it is not there."""
    found: dict[str, Any] = {"date": "", "versions": "", "measured": [], "rows": []}
    if path.exists():
        found |= json.loads(path.read_text(encoding="utf-8"))
    gone = [job for job in list_jobs() if not is_done(find_row(found["rows"], job), quick=True)]
    missing = [f"{job.config} on {job.on}" for job in gone]
    return found | {"machines": MACHINES, "elsewhere": TOO_LARGE, "missing": missing}


def write(path: Path, found: dict[str, Any]) -> None:
    """Write docs/plans.json, a line for each row."""
    head = json.dumps({name: value for name, value in found.items() if name != "rows"})[:-1]
    rows = ",\n".join(f"  {json.dumps(row)}" for row in found["rows"])
    part = path.with_suffix(".part")
    part.write_text(f'{head},\n "rows": [\n{rows}\n ]}}\n', encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
