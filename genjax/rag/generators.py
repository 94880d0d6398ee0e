"""Write answers with a sentence of the sources, a run, or a model behind a URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from genjax import checks
from genjax.checks import MAX_SEED
from genjax.data.text.codecs import Unencodable
from genjax.errors import UserError
from genjax.evaluation.judge import Model
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

KEY = "GENJAX_API_KEY"  # the environment variable that holds the key of a URL
LONGEST = 20_000  # the most characters in an answer
ROOM = 0.9  # the share of the context used when tokens are only estimated


@dataclass(frozen=True)
class Asked:
    """The input of a generator.

    Attributes:
      question: the question.
      passages: the passages that fit the context, the best first.
      prompt: the template, filled with the question and the passages.
    """

    question: str
    passages: tuple[Passage, ...]
    prompt: str


@dataclass(frozen=True)
class Generated:
    """The output of a generator.

    Attributes:
      text: the answer.
      span: the few words that answer the question; None if the generator does not mark them.
      details: more facts on how the answer was made.
    """

    text: str
    span: str | None = None
    details: Mapping[str, Json] = field(default_factory=dict)


class Generator(Protocol):
    """A writer of answers."""

    @property
    def name(self) -> str:
        """Return the name used in records."""

    @property
    def run(self) -> Run | None:
        """Return the run that writes the answers; None for other generators."""

    @property
    def budget(self) -> int | None:
        """Return the most tokens in a prompt; None for no limit."""

    def count(self, prompt: str) -> int:
        """Return the number of tokens in a prompt."""

    def generate(self, asked: Asked) -> Generated:
        """Write the answer; its text is empty if there is none."""


@dataclass(frozen=True)
class Extractive:
    """A generator that quotes the best sentence of the sources, word for word.

    Attributes:
      library: the library of the passages.
      weights: the weights of a sentence's score.
      name: the name used in records.
      run: None, as no run writes the answers.
      budget: None, as prompts have no limit.
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
    """A generator that samples a run: an autoregressive model of texts or chats."""

    def __init__(self, run: Run, sampler: Decoding | None = None, seed: int = 0) -> None:
        """Check that the run can answer.

        Args:
          run: the run to sample.
          sampler: the options of decoding; the run's own by default.
          seed: the seed of sampling.

        Raises:
          UserError: the run does not write texts by itself, or has no room for a prompt.
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
        """Return the options of decoding, with an empty prompt."""
        chosen = self.run.family.sampler if self.sampler is None else self.sampler
        return chosen.with_prompts(("",))

    @property
    def budget(self) -> int:
        """Return the context minus the room for the answer, which is at most half the context."""
        context: int = self.run.family.net.context
        return context - min(self.decoding.steps, context // 2)

    def count(self, prompt: str) -> int:
        """See ``Generator``."""
        (tokens,) = (
            self.decoding.with_prompts((self.spell(prompt),)).encode(self.run.codec, {}).prompts
        )
        return len(tokens)

    def spell(self, text: str) -> str:
        """Replace the characters that the run's codec cannot encode by blanks."""
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
    """The options of a model behind an OpenAI-compatible URL.

    Attributes:
      url: the base URL, such as "http://localhost:8000/v1".
      model: the name of the model; the first that the server lists by default.
      context: the most tokens in prompt and answer together.
      max_tokens: the most tokens in an answer.
      temperature: the temperature of sampling.
      seed: the seed of sampling.
      timeout: the most seconds that an answer may take.
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
    """A generator that calls a model behind a URL through OpenAI's client.

    The key is read from the environment variable GENJAX_API_KEY if it is set.
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
        """Return the context minus the answer, less a tenth for differences between tokenizers."""
        return max(1, int(ROOM * (self.options.context - self.options.max_tokens)))

    def count(self, prompt: str) -> int:
        """See ``Generator``."""
        return self._tokens.count(prompt)

    def generate(self, asked: Asked) -> Generated:
        """See ``Generator``.

        Raises:
          UserError: the server cannot be reached, refuses, or returns no text or one too long.
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
