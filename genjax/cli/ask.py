"""``genjax ask``: answer a question from the documents of a store, and cite the sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from genjax import checks
from genjax.checks import MAX_SEED
from genjax.cli.parsing import parse
from genjax.errors import UserError
from genjax.machine import streams

if TYPE_CHECKING:
    from genjax.rag.answers import Answer
    from genjax.rag.generators import Generator
    from genjax.rag.library import Library

# The most characters of a source that are printed.
SHOWN = 100


@checks.frozen
class AskOptions:
    """Answer a question from the documents of a store.

    Attributes:
      run: the run directory of a model that writes the answer; without ``run`` and ``url``, the
        answer is the best sentence of the sources.
      url: the base URL of an OpenAI-compatible server that writes the answer, such as
        http://localhost:8000/v1; its key is read from GENJAX_API_KEY.
      model: the server's model; its first by default.
      context: the most tokens in the server's prompt and answer together.
      mode: "vector" searches by meaning, "keyword" by words, "hybrid" by both.
      k: the most sources.
      threshold: the lowest score, from 0 to 1, at which a source counts as found.
      steps: the number of relations to follow from the entities that the question names.
      filter: a filter on the chunks, such as "metadata.headings:Cats".
      origin: the origin of the chunks.
      rerank: the run of a reward model or masked language model, or the folder of a BERT, that
        reranks the sources.
      template: a file with the prompt, in which {question} and {sources} are filled in; by
        default a run gets only the sources and the question.
      index: the folder or URL of the index; beside a SQLite file by default.
      encoder: the encoder that makes the index's vectors.
      language: the language of the question and documents, for the stems of words.
      seed: the seed for sampling.
      user: the name that the history records; the login name by default.
      token: a file with a token of the store, whose role then holds; GENJAX_TOKEN by default.
      json: print the answer and its sources as one JSON object.
      keep: write the exchange to the store.
    """

    run: str | None = None
    url: str | None = None
    model: str | None = None
    context: int = 4096
    mode: Literal["hybrid", "vector", "keyword"] = "hybrid"
    k: int = 5
    threshold: float = 0.3
    steps: int = 2
    filter: str = ""
    origin: Literal["real", "synthetic", "any"] = "real"
    rerank: str | None = None
    template: str | None = None
    index: str | None = None
    encoder: str = "wordllama"
    language: str = "english"
    seed: int = 0
    user: str | None = None
    token: str | None = None
    json: bool = False
    keep: bool = True

    def __post_init__(self) -> None:
        checks.between(self, 1, 100, "k")
        checks.between(self, 0, 1, "threshold")
        checks.between(self, 0, 5, "steps")
        checks.between(self, 0, MAX_SEED, "seed")
        checks.between(self, 16, 100_000_000, "context")
        if self.run is not None and self.url is not None:
            raise UserError("run and url exclude each other: give one", "url")
        if self.model is not None and self.url is None:
            raise UserError("model goes with url", "model")


def ask_command(target: str, arguments: Sequence[str]) -> None:
    """Run ``genjax ask STORE QUESTION``."""
    question, *rest = arguments
    if rest and not rest[0].startswith("-"):
        raise UserError("question must be one word to the shell: put it in quotes", "question")
    options = parse(AskOptions(), f"ask {target} QUESTION", rest)
    try:
        answer = _ask(target, streams.typed(question), options)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("genjax"):
            raise
        cure = "pip install 'genjax-train[store]'"
        raise UserError(f"store: the package {error.name} is missing: {cure}", "store") from None
    if options.json:
        print(json.dumps(answer.to_json(), ensure_ascii=False))
    else:
        _show(target, answer)


def _ask(place: str, question: str, options: AskOptions) -> Answer:
    from genjax.rag.answers import Asking
    from genjax.rag.asking import ask
    from genjax.rag.library import open_library
    from genjax.rag.prompts import SHORT, TEMPLATE, Template
    from genjax.rag.reranking import open_reranker
    from genjax.rag.retrieval import Retrieval, check_question
    from genjax.store.access.entering import open_as

    check_question(question)
    retrieval = Retrieval(
        options.mode, options.k, options.threshold, options.steps, options.filter, options.origin
    )
    template = Template(TEMPLATE if options.run is None else SHORT)
    if options.template is not None:
        template = Template(_read(options.template))
    reranker = None if options.rerank is None else open_reranker(options.rerank)
    with open_as(
        place, token=options.token, user=options.user, read_only=not options.keep
    ) as store:
        if options.keep:
            store.access.require("add")
        library = open_library(store, options.index, options.encoder, options.language)
        try:
            generator = _open_generator(library, options)
            asking = Asking(retrieval, template, options.keep)
            return ask(library, question, generator, asking, reranker)
        finally:
            library.close()


def _open_generator(library: Library, options: AskOptions) -> Generator:
    from genjax.rag.generators import Extractive, RunGenerator, UrlGenerator, UrlOptions
    from genjax.runs.run import load

    if options.run is not None:
        return RunGenerator(load(options.run), seed=options.seed)
    if options.url is not None:
        most = min(UrlOptions.max_tokens, options.context // 2)
        return UrlGenerator(
            UrlOptions(options.url, options.model, options.context, most, seed=options.seed)
        )
    return Extractive(library)


def _read(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"template {path} cannot be read: {said}", "template") from None


def _show(place: str, answer: Answer) -> None:
    print(answer.marked)
    if answer.span is not None and answer.known:
        print(f"\nanswer    {answer.span}")
    for passage in answer.passages:
        text = " ".join(passage.text.split())
        text = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
        print(f"\n[{passage.id}] {passage.score:.3f} {passage.title}\n  {text}")
    for kind, count in sorted(answer.checked.counts.items()):
        print(f"\nfault     {kind}: {count:,}")
    if answer.missing:
        print(f"note: the index lacks {answer.missing:,} chunks: genjax store maintain {place}")
