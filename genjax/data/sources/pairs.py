"""Sentence pairs: each line of one file is the source of the same line of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Batch, Dataset, Spec
from genjax.data.images.decode import note
from genjax.data.splits import digest
from genjax.data.stand_in import part_folder
from genjax.data.storage import cache_folder
from genjax.data.tally import UNKNOWN_TOKENS, Tally
from genjax.data.text.codecs import Words
from genjax.data.text.corpus import Corpus, fit_codec, tokenise
from genjax.data.text.documents import Piece, hash_user_files, lines
from genjax.data.text.packed_pairs import PackedPairs, pack_pairs
from genjax.data.text.wrapped import AroundText
from genjax.errors import UserError

LongPair = Literal["drop", "cut"]


@dataclass(frozen=True)
class PairCodec(AroundText):
    """The codecs of both sides of a pair. Samples belong to the target.

    Attributes:
      source: codec of the text that is read.
      target: codec of the text that is predicted.
    """

    source: Component
    target: Component

    @property
    def text(self) -> Any:
        return self.target

    def encode_source(self, text: str, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ``source_tokens`` [S] int32 and ``source_mask`` [S] float32 of a sentence, cut to
        fit.
        """
        ids = _add_boundaries(self.source, self.source.encode(text))
        return _pad_tokens(_truncate(ids, length, self.source), length, self.source.pad)


@checks.frozen
class SentencePairs:
    """Reads sentences and their translations from files named part.language or part.language.gz,
    one sentence per line.

    The defaults are Multi30k from German to English (https://arxiv.org/abs/1605.00459), with
    lower-case words that occur at least twice.

    Attributes:
      root: folder of the files; None for multi30k/task1 of $GENJAX_DATA, or generated stand-ins if
        that is not set.
      source: language that is read, the suffix of its files.
      target: language that is predicted.
      train: name of the training files.
      validation: name of the validation files; None for none.
      test: name of the test files; None for none.
      source_codec: codec of the source; without a vocabulary it is fitted to the training
        sentences.
      target_codec: codec of the target, with a start and an end; without a vocabulary it is fitted
        to the training sentences.
      source_length: tokens in a row of the source, S, including start and end.
      length: number of predictions in a row of the target, T.
      long: what to do with pairs that do not fit: "drop" them, or "cut" the long side before its
        end.
      packed: whether training rows hold several pairs, told apart by ``segment_ids``; this speeds
        up training by the number of pairs in a row.
      encoding: encoding of the files.
      cache: folder for tokens; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
    """

    root: str | None = None
    source: str = "de"
    target: str = "en"
    train: str = "train"
    validation: str | None = "val"
    test: str | None = "test_2016_flickr"
    source_codec: Any = Words(min_frequency=2)
    target_codec: Any = Words(min_frequency=2)
    source_length: int = 48
    length: int = 48
    long: LongPair = "cut"
    encoding: str = "utf-8"
    cache: str | None = None
    packed: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "length", "source_length")

    def open(self) -> Dataset:
        """Open the data set; batches hold ``source_tokens`` int32 [B, S], ``source_mask`` float32
        [B, S], 1 for a token and 0 for padding, ``tokens`` int32 [B, T + 1] and ``loss_mask``
        float32 [B, T + 1].

        Packed rows also have ``source_segment_ids`` and ``source_positions`` int32 [B, S], and
        ``segment_ids`` and ``positions`` int32 [B, T + 1].

        Raises:
          UserError: a file is missing, the two sides differ in length, or the target's codec has no
            start or end.
        """
        names = {"train": self.train, "validation": self.validation, "test": self.test}
        sides = sentence_files(self.root, names, (self.source, self.target), self.encoding)
        cache = cache_folder(self.cache)
        codecs = [fit_codec(c, s, cache) for c, s in zip(self._codecs, sides["train"], strict=True)]
        codec = PairCodec(*codecs)
        if codec.start is None or codec.end is None:
            raise UserError(
                "target_codec must have start and end tokens: the end ends a translation",
                "target_codec",
            )
        splits: dict[str, Pairs | PackedPairs] = {}
        left = Tally()
        for part, texts in sides.items():
            source, target = (tokenise(t, c, cache) for t, c in zip(texts, codecs, strict=True))
            for side, corpus in zip((self.source, self.target), (source, target), strict=True):
                left.add(f"{part} {side}", {f"{side} {UNKNOWN_TOKENS}": corpus.unknown})
            for text in texts:
                left.add(str(text.path), {"empty lines read as blank sentences": text.empty})
            pairs = self._make_pairs(source, target, codec, part, (texts[0], texts[1]))
            splits[part] = pack_pairs(pairs) if self.packed and part == "train" else pairs
        spec = Spec(
            entry="tokens",
            shape=(self.length + 1,),
            mean=np.zeros(self.length + 1, np.float32),
            vocabulary=codec.vocabulary,
            packed=self.packed,
            source_length=self.source_length,
            source_vocabulary=codec.source.vocabulary,
        )
        contents = [
            f"{part} {side.fingerprint}" for part, pair in sorted(sides.items()) for side in pair
        ]
        fingerprint = digest(part.encode() for part in (*contents, repr(codec)))
        return Dataset(
            splits,
            spec,
            codec,
            fingerprint,
            remarks=left.remarks(str(sides["train"][0].path.parent)),
        )

    @property
    def _codecs(self) -> tuple[Any, Any]:
        return self.source_codec, self.target_codec

    def _make_pairs(
        self,
        source: Corpus,
        target: Corpus,
        codec: PairCodec,
        part: str,
        texts: tuple[Sentences, Sentences],
    ) -> Pairs:
        check_lines(texts, (len(source), len(target)))
        size = np.diff(source.starts) + (codec.source.start is not None), np.diff(target.starts) + 1
        over = (size[0] > self.source_length) | (size[1] > self.length + 1)
        rows = np.arange(len(source))
        if self.long == "drop" and 2 * int(over.sum()) > len(over):
            need = [int(np.quantile(side, 0.975, method="higher")) for side in size]
            raise UserError(
                f"{part}: {int(over.sum()):,} of {len(over):,} pairs are too long and would be "
                f"dropped; source_length={need[0]} and length={max(need[1] - 1, 2)} keep 95% of "
                'them, or long="cut" cuts them',
                "length",
            )
        if over.any():
            fate = "dropped" if self.long == "drop" else "cut"
            note(f"{part}: {int(over.sum()):,} of {len(over):,} pairs are too long and are {fate}")
        if self.long == "drop":
            rows = rows[~over]
        if not len(rows):
            raise UserError(f"there is no pair in {texts[0].title} and {texts[1].title}")
        return Pairs(source, target, codec, rows, self.source_length, self.length, texts)


@dataclass(frozen=True)
class Sentences:
    """The lines of a file as documents; empty lines count, to stay aligned with another file."""

    path: Path
    encoding: str

    @property
    def title(self) -> str:
        return str(self.path)

    @property
    def fingerprint(self) -> str:
        return digest(
            [hash_user_files([self.path]).encode(), f"sentences {self.encoding}".encode()]
        )

    def iterate_pieces(self) -> Iterator[Piece]:
        for number, line in enumerate(lines(self.path, self.encoding), 1):
            yield Piece(line.rstrip("\r\n") or " ", f"line {number:,} of {self.path}", True)

    @property
    def empty(self) -> int:
        """Number of empty lines."""
        return sum(not line.strip() for line in lines(self.path, self.encoding))

    def read_sentences(self) -> list[str]:
        """Return all sentences as written."""
        return [line.rstrip("\r\n") for line in lines(self.path, self.encoding)]


def sentence_files(
    root: str | None, names: Mapping[str, str | None], languages: Sequence[str], encoding: str
) -> dict[str, list[Sentences]]:
    """Return the files name.language or name.language.gz of each part that has a name, in the order
    of the languages.

    Args:
      root: folder of the files; None for multi30k/task1 of $GENJAX_DATA, or generated stand-ins if
        that is not set.
      names: name of the files of each part.
      languages: suffixes of the files.
      encoding: encoding of the files.

    Raises:
      UserError: a file is missing.
    """
    folder = Path(part_folder("multi30k/task1", root))
    return {
        part: [_side(folder, name, language, encoding) for language in languages]
        for part, name in names.items()
        if name is not None
    }


def _side(folder: Path, name: str, language: str, encoding: str) -> Sentences:
    plain = folder / f"{name}.{language}"
    path = plain if plain.exists() else plain.with_name(f"{plain.name}.gz")
    if not path.exists():
        raise UserError(f"there is no file {plain}, nor {path.name}")
    return Sentences(path, encoding)


def check_lines(texts: Sequence[Sentences], counts: Sequence[int]) -> None:
    """Refuse sides of different lengths.

    Raises:
      UserError: one side has more lines than the other.
    """
    if counts[0] != counts[1]:
        raise UserError(
            f"{texts[0].title} and {texts[1].title} must have the same number of lines, got "
            f"{counts[0]:,} and {counts[1]:,}"
        )


@dataclass(frozen=True)
class Pairs:
    """A split of sentence pairs.

    Attributes:
      source: tokens of the source sentences.
      target: tokens of the target sentences.
      codec: codec of both sides.
      rows: indices of the pairs in the split [N].
      source_length: tokens in a row of the source, S.
      length: number of predictions in a row of the target, T.
      texts: files of both sides, for comparing translations with the written sentences.
    """

    source: Corpus
    target: Corpus
    codec: PairCodec
    rows: np.ndarray
    source_length: int
    length: int
    texts: tuple[Sentences, Sentences]

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Batch:
        found: dict[str, list[np.ndarray]] = {
            name: [] for name in ("source_tokens", "source_mask", "tokens", "loss_mask")
        }
        for number in np.asarray(indices).tolist():
            source, target = self.pair(number)
            tokens, real = _pad_tokens(source, self.source_length, self.codec.source.pad)
            found["source_tokens"].append(tokens)
            found["source_mask"].append(real)
            tokens, real = _pad_tokens(target, self.length + 1, self.codec.pad)
            real[0] = 0  # the start token is given
            found["tokens"].append(tokens)
            found["loss_mask"].append(real)
        return {name: np.stack(rows) for name, rows in found.items()}

    @property
    def sizes(self) -> np.ndarray:
        """Number of tokens on each side of each pair in a row [N, 2] int64."""
        source, target = (np.diff(side.starts)[self.rows] for side in (self.source, self.target))
        source = np.minimum(source + (self.codec.source.start is not None), self.source_length)
        return np.stack([source, np.minimum(target + 1, self.length + 1)], 1)

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the source tokens [M] and target tokens [N] of a pair, with start and end."""
        row = int(self.rows[number])
        source = _add_boundaries(self.codec.source, self.source.document(row), ended=True)
        target = _add_boundaries(self.codec.target, self.target.document(row), ended=True)
        return _truncate(source, self.source_length, self.codec.source), _truncate(
            target, self.length + 1, self.codec.target
        )

    def references(self) -> list[str]:
        """Return the target sentences of the split, in order, as written."""
        sentences = self.texts[1].read_sentences()
        return [sentences[row] for row in self.rows.tolist()]


def _add_boundaries(codec: Component, ids: np.ndarray, ended: bool = False) -> np.ndarray:
    """Add the codec's start and end, if it has them, to the tokens of a sentence."""
    before = [] if codec.start is None else [codec.start]
    after = [] if ended or codec.end is None else [codec.end]
    return np.concatenate([before, ids, after]).astype(np.int32)


def _truncate(ids: np.ndarray, length: int, codec: Component) -> np.ndarray:
    """Cut tokens to at most ``length``, keeping the end if there is one."""
    if len(ids) <= length:
        return ids
    return ids[:length] if codec.end is None else np.append(ids[: length - 1], np.int32(codec.end))


def _pad_tokens(ids: np.ndarray, length: int, pad: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Pad tokens to [length] int32; the second result, float32, is 1 for tokens and 0 for
    padding.
    """
    tokens = np.full(length, pad or 0, np.int32)
    tokens[: len(ids)] = ids
    return tokens, (np.arange(length) < len(ids)).astype(np.float32)
