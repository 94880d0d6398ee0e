"""The text engine of a run that reads a source, a text to translate or a picture to describe: it
draws whole texts.

Its texts are those of ``genjax sample --source``. They are drawn one after another, in the order in
which they were asked for, and handed out when they are complete.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data.chat.template import ends_of
from genjax.errors import UserError
from genjax.evaluation.drawing import draw_samples
from genjax.evaluation.judge import SAMPLES
from genjax.families.autoregressive.request import Decoding
from genjax.family import with_inputs
from genjax.runs.run import Run
from genjax.serve.engines.engine import SHORTEST, Drawn, Finish, Options, Row
from genjax.serve.engines.prefixes import Prefixes

PLAIN = {  # options with which beams go together
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "min_p": None,
    "repetition_penalty": 1.0,
}


class SourceEngine:
    """An engine whose rows are sources.

    Args:
      run: run that reads the sources.

    Attributes:
      prefixes: kept prompts; there are none.
      guessed: number of tokens that a draft guessed; there is none.
      accepted: number of them that were accepted.
      nbytes: bytes of kept caches; there are none.
    """

    guessed = accepted = nbytes = 0

    def __init__(self, run: Run) -> None:
        self._run = run
        self.ends = frozenset(ends_of(run.codec))
        self.prefixes = Prefixes(0)
        self._waiting: deque[Row] = deque()
        self._row: Row | None = None

    def lead(self, prompt: np.ndarray) -> np.ndarray:
        """Return the tokens that a text continues: none, as its prompt is a source."""
        return np.zeros(0, np.int32)

    def check(self, count: int, options: Options) -> None:
        """Refuse options that are not supported for sources.

        Raises:
          UserError: there are penalties or biases that ``genjax sample`` does not have.
        """
        for name in ("frequency_penalty", "presence_penalty", "biases"):
            if getattr(options, name):
                field = "logit_bias" if name == "biases" else name
                raise UserError(f"{field} must be left out: this model reads a source", field)

    def add(self, row: Row) -> None:
        """Queue a row until it is drawn; callable from any thread."""
        self._waiting.append(row)

    @property
    def waiting(self) -> int:
        """Return the number of rows that wait."""
        return sum(not row.cancelled for row in list(self._waiting))

    @property
    def active(self) -> int:
        """Return the number of rows that are being drawn."""
        return int(self._row is not None)

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._row)

    def step(self) -> None:
        """Draw the next row."""
        row = self._waiting.popleft()
        if row.cancelled:
            return
        self._row = row
        tokens, finish = self._draw(row)
        self._row = None
        row.emit(Drawn(tokens, [0.0] * len(tokens), [], finish))

    def fail(self, error: Exception) -> None:
        """End all rows with an error."""
        rows = [] if self._row is None else [self._row]
        self._row = None
        while self._waiting:
            rows.append(self._waiting.popleft())
        for row in rows:
            row.emit(error)

    def warm_up(self) -> None:
        """Do nothing: programs depend on the options of a request."""

    def _draw(self, row: Row) -> tuple[list[int], Finish]:
        run, count = self._run, len(row.prompt)
        request, state = run.prepare_drawing(self._decode_as(row.options))
        if row.prompt.ndim > 1:
            fed = with_inputs(state, {"image": jnp.asarray(row.prompt)[None]})
        else:
            width = SHORTEST
            while width < count:
                width *= 2
            source = np.full((1, max(min(width, run.family.net.context), count)), -1, np.int32)
            source[0, :count] = row.prompt
            fed = with_inputs(state, {"source": jnp.asarray(source)})
        key = jax.random.fold_in(jax.random.key(row.options.seed), SAMPLES)
        (drawn,) = draw_samples(run.layout, run.family, fed, key, 1, request)
        tokens = drawn[len(request.prompts[0]) :].tolist()
        ended = [at for at, token in enumerate(tokens) if token in self.ends]
        return (tokens[: ended[0] + 1], "stop") if ended else (tokens, "length")

    def _decode_as(self, options: Options) -> Decoding:
        own: Decoding = self._run.family.sampler
        given: dict[str, Any] = {name: getattr(options, name) for name in PLAIN}
        given |= {"prompt": "", "prompts": (), "tokens": (), "stop": (), "draft": None}
        decoding = dataclasses.replace(own, **given, beams=1, steps=options.most)
        return add_beams(decoding, own)


def add_beams(decoding: Decoding, own: Decoding) -> Decoding:
    """Return the decoding with the beams of the run's own sampler, unless it draws otherwise."""
    if any(getattr(decoding, name) != value for name, value in PLAIN.items()):
        return decoding
    return dataclasses.replace(decoding, beams=own.beams)
