"""The command line: ``python -m genjax train | sample | evaluate | compare | sweep | export |
bench | plan | launch | show | store | serve | ask | design``.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epy

from genjax import checks
from genjax.errors import Diverged, Signalled, UserError, unknown_name
from genjax.machine import disk, peers, programs, streams
from genjax.machine.ending import stop_promptly
from genjax.serial.config_places import list_configs
from genjax.serial.trust import Trust, allow

# A command imports what it needs when it runs: help and mistakes need neither JAX nor the house.
with epy.lazy_imports():
    from genjax import parallel
    from genjax.cli import (
        ask,
        bench,
        data,
        design,
        evaluate,
        explain,
        export,
        plan,
        sample,
        serve,
        show,
        train,
    )
    from genjax.cli.runs import compare, launch, report, sweep, watch
    from genjax.cli.store import command as store
    from genjax.data import storage

USAGE = """usage: genjax COMMAND ... [--debug] [--no-cache] [--trust | --trust=MODULE]

  train    CONFIG   train, or resume from the newest checkpoint
  sample   RUN_DIR  draw samples and print the path of what was written
  evaluate RUN_DIR  judge on a held-out split: a table, and eval.json
  report   RUN...   one HTML page: curves, samples, evaluations, origin, how to repeat it
  watch    RUNS     the same live in a browser, of a folder of runs
  compare  RUN_A RUN_B  compare samples of both: win rate under a reward, KL, diversity
  export   RUN_DIR  write weights, config and sampling function for other programs
  design   RUN_DIR  search a latent space towards a function; a sheet of designs with scores
  sweep    CONFIG   train each combination of lists of values and seeds, and compare them
  bench    CONFIG   one JSON line: compile_s, step_ms, per-second figures, flops, mfu, peak memory
  launch   KIND CONFIG  train on several machines, or write a script: slurm, tpu, ssh, ...
  plan     CONFIG --on MACHINE  memory, time and money on a TPU or GPU that is not here
  data prepare CONFIG  make a training set with a data card from raw files
  store    ACTION   records of prompts, answers and documents: init, import, search, export, ...
  ask      STORE QUESTION  answer from the documents of a store, with checked citations
  serve    RUN_DIR... an API as OpenAI's clients expect it, and pages; see docs/serve.md
  show     CONFIG   fields, parameters and FLOPs; also of a RUN_DIR, or of a file of samples

CONFIG is a file, or the bare name of one under configs/. Every field of it is an option:
`genjax train vae_digits --help` lists them. With --debug a mistake shows where it was found.
Compiled programs are kept in ~/.cache/genjax/programs, up to 2 GB; not with --no-cache.
--trust runs the code that a RUN_DIR from someone else names, see docs/safety.md."""

NEEDED = {  # words before the options; a RUN_DIR for all others
    "train": ("CONFIG",),
    "sweep": ("CONFIG",),
    "bench": ("CONFIG",),
    "plan": ("CONFIG",),
    "show": ("CONFIG",),
    "compare": ("RUN_A", "RUN_B"),
    "launch": ("KIND", "CONFIG"),
    "data": ("prepare", "CONFIG"),
    "store": ("ACTION",),
    "ask": ("STORE", "QUESTION"),
}
COMMANDS: Mapping[str, Callable[[str, Sequence[str]], None]] = {
    "train": lambda target, more: train.train_command(target, more),
    "sample": lambda target, more: sample.sample_command(target, more),
    "evaluate": lambda target, more: evaluate.evaluate_command(target, more),
    "report": lambda target, more: report.report_command(target, more),
    "watch": lambda target, more: watch.watch_command(target, more),
    "compare": lambda target, more: compare.compare_command(target, more),
    "design": lambda target, more: design.design_command(target, more),
    "sweep": lambda target, more: sweep.sweep_command(target, more),
    "export": lambda target, more: export.export_command(target, more),
    "bench": lambda target, more: bench.bench_command(target, more),
    "launch": lambda target, more: launch.launch_command(target, more),
    "plan": lambda target, more: plan.plan_command(target, more),
    "data": lambda target, more: data.data_command(target, more),
    "serve": lambda target, more: serve.serve_command(target, more),
    "show": lambda target, more: show.show_command(target, more),
    "store": lambda target, more: store.store_command(target, more),
    "ask": lambda target, more: ask.ask_command(target, more),
}
GLOBAL = ("--debug", "--no-cache", "--trust")  # options of every command
PLACES = ("--run-dir", "--out", "--from")
REMOTE = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google")  # libraries of buckets
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "bad_alloc")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit code: 0, 2 for a user's mistake, 3 for divergence, 130
    for SIGINT.

    129 is for SIGHUP, 143 for SIGTERM, and 141 if nobody reads the output any more. A wrong option
    (2) and a stopped training run raise SystemExit instead.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    trust = _trust(given)
    given = [word for word in given if word not in GLOBAL and not word.startswith("--trust=")]
    with stop_promptly() as ended:
        try:
            with allow(trust):
                code = _run(given, debug)
        except BaseException:
            if ended.code is None:
                raise
            code = ended.code
    return code if ended.code is None else ended.code


def _run(given: Sequence[str], debug: bool) -> int:
    help_wanted = bool({"-h", "--help"} & set(given))
    try:
        if not given or given[0].startswith("-"):
            return _usage(help_wanted, "a command comes first")
        if given[0] not in COMMANDS:
            raise unknown_name("command", given[0], COMMANDS)
        needed = NEEDED.get(given[0], ("RUN_DIR",))
        words = list(itertools.takewhile(lambda word: not word.startswith("-"), given[1:]))
        if len(words) < len(needed) and (given[0] != "data" or words in ([], ["prepare"])):
            mistake = f"{given[0]} needs {' '.join(needed)} before its options"
            return _usage(help_wanted, mistake, given[0])
        _check_places(given)
        kept = "files that were whole before are untouched; try again once there is room"
        with disk.explain_full_disk(kept, *_written(given), ".", storage.cache_folder()):
            COMMANDS[given[0]](given[1], given[2:])
    except Diverged as error:
        return _report_error(error, 3, debug)
    except BrokenPipeError:
        if not streams.is_broken():
            raise
        return streams.BROKEN
    except (UserError, OSError) as error:
        return _report_error(explain.explain_component(error), 2, debug)
    except Exception as error:
        return _report_device_error(error, given[1], debug)
    except KeyboardInterrupt:
        return 130
    return 0


def _report_device_error(error: Exception, target: str, debug: bool) -> int:
    """Report errors of devices, remote storage, other hosts or missing packages, and raise all
    others, which are bugs.
    """
    if type(error).__module__.partition(".")[0] in REMOTE:
        refused = UserError(f"{target!r} cannot be opened: {error}", target)
        return _report_error(refused, 2, debug)
    explained = explain.explain_component(error)
    if isinstance(explained, UserError):
        return _report_error(explained, 2, debug)
    from jax.errors import JaxRuntimeError

    if parallel.is_alone(error):
        return _report_error(UserError(peers.LINE), 2, debug)
    if isinstance(error, JaxRuntimeError | MemoryError):
        if isinstance(error, JaxRuntimeError) and not any(
            sign in str(error) for sign in OUT_OF_MEMORY
        ):
            raise error
        cure = (
            "a smaller batch_size, for a bound of many samples a smaller chunk (family.chunk), "
            "or more devices"
        )
        return _report_error(UserError(f"the device is out of memory: {cure}"), 2, debug)
    if isinstance(error, ModuleNotFoundError):
        return _report_error(
            UserError(f"a package is missing: {error.name}; see the extras of genjax-train"),
            2,
            debug,
        )
    raise error


def _trust(arguments: Sequence[str]) -> Trust:
    """Parse ``--trust`` and ``--trust=MODULE,MODULE``; see docs/safety.md."""
    if "--trust" in arguments:
        return True
    named = [word.removeprefix("--trust=") for word in arguments if word.startswith("--trust=")]
    return [module for names in named for module in names.split(",") if module]


def _check_places(given: Sequence[str]) -> None:
    """Refuse paths of targets and options that this machine cannot open."""
    if given[0] != "ask":  # a store may be the URL of a database
        checks.check_path(given[1], "the target")
    for option, value in zip(given, [*given[1:], ""], strict=True):
        name, equals, beside = option.partition("=")
        if name in PLACES or (name.startswith("--") and name.endswith((".root", ".run", ".path"))):
            place = beside if equals else value
            if given[0] == "launch" and "://" in place:
                continue  # opened by other machines alone
            checks.check_path(place, name[2:])
            if name in ("--run-dir", "--out") and "://" not in place:
                checks.beneath(place, name[2:], folder=name == "--run-dir")
    if given[0] == "compare" and len(given) > 2 and not given[2].startswith("-"):
        checks.check_path(given[2], "RUN_B")


def _written(given: Sequence[str]) -> list[str]:
    """Return the paths among the arguments that a command may write to."""
    pairs = zip(given, [*given[1:], ""], strict=True)
    named = [
        word.partition("=")[2] if "=" in word else after
        for word, after in pairs
        if word.startswith(PLACES)
    ]
    return [
        place for place in (*named, given[1]) if place and (place in named or Path(place).exists())
    ]


def _usage(wanted: bool, mistake: str, command: str | None = None) -> int:
    whole = f"{USAGE}\n\nconfigs: {', '.join(list_configs())}"
    print(store.describe_actions() if command == "store" else whole)
    if not wanted:
        print(f"genjax: {mistake}", file=sys.stderr)
    return 0 if wanted else 2


def _report_error(error: Exception, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
        return code
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    print(f"genjax: {line}", file=sys.stderr)
    return code


def entry() -> None:
    """Run the installed ``genjax`` command."""
    streams.in_utf8()
    # After a failed read or write, which is reported in one line, TensorStore's threads still call
    # a closed loop, and asyncio logs its abandoned tasks.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _unraisable
    streams.guard()
    # What bench measures is compiled each time.
    if "--no-cache" in sys.argv or sys.argv[1:2] == ["bench"]:
        programs.keep_no_programs()
    else:
        programs.keep_programs(storage.cache_folder())
    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except Exception:
        traceback.print_exc()
        code = 1
    code = streams.flush(code)
    if code > 128:
        # Library threads that still run could abort a regular exit of Python.
        atexit._run_exitfuncs()
        os._exit(code)
    if code > 0 and "jax" in sys.modules:
        parallel.abandon(code)
    sys.exit(code)


def _unraisable(unraisable: Any) -> None:
    ended = isinstance(
        unraisable.exc_value, KeyboardInterrupt | Signalled
    )  # the thread of ``prompt`` sees to it
    if not ended and str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    entry()
