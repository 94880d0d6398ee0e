"""Instructions with answers, and whole conversations, for supervised fine-tuning."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.chat.records import parse_turns
from genjax.data.chat.rows import ChatLayout, LongChat, Record, chat_dataset
from genjax.data.chat.template import ChatTemplate
from genjax.data.dataset import Dataset
from genjax.data.stand_in import part_folder
from genjax.data.tally import Tally
from genjax.data.text.record_files import read_records
from genjax.data.text.splits import ByDocuments
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError


@checks.frozen
class Instructions:
    """Reads instructions or conversations from records in JSON, JSONL, CSV, TSV (plain or ".gz") or
    Parquet.

    A record is a question with its answer, or a conversation that ends with the assistant. The
    former is Alpaca's ``instruction`` and ``output``, perhaps with an ``input`` (Taori et al.,
    2023); ``prompt`` and ``completion`` as in TRL, texts or messages; ``instruction``, ``context``
    and ``response``; or ``question`` and ``answer``. The latter is ``messages`` with ``role`` and
    ``content``, ``conversations`` with ``from`` (human, gpt, system) and ``value`` as in ShareGPT,
    or a ``text`` of "Human:" and "Assistant:". A ``system`` text is optional.

    Attributes:
      root: a file, its folder, or a folder of Parquet shards; None for the folder instruct of
        $GENJAX_DATA, or generated stand-ins if that is not set.
      name: name of the file in its folder; not needed if the folder has only one.
      template: chat template; None for that of the run or model that training starts from, or
        Alpaca's if it has none.
      joint: text between an instruction and its input.
      codec: codec of the text, with an end; without a vocabulary it is fitted to the training text.
      length: number of predictions in a row, T.
      packed: whether training rows hold several conversations, told apart by ``segment_ids``;
        held-out conversations always have their own rows.
      long: what to do with conversations of more than T + 1 tokens: "drop" them, or "cut" the
        beginning of the prompt down to half of the row, and then the end. A set that would lose
        most of its conversations is refused.
      split: how records are split.
      cache: folder for the codec; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
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
        ChatLayout(self.length, self.packed, self.long)  # checks these options

    def open(self) -> Dataset:
        """Open the data set; batches are those of ``chat_dataset``.

        Raises:
          UserError: the file is missing or damaged, or a record is not a conversation that ends
            with an answer; the message names the record.
        """
        folder = Path(part_folder("instruct", self.root))
        named = folder / self.name
        given = named.is_file() or self.name != Instructions.name
        path = named if folder.is_dir() and given else folder
        left = Counter[str]()
        return self.open_records(read_records(path, left), str(path), left)

    def open_records(
        self,
        found: Iterable[tuple[str, Any]],
        title: str,
        left: Counter[str],
        groups: Sequence[str] | None = None,
    ) -> Dataset:
        """Batches of records that were read already, see ``open``.

        Args:
          found: where each record is, and the record.
          title: what a person calls all of them.
          left: counts what was changed or skipped while they were read.
          groups: of each record; those of a group are of one split. Each is alone by default.
        """
        template = self.template or ChatTemplate()
        tally = Tally()
        records = [
            Record(where, parse_turns(one, where, template, self.joint, left))
            for where, one in found
        ]
        if not records:
            raise UserError(f"{title} holds no records", title)
        tally.add(title, left)
        numbers: dict[str, int] = {}
        named = [str(number) for number in range(len(records))] if groups is None else groups
        which = np.array([numbers.setdefault(name, len(numbers)) for name in named])
        held_out = {"validation": self.split.validation, "test": self.split.test}
        names = ["train", *(name for name, share in held_out.items() if share)]
        chosen = {
            name: np.flatnonzero(self.split.choose_documents(len(numbers), name)[which]).tolist()
            for name in names
        }
        parts = {name: [records[number] for number in chosen[name]] for name in names}
        data = chat_dataset(parts, self.codec, template, self._layout, self.cache)
        return dataclasses.replace(data, remarks=(*tally.remarks(Path(title).name), *data.remarks))

    @property
    def _layout(self) -> ChatLayout:
        return ChatLayout(self.length, self.packed, self.long)
