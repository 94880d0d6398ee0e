"""What evaluators of video share: the codec, frames as grey floats, and continued clips."""

from __future__ import annotations

import jax
import numpy as np

from genjax.checks import Component
from genjax.data.video.codec import VideoCodec
from genjax.errors import UserError
from genjax.evaluation.judge import Subject
from genjax.family import State

GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
AT_ONCE = 64  # clips that are continued at once


def check_video(codec: Component, who: str) -> VideoCodec:
    """Return the codec of video.

    Raises:
      UserError: the data are something else.
    """
    if not isinstance(codec, VideoCodec):
        raise UserError(f"{who} needs video clips, but the data have a {type(codec).__name__}")
    return codec


def make_grey(codec: VideoCodec, clips: np.ndarray) -> np.ndarray:
    """Convert clips in model space [N, H, W, T C] to grey floats in [0, 1]: [N, T, H, W]."""
    frames = codec.cut_frames(clips).astype(np.float32) / 255
    return frames[..., 0] if codec.channels == 1 else (frames @ GREY).astype(np.float32)


def continue_clips(subject: Subject, clips: np.ndarray) -> np.ndarray:
    """Let the model continue the given parts of clips [N, H, W, T C] to the same length."""
    compiled = subject.layout.compile_evaluation(_continue, static_argnums=(0, 4))
    size = min(AT_ONCE, len(clips))
    parts = []
    for number, first in enumerate(range(0, len(clips), size)):
        rows = np.arange(first, first + size) % len(clips)
        key = jax.random.fold_in(subject.key, number)
        family = subject.model.family
        parts.append(
            np.asarray(compiled(family, subject.model.state, key, clips[rows], family.sampler))
        )
    return np.concatenate(parts)[: len(clips)]


def _continue(
    family: Component, state: State, key: jax.Array, clips: jax.Array, options: Component
) -> jax.Array:
    given = family.select_given(clips)
    return family.roll_out(state, key, given, options, clips.shape[-1])
