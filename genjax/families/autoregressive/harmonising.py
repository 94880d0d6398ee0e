"""Decoding of music in voices, under a melody if one is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from genjax import checks
from genjax.checks import Component
from genjax.data.audio.midi import read_melody
from genjax.data.audio.voices import VoiceCodec
from genjax.errors import UserError
from genjax.families.autoregressive.request import Decoding, Request
from genjax.family import Trained


@checks.frozen
class Harmonising(Decoding):
    """Decoding of music in voices: freely, or the three lower voices under a given melody.

    The tokens of the soprano are set and the others drawn in their order, so each lower voice
    depends on all voices before it and on the melody up to its own step, not on what is to come.
    ``steps`` is then that of the melody.

    Attributes:
      melody: MIDI file of the melody; of several notes at once the highest counts.
    """

    melody: str | None = None

    def encode(self, codec: Component, others: Mapping[str, Trained]) -> Request:
        """Encode the request as ``Decoding`` does, with the melody in its place.

        Raises:
          UserError: the file cannot be read, its notes lie outside the codec's range or between
              its steps, or the codec has no voices.
        """
        request = super().encode(codec, others)
        if self.melody is None:
            return request
        if not isinstance(codec, VoiceCodec):
            raise UserError(
                f"melody needs a VoiceCodec, but the data have a {type(codec).__name__}", "melody"
            )
        if self.prompt or self.prompts or self.tokens:
            raise UserError("melody and a prompt exclude one another: give one", "melody")
        notes = read_melody(Path(self.melody), codec.steps_per_quarter)
        given = tuple(codec.place_melody(notes).tolist())
        decoding = dataclasses.replace(self, steps=len(given), given=given)
        return dataclasses.replace(request, decoding=decoding)

    def to_request(self) -> Request:
        if self.melody is not None and not self.given:
            raise UserError("a melody must be encoded first: options.encode(codec)", "melody")
        return super().to_request()
