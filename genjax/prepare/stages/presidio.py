"""Remove personal data from texts with Presidio, which knows more kinds than our own patterns, and
finds names with a model.
"""

from __future__ import annotations

import functools
import logging
import math
from typing import Any

import pyarrow as pa

from genjax import checks
from genjax.errors import UserError, unknown_name
from genjax.prepare.stage import Changes, RowStage, get_texts, replace_column


@checks.frozen
class Presidio(RowStage):
    """Replaces what Presidio's analyser finds by marks such as "<IBAN_CODE>".

    This needs ``pip install 'genjax-train[anonymise]'``. Names of people and places are only found
    with a spaCy pipeline, which is installed separately (``python -m spacy download
    en_core_web_lg``); without one, patterns and check digits are used.

    Attributes:
      entities: Presidio's names of the kinds, such as "IBAN_CODE"; () for all.
      model: spaCy pipeline; None for none.
      language: language of the texts.
      threshold: smallest confidence of a match, from 0 to 1.
      of: columns of texts.
    """

    entities: tuple[str, ...] = ()
    model: str | None = None
    language: str = "en"
    threshold: float = 0.4
    of: tuple[str, ...] = ("text",)

    def __post_init__(self) -> None:
        checks.between(self, 0, 1, "threshold")

    @property
    def remark(self) -> str:
        kinds = ", ".join(self.entities) or "all known kinds"
        names = f"names by {self.model}" if self.model else "no names: there is no model"
        return f"searched for {kinds}, {names}; matches with confidence < {self.threshold:g} stay"

    def schema_after(self, schema: pa.Schema) -> pa.Schema:
        known = _analyser(self.language, self.model).get_supported_entities(self.language)
        for entity in self.entities:
            if entity not in known:
                raise unknown_name("kind of personal data", entity, known)
        return schema

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        changes = Changes(len(table))
        for column in self.of:
            texts = get_texts(table, column)
            found: list[str | None] = []
            for row, text in enumerate(texts):
                places = [] if text is None else self._places(text)
                for one in places:
                    sure = f"{math.floor(10 * one.score) / 10:.1f} sure or more"
                    changes.add(row, f"{one.entity_type} replaced, {sure}")
                found.append(None if text is None else _marked(text, places))
            table = replace_column(table, column, found)
        return changes.beside(table), [None] * len(table)

    def redact(self, text: str) -> str:
        return self.anonymise_text(text)

    def anonymise_text(self, text: str) -> str:
        """Return a text with marks instead of matches; of overlapping matches the surer counts, or
        else the longer.
        """
        return _marked(text, self._places(text))

    def _places(self, text: str) -> list[Any]:
        """Return the matches, from the last to the first."""
        analyser = _analyser(self.language, self.model)
        entities = list(self.entities) or None
        results = analyser.analyze(
            text, self.language, entities=entities, score_threshold=self.threshold
        )
        taken: list[Any] = []
        for one in sorted(
            results, key=lambda r: (-r.score, r.start - r.end, r.start, r.entity_type)
        ):
            if all(one.end <= other.start or other.end <= one.start for other in taken):
                taken.append(one)
        return sorted(taken, key=lambda r: -r.start)


def _marked(text: str, places: list[Any]) -> str:
    for one in places:
        text = f"{text[: one.start]}<{one.entity_type}>{text[one.end :]}"
    return text


@functools.cache  # it takes seconds to make
def _analyser(language: str, model: str | None) -> Any:
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as error:
        raise UserError(
            f"Presidio needs a package: pip install 'genjax-train[anonymise]' ({error})"
        ) from None
    for name in (
        "presidio-analyzer",
        "tldextract",
    ):
        # Both log missing parts, such as a network, at length.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        pipeline = spacy.blank(language) if model is None else spacy.load(model)
    except (OSError, ImportError) as error:
        raise UserError(
            f"spaCy cannot open {model or language}: {str(error).splitlines()[0]}"
        ) from None
    engine: Any = SpacyNlpEngine()  # Any, because `nlp` is declared as None
    engine.nlp = {language: pipeline}
    registry: Any = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=engine if model else None)
    return AnalyzerEngine(nlp_engine=engine, registry=registry, supported_languages=[language])
