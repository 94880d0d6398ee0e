"""What a classifier's run says of images that another run drew, or of the data."""

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
    """Return p(class | image) of images [N, H, W, C] in [-1, 1] by the classifier of a run: [N, K],
    rows add up to 1.

    Images are brought to the resolution and the channels of the classifier's own data, as for its
    features.

    Args:
      run: its directory, one of ``subject.others``.

    Raises:
      UserError: the run is not a classifier of images.
    """
    model = subject.others[run]
    if model.spec.entry != "image" or not isinstance(model.family, classifier.Classifier):
        raise UserError(f"predictions come from a classifier of images, which {run} is not")
    compiled = subject.layout.compile_evaluation(_probabilities, static_argnums=(0, 3))
    shape = tuple(model.spec.shape)
    # Chunks of one compiled size, as features are made.
    rows = FeatureSpace(run, lambda part: compiled(model.family, model.state, part, shape))
    return rows(images)


def _probabilities(
    family: classifier.Classifier, state: State, images: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    return jnp.exp(classifier.predict(family, state, {"image": resize_images(images, shape)}))
