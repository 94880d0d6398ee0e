"""Save and restore checkpoints; the only module that uses Orbax."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.errors import JaxRuntimeError
from orbax.checkpoint import checkpoint_managers as policies

from genjax import parallel, trees
from genjax.errors import UserError
from genjax.experiment import Keep
from genjax.family import State
from genjax.machine import disk
from genjax.machine.patience import retry
from genjax.runs import checksums
from genjax.runs.checkpoint_files import UNFINISHED, find_steps
from genjax.serial.json_text import Json

# Names that mean the same to a glob, a URL and the system.
PLAIN = re.compile(r"[A-Za-z0-9_./+=-]*")


class Damaged(Exception):
    """A checkpoint is not what was written."""


# Errors from reading a damaged JSON file.
UNREADABLE = (
    OSError,
    ValueError,
    RecursionError,
    Damaged,
)


class Checkpoints:
    """The checkpoints of one run, written in the background and atomically.

    A checkpoint holds the state; the *progress*, which is everything else the loop needs (position
    in the data, metrics since the last row); and the checksums of both, which every reader
    compares. ``state.frozen`` is saved once per run, beside them, with its checksums in
    ``frozen.json``.

    A reader changes nothing. A writer first removes what a killed process left incomplete, and
    moves damaged checkpoints to ``damaged/``.
    """

    def __init__(self, run_dir: epath.Path, keep: Keep = Keep(), read_only: bool = False) -> None:
        # Orbax logs each directory, and errors before it raises them.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        local = "://" not in os.fspath(run_dir)
        # Orbax needs absolute paths.
        self._run_dir = epath.Path(run_dir).resolve() if local else epath.Path(run_dir)
        self._folder = self._run_dir / "checkpoints"
        self._open = contextlib.ExitStack()
        self._plain_dir = (
            self._open.enter_context(_link_plainly(self._run_dir)) if local else self._run_dir
        )
        self._keep = keep
        self._read_only = read_only
        self._manager: ocp.CheckpointManager | None = None
        if read_only:
            return
        self._tidy()
        preserve: list[policies.PreservationPolicy] = [policies.LatestN(keep.newest)]
        score = None if keep.best is None else functools.partial(_score, keep)
        if score is not None:
            preserve.append(
                policies.BestN(
                    get_metric_fn=score,
                    reverse=not keep.larger_is_better,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._manager = ocp.CheckpointManager(
            self._plain_dir / "checkpoints",
            options=ocp.CheckpointManagerOptions(
                best_fn=score,
                best_mode="max" if keep.larger_is_better else "min",
                preservation_policy=policies.AnyPreservationPolicy(preserve),
                create=True,
                cleanup_tmp_directories=not local,  # a bucket has no temporary names
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        with self._open:
            if self._manager is None:
                return
            if kind is None:
                self._manager.close()
            else:  # the current error matters more than one on closing
                with contextlib.suppress(Exception):
                    self._manager.close()

    def list_steps(self) -> list[int]:
        """Return the steps of complete checkpoints, oldest first."""
        return sorted(step for step, lacks in find_steps(self._run_dir).items() if lacks is None)

    def find_best_step(self) -> int | None:
        """Return the step with the best value of ``keep.best``; None if no checkpoint has one."""
        scores = {
            step: (self._read_scores(step) or {}).get(self._keep.best or "")
            for step in self.list_steps()
        }
        known = {step: score for step, score in scores.items() if score is not None}
        if not known:
            return None
        return (max if self._keep.larger_is_better else min)(known, key=lambda step: known[step])

    def save(
        self,
        step: int,
        state: State,
        progress: Mapping[str, Json],
        scores: Mapping[str, float] | None,
    ) -> None:
        """Copy the state off the devices and write it in the background.

        ``scores`` are the evaluation's metrics at this step, None if it was not evaluated. Without
        a finite ``keep.best`` among them the checkpoint is only kept as one of the newest.
        """
        assert self._manager is not None, "a reader does not save"
        if step in self._manager.all_steps():
            return
        score = (scores or {}).get(self._keep.best or "", math.nan)
        found = (
            {name: float(value) for name, value in (scores or {}).items()}
            if math.isfinite(score)
            else None
        )
        # A copy, as the loop changes its own while this is written.
        progress = json.loads(json.dumps(progress))
        self._save_frozen(state)
        state = state.replace(frozen=None)
        record = {
            "state": checksums.hash_arrays(state),
            "progress": checksums.hash_json(progress),
            "scores": checksums.hash_json(found),
        }
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                progress=ocp.args.JsonSave(progress),
                checksums=ocp.args.JsonSave(record | {"record": checksums.hash_json(record)}),
            ),
            metrics=found,
        )

    def wait(self) -> None:
        """Wait until everything is on disk; raise errors of the background thread."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def restore(
        self, target: State, step: int | None = None
    ) -> tuple[State, dict[str, Json]] | None:
        """Return state and progress of ``step``, or of the newest intact checkpoint; None if there
        is none.

        A damaged checkpoint is reported on stderr, a writer moves it to ``damaged/``, and the one
        before it is used. ``target`` gives shapes, dtypes and shardings, so that a run can continue
        on other devices.

        Raises:
          UserError: the checkpoint has other arrays than the target; no checkpoint can be read (and
            then nothing is moved); or the disk cannot be read at the moment.
        """
        frozen = self.load_frozen(target)
        found = find_steps(self._run_dir)
        if frozen is None and found and jax.tree.leaves(target.frozen):
            folder = self._run_dir / "frozen"
            raise UserError(
                f"{folder} is missing: put it back from a copy of the run", field=str(folder)
            )
        damaged = {number: reason for number, reason in found.items() if reason is not None}
        for number in (
            sorted(found.keys() - damaged.keys(), reverse=True) if step is None else [step]
        ):
            restored, reason = self._try_restore(number, target)
            if restored is not None:
                newer = {other: why for other, why in damaged.items() if other > number}
                self._set_aside(newer, used=number)
                return restored[0].replace(frozen=frozen), restored[1]
            damaged[number] = reason
        if step is not None:
            raise UserError(
                f"checkpoint {step} in {self._folder} cannot be read ({damaged[step]})",
                field="step",
            )
        if damaged:
            raise _damaged_error(self._folder, damaged)
        return None

    def _try_restore(
        self, step: int, target: State
    ) -> tuple[tuple[State, dict[str, Json]] | None, str]:
        """Return the checkpoint, or None and why it is damaged; the same on all processes."""
        restored, reason = None, ""
        try:
            restored = retry(
                functools.partial(self._read, step, target), str(self._folder / str(step))
            )
        except (UserError, MemoryError, JaxRuntimeError):  # not the fault of the files
            raise
        except Exception as error:  # a damaged file may raise anything in the layers below
            reason = _first_line(error)
        if parallel.any_process(restored is None):
            return None, reason or "another process cannot read it"
        return restored, reason

    def _read(self, step: int, target: State) -> tuple[State, dict[str, Json]]:
        target = target.replace(frozen=None)
        record, progress = self._read_checksums(step), self._read_json(step, "progress")
        if checksums.hash_json(progress) != record["progress"]:
            raise Damaged("its progress is not what was written")
        if progress["step"] != step:
            raise Damaged(f"it is a copy of checkpoint {progress['step']}")
        self._check_shapes(step, record["state"], target)
        with ocp.StandardCheckpointer() as kept:
            state = kept.restore(self._plain_dir / "checkpoints" / str(step) / "state", target)
        _compare(record["state"], checksums.hash_arrays(state))
        return state, progress

    def _read_json(self, step: int, part: str) -> Any:
        return json.loads(
            (self._folder / str(step) / part / "metadata").read_text(encoding="utf-8")
        )

    def _read_checksums(self, step: int) -> dict[str, Json]:
        """Return the checksums of a checkpoint, after verifying their own checksum."""
        record = self._read_json(step, "checksums")
        if not isinstance(record, dict) or record.pop("record", None) != checksums.hash_json(
            record
        ):
            raise Damaged("its checksums are not what was written")
        return record

    def _check_shapes(self, step: int, kept: Mapping[str, str], target: State) -> None:
        """Refuse an intact checkpoint with other arrays."""
        there = {name: entry.rpartition(" ")[0] for name, entry in kept.items()}
        wanted = {name: checksums.format_shape(leaf) for name, leaf in trees.named_leaves(target)}
        for name in sorted(
            there.keys() | wanted.keys(), key=lambda name: (not name.startswith("params/"), name)
        ):
            if there.get(name) != wanted.get(name):
                raise UserError(
                    f"the config and codec in {self._run_dir} are not those of its checkpoint "
                    f"{step}: "
                    f"{name} is {there.get(name, 'missing')} there, {wanted.get(name, 'missing')} "
                    "by them",
                    field=str(self._run_dir),
                )

    def load_frozen(self, target: State) -> Any:
        """Return the stored arrays of other runs; None if the run needs none or has not stored them
        yet.

        Raises:
          UserError: they are damaged, or cannot be read at the moment.
        """
        folder = self._run_dir / "frozen"
        if not jax.tree.leaves(target.frozen) or not folder.exists():
            return None

        def read() -> Any:
            record = json.loads((self._run_dir / "frozen.json").read_text(encoding="utf-8"))
            with ocp.StandardCheckpointer() as kept:
                found = kept.restore(self._plain_dir / "frozen", target.frozen)
            _compare(record, checksums.hash_arrays(found))
            return found

        try:
            return retry(read, str(folder))
        except (UserError, MemoryError, JaxRuntimeError):
            raise
        except Exception as error:
            cure = "put it and frozen.json back from a copy of the run"
            if not find_steps(self._run_dir):
                cure = "remove it: the run has no checkpoint yet"
            raise UserError(
                f"{folder} is damaged ({_first_line(error)}); {cure}", field=str(folder)
            ) from error

    def _read_scores(self, step: int) -> dict[str, float] | None:
        """Return the evaluation's metrics in a checkpoint; None if there are none or they are
        damaged.
        """
        path = self._folder / str(step) / "metrics" / "metrics"
        try:
            found, record = retry(
                lambda: (json.loads(path.read_text(encoding="utf-8")), self._read_checksums(step)),
                str(path),
            )
        except UNREADABLE:
            return None
        return (
            found
            if isinstance(found, dict) and record["scores"] == checksums.hash_json(found)
            else None
        )

    def _tidy(self) -> None:
        """Remove or set aside incomplete checkpoints, which Orbax could not read.

        Raises:
          UserError: there are checkpoints, but none is intact; then nothing is moved.
        """
        found = find_steps(self._run_dir)
        damaged = {step: lacks for step, lacks in found.items() if lacks is not None}
        if len(damaged) == len(found) and any(
            (self._folder / str(step) / "state").exists() for step in damaged
        ):
            raise _damaged_error(self._folder, damaged)
        parallel.barrier("found")  # before anything is moved, so that all processes see the same
        whole = found.keys() - damaged.keys()
        # A process that was killed while removing an old checkpoint leaves a part of it, besides as
        # many newer checkpoints as are kept.
        removed = {
            step for step in damaged if sum(step < newer for newer in whole) >= self._keep.newest
        }
        damaged = {step: lacks for step, lacks in damaged.items() if step not in removed}
        if jax.process_index() == 0:
            local = "://" not in os.fspath(self._run_dir)  # in a bucket, Orbax removes them
            folders = [
                folder for folder in (self._run_dir, self._folder) if local and folder.exists()
            ]
            left = [
                path for folder in folders for path in folder.iterdir() if UNFINISHED in path.name
            ]
            for path in (*left, *(self._folder / str(step) for step in removed)):
                (path.rmtree if path.is_dir() else path.unlink)()
        self._set_aside(damaged, used=max(whole, default=None))
        if jax.process_index() == 0:
            for step in whole:
                self._tidy_records(step)
        parallel.barrier("tidy")

    def _tidy_records(self, step: int) -> None:
        """Set aside damaged scores and dates: the state is intact, but Orbax would fail on them."""
        checkpoint, lost = self._folder / str(step), {}
        if (checkpoint / "metrics").exists() and self._read_scores(step) is None:
            lost["scores"] = checkpoint / "metrics"
        dates = ocp.path.step.standard_name_format().find_step(
            self._plain_dir / "checkpoints", step
        )
        try:
            dates.commit_timestamp  # noqa: B018
        except (*UNREADABLE, TypeError, AttributeError, KeyError, OverflowError):
            lost["dates"] = checkpoint / "_CHECKPOINT_METADATA"
        for path in lost.values():
            self._move(path)
        with contextlib.suppress(*UNREADABLE):
            # ``restore`` will report a checkpoint whose checksums are damaged.
            self._read_checksums(step)
            for name in lost:
                print(f"the {name} of checkpoint {step} are damaged and set aside", file=sys.stderr)

    def _save_frozen(self, state: State) -> None:
        if not jax.tree.leaves(state.frozen) or (self._run_dir / "frozen").exists():
            return
        record = checksums.hash_arrays(state.frozen)
        if jax.process_index() == 0:
            disk.write(self._run_dir / "frozen.json", json.dumps(record, indent=1) + "\n")
        with ocp.StandardCheckpointer() as frozen:
            frozen.save(self._plain_dir / "frozen", state.frozen)

    def _set_aside(self, damaged: Mapping[int, str], used: int | None) -> None:
        """Report which checkpoints are damaged and which is used instead; a writer moves them to
        ``damaged/``.
        """
        if not damaged:
            return
        if jax.process_index() == 0:
            for step, reason in sorted(damaged.items()):
                place = (
                    "" if self._read_only else f", moved to {self._move(self._folder / str(step))}"
                )
                instead = f"; using checkpoint {used}" if used is not None and used < step else ""
                print(f"checkpoint {step} is damaged ({reason}){place}{instead}", file=sys.stderr)
        parallel.barrier("damaged")
        if self._manager is not None:
            self._manager.reload()

    def _move(self, path: epath.Path) -> epath.Path:
        """Move a checkpoint, or a part of one, to a new name in ``damaged/``."""
        name = path.name if path.parent == self._folder else f"{path.parent.name}_{path.name}"
        (self._run_dir / "damaged").mkdir(parents=True, exist_ok=True)
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        place = next(place for n in names if not (place := self._run_dir / "damaged" / n).exists())
        path.rename(place)
        return place


@contextlib.contextmanager
def _link_plainly(run_dir: epath.Path) -> Iterator[epath.Path]:
    """Provide a path to the directory that Orbax can read: it interprets names as patterns, so
    ``lr[0.1]`` gets a link with a plain name.
    """
    if PLAIN.fullmatch(os.fspath(run_dir)):
        yield run_dir
        return
    with tempfile.TemporaryDirectory(prefix="genjax_") as folder:
        link = Path(folder) / "run"
        link.symlink_to(run_dir, target_is_directory=True)
        yield epath.Path(link)


def _compare(kept: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name, entry in kept.items():
        if found.get(name) != entry:
            raise Damaged(f"{name} is not what was written")


def _damaged_error(folder: epath.Path, damaged: Mapping[int, str]) -> UserError:
    reason = damaged[max(damaged)]
    return UserError(
        f"no checkpoint in {folder} can be read ({reason}); remove it to train from step 0",
        str(folder),
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def _score(keep: Keep, metrics: Mapping[str, float]) -> float:
    worst = -math.inf if keep.larger_is_better else math.inf
    return metrics.get(keep.best or "", worst)
