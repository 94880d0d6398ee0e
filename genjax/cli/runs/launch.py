"""``genjax launch``: start a run on several machines, or write the script that does."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from etils import epath

from genjax.cli.options import TrainOptions
from genjax.cli.parsing import explain_options, parse
from genjax.config_files import load_config
from genjax.errors import UserError, unknown_name
from genjax.launch.hosts import LocalOptions, SshOptions, list_local, list_ssh
from genjax.launch.job import Job, with_options
from genjax.launch.kubernetes import KubernetesOptions, write_kubernetes
from genjax.launch.running import run_together
from genjax.launch.slurm import SlurmOptions, write_slurm
from genjax.launch.tpu import TpuOptions, write_tpu
from genjax.machine import disk
from genjax.serial import trust

KINDS = {
    "kubernetes": KubernetesOptions,
    "local": LocalOptions,
    "slurm": SlurmOptions,
    "ssh": SshOptions,
    "tpu": TpuOptions,
}


def launch_command(kind: str, arguments: Sequence[str]) -> None:
    """``genjax launch KIND CONFIG``.

    Raises:
      SystemExit: a process that was started here failed.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    options, job = read_job(kind, arguments[0], arguments[1:])
    if isinstance(options, SlurmOptions):
        job.check(options.processes, options.nodes * max(1, options.gpus))
        _write(options.out, write_slurm(options, list_runs(options, job)), "sbatch")
    elif isinstance(options, KubernetesOptions):
        _check_shared(job, "/runs" if options.claim else "")
        each = options.gpus if options.tpu is None else options.chips
        job.check(options.nodes, options.nodes * max(1, each))
        _write(options.out, write_kubernetes(options, job), "kubectl apply -f")
    elif isinstance(options, TpuOptions):
        _check_shared(job)
        job.check(1, None)
        _write(options.out, write_tpu(options, job), "bash")
    else:
        ssh = isinstance(options, SshOptions)
        commands = list_ssh(options, job) if ssh else list_local(options, job)
        job.check(len(commands), None)
        code = run_together(commands)
        if code:
            raise SystemExit(code)


def read_job(kind: str, target: str, arguments: Sequence[str]) -> tuple[Any, Job]:
    """Return the options of a kind, and the job; all words are checked as options of either."""
    experiment, path = load_config(target, "--tiny" in arguments)
    own = KINDS[kind]
    both = dataclasses.make_dataclass(
        "Launch",
        [
            ("launch", Annotated[own, tyro.conf.arg(name="")]),
            ("train", Annotated[TrainOptions, tyro.conf.arg(name="")], TrainOptions(experiment)),
        ],
    )
    prog = f"genjax launch {kind} {target}"
    with explain_options():
        found: Any = tyro.cli(
            both,
            args=list(arguments),
            prog=prog,
            description=inspect.cleandoc((own.__doc__ or "").partition("Attributes:")[0]),
            config=(tyro.conf.AvoidSubcommands,),
        )
        # Once more, to leave only the words that are for `train`.
        _, rest = tyro.cli(own, args=list(arguments), prog=prog, return_unknown_args=True)
    train: TrainOptions = found.train
    name = f"{path.stem}_tiny" if train.tiny else path.stem
    words = (*rest, *_list_global())
    return found.launch, Job(target, words, train.experiment, train.run_dir, name)


def _list_global() -> list[str]:
    """Return the options of every command that were given to this one."""
    keeps_none = os.environ.get("JAX_ENABLE_COMPILATION_CACHE") == "false"
    return [*trust.write_given(), *(["--no-cache"] if keeps_none else [])]


def list_runs(options: SlurmOptions, job: Job) -> list[Job]:
    """Return the runs of an array job, each with a run directory of its own.

    Raises:
      UserError: the options of a run are wrong.
    """
    if options.seeds is None and not options.each:
        return [job]
    passed = _list_global()
    base = job.run_dir or str(Path("runs") / job.name)
    jobs = []
    seeds: Sequence[int | None] = [None] if options.seeds is None else range(options.seeds)
    for (number, more), seed in itertools.product(enumerate(options.each or ("",)), seeds):
        words = _split(more)
        if seed is not None:
            words += ["--seed", str(seed)]
        label = f"_{number}" * (len(options.each) > 0) + f"_seed{seed}" * (seed is not None)
        run = with_options(job, words, f"{base}{label}")
        default = TrainOptions(load_config(job.config, "--tiny" in run.options)[0])
        parsed = parse(default, f"train {job.config}", [w for w in run.options if w not in passed])
        run = dataclasses.replace(run, experiment=parsed.experiment)
        run.check(options.processes, options.nodes * max(1, options.gpus))
        jobs.append(run)
    return jobs


def _split(options: str) -> list[str]:
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise UserError(f"each must be options, got {options!r}: {error}", "each") from error
    if any(word.partition("=")[0] == "--run-dir" for word in words):
        raise UserError("each must not have --run-dir: each run gets one of its own", "each")
    return words


def _check_shared(job: Job, mount: str | None = None) -> None:
    """Refuse a run directory on the disk of one machine, where the others do not see it.

    Args:
      job: the job.
      mount: folder of all machines, "" if there is none; None if that is not known.
    """
    place = job.run_dir or ""
    below = mount is None or (mount and place.startswith(f"{mount}/"))
    if not place or not ("://" in place or below):
        others = f", or below {mount} (--claim)" if mount is not None else ""
        raise UserError(
            f"run_dir must be a place that all machines share: gs://NAME/run{others}", "run_dir"
        )


def _write(out: str, text: str, command: str) -> None:
    """Print a script, or write it to a new file and say how to use it."""
    if out == "-":
        print(text, end="")
        return
    path = epath.Path(out).expanduser()
    if path.exists():
        raise UserError(f"out must be a new file, but {out} exists", "out")
    if not path.parent.exists():
        raise UserError(f"out must be in a folder that exists, got {out!r}", "out")
    disk.write(path, text)
    print(f"{out}\nstart it: {command} {shlex.quote(out)}", file=sys.stderr)
