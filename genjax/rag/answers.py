"""Define the options of answering, and the answer with its sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from genjax import checks
from genjax.rag.citations import Checked
from genjax.rag.library import Passage
from genjax.rag.prompts import Template
from genjax.rag.retrieval import Retrieval
from genjax.serial.json_text import Json


@checks.frozen
class Asking:
    """The options of answering a question.

    Attributes:
      retrieval: the options of finding passages.
      template: the template of the prompt.
      keep: whether to write the exchange to the store.
    """

    retrieval: Retrieval = Retrieval()
    template: Template = Template()
    keep: bool = True


@dataclass(frozen=True)
class Answer:
    """An answer with its sources and the check of its citations.

    Attributes:
      question: the question.
      text: the answer as the generator wrote it.
      known: whether the text is an answer, not "I don't know."
      span: the few words that answer the question; None if the generator does not mark them.
      passages: the passages that the generator saw, the best first.
      checked: the result of the check of the citations.
      named: the names of those entities in the store that the question names.
      missing: the number of chunks that the index lacks or holds in an old version.
      prompt: the prompt of the generator.
      milliseconds: the time that the generator took.
      generator: the name of the generator.
      details: more facts on how the answer was made.
      prompt_id: the id of the question's record; "" if the exchange was not written.
      response_id: the id of the answer's record; "" if the exchange was not written.
    """

    question: str
    text: str
    known: bool
    span: str | None
    passages: tuple[Passage, ...]
    checked: Checked
    named: tuple[str, ...]
    missing: int
    prompt: str
    milliseconds: float
    generator: str
    details: Mapping[str, Json] = field(default_factory=dict)
    prompt_id: str = ""
    response_id: str = ""

    @property
    def marked(self) -> str:
        """Return the answer with its faults marked."""
        return self.checked.marked

    def to_json(self) -> dict[str, Json]:
        """Return all that a user sees of the answer, as JSON."""
        return {
            "question": self.question,
            "answer": self.marked,
            "text": self.text,
            "known": self.known,
            "span": self.span,
            "generator": self.generator,
            "sources": [
                {
                    "id": p.id,
                    "score": p.score,
                    "found_by": p.found_by,
                    "name": p.name,
                    "source": p.source,
                    "headings": list(p.headings),
                    "text": p.text,
                }
                for p in self.passages
            ],
            "cited": list(self.checked.cited),
            "faults": [
                {"kind": f.kind, "start": f.span.start, "end": f.span.end, "what": f.what}
                for f in self.checked.faults
            ],
            "counts": dict(self.checked.counts),
            "entities": list(self.named),
            "missing": self.missing,
            "prompt_id": self.prompt_id,
            "response_id": self.response_id,
        }
