"""The generated responses of ``RulePreferences`` one at a time, to train a language model before it
learns preferences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.chat.pairs import SIDES
from genjax.data.chat.rows import ChatLayout, Record, chat_dataset
from genjax.data.chat.template import ChatTemplate, Turn, whole_text
from genjax.data.dataset import Dataset
from genjax.data.sources.preferences import RulePreferences, rule_reward
from genjax.data.text.codecs import Words
from genjax.data.text.dataset import text_dataset
from genjax.data.text.documents import StoredTexts
from genjax.data.text.layouts import Documents

Which = Literal["all", "chosen"]


@checks.frozen
class RuleResponses:
    """Generates the prompts and responses of ``RulePreferences(size, test_size, seed)``.

    A prompt asks how a place was; a response praises and criticises things there.

    Attributes:
      size: number of training pairs.
      test_size: number of test pairs.
      seed: seed of the pairs.
      which: "all" responses, whose mean reward is 0, or only the "chosen" ones.
      prompted: whether prompts are given and responses are learned; if False, whole texts are
        learned.
      template: chat template; None for that of the run or model that training starts from, or
        Alpaca's if it has none.
      codec: codec of the text; without a vocabulary it is fitted to the training texts.
      length: number of predictions in a row, T; longer texts are dropped.
      cache: folder for a fitted codec; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
    """

    size: int = 4_000
    test_size: int = 1_000
    seed: int = 0
    which: Which = "all"
    prompted: bool = True
    template: ChatTemplate | JinjaTemplate | None = None
    codec: Component = Words()
    length: int = 64
    cache: str | None = None

    def __post_init__(self) -> None:
        RulePreferences(self.size, self.test_size, self.seed)  # checks these options
        checks.at_least(self, 1, "length")

    def open(self) -> Dataset:
        """Open the data set; batches are those of ``chat_dataset``, or of ``Documents`` if not
        prompted.
        """
        template = self.template or ChatTemplate()
        parts = {split: self.make_records(split) for split in ("train", "test")}
        if self.prompted:
            return chat_dataset(parts, self.codec, template, ChatLayout(self.length), self.cache)
        texts = {split: self._make_texts(records) for split, records in parts.items()}
        return text_dataset(texts, self.codec, Documents(self.length, long="drop"), self.cache)

    def make_records(self, split: str) -> list[Record]:
        """Return the conversations of a split in order: the chosen response of each pair, then the
        other.
        """
        template = self.template or ChatTemplate()
        sides = SIDES if self.which == "all" else SIDES[:1]
        asks, says = template.user, template.assistant
        return [
            Record(
                f"{pair.where}, {side}", (Turn(asks, pair.prompt), Turn(says, getattr(pair, side)))
            )
            for pair in RulePreferences(self.size, self.test_size, self.seed).make_examples(split)
            for side in sides
        ]

    def _make_texts(self, records: Sequence[Record]) -> StoredTexts:
        template = self.template or ChatTemplate()
        texts = ((where, whole_text(template, turns, where)) for where, turns in records)
        return StoredTexts("the generated responses", tuple(texts))


def positivity(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Return the ``rule_reward`` of each response: its positive words minus its negative ones."""
    return [float(rule_reward(response)) for response in responses]
