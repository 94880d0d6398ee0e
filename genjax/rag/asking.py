"""Answer a question from a store: find passages, write an answer, check and record it."""

from __future__ import annotations

import dataclasses
import time

from genjax.rag.answers import Answer, Asking
from genjax.rag.citations import UNKNOWN, check_answer
from genjax.rag.exchange import keep_exchange
from genjax.rag.generators import Asked, Extractive, Generated, Generator
from genjax.rag.library import Library
from genjax.rag.prompts import Fitted, fit_prompt
from genjax.rag.reranking import Reranker
from genjax.rag.retrieval import Retrieved, check_question, retrieve


def ask(
    library: Library,
    question: str,
    generator: Generator | None = None,
    asking: Asking = Asking(),
    reranker: Reranker | None = None,
) -> Answer:
    """Answer a question from the documents of a store.

    If no passage reaches the threshold, the answer is "I don't know." and the generator is not
    called.

    Args:
      library: the opened store and index.
      question: the question.
      generator: the writer of the answer; the best sentence of the passages by default.
      asking: the options of answering.
      reranker: a reranker of the passages; None keeps the order of the search.

    Raises:
      UserError: the question is empty or too long for the generator, or the generator fails.
    """
    question = check_question(question)
    generator = Extractive(library) if generator is None else generator
    found = retrieve(library, question, asking.retrieval, reranker)
    fitted = Fitted("", (), 0)
    if found.passages:
        fitted = fit_prompt(
            question, found.passages, asking.template, generator.count, generator.budget
        )
    since = time.perf_counter()
    made = Generated(UNKNOWN)
    if fitted.passages:
        made = generator.generate(Asked(question, fitted.passages, fitted.prompt))
    milliseconds = 1000 * (time.perf_counter() - since)
    answer = _judge(library, question, found, fitted, made)
    answer = dataclasses.replace(answer, milliseconds=milliseconds, generator=generator.name)
    if not asking.keep:
        return answer
    return keep_exchange(library.store, answer, asking, generator)


def _judge(
    library: Library, question: str, found: Retrieved, fitted: Fitted, made: Generated
) -> Answer:
    """Check the generated text against the passages that the generator saw."""
    text = made.text or UNKNOWN
    records = {passage.id: passage.text for passage in fitted.passages}
    checked = check_answer(text, records, library.language, question)
    return Answer(
        question=question,
        text=text,
        known=bool(checked.cited or checked.faults),
        span=made.span,
        passages=fitted.passages,
        checked=checked,
        named=found.named,
        missing=found.missing,
        prompt=fitted.prompt,
        milliseconds=0.0,
        generator="",
        details=made.details,
    )
