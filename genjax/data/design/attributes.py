"""Attributes of designs: values that plain functions measure, and requests for them in words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import FunctionType

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.tables.conditions import parse_condition
from genjax.errors import UserError, unknown_name

FIELD = "prompt"
OPERATORS = re.compile(r"[=<>]|\bin\b\s*[(\[]")
# Words of a request that say nothing about an attribute.
FILLERS = frozenset(["a", "an", "and", "the", "with", "of", "is", "it", "there", "picture", "item"])


@checks.frozen
class Attribute:
    """Something that can be asked of an image, with a few values.

    Attributes:
      name: name of the attribute.
      values: names of its values; no other attribute has one of them.
      measure: function of images [N, H, W, C] in [-1, 1] and labels [N] that returns a number for
        each; None if the labels are the values.
      edges: numbers that separate the values, one fewer than there are: the first value is below
        the first of them.
      labels: labels of the images that have the attribute; None for all.
    """

    name: str
    values: tuple[str, ...]
    measure: Component = None
    edges: tuple[float, ...] = ()
    labels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise UserError(
                f"values must be two or more different ones, got {self.values}", "values"
            )
        if self.measure is None:
            if self.edges:
                raise UserError(f"edges need a measure, got {self.edges} without one", "edges")
            return
        if not callable(self.measure):
            raise UserError(
                f"measure must be a function of images and labels, got {self.measure!r}", "measure"
            )
        if len(self.edges) != len(self.values) - 1 or list(self.edges) != sorted(set(self.edges)):
            raise UserError(
                f"edges must be {len(self.values) - 1} growing numbers between the values, got "
                f"{self.edges}",
                "edges",
            )

    def describe(self) -> str:
        """Describe the attribute in words that are the same in every process."""
        measure = self.measure
        # The repr of a function has its address, which differs from process to process.
        name = measure.__qualname__ if isinstance(measure, FunctionType) else repr(measure)
        return f"{dataclasses.replace(self, measure=None, edges=())!r} {name} {self.edges}"

    def find_values(self, images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Return the number of each image's value, int32 [N]; -1 for one without the attribute."""
        found = labels if self.measure is None else self.measure(images, labels)
        if found is None or (labels is None and self.labels is not None):
            raise UserError(f"the attribute {self.name!r} needs images with labels", self.name)
        numbers = np.asarray(found) if self.measure is None else np.digitize(found, self.edges)
        if labels is not None and self.labels is not None:
            numbers = np.where(np.isin(labels, self.labels), numbers, -1)
        return numbers.astype(np.int32)


@checks.frozen
class Attributes:
    """Embeds a request for attributes as one number per value, 1 for the requested ones.

    A request is in words, "a bright dress, symmetrical, sleeveless", or has the form of conditions
    on a table, "item='dress' and brightness='bright'". What it does not name may be anything.

    Attributes:
      attributes: the attributes.
    """

    attributes: tuple[Attribute, ...]

    def __post_init__(self) -> None:
        checks.some(self, "attributes")
        values = [value for one in self.attributes for value in one.values]
        names = [one.name for one in self.attributes]
        for kind, known in (("name", names), ("value", values)):
            if twice := [word for word in known if known.count(word) > 1]:
                raise UserError(f"two attributes have the {kind} {twice[0]!r}", "attributes")

    @property
    def width(self) -> int:
        """The number of values of all attributes."""
        return sum(len(one.values) for one in self.attributes)

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The values of each attribute, by name."""
        return {one.name: one.values for one in self.attributes}

    def embed(self, text: str) -> np.ndarray:
        """Return the embedding float32 [width] of a request.

        Raises:
          UserError: the request names nothing, an unknown attribute, value or word, or two values
            of one attribute.
        """
        return self.encode(self.number(self.parse(text))[None])[0]

    def parse(self, text: str) -> dict[str, str]:
        """Return the values that a request asks for, by attribute; for errors see ``embed``."""
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"a request must be words or conditions, got {text!r}", FIELD)
        found = self._parse_conditions(text) if OPERATORS.search(text) else self._parse_words(text)
        asked: dict[str, str] = {}
        for name, value in found:
            if asked.get(name, value) != value:
                raise UserError(
                    f"{FIELD}: {name} cannot be both {asked[name]!r} and {value!r}", FIELD
                )
            asked[name] = value
        if not asked:
            raise UserError(f"{FIELD}: {text!r} asks for nothing; {self._list_values()}", FIELD)
        return asked

    def number(self, asked: Mapping[str, str]) -> np.ndarray:
        """Return the number of each attribute's value, int32 [K]; -1 for one that is left open."""
        return np.array(
            [
                one.values.index(asked[one.name]) if one.name in asked else -1
                for one in self.attributes
            ],
            np.int32,
        )

    def measure(self, images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Measure images [N, H, W, C]: the numbers of their values, int32 [N, K], -1 for none."""
        return np.stack([one.find_values(images, labels) for one in self.attributes], 1)

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """Embed numbers of values [N, K] as float32 [N, width]; -1 leaves an attribute open."""
        blocks = [
            numbers[:, k, None] == np.arange(len(one.values))
            for k, one in enumerate(self.attributes)
        ]
        return np.concatenate(blocks, 1).astype(np.float32)

    def describe(self, numbers: np.ndarray) -> str:
        """Write a request for the numbers of values [K], of which -1 are left open."""
        pairs = zip(self.attributes, numbers, strict=True)
        return ", ".join(one.values[number] for one, number in pairs if number >= 0)

    def _parse_conditions(self, text: str) -> list[tuple[str, str]]:
        found = []
        for one in parse_condition(text, self.columns, FIELD).comparisons:
            if one.operator != "in" or len(one.values) != 1:
                raise UserError(
                    f"{FIELD}: ask for one value of {one.column!r}, as in "
                    f"{one.column}='{self.columns[one.column][0]}'",
                    FIELD,
                )
            found.append((one.column, str(one.values[0])))
        return found

    def _parse_words(self, text: str) -> list[tuple[str, str]]:
        rest, found = text.lower(), []
        pairs = [(one.name, value) for one in self.attributes for value in one.values]
        for name, value in sorted(pairs, key=lambda pair: -len(pair[1])):
            word = re.compile(rf"(?<![\w-]){re.escape(value.lower())}(?![\w-])")
            if word.search(rest):
                rest = word.sub(" ", rest)
                found.append((name, value))
        left = [word for word in re.findall(r"[^\s,.;]+", rest) if word not in FILLERS]
        if left:
            known = [value for _, value in pairs]
            raise UserError(f"{FIELD}: {unknown_name('value', left[0], known)}", FIELD)
        return found

    def _list_values(self) -> str:
        return "; ".join(f"{one.name}: {', '.join(one.values)}" for one in self.attributes)


@checks.frozen
class HideAttributes:
    """An augmentation that hides attributes of the condition, so that the model learns requests
    that leave some of them open.

    Attributes:
      attributes: embedding of the requests, that of ``family.text``.
      prob: probability with which an attribute of an example is hidden.
    """

    attributes: Attributes
    prob: float = 0.3

    def __post_init__(self) -> None:
        checks.share(self, "prob")

    def __call__(self, key: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Return the batch with attributes of ``condition`` [B, D] set to zeros.

        Raises:
          UserError: the batch has no condition, or one of another width.
        """
        wide = batch["condition"].shape[-1] if "condition" in batch else None
        if wide != self.attributes.width:
            raise UserError(
                f"HideAttributes needs conditions of {self.attributes.width} numbers, got {wide}",
                "augment",
            )
        sizes = np.array([len(one.values) for one in self.attributes.attributes])
        kept = jax.random.bernoulli(key, 1 - self.prob, (len(batch["condition"]), len(sizes)))
        condition = batch["condition"] * kept[:, np.repeat(np.arange(len(sizes)), sizes)]
        return {**batch, "condition": condition}
