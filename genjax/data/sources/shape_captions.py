"""Generated pictures of coloured shapes, with sentences about them for a captioner to write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Batch, Dataset, Spec
from genjax.data.sources.captioned import NAME_ALL, SENTENCES, CaptionedShapes, Scene, render_scenes
from genjax.data.splits import Arrays, array_fingerprint, digest
from genjax.data.text.captions import CaptionCodec
from genjax.data.text.codecs import Words
from genjax.errors import UserError


@checks.frozen
class ShapeCaptions:
    """Pairs each picture of ``CaptionedShapes`` with a sentence about it in tokens.

    The test split shows combinations of attributes that training never does.

    Attributes:
      size: number of training pictures.
      test_size: number of test pictures.
      seed: seed of the pictures; a larger size keeps those of a smaller one.
      side: height and width in pixels.
      codec: codec of the sentences, with a start and an end; without a vocabulary it is fitted to
        the training sentences.
      length: number of predictions in a row, T.
      forms: which sentences of ``write_captions`` are used, by default those that name all four
        attributes.
    """

    size: int = 8_000
    test_size: int = 1_000
    seed: int = 0
    side: int = 16
    codec: Component = Words()
    length: int = 12
    forms: tuple[int, ...] = NAME_ALL

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "length")
        if not self.forms or not set(self.forms) <= set(range(SENTENCES)):
            raise UserError(
                f"forms must be some of 0 to {SENTENCES - 1}, got {self.forms}", "forms"
            )
        self._make_pictures()  # checks its options

    def _make_pictures(self) -> CaptionedShapes:
        return CaptionedShapes(self.size, self.test_size, self.seed, self.side)

    def open(self) -> Dataset:
        """Open the data set; batches hold ``image`` float32 [B, side, side, 3], ``tokens`` int32
        [B, T + 1], captions with start and end, and ``loss_mask`` float32 [B, T + 1], 0 at the
        start and in padding.

        Raises:
          UserError: the codec has no start or end, or a caption does not fit into a row.
        """
        examples = {
            split: self._make_pictures().make_examples(split, self.forms)
            for split in ("train", "test")
        }
        tokens = self.codec
        if not tokens.is_fitted:
            tokens = tokens.fit(caption for _, caption in examples["train"])
        codec = CaptionCodec(tokens, ImageCodec(self.side, self.side, 3))
        if codec.start is None or codec.end is None:
            raise UserError("codec must have start and end tokens: the end ends a caption", "codec")
        splits = {split: self._split(part, codec) for split, part in examples.items()}
        token_bytes = codec.token_bytes
        spec = Spec(
            entry="tokens",
            shape=(self.length + 1,),
            mean=np.zeros(self.length + 1, np.float32),
            vocabulary=codec.vocabulary,
            token_bytes=None if token_bytes is None else tuple(token_bytes.tolist()),
            image=(self.side, self.side, 3),
        )
        pictures = array_fingerprint({split: part.pictures for split, part in splits.items()})
        rows = [np.ascontiguousarray(splits[split].tokens).data for split in sorted(splits)]
        return Dataset(
            splits, spec, codec, digest([pictures.encode(), repr(codec).encode(), *rows])
        )

    def _split(
        self, examples: list[tuple[Scene, str]], codec: CaptionCodec
    ) -> PicturesWithCaptions:
        scenes = tuple(scene for scene, _ in examples)
        ids = {caption: codec.encode(caption).tolist() for _, caption in examples}
        longest = 1 + max(map(len, ids.values()))  # including the end
        if longest > self.length:
            raise UserError(
                f"length must be >= {longest} for the longest caption, got {self.length}", "length"
            )
        tokens = np.full((len(examples), self.length + 1), codec.pad or 0, np.int32)
        loss_mask = np.zeros(tokens.shape, np.float32)
        for row, (_, caption) in enumerate(examples):
            whole = [codec.start, *ids[caption], codec.end]
            tokens[row, : len(whole)], loss_mask[row, 1 : len(whole)] = whole, 1
        return PicturesWithCaptions(
            Arrays("image", render_scenes(scenes, self.side), None, codec.image),
            tokens,
            loss_mask,
            scenes,
        )


@dataclass(frozen=True)
class PicturesWithCaptions:
    """A split of pictures with captions.

    Attributes:
      pictures: split of the pictures.
      tokens: tokens of the captions int32 [N, T + 1].
      loss_mask: 1 for predicted tokens, float32 [N, T + 1].
      scenes: content of each picture.
    """

    pictures: Arrays
    tokens: np.ndarray
    loss_mask: np.ndarray
    scenes: tuple[Scene, ...]

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, indices: np.ndarray) -> Batch:
        rows = {"tokens": self.tokens[indices], "loss_mask": self.loss_mask[indices]}
        return self.pictures.batch(indices) | rows
