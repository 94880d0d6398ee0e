"""What is asked for, and the answer with what it rests on."""

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
    """How questions are answered.

    Attributes:
      retrieval: how passages are found.
      template: of the prompt.
      keep: write the exchange to the store.
    """

    retrieval: Retrieval = Retrieval()
    template: Template = Template()
    keep: bool = True


@dataclass(frozen=True)
class Answer:
    """An answer and what it rests on.

    Attributes:
      question: that was asked.
      text: of the answer, as it was written.
      known: whether there is one.
      span: the few words that answer the question, where the generator says.
      passages: that the answer could be from, the best first.
      checked: what the check of its citations found.
      named: entities of the question that the store knows.
      missing: chunks that the index does not have yet.
      prompt: that the generator got.
      milliseconds: that the generator took.
      generator: its name.
      details: how the answer was made.
      prompt_id: of the record of the question; "" where nothing was kept.
      response_id: of the record of the answer.
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
        """The answer with its faults marked."""
        return self.checked.marked

    def to_json(self) -> dict[str, Json]:
        """All of it that a person or a page shows."""
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
