"""Feature spaces in which images are compared: pixels, or features of a classifier run, of
Inception-v3 or of a vision transformer.

A space is named "pixels", "inception" (published weights, downloaded once), "inception:FILE"
(weights in a file), "vit:FOLDER" or "dinov2:FOLDER" (in Hugging Face's format), or by the run
directory of a classifier; "./inception" is such a directory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.features import inception, vision
from genjax.evaluation.judge import Model, Subject
from genjax.families import classifier
from genjax.family import State

PIXELS = "pixels"
INCEPTION = "inception"


@dataclass(frozen=True)
class FeatureSpace:
    """A map from images [N, H, W, C] in [-1, 1] to features [N, F].

    Attributes:
      name: description for protocols: where the features come from, how images are resized.
      extract: map of one batch.
      chunk: images per batch.
    """

    name: str
    extract: Callable[[np.ndarray], np.ndarray]
    chunk: int = 256

    def __call__(self, images: np.ndarray) -> np.ndarray:
        parts = [images[i : i + self.chunk] for i in range(0, len(images), self.chunk)]
        return np.concatenate([self._pad_chunk(part) for part in parts])

    def _pad_chunk(self, images: np.ndarray) -> np.ndarray:
        """Extract features of a chunk padded to a fixed size, so that it compiles once."""
        missing = (-len(images)) % self.chunk
        filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
        return np.asarray(self.extract(filled))[: len(images)]


def list_runs(features: str) -> tuple[str, ...]:
    """Return the runs behind a named space: none for pixels and published networks."""
    published = is_inception(features) or vision_kind(features) is not None
    return () if features == PIXELS or published else (features,)


def is_inception(features: str) -> bool:
    """Return whether a space is Inception's, with published weights or those of a file."""
    return features.partition(":")[0] == INCEPTION


def vision_kind(features: str) -> str | None:
    """Return the kind of vision transformer of a space, "vit" or "dinov2"; None for others."""
    kind, colon, _ = features.partition(":")
    return kind if colon and kind in vision.KINDS else None


def label(features: str) -> str:
    """Return the name of a space in scores: "pixels", "inception", "vit", "dinov2", or the last
    part of the run directory.
    """
    return INCEPTION if is_inception(features) else vision_kind(features) or Path(features).name


def check_features(features: str, spec: Spec, others: Mapping[str, Model]) -> int | None:
    """Check the space named ``features`` for data like ``spec``, and return its number of features,
    or None for a run not in ``others``.

    Weights of published networks are read, and Inception's downloaded if needed, so that a damaged
    file is found before training.

    Raises:
      UserError: the data are not images that fit the space; the weights are missing or damaged; the
          run is not an image classifier.
    """
    if spec.entry != "image":
        raise UserError(
            f"features {features} need images, but the data are {spec.entry}", "features"
        )
    if features == PIXELS:
        return math.prod(spec.shape)
    if is_inception(features):
        inception.check_channels(spec.shape[-1])
        _weights(features)
        return inception.FEATURES
    if vision_kind(features) is not None:
        network = _load_vision(features)
        network.check_image(*spec.shape)
        return network.vision.width
    if features not in others:
        return None
    model = _classifier(features, others[features])
    if (
        len({spec.shape[-1], model.spec.shape[-1]} - {1, 3})
        and spec.shape[-1] != model.spec.shape[-1]
    ):
        raise UserError(
            f"features {features} need images with {model.spec.shape[-1]} channels, got "
            f"{spec.shape[-1]}",
            "features",
        )
    image = jax.ShapeDtypeStruct((1, *model.spec.shape), jnp.float32)
    return jax.eval_shape(
        functools.partial(classifier.features, model.family), model.state, image
    ).shape[-1]


def feature_space(subject: Subject, features: str) -> FeatureSpace:
    """Return the space named ``features``, made once for all evaluators of the subject.

    Raises:
      UserError: as ``check_features``.
    """
    return subject.compute_once(("space", features), lambda: _space(subject, features))


def _space(subject: Subject, features: str) -> FeatureSpace:
    shape = subject.model.spec.shape
    if features == PIXELS:
        return FeatureSpace("pixels, no resizing", lambda images: images.reshape(len(images), -1))
    if is_inception(features):
        inception.check_channels(shape[-1])
        params = jax.device_put(_weights(features), subject.layout.replicated)
        network = subject.layout.compile_evaluation(inception.features)
        return FeatureSpace(
            "Inception-v3 pool features (2015-12-05 weights) of 8-bit images, "
            + _describe_resize(shape, (inception.SIDE, inception.SIDE, 3)),
            lambda images: network(params, np.rint((images + 1) * 127.5) / np.float32(127.5) - 1),
            chunk=32,  # of 299x299 each
        )
    if vision_kind(features) is not None:
        return _vision_space(subject, features)
    model = _classifier(features, subject.others[features])
    compiled = subject.layout.compile_evaluation(_features, static_argnums=(0, 3))
    return FeatureSpace(
        f"features before the head of the classifier {model.origin}; "
        f"{_describe_resize(shape, model.spec.shape)}",
        lambda images: compiled(model.family, model.state, images, model.spec.shape),
    )


def _weights(features: str) -> dict[str, np.ndarray]:
    return inception.load(inception.weights(features.partition(":")[2] or None))


def _vision_space(subject: Subject, features: str) -> FeatureSpace:
    network, shape = _load_vision(features), subject.model.spec.shape
    network.check_image(*shape)
    params = jax.device_put(dict(network.params), subject.layout.replicated)
    compiled = subject.layout.compile_evaluation(vision.features, static_argnums=0)
    name = network.describe(*shape[:2]) + (", grey repeated as RGB" if shape[-1] == 1 else "")
    return FeatureSpace(
        name,
        lambda images: compiled(network.vision, params, network.processor(images)),
        chunk=32,  # of 224x224 each, mostly
    )


def _load_vision(features: str) -> vision.Pretrained:
    kind, _, folder = features.partition(":")
    return vision.load(kind, folder)


def _classifier(features: str, model: Model) -> Model:
    """Return ``model`` if it has features of images."""
    if model.spec.entry != "image" or not isinstance(model.family, classifier.Classifier):
        raise UserError(
            f"features must come from an image classifier, but {features} is none", "features"
        )
    return model


def _describe_resize(shape: tuple[int, ...], seen: tuple[int, ...]) -> str:
    """Describe how images of one shape [H, W, C] are converted to another."""
    (height, width, channels), (rows, columns, wanted) = shape, seen
    same = (height, width) == (rows, columns)
    words = "no resizing" if same else f"resized {height}x{width} to {rows}x{columns} bilinearly"
    if channels != wanted:
        words += ", grey repeated as RGB" if wanted == 3 else ", RGB to grey by BT.601"
    return words


def resize_images(images: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Resize images [N, H, W, C] bilinearly to ``shape`` (H', W', C'), converting channels."""
    height, width, channels = shape
    if images.shape[1:3] != (height, width):
        images = jax.image.resize(
            images, (len(images), height, width, images.shape[-1]), "bilinear"
        )
    if images.shape[-1] < channels:
        return jnp.repeat(images, channels, axis=-1)
    if images.shape[-1] > channels:
        return images @ jnp.asarray([[0.299], [0.587], [0.114]])  # luma of ITU-R BT.601
    return images


def _features(
    family: classifier.Classifier, state: State, images: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    return classifier.features(family, state, resize_images(images, shape))


def find_nearest(
    queries: np.ndarray, points: np.ndarray, count: int, chunk: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``count`` nearest ``points`` [N, F] to each of ``queries`` [Q, F]: Euclidean
    distances and indices, [Q, count].
    """
    known = jnp.asarray(points)
    squared = jnp.square(known).sum(-1)[None]
    found = []
    for start in range(0, len(queries), chunk):
        part = jnp.asarray(queries[start : start + chunk])
        closeness = 2 * jnp.dot(part, known.T, precision="highest") - squared
        found.append(np.asarray(jax.lax.top_k(closeness, count)[1]))
    index = np.concatenate(found)
    # Distances of only the chosen ones, without the cancellation in |a|^2 - 2ab + |b|^2.
    distance = np.linalg.norm(queries[:, None] - points[index], axis=-1)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)
