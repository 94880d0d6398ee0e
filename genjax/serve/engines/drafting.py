"""The text engine of a run with a draft: the draft guesses tokens, which the run checks at once.

Its texts are those of ``genjax sample`` with the same draft and seed. Each row has its own caches;
rows take turns, a few rounds at a time. All methods of the engine except ``add`` run on the
device's thread.
"""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.parallel import Layout
from genjax.samplers.tokens.decoding import Prompts
from genjax.samplers.tokens.speculative import Speculator
from genjax.serve.engines.engine import PACE, SHORTEST, Drawn, Finish, Options, Row
from genjax.serve.engines.prefixes import Prefixes
from genjax.serve.engines.slots import TOP, RowOptions, Token, draw_keys, sift_rows

ROUNDS = 4  # rounds of a row in one dispatch


@dataclass(frozen=True)
class Pair:
    """A run and its draft.

    Attributes:
      target: family of the run.
      draft: family of the draft.
      ahead: number of tokens that the draft guesses at once.
      ends: tokens that end a text.
      vocabulary: vocabulary size V.
    """

    target: Autoregressive
    draft: Autoregressive
    ahead: int
    ends: frozenset[int]
    vocabulary: int

    @property
    def context(self) -> int:
        return min(self.target.net.context, self.draft.net.context)


class Played(NamedTuple):
    """The state of a row between two rounds.

    Attributes:
      last: int32 [], last token.
      rounds: int32 [], number of rounds.
      caches: caches of target and draft, without the last token.
    """

    last: jax.Array
    rounds: jax.Array
    caches: tuple[Any, Any]


@dataclass(frozen=True)
class _Filters:
    """The filters of one row; ``options`` [1]."""

    options: RowOptions
    steps: int = 1
    repetition_penalty: float = 1.0

    def filter_logits(self, logits: jax.Array) -> jax.Array:
        """Filter logits [..., V] like ``TokenSampler.filter_logits``."""
        rows = logits.reshape(-1, logits.shape[-1])
        options = jax.tree.map(lambda a: jnp.repeat(a, len(rows), 0), self.options)
        places = jnp.arange(rows.shape[-1])[None]
        best = jnp.where(places == rows.argmax(-1)[:, None], 0.0, -jnp.inf)
        greedy = options.temperature[:, None] == 0
        return jnp.where(greedy, best, sift_rows(rows, options)).reshape(logits.shape)


class DraftPrograms:
    """The compiled programs of a pair.

    Args:
      pair: run and draft.
      layout: devices of the run.
    """

    def __init__(self, pair: Pair, layout: Layout) -> None:
        self.pair = pair
        self.begin = layout.compile_evaluation(self._begin)
        self.play = layout.compile_evaluation(self._play, donate_argnums=1)

    def new_caches(self, params: Any) -> tuple[Any, Any]:
        """Make the empty caches of a row."""
        target, draft = params
        context = self.pair.context
        return (
            self.pair.target.read_rows(target).new_cache(1, context),
            self.pair.draft.read_rows(draft).new_cache(1, context),
        )

    def _speculator(self, params: Any, options: RowOptions) -> Speculator:
        target, draft = params
        return Speculator(
            self.pair.target.read_rows(target).model,
            self.pair.draft.read_rows(draft).model,
            lambda cache, tokens: cache.rewind(tokens),
            _Filters(options),
            self.pair.ahead,
        )

    def _begin(
        self, params: Any, tokens: jax.Array, mask: jax.Array, options: RowOptions
    ) -> tuple[Played, Token]:
        """Read a prompt [1, T] and draw one token."""
        speculator, key = self._speculator(params, options), _row_key(options)
        first, logits, *caches = speculator.begin(
            Prompts(tokens, mask), key, *self.new_caches(params)
        )
        zero = jnp.zeros((), jnp.int32)
        return Played(first, zero, (caches[0], caches[1])), _report(first[None], logits[None])

    def _play(
        self, params: Any, played: Played, options: RowOptions
    ) -> tuple[Played, tuple[Token, jax.Array]]:
        """Play rounds; return their tokens [ROUNDS, A + 1] and numbers of accepted guesses."""
        speculator, key = self._speculator(params, options), _row_key(options)

        def play(played: Played, _: None) -> tuple[Played, tuple[Token, jax.Array]]:
            found = speculator.play(key, played.rounds, played.last, played.caches)
            caches = found.target_cache, found.draft_cache
            after = Played(found.tokens[found.accepted], played.rounds + 1, caches)
            return after, (_report(found.tokens, found.logits), found.accepted)

        return jax.lax.scan(play, played, None, ROUNDS)


def _row_key(options: RowOptions) -> jax.Array:
    """Return the key of a row, as ``speculate`` gives it to the only row of a sample."""
    return jax.random.split(jax.random.wrap_key_data(options.key)[0], 1)[0]


def _report(tokens: jax.Array, logits: jax.Array) -> Token:
    log_probs = jax.nn.log_softmax(logits)
    values, places = jax.lax.top_k(log_probs, min(TOP, logits.shape[-1]))
    own = log_probs[jnp.arange(len(tokens)), tokens]
    return Token(tokens, own, places.astype(jnp.int32), values)


@dataclass(eq=False)
class _Place:
    """A row that is being drawn."""

    row: Row
    options: RowOptions
    played: Played


class DraftEngine:
    """An engine whose rows are drawn with a draft.

    Args:
      programs: compiled programs of the pair.
      params: parameters of run and draft.
      batch: maximum number of rows that take turns.

    Attributes:
      prefixes: kept prompts; there are none.
      guessed: number of guessed tokens.
      accepted: number of guessed tokens that were accepted.
    """

    def __init__(self, programs: DraftPrograms, params: tuple[Any, Any], batch: int) -> None:
        self._programs, self._params, self._batch = programs, params, batch
        self.prefixes = Prefixes(0)
        self.guessed = self.accepted = 0
        self._waiting: deque[Row] = deque()
        self._places: list[_Place] = []

    @property
    def ends(self) -> frozenset[int]:
        """Return the tokens that end a text."""
        return self._programs.pair.ends

    @property
    def nbytes(self) -> int:
        """Return the bytes of the rows' caches."""
        caches = jax.eval_shape(self._programs.new_caches, self._params)
        sizes = (a.size * a.dtype.itemsize for a in jax.tree.leaves(caches))
        return self._batch * sum(sizes)

    def lead(self, prompt: np.ndarray) -> np.ndarray:
        """Return the tokens that a text continues: its prompt."""
        return prompt

    def check(self, count: int, options: Options) -> None:
        """Refuse a prompt of ``count`` tokens with options that a draft does not support.

        Raises:
          UserError: the text might exceed the context, or there are penalties.
        """
        pair = self._programs.pair
        most = pair.context + 1 - pair.ahead - count
        if options.most > most:
            cure = f"be at most {most:,}" if most > 0 else "follow a shorter prompt"
            raise UserError(
                f"max_tokens must {cure}: with a draft a text stays within the context of "
                f"{pair.context:,}",
                "max_tokens",
            )
        plain = Options()
        for name in ("repetition_penalty", "frequency_penalty", "presence_penalty"):
            if getattr(options, name) != getattr(plain, name):
                raise UserError(f"{name} must be left out: this model has a draft", name)
        if options.biases:
            raise UserError("logit_bias must be left out: this model has a draft", "logit_bias")

    def add(self, row: Row) -> None:
        """Queue a row until it can be drawn; callable from any thread."""
        self._waiting.append(row)

    @property
    def waiting(self) -> int:
        """Return the number of rows that wait for their turn."""
        return sum(not row.cancelled for row in list(self._waiting))

    @property
    def active(self) -> int:
        """Return the number of rows that are being drawn."""
        return len(self._places)

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._places)

    def step(self) -> None:
        """Let rows join, and play some rounds of each row."""
        self._places = [one for one in self._places if not one.row.cancelled]
        flights = []
        for place in self._places:
            place.played, found = self._programs.play(self._params, place.played, place.options)
            flights.append((place, found))
        while self._waiting and len(self._places) < self._batch:
            row = self._waiting.popleft()
            if not row.cancelled:
                self._join(row)
        for place, (token, counts) in flights:
            self._land(place, *jax.device_get((token, counts)))

    def fail(self, error: Exception) -> None:
        """End all rows with an error."""
        rows = [place.row for place in self._places]
        while self._waiting:
            rows.append(self._waiting.popleft())
        self._places = []
        for row in rows:
            row.emit(error)

    def warm_up(self) -> None:
        """Compile the programs of a short prompt."""
        self.add(Row(np.zeros(1, np.int32), Options(most=2), lambda _: None))
        while self.busy:
            self.step()
        self.guessed = self.accepted = 0

    def _join(self, row: Row) -> None:
        """Read the prompt of a row, and hand out its first token."""
        width, count = SHORTEST, len(row.prompt)
        while width < count:
            width *= 2
        width = min(width, self._programs.pair.context)
        tokens, mask = np.zeros((1, width), np.int32), np.arange(width)[None] >= width - count
        tokens[0, width - count :] = row.prompt
        options = self._options(row.options)
        played, token = self._programs.begin(self._params, tokens, mask, options)
        place = _Place(row, options, played)
        self._places.append(place)
        self._hand_out(place, jax.device_get(token), [0])

    def _options(self, options: Options) -> RowOptions:
        v = self._programs.pair.vocabulary
        one = functools.partial(np.full, 1)
        none = np.zeros((1, 0))
        return RowOptions(
            _make_keys(one(options.seed, dtype=np.uint32)),
            one(options.temperature, dtype=np.float32),
            one(min(options.top_k or v, v), dtype=np.int32),
            one(1.0 if options.top_p is None else options.top_p, dtype=np.float32),
            one(np.log(options.min_p) if options.min_p else -np.inf, dtype=np.float32),
            one(1.0, dtype=np.float32),
            one(0.0, dtype=np.float32),
            one(0.0, dtype=np.float32),
            none.astype(np.int32),
            none.astype(np.float32),
            one(options.tops, dtype=bool),
            one(options.most, dtype=np.int32),
        )

    def _land(self, place: _Place, found: Token, counts: np.ndarray) -> None:
        """Hand out the tokens of a row's rounds."""
        ahead = self._programs.pair.ahead
        flat = Token(*(a.reshape(-1, *a.shape[2:]) for a in found))
        taken: list[int] = []
        for number, count in enumerate(counts.tolist()):
            drawn = range(number * (ahead + 1), number * (ahead + 1) + count + 1)
            taken += drawn
            self.guessed += ahead
            self.accepted += count
            done = len(place.row.tokens) + len(taken) >= place.row.options.most
            if done or any(int(flat.token[i]) in self.ends for i in drawn):
                break
        self._hand_out(place, flat, taken)

    def _hand_out(self, place: _Place, found: Token, taken: list[int]) -> None:
        """Hand out the tokens at the places ``taken``, up to the end of the row."""
        row = place.row
        taken = taken[: row.options.most - len(row.tokens)]
        finish: Finish | None = None
        for number, i in enumerate(taken):
            if int(found.token[i]) in self.ends:
                taken, finish = taken[: number + 1], "stop"
                break
        tokens = [int(found.token[i]) for i in taken]
        row.tokens += tokens
        if finish is None and len(row.tokens) >= row.options.most:
            finish = "length"
        tops = []
        if row.options.tops:
            pairs = zip(found.top[taken].tolist(), found.top_log_probs[taken].tolist(), strict=True)
            tops = [list(zip(*pair, strict=True)) for pair in pairs]
        if finish is not None:
            self._places.remove(place)
        drawn = Drawn(tokens, [float(found.log_prob[i]) for i in taken], tops, finish)
        row.hand_out(drawn, PACE * self.active)


_make_keys = jax.jit(draw_keys)
