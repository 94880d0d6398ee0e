"""The served runs are loaded on request, within a memory limit."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from genjax.data.audio.signals import Sounding
from genjax.data.chat.template import ends_of
from genjax.data.codecs import ImageCodec
from genjax.data.text.captions import CaptionCodec
from genjax.data.text.codec_parts import HasSource, HasTokenBytes
from genjax.errors import UserError, unknown_name
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.captioner import Captioner
from genjax.families.masked_lm import MaskedLM
from genjax.runs.run import Run, load
from genjax.runs.setup import load_family
from genjax.serve.device import Device
from genjax.serve.engines.drafting import DraftEngine
from genjax.serve.engines.engine import TextEngine
from genjax.serve.engines.pairs import open_pair, read_draft
from genjax.serve.engines.slots import Programs
from genjax.serve.engines.sources import SourceEngine
from genjax.serve.errors import ApiError
from genjax.serve.limits import Limits
from genjax.serve.threads import apart

NAME = re.compile(r"\w[\w.-]{0,99}")


@dataclass(eq=False)
class Model:
    """A loaded run.

    Attributes:
      name: name that clients use.
      run: run with only the state needed for sampling.
      engine: text engine, if the run writes texts.
      size: bytes of the run's arrays.
      users: number of requests that use the run.
      used: time of the last use.
      compiled: compiled programs of samples, and the encoder of embeddings.
    """

    name: str
    run: Run
    engine: TextEngine | DraftEngine | SourceEngine | None
    size: int
    users: int = 0
    used: float = field(default_factory=time.monotonic)
    compiled: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def spells(self) -> bool:
        """Return whether the run's codec spells tokens one after another."""
        codec = self.run.codec
        return isinstance(codec, HasTokenBytes) and codec.token_bytes is not None

    @property
    def reads_source(self) -> bool:
        """Return whether the prompt of a text is a source, such as a text to translate."""
        return isinstance(self.engine, SourceEngine)

    @property
    def reads_picture(self) -> bool:
        """Return whether the source is a picture to describe."""
        return self.reads_source and isinstance(self.run.codec, CaptionCodec)

    @property
    def can(self) -> tuple[str, ...]:
        """Return the run's abilities, in words for an error."""
        codec = self.run.codec
        found = ["text"] * (self.engine is not None)
        found += ["images"] * (isinstance(codec, ImageCodec) and _draws(self.run))
        found += ["audio"] * (isinstance(codec, Sounding) and _draws(self.run))
        found += ["embeddings"] * isinstance(self.run.family, MaskedLM)
        return tuple(found)

    def require(self, ability: str) -> None:
        """Refuse a request that the run does not support.

        Raises:
          ApiError: the run lacks the ability; the error lists those that it has.
        """
        if ability not in self.can:
            can = " and ".join(self.can) or "nothing that is served"
            raise ApiError(
                400,
                f"model {self.name!r} is a {type(self.run.family).__name__}, which makes {can}, "
                f"not {ability}",
                "model",
                "unsupported_model",
            )


class Models:
    """Served runs by name.

    Args:
      places: run directories, each optionally with the prefix "NAME=".
      device: device of the engines.
      limits: limits of the server.
      drafts: run directories of drafts, each with the prefix "NAME=" of its run; a single run
        needs no prefix.

    Raises:
      UserError: a directory is not a run, two runs have the same name, or a draft does not fit its
          run.
    """

    def __init__(
        self, places: Sequence[str], device: Device, limits: Limits, drafts: Sequence[str] = ()
    ) -> None:
        self.places: dict[str, str] = {}
        for place in places:
            name, path = _name(place)
            load_family(path)
            if name in self.places:
                cure = f"NAME={path} gives it another"
                raise UserError(f"run {path} has the name {name!r} of another: {cure}", "run")
            self.places[name] = path
        self._drafts = dict(read_draft(one, self.places) for one in drafts)
        self.started = int(time.time())
        self._device, self._limits = device, limits
        self._loaded: dict[str, Model] = {}
        self._locks = {name: asyncio.Lock() for name in self.places}

    @property
    def loaded(self) -> list[Model]:
        return list(self._loaded.values())

    def check(self, name: str) -> None:
        """Refuse a name that is not served.

        Raises:
          ApiError: the name is not served; the error suggests the nearest served name.
        """
        if name not in self.places:
            said = str(unknown_name("model", name[:200], self.places))
            raise ApiError(404, said, "model", "model_not_found")

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Model]:
        """Return the model of a name, and keep the model loaded during use.

        Raises:
          ApiError: the run is not served, cannot be loaded, or does not fit into memory.
        """
        self.check(name)
        async with self._locks[name]:
            model = self._loaded.get(name)
            if model is None:
                model = await self._load(name)
            model.users += 1
        try:
            yield model
        finally:
            model.users -= 1
            model.used = time.monotonic()
            if not model.users:
                self._make_room(0, within=True)

    async def _load(self, name: str) -> Model:
        try:
            model = await apart(self.open, name)
        except UserError as error:
            raise ApiError(503, f"model {name!r} cannot be loaded: {error}", "model") from None
        if model.size > self._limits.memory_bytes:
            need, most = model.size / 1e6, self._limits.memory_bytes / 1e6
            raise ApiError(
                503, f"model {name!r} needs {need:,.0f} MB, the server has {most:,.0f}", "model"
            )
        self._make_room(model.size)
        self._loaded[name] = model
        if model.engine is not None:
            self._device.attach(model.engine)
        return model

    def open(self, name: str) -> Model:
        """Load a run; this takes seconds."""
        run = load(self.places[name])
        engine: TextEngine | DraftEngine | SourceEngine | None = None
        draft: Any = None
        if _writes(run):
            params, limits = run.eval_state.params, self._limits
            vocabulary, ends = _vocabulary(run, params), ends_of(run.codec)
            if name in self._drafts:
                engine, draft = open_pair(run, self._drafts[name], vocabulary, limits.batch)
            else:
                programs = Programs(run.family, run.layout, ends, vocabulary)
                wait = limits.wait_ms / 1000
                engine = TextEngine(programs, params, limits.batch, wait, limits.prefixes)
        elif _reads_source(run):
            engine = SourceEngine(run)
        arrays = (run.state.params, run.state.variables, run.state.ema, run.state.frozen, draft)
        size = sum(a.nbytes for a in jax.tree.leaves(arrays))
        return Model(name, run, engine, size + (0 if engine is None else engine.nbytes))

    def _make_room(self, size: int, within: bool = False) -> None:
        """Unload idle models, the least recently used first, until there is room."""
        most = self._limits.memory_bytes
        idle = sorted((m for m in self.loaded if not m.users), key=lambda m: m.used)
        for model in idle:
            if size + sum(m.size for m in self.loaded) <= most:
                return
            del self._loaded[model.name]
            if model.engine is not None:
                self._device.detach(model.engine)


def _name(place: str) -> tuple[str, str]:
    name, equals, path = place.partition("=")
    if equals and NAME.fullmatch(name):
        return name, path
    return place.rstrip("/").rpartition("/")[2] or place, place


def _draws(run: Run) -> bool:
    return run.family.no_samples is None


def _writes(run: Run) -> bool:
    """Return whether a run writes texts that need no source sequence or image."""
    family, spec = run.family, run.spec
    alone = isinstance(family, Autoregressive) and spec.source_length is None and not spec.image
    return alone and isinstance(run.codec.decode(np.zeros(0, np.int32)), str)


def _reads_source(run: Run) -> bool:
    """Return whether a run writes texts about a source, as translators and captioners do."""
    family, codec = run.family, run.codec
    if isinstance(family, Captioner):
        return isinstance(codec, CaptionCodec)
    reads = isinstance(family, Autoregressive) and run.spec.source_length is not None
    return reads and isinstance(codec, HasSource)


def _vocabulary(run: Run, params: Any) -> int:
    """Return the number of tokens in the network's vocabulary."""

    def read(params: Any) -> jax.Array:
        reader = run.family.read_rows(params)
        one = np.zeros((1, 1), np.int32)
        return reader.model(one, one == 0, reader.new_cache(1, 1), 1)[0]

    return int(jax.eval_shape(read, params).shape[-1])
