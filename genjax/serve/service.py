"""A service holds the runs, the store and the limits, and draws texts for routes and pages."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import numpy as np

from genjax.errors import UserError
from genjax.serve.device import Device
from genjax.serve.errors import ApiError, refuse
from genjax.serve.exchanges import Answer, Exchange, Keeper, Noted
from genjax.serve.limits import Limits
from genjax.serve.metrics import Metrics
from genjax.serve.models import Model, Models
from genjax.serve.texts import Asked, Generation
from genjax.serve.threads import Mailbox
from genjax.store.access.principal import Principal
from genjax.store.access.rates import Rates
from genjax.store.records import Payload

STORED_WITHIN = 5.0  # seconds that an answer waits for the store
ENDING = 15.0  # seconds for the device's last work at the end, and for the store's
SOON = 1  # seconds before a refused client may try again


class Service:
    """A service of runs, with a store and limits.

    Args:
      places: run directories, see ``Models``.
      limits: limits of the server.
      recorder: writer of exchanges; None for none.
      token: token that clients must send; None for none.
      drafts: drafts of runs, see ``Models``.
      find: finds the principal of a token of the store; None where the store has no tokens.

    Attributes:
      rates: requests of each token.
      draining: whether new requests are refused because the server is shutting down.
      open: number of open requests.
    """

    def __init__(
        self,
        places: Sequence[str],
        limits: Limits = Limits(),
        recorder: Keeper | None = None,
        token: str | None = None,
        drafts: Sequence[str] = (),
        find: Callable[[str], Principal] | None = None,
    ) -> None:
        self.limits, self.recorder, self.token, self.find = limits, recorder, token, find
        self.rates = Rates(limits.rate)
        self.device = Device()
        self.models = Models(places, self.device, limits, drafts)
        self.metrics = Metrics()
        self.draining = False
        self.open = 0
        self.pictures: dict[str, bytes] = {}
        self._mailbox: Mailbox | None = None  # made by the event loop that serves

    @contextlib.asynccontextmanager
    async def generate(
        self, model: Model, prompts: Sequence[np.ndarray], asked: Asked
    ) -> AsyncIterator[Generation]:
        """Draw texts; leaving the context frees their slots.

        Raises:
          ApiError: too many texts are waiting, the server ends, or the model does not support the
          options.
        """
        if self.device.ending:
            raise ApiError(503, "the server ends: try again later", None, "draining", SOON)
        if self._mailbox is None:
            self._mailbox = Mailbox()
        generation = Generation(model, prompts, asked, self._mailbox)
        engine = model.engine
        assert engine is not None
        self.check_queue(len(generation.rows))
        try:
            for row in generation.rows:
                engine.check(len(row.prompt), row.options)
        except UserError as error:
            raise refuse(error) from None
        for row in generation.rows:
            engine.add(row)
        self.device.wake()
        try:
            yield generation
        finally:
            generation.close()
            self.device.wake()
            usage = generation.usage
            self.metrics.tokens.labels("read").inc(usage["prompt_tokens"])
            self.metrics.tokens.labels("drawn").inc(usage["completion_tokens"])

    async def warm_up(self) -> None:
        """Load all runs that fit into memory, and compile the programs of first requests."""
        for name in self.models.places:
            async with self.models.use(name) as model:
                if model.engine is not None:
                    await asyncio.wrap_future(self.device.submit(model.engine.warm_up))

    def check_queue(self, more: int) -> None:
        """Refuse texts or jobs beyond the capacity of the queue.

        Raises:
          ApiError: the queue is full, status 429.
        """
        if self.waiting + more > self.limits.queue:
            raise ApiError(
                429,
                f"the queue of {self.limits.queue:,} is full: try again later",
                None,
                "rate_limit_exceeded",
                SOON,
            )

    @property
    def waiting(self) -> int:
        """Return the number of waiting texts and jobs."""
        engines = [m.engine for m in self.models.loaded if m.engine is not None]
        return sum(engine.waiting for engine in engines) + self.device.waiting

    def choose_seed(self, seed: int | None) -> int:
        """Return the seed of a request, or a random one if it has none."""
        return secrets.randbits(32) if seed is None else seed

    def keeps(self, wanted: bool | None) -> bool:
        """Return whether to store an exchange; ``wanted`` is the request's choice or None."""
        return self.recorder is not None and wanted is not False

    async def record(self, exchange: Exchange) -> bool:
        """Write an exchange, and return whether it is certainly stored."""
        assert self.recorder is not None
        written = asyncio.wrap_future(self.recorder.write(exchange))
        try:
            stored = await asyncio.wait_for(asyncio.shield(written), STORED_WITHIN)
        except TimeoutError:
            return False
        if stored:
            self.metrics.stored.inc()
        return stored

    async def record_texts(
        self,
        model: Model,
        generation: Generation,
        asked: Asked,
        turns: Sequence[Sequence[tuple[str, str]]],
        noted: Noted,
        user: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> tuple[bool, list[str]]:
        """Write the texts of each prompt; return whether all are stored, and their ids.

        Args:
          turns: turns of each prompt, see ``Exchange``.
          noted: what is noted of the request, which the first exchange takes to the store.
        """
        assert self.recorder is not None
        ids = self.recorder.make_ids(len(generation.texts))
        answers = [
            Answer(ids[i], Payload(text=text.said), row.options.seed, text.kept, text.finish)
            for i, (text, row) in enumerate(zip(generation.texts, generation.rows, strict=True))
        ]
        noted.status = None
        request = noted.measure(self.recorder.make_ids(1)[0], 200, ids[0])
        noted.is_written = True
        n, took = asked.n, request.milliseconds or 0.0
        results = await asyncio.gather(
            *(
                self.record(
                    Exchange(
                        model.run,
                        said,
                        answers[i * n : (i + 1) * n],
                        asked.describe(),
                        took,
                        user,
                        metadata or {},
                        request=request if i == 0 else None,
                        principal=noted.principal,
                    )
                )
                for i, said in enumerate(turns)
            )
        )
        return all(results), ids

    def measure(self) -> bytes:
        """Return the text of ``/metrics``."""
        loaded, metrics = self.models.loaded, self.metrics
        engines = [model.engine for model in loaded if model.engine is not None]
        metrics.active.set(sum(engine.active for engine in engines))
        metrics.waiting.set(self.waiting)
        metrics.loaded.set(len(loaded))
        metrics.memory.set(sum(model.size for model in loaded))
        metrics.guessed.set(sum(engine.guessed for engine in engines))
        metrics.accepted.set(sum(engine.accepted for engine in engines))
        metrics.prefixes.set(sum(engine.prefixes.hits for engine in engines))
        if self.recorder is not None:
            metrics.behind.set(self.recorder.behind)
            metrics.lost.set(self.recorder.lost)
        return metrics.write()

    def close(self) -> None:
        """End the device's thread, and write the remaining exchanges to the store; what takes
        longer than ``ENDING`` is left.
        """
        if not self.device.close(ENDING):
            print("genjax: the device is still at work, and is left", file=sys.stderr, flush=True)
        if self.recorder is not None:
            self.recorder.close(ENDING)
