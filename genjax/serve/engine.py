"""The text engine of a run assigns rows to slots and schedules reading and drawing.

All methods except ``add`` run on the device's thread.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from genjax.nets.transformer.cache import Cache
from genjax.serve.prefixes import Kept, Prefixes
from genjax.serve.slots import BIASED, DRAWN, Programs, RowOptions, Slots, Token

Finish = Literal["stop", "length"]
CHUNK = 0.010  # target seconds of a dispatch of up to 16 rows; rows join and leave between two
PACE = 0.001  # seconds between two hand-outs, over all rows; handing out costs time of its own
CALM = 8  # consecutive dispatches that need fewer slots, before slots are removed
SHORTEST = 16  # minimum padded length of a prompt in tokens


@dataclass(frozen=True)
class Options:
    """Options for drawing a row, see ``TokenSampler``.

    Attributes:
      seed: random seed, as of ``genjax sample``.
      most: maximum number of tokens to draw.
      biases: tokens, and what is added to their logits.
      tops: whether the likeliest tokens are reported with each token.
    """

    seed: int = 0
    most: int = 16
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    biases: tuple[tuple[int, float], ...] = ()
    tops: bool = False


class Drawn(NamedTuple):
    """New tokens of a row.

    Attributes:
      tokens: drawn tokens, including the one that ended the row.
      log_probs: log-probabilities of the tokens under the model.
      tops: likeliest tokens and their log-probabilities for each token; [] unless requested.
      finish: reason for the end; None if the row continues.
    """

    tokens: list[int]
    log_probs: list[float]
    tops: list[list[tuple[int, float]]]
    finish: Finish | None

    def join(self, later: Drawn) -> Drawn:
        """Return these tokens and the later ones."""
        return Drawn(
            self.tokens + later.tokens,
            self.log_probs + later.log_probs,
            self.tops + later.tops,
            later.finish,
        )


@dataclass(eq=False)
class Row:
    """A text that is drawn.

    Attributes:
      prompt: tokens [N] int32 of the prompt.
      options: options of the draw.
      emit: function that receives new tokens or the error that ended the row; called on the
        device's thread.
      cancelled: whether the text is no longer wanted.
      tokens: tokens drawn so far.
      held: number of the row's tokens in its slot.
      arrived: arrival time, by ``time.monotonic``.
      unsent: drawn tokens that were not handed out yet.
      sent: time of the last hand-out, by ``time.monotonic``; 0 before the first.
    """

    prompt: np.ndarray
    options: Options
    emit: Callable[[Drawn | Exception], None]
    cancelled: bool = False
    tokens: list[int] = field(default_factory=list)
    held: int = 0
    arrived: float = field(default_factory=time.monotonic)
    unsent: Drawn | None = None
    sent: float = 0.0

    def hand_out(self, drawn: Drawn, pace: float) -> None:
        """Hand out the first tokens and the last at once, and others every ``pace`` seconds."""
        whole = drawn if self.unsent is None else self.unsent.join(drawn)
        now = time.monotonic()
        if whole.finish is None and now < self.sent + pace:
            self.unsent = whole
            return
        self.unsent, self.sent = None, now
        self.emit(whole)


class Reading(NamedTuple):
    """A row whose tokens are to be read into a slot, after the prefix ``kept``."""

    row: Row
    slot: int
    tokens: np.ndarray
    kept: Kept | None
    resumed: bool


class Flight(NamedTuple):
    """A dispatch under way: the rows of the slots at its start, and its start time."""

    rows: list[Row | None]
    found: Token
    most: int
    since: float


class TextEngine:
    """An engine that draws rows side by side; a finished row's slot goes to the next row.

    Args:
      programs: compiled programs of the run.
      params: parameters of the run.
      batch: maximum number of slots.
      wait: seconds that an idle engine waits for more rows after the first.
      prefixes: number of prompts whose keys and values are kept.
    """

    def __init__(
        self, programs: Programs, params: Any, batch: int, wait: float, prefixes: int
    ) -> None:
        self._programs, self._params = programs, params
        self._sizes = sorted({size for size in (1, 4, 16, 64, 256) if size < batch} | {batch})
        self._wait = wait
        self._empty = {size: programs.empty(params, size) for size in self._sizes}
        caches = isinstance(self._empty[1].cache, Cache) and not programs.reads_prefix
        self.prefixes = Prefixes(prefixes if caches else 0)
        self._waiting: deque[Row] = deque()
        self._slots = self._fresh(1)
        self._rows: list[Row | None] = [None]
        self._flight: Flight | None = None
        self._step_s = dict.fromkeys(self._sizes, CHUNK)
        self._calm = 0

    @property
    def ends(self) -> frozenset[int]:
        """Return the tokens that end a text."""
        return self._programs.ends

    @property
    def nbytes(self) -> int:
        """Return the bytes of all slots and of the prompts that may be kept."""
        sizes = {
            size: sum(a.nbytes for a in jax.tree.leaves(self._empty[size]))
            for size in (1, self._sizes[-1])
        }
        return 2 * sizes[self._sizes[-1]] + self.prefixes.most * sizes[1]

    def add(self, row: Row) -> None:
        """Queue a row until there is a free slot; callable from any thread."""
        self._waiting.append(row)

    @property
    def waiting(self) -> int:
        """Return the number of rows without a slot."""
        return sum(not row.cancelled for row in list(self._waiting))

    @property
    def active(self) -> int:
        """Return the number of rows with a slot."""
        return sum(row is not None for row in self._rows)

    @property
    def busy(self) -> bool:
        return bool(self._waiting) or self._flight is not None or self.active > 0

    def step(self) -> None:
        """Collect drawn tokens, let rows leave and join, and start drawing the next tokens."""
        if not self.active and self._flight is None and self._waiting:
            self._gather()
        drawn = self._land()
        self._leave()
        readings = [*self._slide(), *self._join()]
        first = [part for group in self._group(readings) for part in self._read(group)]
        self._take_off()
        # The device draws while earlier tokens are handed out.
        pace = PACE * self.active
        for row, one in (*drawn, *self._settle(first)):
            row.hand_out(one, pace)

    def fail(self, error: Exception) -> None:
        """End all rows with an error, and restart with empty slots."""
        rows = [row for row in self._rows if row is not None]
        while self._waiting:
            rows.append(self._waiting.popleft())
        self._slots, self._rows, self._flight = self._fresh(1), [None], None
        for row in rows:
            row.emit(error)

    def warm_up(self) -> None:
        """Compile the programs of the first requests for each number of slots."""
        rows = [Row(np.zeros(1, np.int32), Options(most=2), lambda _: None)]
        half = np.zeros(max(self._programs.context // 2, 1), np.int32)  # see ``_slide``
        for size in self._sizes:
            for row in rows * size:
                self.add(Row(row.prompt, row.options, row.emit))
            while self.busy:
                self.step()
        for size in self._sizes:
            self._rows, self._slots = [None] * size, self._fresh(size)
            for count in self._sizes[: self._sizes.index(size) + 1]:  # rows that join others
                for tokens, resumed in ((rows[0].prompt, False), (half, True)):
                    self._read([Reading(rows[0], i, tokens, None, resumed) for i in range(count)])
            for other in self._sizes:
                self._programs.move(self._slots, np.zeros(other, np.int32), np.zeros(other, bool))
        self._rows, self._slots = [None], self._fresh(1)

    def _fresh(self, size: int) -> Slots:
        return jax.tree.map(lambda a: a.copy(), self._empty[size])

    def _gather(self) -> None:
        """Wait briefly for more rows after the first."""
        until = self._waiting[0].arrived + self._wait
        while len(self._waiting) < self._sizes[-1] and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.001))

    def _land(self) -> list[tuple[Row, Drawn]]:
        """Return the tokens of the last dispatch."""
        if self._flight is None:
            return []
        rows, found, most, since = self._flight
        self._flight = None
        # Cut on the host: each length would need its own program on the device.
        token, log_prob = (a[:most] for a in jax.device_get((found.token, found.log_prob)))
        tops = None
        if any(row is not None and row.options.tops for row in rows):
            tops = jax.device_get((found.top, found.top_log_probs))
        steps = max(1, int((token >= 0).any(1).sum()))
        took, size = (time.monotonic() - since) / steps, len(rows)
        self._step_s[size] += 0.3 * (took - self._step_s[size])
        result = []
        for slot, row in enumerate(rows):
            if row is None or row.cancelled or self._rows[slot] is not row:
                continue
            count = int((token[:, slot] >= 0).sum())
            row.held += count
            if count:
                listed = _list_tops(tops, slot, count) if row.options.tops else []
                tokens = token[:count, slot].tolist()
                result.append((row, self._note(row, slot, tokens, log_prob[:count, slot], listed)))
        return result

    def _note(
        self, row: Row, slot: int, tokens: list[int], log_probs: np.ndarray, tops: Any
    ) -> Drawn:
        """Note a row's new tokens; a row that ends releases its slot."""
        row.tokens += tokens
        finish: Finish | None = None
        if tokens[-1] in self._programs.ends:
            finish = "stop"
        elif len(row.tokens) >= row.options.most:
            finish = "length"
        if finish is not None:
            self._rows[slot] = None
        return Drawn(tokens, log_probs.tolist(), tops, finish)

    def _leave(self) -> None:
        """Free the slots of cancelled rows."""
        gone = [row is not None and row.cancelled for row in self._rows]
        if any(gone):
            self._slots = self._programs.close(self._slots, np.array(gone))
            self._rows = [None if left else row for row, left in zip(self._rows, gone, strict=True)]

    def _slide(self) -> Iterable[Reading]:
        """Yield rows whose slot is full, to read the last half of their context again."""
        context = self._programs.context
        for slot, row in enumerate(self._rows):
            if row is not None and row.held >= context:
                text = np.concatenate([row.prompt, np.array(row.tokens, np.int32)])
                yield Reading(row, slot, text[-max(context // 2, 1) :], None, True)

    def _join(self) -> list[Reading]:
        """Give free slots to waiting rows."""
        self._resize(self.active + len(self._waiting))
        found = []
        for slot in [slot for slot, row in enumerate(self._rows) if row is None]:
            while self._waiting and self._waiting[0].cancelled:
                self._waiting.popleft()
            if not self._waiting:
                break
            row = self._waiting.popleft()
            self._rows[slot] = row
            kept, shared = (None, 0)
            if row.options.repetition_penalty == 1:
                kept, shared = self.prefixes.find(row.prompt)
            whole = len(row.prompt)
            if self._pad_to(whole - shared) == self._pad_to(whole):
                kept, shared = None, 0
            self.prefixes.hits += kept is not None
            found.append(Reading(row, slot, row.prompt[shared:], kept, False))
        return found

    def _resize(self, wanted: int) -> None:
        """Match the number of slots to the rows: grow at once, shrink after a while."""
        size = next((size for size in self._sizes if size >= wanted), self._sizes[-1])
        now = len(self._rows)
        self._calm = self._calm + 1 if size < now else 0
        if size == now or (size < now and self._calm <= CALM and self.active):
            return
        order = [slot for slot, row in enumerate(self._rows) if row is not None]
        if order:
            rows = np.zeros(size, np.int32)
            rows[: len(order)] = order
            self._slots = self._programs.move(self._slots, rows, np.arange(size) < len(order))
        else:
            self._slots = self._fresh(size)
        self._rows = [self._rows[slot] for slot in order] + [None] * (size - len(order))
        self._calm = 0

    def _pad_to(self, count: int) -> int:
        """Return the padded length in which ``count`` tokens are read."""
        size = SHORTEST
        while size < count:
            size *= 2
        return min(size, self._programs.context)

    def _group(self, readings: Sequence[Reading]) -> Iterable[list[Reading]]:
        """Group the rows that one program reads: those of the same padded length and prefix."""

        def shape(one: Reading) -> tuple[int, int, int, bool]:
            shared = 0 if one.kept is None else len(one.row.prompt) - len(one.tokens)
            return self._pad_to(len(one.tokens)), id(one.kept), shared, one.resumed

        for _, same in itertools.groupby(sorted(readings, key=shape), key=shape):
            group = list(same)
            most = next(size for size in self._sizes if size >= min(len(group), self._sizes[-1]))
            for first in range(0, len(group), most):
                yield group[first : first + most]

    def _read(self, group: list[Reading]) -> list[tuple[list[Reading], Token]]:
        """Read the rows of a group into their slots, and return the first token of each."""
        size = next(size for size in self._sizes if size >= len(group))
        width = self._pad_to(max(len(one.tokens) for one in group))
        tokens, mask = np.zeros((size, width), np.int32), np.zeros((size, width), bool)
        slots = np.full(size, len(self._rows), np.int32)  # padding points past the last slot
        for i, one in enumerate(group):
            tokens[i, width - len(one.tokens) :] = one.tokens
            mask[i, width - len(one.tokens) :] = True
            slots[i] = one.slot
        before = self._before(group, size, slots)
        options = self._options([one.row for one in group], size)
        fresh, token = self._programs.read(self._params, before, tokens, mask, options)
        self._slots = self._programs.put(self._slots, slots, fresh)
        for one in group:
            shared = 0 if one.kept is None else len(one.row.prompt) - len(one.tokens)
            one.row.held = shared + len(one.tokens)
        if not group[0].resumed and group[0].row.options.repetition_penalty == 1:
            row = fresh if size == 1 else self._programs.move(fresh, np.zeros(1, np.int32), True)
            self.prefixes.keep(group[0].row.prompt, row)
        return [(group, token)]

    def _before(self, group: list[Reading], size: int, slots: np.ndarray) -> Slots:
        """Return the state of a group's rows before they are read."""
        kept = group[0].kept
        if kept is not None:
            shared = len(group[0].row.prompt) - len(group[0].tokens)
            return self._programs.spread(kept.row, size, np.int32(shared))
        before = self._empty[size]
        if group[0].resumed:
            drawn = np.zeros(size, np.int32)
            drawn[: len(group)] = [len(one.row.tokens) for one in group]
            own = np.minimum(slots, len(self._rows) - 1)
            seen, counts = self._slots.seen[own], self._slots.counts[own]
            before = before._replace(drawn=jax.device_put(drawn), seen=seen, counts=counts)
        return before

    def _options(self, rows: Sequence[Row], size: int) -> RowOptions:
        given = [row.options for row in rows]
        v = self._programs.vocabulary

        def column(values: Iterable[float], dtype: Any) -> np.ndarray:
            filled = np.zeros(size, dtype)
            filled[: len(rows)] = np.array([*values])
            return filled

        biased = np.full((size, BIASED), v, np.int32)
        bias = np.zeros((size, BIASED), np.float32)
        for i, one in enumerate(given):
            for j, (token, value) in enumerate(one.biases):
                biased[i, j], bias[i, j] = token, value
        return RowOptions(
            self._programs.keys(column((o.seed for o in given), np.uint32)),
            column((o.temperature for o in given), np.float32),
            np.maximum(column((min(o.top_k or v, v) for o in given), np.int32), 1),
            column((1.0 if o.top_p is None else o.top_p for o in given), np.float32),
            column((np.log(o.min_p) if o.min_p else -np.inf for o in given), np.float32),
            np.maximum(column((o.repetition_penalty for o in given), np.float32), 1e-6),
            column((o.frequency_penalty for o in given), np.float32),
            column((o.presence_penalty for o in given), np.float32),
            biased,
            bias,
            column((o.tops for o in given), bool),
            column((row.options.most - len(row.tokens) for row in rows), np.int32),
        )

    def _take_off(self) -> None:
        """Start drawing the next tokens of all rows."""
        if not self.active:
            return
        chunk = CHUNK * max(1.0, len(self._rows) / 16)
        most = int(np.clip(chunk / max(self._step_s[len(self._rows)], 1e-6), 1, DRAWN))
        since = time.monotonic()
        self._slots, found = self._programs.draw(self._params, self._slots, np.int32(most))
        self._flight = Flight(list(self._rows), found, most, since)

    def _settle(self, first: Sequence[tuple[list[Reading], Token]]) -> Iterable[tuple[Row, Drawn]]:
        """Yield the first tokens of rows that were read."""
        for group, token in first:
            values, log_probs = jax.device_get((token.token, token.log_prob))
            wanted = any(one.row.options.tops for one in group)
            tops = jax.device_get((token.top, token.top_log_probs)) if wanted else None
            for i, one in enumerate(group):
                listed = []
                if tops is not None and one.row.options.tops:
                    listed = [_pair(tops[0][i], tops[1][i])]
                tokens = [int(values[i])]
                yield one.row, self._note(one.row, one.slot, tokens, log_probs[i : i + 1], listed)


def _list_tops(tops: Any, slot: int, count: int) -> list[list[tuple[int, float]]]:
    return [_pair(tops[0][i, slot], tops[1][i, slot]) for i in range(count)]


def _pair(tokens: np.ndarray, log_probs: np.ndarray) -> list[tuple[int, float]]:
    return list(zip(tokens.tolist(), log_probs.tolist(), strict=True))
