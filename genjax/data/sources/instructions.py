"""Instructions and the answers to them, and whole conversations, for supervised fine-tuning."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.chat.records import parse_turns
from genjax.data.chat.rows import ChatLayout, LongChat, Record, chat_dataset
from genjax.data.chat.template import ChatTemplate
from genjax.data.dataset import Dataset
from genjax.data.stand_in import part_folder
from genjax.data.tally import Tally
from genjax.data.text.json_records import json_records
from genjax.data.text.splits import ByDocuments
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError


@checks.frozen
class Instructions:
    """A JSON list or JSONL of records, plain or (".gz") compressed, to be answered as the assistant
    does.

    A record is either that of Alpaca (Taori et al., 2023), ``instruction`` and ``output``, perhaps
    an ``input`` and a ``system`` text, or a conversation of which the assistant has the last word:
    ``messages`` of a ``role`` and a ``content`` each, or as that of ShareGPT ``conversations`` of
    ``from`` (human, gpt, system) and ``value``, beside which a ``system`` text may stand, too.

    Attributes:
      root: the file, or a folder with it; None takes the folder instruct of $GENJAX_DATA;
        where that is not set, generated stand-ins are read.
      name: of the file in its folder.
      template: what is around what each side says; None takes that of the run or model that
        training begins with, or Alpaca's where it has none.
      joint: what is between an instruction and its input.
      codec: without a vocabulary, it is fitted to the training text; it needs an end.
      length: predictions in a row, T.
      packed: train on rows of several conversations, distinguished; held-out ones have a row each.
      long: "drop" conversations of more than T + 1 tokens, or "cut" the end of their answer; a
        prompt that leaves no room for one is dropped, or refused with "cut".
      split: which records are held out.
      cache: the folder where the codec is kept; None takes ~/.cache/genjax
        ($XDG_CACHE_HOME/genjax).
    """

    root: str | None = None
    name: str = "instruction_data_1100.json"
    template: ChatTemplate | JinjaTemplate | None = None
    joint: str = "\n\n### Input:\n"
    codec: Component = Subwords(start_token="<|endoftext|>")
    length: int = 256
    packed: bool = False
    long: LongChat = "drop"
    split: ByDocuments = ByDocuments()
    cache: str | None = None

    def __post_init__(self) -> None:
        ChatLayout(self.length, self.packed, self.long)  # refuses what cannot be

    def open(self) -> Dataset:
        """Batches as of ``chat_dataset``.

        Raises:
          UserError: the file is missing or damaged, or a record is not a conversation that ends
            with an answer; the record is named.
        """
        template = self.template or ChatTemplate()
        folder = Path(part_folder("instruct", self.root))
        path = folder / self.name if folder.is_dir() else folder
        tally, left = Tally(), Counter[str]()
        found = json_records(path, left=left)
        records = [
            Record(where, parse_turns(one, where, template, self.joint, left))
            for where, one in found
        ]
        if not records:
            raise UserError(f"{path} holds no records", str(path))
        tally.add(str(path), left)
        held_out = {"validation": self.split.validation, "test": self.split.test}
        names = ["train", *(name for name, share in held_out.items() if share)]
        chosen = {
            name: self.split.choose_documents(len(records), name).nonzero()[0].tolist()
            for name in names
        }
        parts = {name: [records[number] for number in numbers] for name, numbers in chosen.items()}
        data = chat_dataset(parts, self.codec, template, self._layout, self.cache)
        return dataclasses.replace(data, remarks=(*tally.remarks(path.name), *data.remarks))

    @property
    def _layout(self) -> ChatLayout:
        return ChatLayout(self.length, self.packed, self.long)
