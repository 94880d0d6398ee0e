"""Pairs of sentences as conversations, for a model that translates without an encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.chat.rows import ChatLayout, LongChat, Record, chat_dataset
from genjax.data.chat.template import ChatTemplate, Turn
from genjax.data.dataset import Dataset
from genjax.data.sources.pairs import Sentences, check_lines, sentence_files
from genjax.data.tally import Tally
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError

PLACE = "{source}"  # where a prompt takes its sentence


@checks.frozen
class TextPairs:
    """Sentences that are requested in another language, and their translations as the answers to
    that.

    The files are those of ``SentencePairs``, which has an encoder read the source.

    Attributes:
      root: the folder; None takes multi30k/task1 of $GENJAX_DATA;
        where that is not set, generated stand-ins are read.
      source: the language that is read, as the files end.
      target: the language that is predicted.
      train: the name of the files to train on.
      validation: the name of those to watch, None for none.
      test: the name of those to judge on, None for none.
      prompt: what is asked, with {source} instead of the sentence.
      template: what is around what each side says; None takes that of the run or model that
        training starts with, or Alpaca's where it has none.
      codec: without a vocabulary, it is fitted to the training text; it needs an end.
      length: predictions in a row, T, prompt and answer together.
      packed: train on rows of several pairs, distinguished; held-out ones have a row each.
      long: "drop" pairs of more than T + 1 tokens, or "cut" the end of the translation; a source
        that leaves no room for one is dropped, or refused with "cut".
      encoding: of the files.
      cache: the folder where the codec is kept; None takes ~/.cache/genjax
        ($XDG_CACHE_HOME/genjax).
    """

    root: str | None = None
    source: str = "de"
    target: str = "en"
    train: str = "train"
    validation: str | None = "val"
    test: str | None = "test_2016_flickr"
    prompt: str = "Translate to English: {source}"
    template: ChatTemplate | JinjaTemplate | None = None
    codec: Component = Subwords(start_token="<|endoftext|>")
    length: int = 128
    packed: bool = False
    long: LongChat = "drop"
    encoding: str = "utf-8"
    cache: str | None = None

    def __post_init__(self) -> None:
        if PLACE not in self.prompt:
            raise UserError(
                f"the prompt of a translation says where its sentence stands, by {PLACE}: "
                f"{self.prompt!r}"
            )
        ChatLayout(self.length, self.packed, self.long)  # refuses what cannot be

    def open(self) -> Dataset:
        """Batches as of ``chat_dataset``.

        Raises:
          UserError: a file is missing, the two sides differ in length, or a sentence has no
            translation.
        """
        template = self.template or ChatTemplate()
        names = {"train": self.train, "validation": self.validation, "test": self.test}
        sides = sentence_files(self.root, names, (self.source, self.target), self.encoding)
        parts = {part: self._read_records(texts) for part, texts in sides.items()}
        left = Tally()
        for text in (text for texts in sides.values() for text in texts):
            left.add(str(text.path), {"empty lines read as empty sentences": text.empty})
        data = chat_dataset(parts, self.codec, template, self._layout, self.cache)
        return dataclasses.replace(
            data, remarks=(*left.remarks(str(sides["train"][0].path.parent)), *data.remarks)
        )

    @property
    def _layout(self) -> ChatLayout:
        return ChatLayout(self.length, self.packed, self.long)

    def _read_records(self, texts: Sequence[Sentences]) -> list[Record]:
        template = self.template or ChatTemplate()
        sources, targets = (text.read_sentences() for text in texts)
        check_lines(texts, (len(sources), len(targets)))
        user, assistant = template.user, template.assistant
        return [
            Record(
                f"line {number:,} of {texts[1].path.name}",
                (Turn(user, self.prompt.replace(PLACE, source)), Turn(assistant, target)),
            )
            for number, (source, target) in enumerate(zip(sources, targets, strict=True), 1)
        ]
