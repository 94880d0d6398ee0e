"""A recorder writes exchanges to the store in its own thread, several per transaction.

An exchange is reported as ``stored`` only after its transaction is committed: killing the server
loses no stored exchange. Ids are assigned before writing, so a repeated write adds nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import re
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from genjax.errors import UserError
from genjax.runs.run import Run
from genjax.serial.json_text import Json
from genjax.serve.exchanges import Exchange
from genjax.store.access.tokens import open_for
from genjax.store.lookups import find_known, find_visible
from genjax.store.monitoring.measured import LONGEST, Measured
from genjax.store.monitoring.requests import add_requests
from genjax.store.privacy.columns import NONE
from genjax.store.privacy.guard import Guard
from genjax.store.records import Payload, Prompt, Record, Response, Session
from genjax.store.rows import make_ids
from genjax.store.runs import mend, name_record, note_run
from genjax.store.store import Store

TOGETHER = 128  # maximum number of exchanges in a transaction
KEPT = 10_000  # maximum number of exchanges that wait for an unavailable store
AGAIN = 2.0  # seconds before the next try
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(eq=False)
class Pending:
    """An exchange, or a request without one, that is not written yet; a future for the result.

    Attributes:
      exchange: exchange; None for a request that has none.
      request: request; None if the exchange has it, or another one does.
      run: run that answered; None if it is not known.
      written: result: whether it is stored.
    """

    exchange: Exchange | None
    request: Measured | None
    run: Run | None
    written: Future[bool] = field(default_factory=Future)

    def settle(self, stored: bool) -> None:
        """Set the result once: whether the exchange is stored."""
        if not self.written.done():
            self.written.set_result(stored)


class Recorder:
    """A writer of exchanges to a store.

    Args:
      store: store to write to; closed with the recorder.

    Attributes:
      lost: number of exchanges that will never be in the store.
      behind: number of exchanges that wait for an unavailable store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lost = 0
        self.behind = 0
        self._queue: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._runs: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def make_ids(self, count: int) -> list[str]:
        """Make ids for answers."""
        return make_ids(count)

    def write(self, exchange: Exchange) -> Future[bool]:
        """Write an exchange; the result tells whether it is stored. Callable from any thread."""
        pending = Pending(exchange, exchange.request, exchange.run)
        self._queue.put(pending)
        return pending.written

    def note(self, request: Measured, run: Run | None) -> None:
        """Write a request that has no exchange, when there is time. Callable from any thread."""
        self._queue.put(Pending(None, request, run))

    def close(self, patience: float | None = None) -> None:
        """Write the remaining exchanges within ``patience`` seconds, and close the store."""
        self._queue.put(None)
        self._thread.join(patience)
        if self._thread.is_alive():  # it is at work in the store, which cannot be closed
            _say("the store does not answer: exchanges that were not said to be stored are lost")
            return
        self.store.close()

    def _run(self) -> None:
        left: list[Pending] = []
        ending = False
        while not ending:
            new, ending = self._take(AGAIN if left else None)
            left = self._write([*left, *new])
            for pending in left:
                pending.settle(False)
            waiting, alone = (
                [one for one in left if (one.exchange is None) == without]
                for without in (False, True)
            )
            if len(waiting) > KEPT:
                self._lose(len(waiting) - KEPT, "the store has been away for too long")
            waiting = waiting[-KEPT:]
            left = [*waiting, *alone[-KEPT:]]
            self.behind = len(waiting)
        if self.behind:
            self._lose(self.behind, "the store was away to the end")

    def _take(self, patience: float | None) -> tuple[list[Pending], bool]:
        """Wait for the first exchange; return all to write now, and whether they are the last."""
        found: list[Pending] = []
        with contextlib.suppress(queue.Empty):
            one = self._queue.get(timeout=patience)
            while one is not None:
                found.append(one)
                if len(found) == TOGETHER:
                    return found, False
                one = self._queue.get_nowait()
            return found, True
        return found, False

    def _write(self, pending: list[Pending]) -> list[Pending]:
        """Write all in one transaction; return those that wait for an unavailable store."""
        if not pending:
            return []
        try:
            self._add(pending)
        except Exception as error:
            away = not isinstance(error, UserError) or error.field in ("store", "blobs")
            if not away and len(pending) > 1:
                return [one for each in pending for one in self._write([each])]
            if not away:
                return self._refuse(pending[0], str(error))
            if not self.behind:
                _say(f"answers are not stored for now: {error}")
            return pending
        for one in pending:
            one.settle(True)
        return []

    def _refuse(self, pending: Pending, why: str) -> list[Pending]:
        """Give up what no store takes; the request of a lost exchange is still written."""
        pending.settle(False)
        if pending.exchange is None:
            _say(f"a request is not counted in the store: {why}")
            return []
        self._lose(1, why)
        if pending.request is None:
            return []
        alone = dataclasses.replace(pending.request, record=None)
        return self._write([Pending(None, alone, pending.run)])

    def _add(self, pending: Sequence[Pending]) -> None:
        records: dict[str, Record] = {}
        requests = []
        for one in pending:
            run = self._name(one.run)
            if one.exchange is not None and run is not None:
                for record in to_records(self._check(one.exchange), run, self.store.guard):
                    records.setdefault(record.id, record)
            if one.request is not None:
                user = mend(one.request.user or "")[:LONGEST]
                requests.append(dataclasses.replace(one.request, run=run, user=user or None))
        with self.store.writing() as connection:
            self.store.add_within(connection, [*records.values()], skip_known=True)
            add_requests(connection, requests)

    def _name(self, run: Run | None) -> str | None:
        """Return the id of a run's record, which is added where it is missing."""
        if run is None:
            return None
        place = f"{run.run_dir}\n{run.step}"
        if place not in self._runs:
            self._runs[place] = note_run(self.store, run.run_dir, run.step).id
        return self._runs[place]

    def _check(self, exchange: Exchange) -> Exchange:
        """Refuse records that the user of a token does not see, and name the user.

        Raises:
          UserError: the request names such a record, or a missing one.
        """
        if (who := exchange.principal) is None:
            return exchange
        named = [*exchange.sources]
        if parent := exchange.metadata.get("parent"):
            named.append(parent)
        session = exchange.metadata.get("session", "")
        seen: set[str] = set()
        if named or UUID.fullmatch(session):
            with open_for(self.store, who).reading() as connection:
                seen |= set(find_visible(connection, [*named, session]))
                if session not in seen:
                    named += find_known(connection, [session])
        if missing := set(named) - seen:
            raise UserError(f"id: record {min(missing)!r:.80} does not exist", "id")
        return dataclasses.replace(exchange, user=who.name)

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        _say(f"{count:,} exchanges are not in the store, and will not be: {why}")


def to_records(exchange: Exchange, run: str, guard: Guard = NONE) -> list[Record]:
    """Convert an exchange to records: the earlier turns and the prompt, each linked to the turn
    before it, and the answers. Equal turns of one session share a record. Where a store removes
    personal data, ids are derived from what is left.
    """
    found: list[Record] = []
    metadata, session = dict(exchange.metadata), None
    named = metadata.pop("session", None)
    if named:
        session = named
        if not UUID.fullmatch(named):
            session = name_record("session", named, guard.names)
        found.append(
            Session(
                id=session, origin="real", name=mend(named), user=exchange.user, time=exchange.time
            )
        )
    turns, before = list(exchange.turns), metadata.pop("parent", None)
    if before is not None:
        turns = turns[-1:]
    for role, text in turns:
        said = guard.clean_text(mend(text))
        named = said
        if role or before is not None or session is not None:
            named = "\n".join((session or "", before or "", role, said))
        one = name_record("prompt", named, guard.names)
        found.append(
            Prompt(
                id=one,
                origin="real",
                session=session,
                parent=before,
                role=role,
                payload=Payload(text=said),
                time=exchange.time,
            )
        )
        before = one
    assert before is not None
    for number, answer in enumerate(exchange.answers):
        payload = answer.payload
        if payload.text is not None:
            payload = dataclasses.replace(payload, text=mend(payload.text))
        own: dict[str, Json] = {"number": number, "via": "api", "finish": answer.finish}
        found.append(
            Response(
                id=answer.id,
                origin="synthetic",
                generator=run,
                parents=exchange.sources,
                time=exchange.time,
                prompt=before,
                payload=payload,
                run=run,
                step=exchange.run.step,
                sampler=exchange.sampler,
                seed=answer.seed,
                tokens=answer.tokens,
                milliseconds=exchange.milliseconds,
                metadata={**{k: mend(v) for k, v in metadata.items()}, **own},
            )
        )
    return found


def _say(line: str) -> None:
    print(f"genjax: {line}", file=sys.stderr, flush=True)
