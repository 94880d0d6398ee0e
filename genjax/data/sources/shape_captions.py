"""Generated pictures of coloured shapes, and the sentences about them as what is to be written."""

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
    """The pictures of ``CaptionedShapes``, each with a sentence about it in tokens.

    The test split shows combinations of attributes that training never does.

    Attributes:
      size: training pictures.
      test_size: test pictures.
      seed: of the pictures; a larger size keeps the pictures of a smaller one.
      side: pixels.
      codec: of the sentences; without a vocabulary, it is fitted to those of training. It needs a
        start and an end.
      length: predictions in a row, T.
      forms: the sentences of ``captions_of`` that are taken, by default those that name all four
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
                f"forms are some of the sentences 0 to {SENTENCES - 1}, not {self.forms}"
            )
        self._make_pictures()  # refuses what is not a set of pictures

    def _make_pictures(self) -> CaptionedShapes:
        return CaptionedShapes(self.size, self.test_size, self.seed, self.side)

    def open(self) -> Dataset:
        """Batches of ``image`` float32 [B, side, side, 3], ``tokens`` int32 [B, T + 1], a caption
        between its start and its end, and ``loss_mask`` float32 [B, T + 1], 0 at the start and at
        padding.

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
            raise UserError(
                "the codec of captions needs tokens for start and end: they tell when a caption is "
                "over"
            )
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
        longest = 1 + max(map(len, ids.values()))  # with its end
        if longest > self.length:
            raise UserError(
                f"a caption takes {longest} predictions, more than length={self.length}"
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
    """A split of pictures with a caption each.

    Attributes:
      pictures: the split of the pictures alone.
      tokens: int32 [N, T + 1].
      loss_mask: float32 [N, T + 1].
      scenes: what each picture shows.
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
