"""Checkpoints: the only file that knows of Orbax."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from genjax import parallel
from genjax.errors import UserError
from genjax.experiment import Keep
from genjax.family import State


def newest_step(run_dir: epath.Path) -> int | None:
    """The step of the newest checkpoint of a run directory; None where there is none."""
    folder = run_dir / "checkpoints"
    steps = [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()] if folder.exists() else []
    return max(steps, default=None)


class Checkpoints:
    """The checkpoints of one run: written in the background, each whole or not there at all.

    A checkpoint holds the state and the *progress*: what the loop needs besides (position in the data, the
    metrics since the last row). ``state.frozen`` is saved once a run, beside them.
    """

    def __init__(self, run_dir: epath.Path, keep: Keep = Keep(), read_only: bool = False) -> None:
        logging.getLogger("absl").setLevel(
            logging.CRITICAL
        )  # Orbax logs each directory, and errors before it raises them
        local = "://" not in os.fspath(run_dir)
        self._run_dir = epath.Path(run_dir).resolve() if local else epath.Path(run_dir)  # Orbax wants absolute paths
        self._folder = self._run_dir / "checkpoints"
        if not read_only:
            self._set_scores_aside()
        preserve: list[policies.PreservationPolicy] = [policies.LatestN(keep.newest)]
        # A reader looks scores up by itself: a damaged one is to cost it nothing.
        score = None if keep.best is None or read_only else functools.partial(_score, keep)
        if score is not None:
            preserve.append(
                policies.BestN(
                    get_metric_fn=score,
                    reverse=not keep.larger_is_better,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._keep = keep
        self._read_only = read_only
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=score,
                best_mode="max" if keep.larger_is_better else "min",
                preservation_policy=policies.AnyPreservationPolicy(preserve),
                read_only=read_only,
                create=not read_only,
                cleanup_tmp_directories=not read_only,
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._manager.close()
        else:  # the error under way matters more than one in closing
            with contextlib.suppress(Exception):
                self._manager.close()

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step with the best value of ``keep.best``; None where no checkpoint has one."""
        scores = {step: (self._scores(step) or {}).get(self._keep.best or "") for step in self.steps()}
        known = {step: score for step, score in scores.items() if score is not None}
        if not known:
            return None
        return (max if self._keep.larger_is_better else min)(known, key=lambda step: known[step])

    def save(self, step: int, state: State, progress: Mapping[str, Any], scores: Mapping[str, float] | None) -> None:
        """Copy the state off the devices and write it in the background.

        ``scores`` are the evaluation's metrics at this very step, None if it was not evaluated. Without a finite
        ``keep.best`` among them the checkpoint can only be one of the newest.
        """
        if step in self._manager.all_steps():
            return
        score = (scores or {}).get(self._keep.best or "", math.nan)
        self._save_frozen(state)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state.replace(frozen=None)), progress=ocp.args.JsonSave(dict(progress))
            ),
            metrics=dict(scores or {}) if math.isfinite(score) else None,
        )

    def wait(self) -> None:
        """Until what was saved is on disk; raises what went wrong in the background."""
        self._manager.wait_until_finished()

    def restore(self, target: State, step: int | None = None) -> tuple[State, dict[str, Any]] | None:
        """State and progress of ``step``, or of the newest checkpoint that can be read; None if there is none.

        One of other parameters than the target's is refused with a ``UserError``.
        A damaged checkpoint is named on stderr and set aside under ``damaged/``, and the one before it is taken;
        if none can be read, nothing is moved and a ``UserError`` says why.
        ``target`` gives shapes, dtypes and places, so that a run goes on on other devices.
        """
        if step is not None:
            try:
                return self._read(step, target)
            except Exception as error:
                self._check_shapes(step, target)
                raise UserError(f"checkpoint {step} in {self._folder} cannot be read ({_first_line(error)})") from error
        damaged: list[tuple[int, str]] = []
        for newest in reversed(self.steps()):
            try:
                restored = self._read(newest, target)
            except Exception as error:  # whatever a half-written file raises in the layers below
                self._check_shapes(newest, target)
                damaged.append((newest, _first_line(error)))
                continue
            for number, reason in damaged:
                self._set_aside(number, reason)
            return restored
        if damaged:
            raise UserError(f"no checkpoint in {self._folder} can be read ({damaged[0][1]}); remove it to begin anew")
        return None

    def _read(self, step: int, target: State) -> tuple[State, dict[str, Any]]:
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(target.replace(frozen=None)), progress=ocp.args.JsonRestore()
            ),
        )
        return restored["state"].replace(frozen=self.frozen(target)), restored["progress"]

    def _check_shapes(self, step: int, target: State) -> None:
        """Refuse a checkpoint that is whole but of other parameters; one that cannot be read is let pass."""
        try:
            with ocp.StandardCheckpointer() as kept:
                found = kept.metadata(self._folder / str(step) / "state").item_metadata.tree["params"]
            shapes = [
                {jax.tree_util.keystr(path, simple=True, separator="/"): list(leaf.shape) for path, leaf in leaves}
                for leaves in map(jax.tree.leaves_with_path, (found, target.params))
            ]
        except Exception:
            return
        for name in sorted(shapes[0].keys() | shapes[1].keys()):
            kept_shape, wanted = (of.get(name, "missing") for of in shapes)
            if kept_shape != wanted:
                raise UserError(
                    f"the config and codec in {self._run_dir} are not those of its checkpoint {step}: "
                    f"parameter {name} is {kept_shape} there, {wanted} by them"
                )

    def frozen(self, target: State) -> Any:
        """What the run has kept of other runs; None where it stands on none or has kept nothing yet."""
        folder = self._run_dir / "frozen"
        if not jax.tree.leaves(target.frozen) or not folder.exists():
            return None
        with ocp.StandardCheckpointer() as kept:
            return kept.restore(folder, target.frozen)

    def _scores(self, step: int) -> dict[str, float] | None:
        """The evaluation's metrics that lie with a checkpoint; None where there are none or they are damaged."""
        try:
            return dict(json.loads((self._folder / str(step) / "metrics" / "metrics").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _set_scores_aside(self) -> None:
        """Take damaged scores out of the way: the state beside them is whole, but Orbax would stop at them."""
        for step in self._folder.glob("[0-9]*") if self._folder.exists() and jax.process_index() == 0 else ():
            if (step / "metrics").exists() and self._scores(int(step.name)) is None:
                print(f"the scores of checkpoint {step.name} are damaged and set aside", file=sys.stderr)
                aside = self._run_dir / "damaged" / f"{step.name}_metrics"
                aside.parent.mkdir(parents=True, exist_ok=True)
                (step / "metrics").rename(aside)
        parallel.barrier("scores")

    def _save_frozen(self, state: State) -> None:
        folder = self._run_dir / "frozen"
        if jax.tree.leaves(state.frozen) and not folder.exists():
            with ocp.StandardCheckpointer() as frozen:
                frozen.save(folder, state.frozen)

    def _set_aside(self, step: int, reason: str) -> None:
        if jax.process_index() == 0:
            print(f"checkpoint {step} is damaged ({reason}); going on from the one before", file=sys.stderr)
        if self._read_only:
            return
        if jax.process_index() == 0:
            aside = self._run_dir / "damaged" / str(step)
            aside.parent.mkdir(parents=True, exist_ok=True)
            if aside.exists():
                aside.rmtree()
            (self._folder / str(step)).rename(aside)
        parallel.barrier(f"damaged {step}")
        self._manager.reload()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _score(keep: Keep, metrics: Mapping[str, float]) -> float:
    worst = -math.inf if keep.larger_is_better else math.inf
    return metrics.get(keep.best or "", worst)
