"""Measures whether samples have the requested attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.design.attributes import Attributes
from genjax.errors import UserError
from genjax.evaluation.captions.accuracy import draw_captioned
from genjax.evaluation.drawing import CHUNK, draw_samples
from genjax.evaluation.features.predictions import class_probabilities
from genjax.evaluation.images.bias import count_classes
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.diffusion.diffusion import CONDITION
from genjax.family import TextConditional, require_samples, with_inputs


@checks.frozen
class AttributeAgreement(Evaluator):
    """Measures the share of requested attributes that samples have.

    The requests are the attributes of held-out images, so that they can be fulfilled; one sample is
    drawn for each. A label counts as a classifier recognises it, other attributes as their
    functions measure them, given the requested label.

    Numbers: ``<attribute>_found`` for each attribute, 1 at best; ``attributes_found``, the same
    over all requested; ``all_found``, the share of samples that have everything requested; and
    ``real_found``, ``attributes_found`` of the held-out images themselves, where only the
    classifier can be wrong.

    Attributes:
      classifier: run directory of a classifier; None without an attribute that is the label.
      samples: number of requests, with a sample each.
      shown: how many are in the picture ``requests``.
    """

    images_only: ClassVar[bool] = True

    classifier: str | None = None
    samples: int = 1_000
    shown: int = 24

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "shown")
        checks.ordered(self, "shown", "samples")

    @property
    def runs(self) -> tuple[str, ...]:
        return () if self.classifier is None else (self.classifier,)

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        require_samples(family, "AttributeAgreement")
        attributes = get_attributes(family)
        named = [one.name for one in attributes.attributes if one.measure is None]
        if named and self.classifier is None:
            raise UserError(
                f"classifier must be a run that recognises {named[0]!r}, got None", "classifier"
            )
        if self.classifier is not None:
            count_classes("AttributeAgreement", self.classifier, others)

    def __call__(self, subject: Subject) -> Findings:
        attributes = get_attributes(subject.model.family)
        real = subject.take_examples(self.samples)
        labels = real.get("label")
        asked = attributes.measure(real["image"], labels)  # [N, K]
        images = np.clip(draw_requests(subject, attributes.encode(asked)), -1, 1)
        found = self._find(subject, attributes, images, labels)
        of_real = self._find(subject, attributes, real["image"], labels)
        given, right = asked >= 0, found == asked
        numbers = {
            f"{one.name}_found": float(right[given[:, k], k].mean())
            for k, one in enumerate(attributes.attributes)
            if given[:, k].any()
        }
        numbers["attributes_found"] = float(right[given].mean())
        numbers["all_found"] = float((right | ~given).all(1).mean())
        numbers["real_found"] = float((of_real == asked)[given].mean())
        chosen = np.arange(self.shown) * len(asked) // self.shown
        picture = draw_captioned(
            show_in_colour(subject.model.codec.decode(images[chosen])),
            [attributes.describe(asked[i]) for i in chosen],
            (right | ~given)[chosen].all(1),
        )
        eyes = (
            ""
            if self.classifier is None
            else (f"; labels by the classifier {subject.others[self.classifier].origin}")
        )
        return Findings(
            numbers,
            {"requests": picture},
            f"a sample for the attributes of each of {len(asked):,} images of {subject.split}, by "
            f"{subject.model.family.sampler}{eyes}",
        )

    def _find(
        self, subject: Subject, attributes: Attributes, images: np.ndarray, labels: Any
    ) -> np.ndarray:
        """Measure images, with their labels by the classifier: int32 [N, K]."""
        found = attributes.measure(images, labels)
        for k, one in enumerate(attributes.attributes):
            if one.measure is None:
                assert self.classifier is not None, "checked before"
                found[:, k] = class_probabilities(subject, self.classifier, images).argmax(1)
        return found


def get_attributes(family: Component) -> Attributes:
    """Return the attributes that a family is conditioned on.

    Raises:
      UserError: it is conditioned on something else, or nothing.
    """
    text = family.text if isinstance(family, TextConditional) else None
    if not isinstance(text, Attributes):
        raise UserError(
            "AttributeAgreement needs a model conditioned on attributes (family.text=Attributes), "
            f"got a {type(family).__name__}"
        )
    return text


def draw_requests(
    subject: Subject,
    requests: np.ndarray,
    more: Mapping[str, np.ndarray] | None = None,
    options: Component = None,
) -> np.ndarray:
    """Draw a sample [N, ...] for each of the embedded requests [N, D], by one compiled function.

    Args:
      subject: model and data.
      requests: the requests; rows of zeros ask for nothing.
      more: further inputs of the family [N, ...], by name.
      options: sampling options; None for the family's own.
    """
    family, state = subject.model.family, subject.model.state
    given = {CONDITION: requests, **(more or {})}
    size = min(len(requests), CHUNK)
    chunks = []
    for start in range(0, len(requests), size):
        rows = np.arange(start, start + size) % len(requests)  # the last chunk wraps around
        fed = with_inputs(state, {name: jnp.asarray(x[rows]) for name, x in given.items()})
        key = jax.random.fold_in(subject.key, start)
        chunks.append(
            draw_samples(subject.layout, family, fed, key, size, options or family.sampler)
        )
    return np.concatenate(chunks)[: len(requests)]


def show_in_colour(pictures: np.ndarray) -> np.ndarray:
    """Return pictures uint8 [N, H, W, C] with three channels."""
    return pictures.repeat(3, -1) if pictures.shape[-1] == 1 else pictures
