"""Subword tokens by Hugging Face's ``tokenizers``; the codec holds the whole tokenizer as JSON."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genjax import checks
from genjax.data.dataset import CONTINUED, CONTINUES, SPECIAL
from genjax.data.text import aliases, tokenizer_check
from genjax.data.text.codecs import (
    REPLACEMENT,
    OnUnknown,
    Unencodable,
    WritesText,
    check_ids,
    require_vocabulary,
)
from genjax.data.text.words import is_word_character
from genjax.errors import UserError, unknown_name
from genjax.serial import trust
from genjax.serial.json_text import HALF

SubwordModel = Literal["bpe", "wordpiece", "unigram"]
# how tokenizers write space, new line, tab, return; and Unigram its space
SPACES = (
    "Ġ",
    "Ċ",
    "ĉ",
    "č",
    "▁",
)
NAMES = ("start_token", "end_token", "pad_token", "mask_token")  # fields that name special tokens
UNKNOWN_WORD = "[UNK]"  # for WordPiece; the other two are made of bytes and can spell every text


@checks.frozen
class Subwords(WritesText):
    """Encodes text as subwords, learned from the training text or read from a ``tokenizer.json``.

    BPE (https://arxiv.org/abs/1508.07909) and Unigram (https://arxiv.org/abs/1804.10959) are
    trained on bytes, like GPT-2's tokenizer, and decode to exactly the same text. WordPiece splits
    at spaces and punctuation, like BERT's tokenizer: it decodes to words with single spaces
    between, and has a token for what it cannot spell. The name of a special token in a text is
    encoded as ordinary letters.

    Training BPE is deterministic; the library's training of the other two is only nearly so. The
    trained tokenizer is cached, so that a run can be resumed; to resume elsewhere, copy the cache
    or give the tokenizer as ``file``.

    Attributes:
      model: "bpe", "wordpiece" or "unigram"; unused with a ``file``.
      size: the vocabulary size to train, including special tokens; a short text may give fewer.
      special: the names of special tokens, which get the first ids; unused with a ``file``.
      start_token: the special token before a document that has its own row; None for none.
      end_token: the special token after every document; None for none.
      pad_token: the special token that fills rows; None for id 0.
      mask_token: the special token that replaces a token to be predicted; None for none.
      unknown: what to do with text that the vocabulary cannot spell: "refuse" it, or use the
        tokenizer's unknown "token".
      file: a Hugging Face tokenizer.json to use instead of training; it is read once, when a source
        is opened.
      tokenizer: the JSON of a fitted tokenizer.
      rows: the vocabulary size of a model, if larger than the tokenizer's; the extra tokens
        represent no text.
    """

    model: SubwordModel = "bpe"
    size: int = 4096
    special: tuple[str, ...] = ("<|endoftext|>",)
    start_token: str | None = None
    end_token: str | None = "<|endoftext|>"
    pad_token: str | None = None
    mask_token: str | None = None
    unknown: OnUnknown = "refuse"
    file: str | None = None
    tokenizer: str = ""
    # The repr of a fitted codec is part of the key of the token cache.
    rows: int | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "rows", "size")
        if self.file is None and not self.tokenizer:
            for name in NAMES:
                if getattr(self, name) is not None and getattr(self, name) not in self.special:
                    raise unknown_name(
                        f"special token for {name}", getattr(self, name), self.special
                    )
            least = len(self.special) + (1 if self.model == "wordpiece" else 256)
            if self.size <= least:
                raise UserError(f"size must be > {least} for {self.model}, got {self.size}", "size")

    @property
    def is_fitted(self) -> bool:
        return bool(self.tokenizer)

    @property
    def vocabulary(self) -> int:
        # There may be gaps between ids.
        tokens = 1 + max(self._loaded.get_vocab(with_added_tokens=True).values())
        return max(tokens, self.rows or 0)

    @property
    def start(self) -> int | None:
        return self._find_id(self.start_token)

    @property
    def end(self) -> int | None:
        return self._find_id(self.end_token)

    @property
    def pad(self) -> int | None:
        return self._find_id(self.pad_token)

    @property
    def mask(self) -> int | None:
        return self._find_id(self.mask_token)

    @property
    def token_bytes(self) -> np.ndarray | None:
        """Bytes of each token; None unless each letter of the tokens is one byte."""
        decoder = json.loads(self.tokenizer).get("decoder") or {}
        if decoder.get("type") != "ByteLevel" or self._unknown_id is not None:
            return None
        lengths = np.zeros(self.vocabulary, np.int32)
        added = self._loaded.get_added_tokens_decoder()
        for token, i in self._loaded.get_vocab(with_added_tokens=True).items():
            lengths[i] = 0 if i in added and added[i].special else len(token)
        return lengths

    @property
    def unknown_token(self) -> int | None:
        return self._unknown_id if self.unknown == "token" else None

    @property
    def one_spelling(self) -> bool:
        return False

    @property
    def token_kinds(self) -> np.ndarray:
        """Flags of each token [V] uint8, judged by its letters.

        In WordPiece "##" continues a word; in the other models a letter without a space before it
        does.
        """
        # An id without a token is not text either.
        kinds = np.full(self.vocabulary, SPECIAL, np.uint8)
        wordpiece = json.loads(self.tokenizer)["model"].get("type") == "WordPiece"
        added = self._loaded.get_added_tokens_decoder()
        for token, i in self._loaded.get_vocab(with_added_tokens=True).items():
            if i not in added or not added[i].special:
                goes_on = (
                    token.startswith("##")
                    if wordpiece
                    else token[:1] not in SPACES and is_word_character(token[0])
                )
                kinds[i] = (
                    goes_on * CONTINUES
                    + (token[-1] not in SPACES and is_word_character(token[-1])) * CONTINUED
                )
        return kinds

    def fit(self, texts: Iterable[str]) -> Subwords:
        """Read ``file``, or train on ``texts``, which are streamed.

        Raises:
          UserError: the file is not a tokenizer, or lacks a special token.
        """
        if self.file is None:
            text = _train_tokenizer(self.model, self.size, self.special, texts).to_str()
            trust.allow_here([tokenizer_check.entry_of(text)])
        else:
            path = Path(self.file).expanduser()
            try:
                if not path.is_file():
                    raise UserError(
                        f"{path} must be a tokenizer.json, but is not a file", str(path)
                    )
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{path} cannot be read as a tokenizer: {error}") from None
        fitted = dataclasses.replace(self, tokenizer=text)
        for name in NAMES:
            fitted._find_id(getattr(self, name))
        return fitted

    def encode(self, text: str) -> np.ndarray:
        text = HALF.sub(REPLACEMENT, text)
        ids, places = self.spell(self._loaded, text)
        special = aliases.special(self.tokenizer)
        forged = [(int(ids[n]), places[n]) for n in np.flatnonzero(np.isin(ids, special))]
        lost = aliases.unknown(self.tokenizer)
        if all(i == lost and text[a:b] != aliases.name(self.tokenizer, i) for i, (a, b) in forged):
            return ids
        # The model itself would spell it like this.
        guard, _ = aliases.guarded(self.tokenizer, special, text)
        raw, _ = self.spell(guard.tokenizer, text, guard.unknown)
        return np.array([guard.ids.get(i, i) for i in raw.tolist()], np.int32)

    def encode_all(self, texts: list[str]) -> list[np.ndarray]:
        """Return what ``encode`` returns for each text; the library uses all cores."""
        plain = [HALF.sub(REPLACEMENT, text) for text in texts]
        if self._drops_unknown:
            return [self.encode(text) for text in plain]
        try:
            found = self._loaded.encode_batch_fast(plain, add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # ``encode`` says which text and why
            return [self.encode(text) for text in plain]
        rows = [np.array(encoding.ids, np.int32) for encoding in found]
        special, unknown = aliases.special(self.tokenizer), self._unknown_id
        doubtful = np.unique(np.array([*special, *([] if unknown is None else [unknown])]))
        return [
            self.encode(text) if np.isin(row, doubtful).any() else row
            for text, row in zip(plain, rows, strict=True)
        ]

    def spell(
        self, tokenizer: Any, text: str, unknown_id: int | None = None
    ) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Return the ids [N] int32 of a text, and the span of characters of each token.

        Args:
          tokenizer: a tokenizer of ``tokenizers``: this codec's, or one with the same model.
          text: the text to encode.
          unknown_id: id of the unknown token there, if it differs.

        Raises:
          Unencodable: the vocabulary cannot spell the text.
        """
        text = HALF.sub(REPLACEMENT, text)  # the library does not accept halves of pairs
        try:
            encoding = tokenizer.encode(text, add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic, or what the vocabulary cannot spell
            raise UserError(f"the tokenizer cannot encode the text: {error}") from None
        ids = np.array(encoding.ids, np.int32)
        number = self._unknown_id if unknown_id is None else unknown_id
        if self.unknown == "refuse" and number is not None and (ids == number).any():
            first, last = encoding.offsets[int((ids == number).argmax())]
            raise Unencodable(
                f"{text[first:last]!r}",
                first,
                self.vocabulary,
                "unknown='token' encodes it as unknown",
            )
        if self._drops_unknown:
            covered = np.array([character.isspace() for character in text], bool)
            for first, last in encoding.offsets:
                covered[first:last] = True
            if not covered.all():
                first = int(covered.argmin())
                raise Unencodable(
                    f"{text[first]!r}",
                    first,
                    self.vocabulary,
                    "the tokenizer has no token for it",
                )
        return ids, encoding.offsets

    def decode(self, ids: np.ndarray) -> str:
        """Return the text without the special tokens."""
        return self._loaded.decode(
            check_ids(ids, self.vocabulary).tolist(), skip_special_tokens=True
        )

    @functools.cached_property
    def _loaded(self) -> Any:
        from tokenizers import Tokenizer

        require_vocabulary(self)
        tokenizer_check.check(self.tokenizer, self.file or "the tokenizer")
        try:
            found = Tokenizer.from_str(self.tokenizer)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # The library raises plain Exception, and its panics are not even that.
            raise UserError(
                f"{self.file or 'the tokenizer'} is not a tokenizer.json: {error}", self.file
            ) from None
        found.no_truncation()
        found.no_padding()
        found.encode_special_tokens = True  # "<|endoftext|>" written in a document does not end it
        return found

    @functools.cached_property
    def _unknown_id(self) -> int | None:
        model = json.loads(self.tokenizer)["model"]
        if model.get("unk_id") is not None:  # Unigram's
            return int(model["unk_id"])
        name = model.get("unk_token")
        return None if name is None else self._loaded.token_to_id(name)

    @functools.cached_property
    def _drops_unknown(self) -> bool:
        """Whether the library silently drops what the vocabulary cannot spell, as character-level
        BPE does.
        """
        stored = json.loads(self.tokenizer)
        model, decoder = stored["model"], stored.get("decoder") or {}
        of_bytes = decoder.get("type") == "ByteLevel" or model.get("byte_fallback")
        return model.get("type") == "BPE" and self._unknown_id is None and not of_bytes

    def name(self, token: Any) -> str | None:
        """Return the name of a token; None if there is no such token."""
        known = (
            isinstance(token, int) and not isinstance(token, bool) and 0 <= token < self.vocabulary
        )
        found: str | None = self._loaded.id_to_token(token) if known else None
        return found

    def token(self, name: str) -> int | None:
        """Return the id of a token by its name; None if there is no such token."""
        found: int | None = self._loaded.token_to_id(name)
        return found

    def _find_id(self, name: str | None) -> int | None:
        if name is None:
            return None
        found = self._loaded.token_to_id(name)
        if found is None:
            raise UserError(
                f"the tokenizer has no token {name!r}; give the name of one of its tokens, or None"
            )
        return found


def _train_tokenizer(model: str, size: int, special: tuple[str, ...], texts: Iterable[str]) -> Any:
    """Train a tokenizer of ``tokenizers`` and return it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    common: dict[str, Any] = {"vocab_size": size, "show_progress": False}
    trainer: Any
    if model == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN_WORD))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(special_tokens=[*special, UNKNOWN_WORD], **common)
    else:
        tokenizer = Tokenizer(models.BPE() if model == "bpe" else models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        kind = trainers.BpeTrainer if model == "bpe" else trainers.UnigramTrainer
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = kind(special_tokens=list(special), initial_alphabet=alphabet, **common)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
