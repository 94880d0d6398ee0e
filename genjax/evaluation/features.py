"""Spaces in which images are compared: their pixels, or the features of a classifier run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError
from genjax.evaluation.judge import Subject
from genjax.families import classifier
from genjax.family import State

PIXELS = "pixels"


@dataclass(frozen=True)
class FeatureSpace:
    """Maps images [N, H, W, C] in [-1, 1] to features [N, F].

    Attributes:
      name: of the space, as a protocol prints it: where the features come from, how images are resized.
      extract: the map, a batch at a time.
    """

    name: str
    extract: Callable[[np.ndarray], np.ndarray]
    chunk: int = 256

    def __call__(self, images: np.ndarray) -> np.ndarray:
        parts = [images[i : i + self.chunk] for i in range(0, len(images), self.chunk)]
        return np.concatenate([self._padded(part) for part in parts])

    def _padded(self, images: np.ndarray) -> np.ndarray:
        """All chunks have one shape, so that one compilation serves them."""
        missing = (-len(images)) % self.chunk
        filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
        return np.asarray(self.extract(filled))[: len(images)]


def needed_runs(features: str) -> tuple[str, ...]:
    """The runs behind a named space: none for pixels."""
    return () if features == PIXELS else (features,)


def feature_space(subject: Subject, features: str) -> FeatureSpace:
    """The space named ``features``: "pixels", or the directory of a classifier's run.

    Raises:
      UserError: the run is not a classifier of images.
    """
    if features == PIXELS:
        return FeatureSpace("pixels, no resizing", lambda images: images.reshape(len(images), -1))
    model = subject.others[features]
    if model.spec.entry != "image" or not isinstance(model.family, classifier.Classifier):
        raise UserError(f"features come from a classifier of images, which {features} is not")
    compiled = subject.layout.compile_evaluation(_features, static_argnums=(0, 3))
    height, width, channels = model.spec.shape
    from_shape = subject.model.spec.shape
    same = from_shape[:2] == (height, width)
    resized = "no resizing" if same else f"resized {from_shape[0]}x{from_shape[1]} to {height}x{width} bilinearly"
    if from_shape[-1] != channels:
        resized += ", grey repeated as RGB" if channels == 3 else ", RGB to grey by BT.601"
    return FeatureSpace(
        f"features before the head of the classifier {model.origin}; {resized}",
        lambda images: compiled(model.family, model.state, images, (height, width, channels)),
    )


def _features(family: classifier.Classifier, state: State, images: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Images are brought to the resolution and the channels of the classifier's own data."""
    height, width, channels = shape
    if images.shape[1:3] != (height, width):
        images = jax.image.resize(images, (len(images), height, width, images.shape[-1]), "bilinear")
    if images.shape[-1] < channels:
        images = jnp.repeat(images, channels, axis=-1)
    elif images.shape[-1] > channels:
        images = images @ jnp.asarray([[0.299], [0.587], [0.114]])  # luma of ITU-R BT.601
    return classifier.features(family, state, images)


def nearest(queries: np.ndarray, points: np.ndarray, count: int, chunk: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances [Q, count] to the nearest ``points`` [N, F] of ``queries`` [Q, F], and their indices."""
    known = jnp.asarray(points)
    squared = jnp.square(known).sum(-1)[None]
    found = []
    for start in range(0, len(queries), chunk):
        part = jnp.asarray(queries[start : start + chunk])
        closeness = 2 * jnp.dot(part, known.T, precision="highest") - squared
        found.append(np.asarray(jax.lax.top_k(closeness, count)[1]))
    index = np.concatenate(found)
    # Distances of the chosen alone, without the cancellation of |a|^2 - 2ab + |b|^2.
    distance = np.linalg.norm(queries[:, None] - points[index], axis=-1)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)
