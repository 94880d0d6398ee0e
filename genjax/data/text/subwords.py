"""Subword tokens by Hugging Face's ``tokenizers``; the whole tokenizer is kept in the codec as
its JSON.
"""

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
SPACES = (
    "Ġ",
    "Ċ",
    "ĉ",
    "č",
    "▁",
)  # how tokenizers write space, new line, tab, return; and Unigram its space
NAMES = ("start_token", "end_token", "pad_token", "mask_token")  # fields that name special tokens
UNKNOWN_WORD = "[UNK]"  # WordPiece's, as the other two are made of bytes and know every text


@checks.frozen
class Subwords(WritesText):
    """Pieces of words, learned from the training text or taken from a ``tokenizer.json``.

    BPE (https://arxiv.org/abs/1508.07909) and Unigram (https://arxiv.org/abs/1804.10959) are
    trained on bytes, as GPT-2's is: they give any text back as it was. WordPiece splits at spaces
    and punctuation, as BERT's does: it gives words back, with one space between, and has a token
    for what it cannot spell. A text that holds the name of a special token is encoded as the
    letters of that name.

    The library trains BPE to the same vocabulary each time, the other two only nearly so. What was
    trained is cached, so that a run continues its own; to continue elsewhere, take the cache along
    or name the tokenizer as ``file``.

    Attributes:
      model: "bpe", "wordpiece" or "unigram"; unused with a ``file``.
      size: the vocabulary to train, special tokens included; fewer where the text gives no more.
      special: the names of special tokens, which get the first ids; unused with a ``file``.
      start_token: the special token before a document that has a row for itself, None for none.
      end_token: the special token after every document, None for none.
      pad_token: the special token that fills rows up, None for id 0.
      mask_token: the special token that represents one to be found out, None for none.
      unknown: "refuse" what the vocabulary cannot spell, or take the tokenizer's own "token" for
        that.
      file: a tokenizer.json of Hugging Face's to take instead of training; read once, when a source
        is opened.
      tokenizer: the JSON of a tokenizer that is trained or read already.
      rows: tokens that a model was made for, where they are more than the tokenizer's; those
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
    rows: int | None = dataclasses.field(
        default=None, repr=False
    )  # the text of a fitted codec names its tokens' cache

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
                raise UserError(
                    f"size is {self.size}; a {self.model} vocabulary needs more than {least}"
                )

    @property
    def is_fitted(self) -> bool:
        return bool(self.tokenizer)

    @property
    def vocabulary(self) -> int:
        tokens = 1 + max(
            self._loaded.get_vocab(with_added_tokens=True).values()
        )  # ids may leave gaps
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
        """Of a tokenizer of bytes alone: each letter of its tokens is one byte."""
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
        """By the letters of tokens: "##" continues a word in WordPiece, elsewhere a letter
        that no space leads.
        """
        kinds = np.full(
            self.vocabulary, SPECIAL, np.uint8
        )  # an id without a token is not text, either
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
        """Reads ``file``, or trains on ``texts``, which stream through.

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
        guard, _ = aliases.guarded(
            self.tokenizer, special, text
        )  # the model itself would spell it so
        raw, _ = self.spell(guard.tokenizer, text, guard.unknown)
        return np.array([guard.ids.get(i, i) for i in raw.tolist()], np.int32)

    def spell(
        self, tokenizer: Any, text: str, unknown_id: int | None = None
    ) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """The ids [N] int32 of a text, and of each the characters that it is of.

        Args:
          tokenizer: of ``tokenizers``; this codec's, or one of the same model.
          text: all of which is in the tokens.
          unknown_id: what represents the unknown there, where it differs.

        Raises:
          Unencodable: the vocabulary cannot spell the text.
        """
        text = HALF.sub(REPLACEMENT, text)  # which the library does not take
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
                "unknown='token' takes one for such",
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
                    "the tokenizer has no token for such",
                )
        return ids, encoding.offsets

    def decode(self, ids: np.ndarray) -> str:
        """The text of all but the special tokens."""
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
        except (
            BaseException
        ) as error:  # the library raises Exception itself, and panics are not even that
            raise UserError(
                f"{self.file or 'the tokenizer'} is not a tokenizer.json: {error}", self.file
            ) from None
        found.no_truncation()
        found.no_padding()
        found.encode_special_tokens = (
            True  # a document that says "<|endoftext|>" does not end there
        )
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
        """Whether the library leaves out, without a word, what the vocabulary cannot spell:
        BPE of letters does.
        """
        stored = json.loads(self.tokenizer)
        model, decoder = stored["model"], stored.get("decoder") or {}
        of_bytes = decoder.get("type") == "ByteLevel" or model.get("byte_fallback")
        return model.get("type") == "BPE" and self._unknown_id is None and not of_bytes

    def name(self, token: Any) -> str | None:
        """The name of a token, None if there is no such."""
        known = (
            isinstance(token, int) and not isinstance(token, bool) and 0 <= token < self.vocabulary
        )
        found: str | None = self._loaded.id_to_token(token) if known else None
        return found

    def token(self, name: str) -> int | None:
        """The token of that name, None if there is none."""
        found: int | None = self._loaded.token_to_id(name)
        return found

    def _find_id(self, name: str | None) -> int | None:
        if name is None:
            return None
        found = self._loaded.token_to_id(name)
        if found is None:
            raise UserError(f"the tokenizer has no token {name!r}; name its own, or None")
        return found


def _train_tokenizer(model: str, size: int, special: tuple[str, ...], texts: Iterable[str]) -> Any:
    """A tokenizer of ``tokenizers``, trained."""
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
