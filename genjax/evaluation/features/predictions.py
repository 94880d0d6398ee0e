"""Predictions of a classifier run for samples or data of another run."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError
from genjax.evaluation.features.features import FeatureSpace, resize_images
from genjax.evaluation.judge import Subject
from genjax.families import classifier
from genjax.family import State


def class_probabilities(subject: Subject, run: str, images: np.ndarray) -> np.ndarray:
    """Predict p(class | image) for images [N, H, W, C] in [-1, 1] by the classifier of a run: [N,
    K], rows sum to 1.

    Images are converted to the resolution and channels of the classifier's training data, as for
    its features.

    Args:
      run: run directory, one of ``subject.others``.

    Raises:
      UserError: the run is not an image classifier.
    """
    model = subject.others[run]
    if model.spec.entry != "image" or not isinstance(model.family, classifier.Classifier):
        raise UserError(f"predictions must come from an image classifier, but {run} is none")
    compiled = subject.layout.compile_evaluation(_probabilities, static_argnums=(0, 3))
    shape = tuple(model.spec.shape)
    # In chunks of one compiled size, as for features.
    rows = FeatureSpace(run, lambda part: compiled(model.family, model.state, part, shape))
    return rows(images)


def _probabilities(
    family: classifier.Classifier, state: State, images: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    return jnp.exp(classifier.predict(family, state, {"image": resize_images(images, shape)}))
