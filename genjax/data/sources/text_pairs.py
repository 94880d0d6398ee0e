"""Sentence pairs as conversations, for a model that translates without an encoder."""

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

PLACE = "{source}"  # stands for the sentence in a prompt


@checks.frozen
class TextPairs:
    """Turns sentence pairs into conversations: a request to translate, and the translation.

    The files are those of ``SentencePairs``, in which an encoder reads the source.

    Attributes:
      root: folder of the files; None for multi30k/task1 of $GENJAX_DATA, or generated stand-ins if
        that is not set.
      source: language that is read, the suffix of its files.
      target: language that is predicted.
      train: name of the training files.
      validation: name of the validation files; None for none.
      test: name of the test files; None for none.
      prompt: request, with {source} in place of the sentence.
      template: chat template; None for that of the run or model that training starts from, or
        Alpaca's if it has none.
      codec: codec of the text, with an end; without a vocabulary it is fitted to the training text.
      length: number of predictions in a row, T, prompt and answer together.
      packed: whether training rows hold several pairs, told apart by ``segment_ids``; held-out
        pairs always have their own rows.
      long: what to do with pairs of more than T + 1 tokens: "drop" them, or "cut" the end of the
        translation; a source that leaves no room for one is dropped, or refused with "cut".
      encoding: encoding of the files.
      cache: folder for the codec; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
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
            raise UserError(f"prompt must contain {PLACE}, got {self.prompt!r}", "prompt")
        ChatLayout(self.length, self.packed, self.long)  # checks these options

    def open(self) -> Dataset:
        """Open the data set; batches are those of ``chat_dataset``.

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
