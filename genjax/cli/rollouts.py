"""Write the rollouts of families that draw responses to a store, in a thread, while training goes
on.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from genjax.cli.stored import unique
from genjax.data.dataset import Batch
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.families.rewards import decode_rows
from genjax.posttrain.groups import Grouped
from genjax.posttrain.ppo import PPO
from genjax.runs import directory
from genjax.runs.setup import Setup
from genjax.store.access.entering import open_as
from genjax.store.records import Feedback, Payload, Prompt, Record, Response, SourceKind
from genjax.store.records import Run as RunRecord
from genjax.store.runs import mend, name_record, note_run
from genjax.store.store import Store

# The most steps that may wait for the writer before training waits too.
WAITING = 16


class Step(NamedTuple):
    """The rollouts of one step. The arrays may still be on the device.

    Attributes:
      number: the number of the step.
      tokens: prompts and responses, of shape (rows, tokens).
      real: whether each token is real, not padding.
      wide: the number of tokens in a response, the last of each row.
      reward: the reward of each row.
      kl: the KL divergence of each row.
      weight: the weight of each row; rows of weight 0 are not kept.
    """

    number: int
    tokens: np.ndarray
    real: np.ndarray
    wide: int
    reward: np.ndarray
    kl: np.ndarray
    weight: np.ndarray


@contextlib.contextmanager
def keep_rollouts(place: str, experiment: Experiment) -> Iterator[Rollouts]:
    """Open a store, or create it, to keep the rollouts of training.

    Raises:
      UserError: the family samples no responses, or the store cannot be opened.
    """
    if not isinstance(experiment.family, PPO | Grouped):
        kind = type(experiment.family).__name__
        raise UserError(f"store must be left out: a {kind} draws no responses to keep", "store")
    with open_as(place, create=True) as store:
        rollouts = Rollouts(store, experiment)
        try:
            yield rollouts
        finally:
            rollouts.close()


class Rollouts:
    """The rollouts of a run in training. If the store fails, the run continues without it.

    The id of a response is derived from the run, the step and the row, so steps repeated after a
    resume are stored once.
    """

    def __init__(self, store: Store, experiment: Experiment) -> None:
        self._store, self._family = store, experiment.family
        self._setup: Setup | None = None
        self._run: RunRecord | None = None
        self._queue: queue.Queue[Step | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._lost = 0

    def begin(self, setup: Setup) -> None:
        """Start the writer, once the run directory describes the run."""
        self._setup = setup
        self._thread = threading.Thread(target=self._write_all, name="rollouts", daemon=True)
        self._thread.start()

    def take(self, step: int, batch: Batch) -> None:
        """Queue the rollouts of a step: a batch of ``collect`` from PPO or a ``Grouped``."""
        wide = batch["response_mask"].shape[1]
        drawn, scored = batch["tokens"], batch["reward"]
        self._queue.put(Step(step, drawn, batch["real"], wide, scored, batch["kl"], batch["mask"]))

    def flush(self) -> None:
        """Wait until all queued steps are written, as before a checkpoint."""
        self._queue.join()

    def close(self) -> None:
        """Write the remaining steps and report any that are missing."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join()
        self._thread = None
        if self._lost:
            lost = f"the rollouts of {self._lost:,} steps are not in store {self._store.place}"
            print(f"note: {lost}", file=sys.stderr, flush=True)

    def _write_all(self) -> None:
        open_ = True
        while open_:
            steps = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(steps) < WAITING:
                    steps.append(self._queue.get_nowait())
            there = [step for step in steps if step is not None]
            open_ = len(there) == len(steps)
            try:
                self._write(there)
            except UserError as error:
                if not self._lost:
                    print(f"note: rollouts are not kept: {error}", file=sys.stderr, flush=True)
                self._lost += len(there)
            finally:
                for _ in steps:
                    self._queue.task_done()

    def _write(self, steps: list[Step]) -> None:
        """Write some steps in one transaction."""
        assert self._setup is not None and self._setup.run_dir is not None
        folder = self._setup.run_dir
        if self._run is None:
            self._run = note_run(self._store, folder)
        # The first start names the run, so that a config with more steps is the same run.
        started = next(iter(directory.starts(folder) or [{}])).get("started", "")
        records: list[Record] = []
        for step in steps:
            records += self._make_records(step, f"{folder.resolve()}\n{started}")
        self._store.add_new(unique(records))

    def _make_records(self, step: Step, run: str) -> Iterator[Record]:
        assert self._setup is not None and self._run is not None
        family = self._setup.experiment.family
        codec, wide = family.codec, step.wide
        tokens, real, rewards, kl, weight = (
            np.asarray(one) for one in (step.tokens, step.real, step.reward, step.kl, step.weight)
        )
        prompts = decode_rows(codec, tokens[:, :-wide], real[:, :-wide])
        answers = decode_rows(codec, tokens[:, -wide:], real[:, -wide:])
        kind, source = self._find_source()
        for row in np.flatnonzero(weight > 0).tolist():
            guard = self._store.guard
            text = guard.clean_text(mend(prompts[row]))
            one = name_record("prompt", text, guard.names)
            prompt = Prompt(id=one, origin="real", payload=Payload(text=text))
            answer = Response(
                id=name_record("rollout", f"{run}\n{step.number}\n{row}"),
                origin="synthetic",
                generator=self._run.id,
                prompt=prompt.id,
                payload=Payload(text=mend(answers[row])),
                run=self._run.id,
                step=step.number,
                tokens=int(real[row, -wide:].sum()),
                metadata={"row": row, "rollout": True, "kl": _finite(kl[row])},
            )
            yield prompt
            yield answer
            if np.isfinite(rewards[row]):
                yield Feedback(
                    id=name_record("rollout reward", answer.id),
                    origin="real",
                    target=answer.id,
                    name="reward",
                    value=float(rewards[row]),
                    source_kind=kind,
                    source_id=source,
                )

    def _find_source(self) -> tuple[SourceKind, str]:
        """Return whether a model or a function gives the reward, and its name."""
        if isinstance(self._family, PPO) and self._family.reward_run is not None:
            return "MODEL", str(self._family.reward_run)
        reward = self._family.reward
        return "CODE", getattr(reward, "__name__", type(reward).__name__)


def _finite(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
