"""What writes an answer: a sentence of the sources, a run, or a model behind a URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from genjax import checks
from genjax.data.text.codecs import Unencodable
from genjax.errors import UserError
from genjax.evaluation.judge import Model
from genjax.experiment import MAX_SEED
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.rag.chunks import Tokens, open_tokens
from genjax.rag.citations import UNKNOWN
from genjax.rag.extracting import Weights, extract, quote
from genjax.rag.library import Library, Passage
from genjax.rag.sections import clean
from genjax.runs.inputs import draw_for
from genjax.runs.run import Run
from genjax.serial.json_text import Json

KEY = "GENJAX_API_KEY"  # names the variable of the environment with the key of a URL
LONGEST = 200_000  # characters of an answer
ROOM = 0.9  # of a context that is used where tokens are only estimated


@dataclass(frozen=True)
class Asked:
    """What a generator is given.

    Attributes:
      question: of a person.
      passages: that fit its context, the best first.
      prompt: both in the template.
    """

    question: str
    passages: tuple[Passage, ...]
    prompt: str


@dataclass(frozen=True)
class Generated:
    """What a generator wrote.

    Attributes:
      text: the answer.
      span: the few words of it that answer the question, where the generator says.
      details: how it was made.
    """

    text: str
    span: str | None = None
    details: Mapping[str, Json] = field(default_factory=dict)


class Generator(Protocol):
    """Writes answers."""

    @property
    def name(self) -> str:
        """What records call it."""

    @property
    def run(self) -> Run | None:
        """The run that draws, if one does."""

    @property
    def budget(self) -> int | None:
        """Tokens of a prompt at most; None for no limit."""

    def count(self, prompt: str) -> int:
        """The tokens of a prompt."""

    def generate(self, asked: Asked) -> Generated:
        """Answer; an empty text where there is none."""


@dataclass(frozen=True)
class Extractive:
    """Answers with the best sentence of the sources, word for word; nothing is generated.

    Attributes:
      library: that the passages are from.
      weights: of what makes a sentence the best.
    """

    library: Library
    weights: Weights = Weights()
    name: str = "extractive"
    run: None = None
    budget: None = None

    def count(self, prompt: str) -> int:
        """See ``Generator``."""
        return len(prompt.split())

    def generate(self, asked: Asked) -> Generated:
        """See ``Generator``."""
        found = extract(self.library, asked.question, asked.passages, self.weights)
        if not found:
            return Generated(UNKNOWN)
        best = found[0]
        details: dict[str, Json] = {"score": round(best.score, 6)}
        text = f"{quote(best.sentence)} [{best.passage.id}]"
        return Generated(text, best.answer, details)


class RunGenerator:
    """Answers by a run that writes texts: an autoregressive model, plain or of chats."""

    def __init__(self, run: Run, sampler: Decoding | None = None, seed: int = 0) -> None:
        """Make it.

        Args:
          run: that draws.
          sampler: how; the run's own by default.
          seed: of the draw.

        Raises:
          UserError: the run writes no texts of its own, or has no room for a prompt.
        """
        model: Model = run.model()
        alone = model.spec.source_length is None and model.spec.image is None
        if not alone or not isinstance(model.family, Autoregressive):
            kind = type(run.family).__name__
            raise UserError(f"run must write texts of its own, {run.run_dir} is of a {kind}", "run")
        if not 0 <= seed <= MAX_SEED:
            raise UserError(f"seed must be from 0 to {MAX_SEED}, got {seed}", "seed")
        self.run, self.sampler, self.seed = run, sampler, seed
        if self.budget < 1:
            raise UserError(f"run {run.run_dir} has no room for a prompt", "run")

    @property
    def name(self) -> str:
        """See ``Generator``."""
        return str(self.run.run_dir)

    @property
    def decoding(self) -> Decoding:
        """How answers are drawn."""
        chosen = self.run.family.sampler if self.sampler is None else self.sampler
        return chosen.with_prompts(("",))

    @property
    def budget(self) -> int:
        """See ``Generator``: the context less the answer, of which half the context is kept."""
        context: int = self.run.family.net.context
        return context - min(self.decoding.steps, context // 2)

    def count(self, prompt: str) -> int:
        """See ``Generator``."""
        (tokens,) = (
            self.decoding.with_prompts((self.spell(prompt),)).encode(self.run.codec, {}).prompts
        )
        return len(tokens)

    def spell(self, text: str) -> str:
        """A text in the letters that the run knows; what it does not know becomes a blank."""
        codec: Any = self.run.codec
        if _can_spell(codec.encode, text):
            return text
        bad = {one for one in set(text) if not _can_spell(codec.encode, one)}
        return "".join(" " if one in bad else one for one in text)

    def generate(self, asked: Asked) -> Generated:
        """See ``Generator``."""
        prompt = self.spell(asked.prompt)
        (part,) = draw_for(self.run, "prompt", [prompt], self.seed, self.decoding)
        (text,) = part.decode_completions(self.run.codec)
        return Generated(clean(text).strip(), None, {"seed": self.seed, "step": self.run.step})


def _can_spell(encode: Callable[[str], Any], text: str) -> bool:
    try:
        encode(text)
    except Unencodable:
        return False
    return True


@checks.frozen
class UrlOptions:
    """A model behind a URL that speaks as OpenAI's does.

    Attributes:
      url: its base, as "http://localhost:8000/v1".
      model: its name; the first that the server lists by default.
      context: tokens of prompt and answer together, as far as known.
      max_tokens: of an answer.
      temperature: of drawing.
      seed: of drawing.
      timeout: seconds that an answer may take.
    """

    url: str
    model: str | None = None
    context: int = 4096
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"url must begin with http:// or https://, got {self.url!r:.80}", "url")
        checks.between(self, 1, 100_000_000, "context", "max_tokens")
        checks.between(self, 0, 2, "temperature")
        checks.between(self, 0, MAX_SEED, "seed")
        checks.above(self, 0, "timeout")
        if self.max_tokens >= self.context:
            raise UserError(
                f"max_tokens must be below context, {self.context}, got {self.max_tokens}",
                "max_tokens",
            )


class UrlGenerator:
    """Answers by a model behind a URL, through OpenAI's own client.

    The key is that of the variable GENJAX_API_KEY, if it is set.
    """

    run = None

    def __init__(self, options: UrlOptions, tokens: Tokens | None = None) -> None:
        try:
            import openai
        except ModuleNotFoundError:
            raise UserError("url needs the package openai: pip install openai", "url") from None
        self.options = options
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=options.url,
            api_key=os.environ.get(KEY) or "none",
            timeout=options.timeout,
            max_retries=1,
        )
        self._tokens = tokens or open_tokens()
        self._model = options.model

    @property
    def name(self) -> str:
        """See ``Generator``."""
        return f"{self.options.url} {self._model or ''}".strip()

    @property
    def budget(self) -> int:
        """See ``Generator``; a tenth is kept free, as the server may count other tokens."""
        return max(1, int(ROOM * (self.options.context - self.options.max_tokens)))

    def count(self, prompt: str) -> int:
        """See ``Generator``."""
        return self._tokens.count(prompt)

    def generate(self, asked: Asked) -> Generated:
        """See ``Generator``.

        Raises:
          UserError: the server is away, refuses, or gives no text.
        """
        options = self.options
        try:
            model = self._find_model()
            reply = self._client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": asked.prompt}],
                max_tokens=options.max_tokens,
                temperature=options.temperature,
                seed=options.seed,
            )
            text = reply.choices[0].message.content
        except (self._openai.OpenAIError, ValueError, IndexError, AttributeError, TypeError) as e:
            said = " ".join(str(e).split()) or type(e).__name__
            raise UserError(f"url {options.url} does not answer: {said:.200}", "url") from None
        if not isinstance(text, str):
            raise UserError(f"url {options.url} gives no text", "url")
        if len(text) > LONGEST:
            raise UserError(
                f"url {options.url} must answer with at most {LONGEST:,} characters, got "
                f"{len(text):,}",
                "url",
            )
        return Generated(clean(text).strip(), None, {"model": model, "seed": options.seed})

    def _find_model(self) -> str:
        if self._model is None:
            listed: Sequence[Any] = self._client.models.list().data
            if not listed:
                raise UserError(f"url {self.options.url} lists no models: name one", "model")
            self._model = str(listed[0].id)
        return self._model
