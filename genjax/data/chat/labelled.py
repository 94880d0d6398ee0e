"""Single answers with a label, good or bad: records in TRL's unpaired form, and rows of tokens.

Batches hold

  tokens [B, T] int32: the prompt as rendered by a chat template, the answer, and the codec's end.
  loss_mask [B, T] float32: 1 for the tokens of the answer and its end; in an answer of several
    turns, only for the assistant's turns.
  label [B] int32: 1 for a desirable answer, 0 for an undesirable one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from genjax.checks import Component
from genjax.data.chat.preferences import Long, Side, encode_answer, fit_answer, pad_rows
from genjax.data.chat.records import (
    ANSWERED,
    ASKED,
    FORMS,
    pick,
    read_messages,
    read_question,
    read_said,
    read_system,
    strip_after,
    with_system,
)
from genjax.data.chat.template import ChatCodec, Template, Turn, whole_text
from genjax.data.dataset import Batch, Dataset, Spec
from genjax.data.images.decode import note
from genjax.data.splits import digest
from genjax.data.storage import cache_folder
from genjax.data.text.corpus import fit_codec
from genjax.data.text.documents import StoredTexts
from genjax.data.text.json_records import pass_over
from genjax.errors import UserError

CLASSES = ("undesirable", "desirable")
LABELS = {"true": True, "1": True, "false": False, "0": False}  # as texts, in tables
LEAST = 0.5  # smallest fraction of the answers that must be left


class LabelledAnswer(NamedTuple):
    """A prompt and an answer as turns, whether it is ``good``, and ``where`` the record is."""

    prompt: tuple[Turn, ...]
    answer: tuple[Turn, ...]
    good: bool
    where: str


def parse_labelled(
    records: Iterable[tuple[str, Any]],
    title: str,
    template: Template,
    joint: str,
    left: Counter[str],
) -> list[LabelledAnswer]:
    """Return the answers of records, each with where it is; ``title`` names all of them.

    A record has a ``label``, true or false, and a question with its answer: ``prompt`` and
    ``completion`` as in TRL, texts or messages, or the other names of ``Instructions``.

    Raises:
      UserError: there are none, all have one label, or a record lacks a field; the record is named.
    """
    found = [parse_answer(record, where, template, joint, left) for where, record in records]
    if not found:
        raise UserError(f"{title} holds no records", title)
    if len({one.good for one in found}) == 1:
        raise UserError(
            f"label must be true for some records of {title} and false for others, got "
            f"{str(found[0].good).lower()} for all {len(found):,}",
            "label",
        )
    return found


def parse_answer(
    record: Any, where: str, template: Template, joint: str, left: Counter[str]
) -> LabelledAnswer:
    """Return the answer of a record.

    Raises:
      UserError: the record has another form; the message names it.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where} must be a JSON object", where)
    good = _read_label(record, where)
    asked, answered = pick(record, ASKED), pick(record, ANSWERED)
    form = next((form for form in FORMS if record.get(form) is not None), None)
    if answered is None or (asked is None and form is None):
        there = ", ".join(map(str, record)) or "none"
        raise UserError(
            f"{where} must have a prompt and a completion beside its label, got {there}",
            "completion" if answered is None else "prompt",
        )
    role = template.assistant
    said = read_said(record, answered, where, role, template, left)
    if asked is not None:
        others = (answered, "label")
        prompt = read_question(record, asked, where, template, joint, left, others)
        said = strip_after(record[asked], said, template)
    else:
        assert form is not None
        system = read_system(record, where, left)
        pass_over(record, ("system", form, answered, "label"), "a record", left)
        turns = read_messages(record[form], form, where, template, left)
        prompt = with_system(system, turns, where)
    if not prompt:
        raise UserError(f"{where} has an empty prompt", "prompt")
    if not said or said[0].role != role:
        raise UserError(f"the {answered} of {where} must begin with an answer", answered)
    return LabelledAnswer(prompt, said, good, where)


def _read_label(record: dict[str, Any], where: str) -> bool:
    value = record.get("label")
    if isinstance(value, bool):
        return value
    read = LABELS.get(str(value).lower()) if isinstance(value, int | str) else None
    if read is None:
        got = "none" if value is None else repr(value)[:100]
        raise UserError(f"the label of {where} must be true or false, got {got}", "label")
    return read


@dataclass(frozen=True)
class LabelledRows:
    """A split of labelled answers.

    Attributes:
      answers: tokens of prompts and answers.
      good: labels of all answers, bool [P].
      rows: indices of the answers in the split, [N] int64.
      length: tokens of a row, T.
      pad: token that fills rows.
    """

    answers: Side
    good: np.ndarray
    rows: np.ndarray
    length: int
    pad: int

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Batch:
        numbers = self.rows[np.asarray(indices)]
        tokens, _ = pad_rows(
            [self.answers.get_row(number, self.length) for number in numbers],
            self.length,
            self.pad,
        )
        said, _ = pad_rows(
            [self.answers.answers(number, self.length) for number in numbers], self.length, 0
        )
        return {
            "tokens": tokens,
            "loss_mask": said.astype(np.float32),
            "label": self.good[numbers].astype(np.int32),
        }


def labelled_dataset(
    answers: Sequence[LabelledAnswer],
    parts: Mapping[str, np.ndarray],
    codec: Component,
    template: Template,
    length: int,
    long: Long,
    cache: str | None,
) -> Dataset:
    """Return the ``Dataset`` of labelled answers; a text codec without a vocabulary is fitted to
    "train".

    Args:
      answers: answers of all splits.
      parts: indices [N] of the answers of each split.
      codec: codec of the text.
      template: chat template.
      length: tokens of a row, prompt and answer together, T.
      long: what to do with answers that do not fit, see ``PreferenceRows``.
      cache: folder for a fitted codec; None for ~/.cache/genjax.

    Raises:
      UserError: an answer is empty, most would be dropped, or a split has none left.
    """
    texts = {
        name: StoredTexts("the answers", tuple(_render(answers[n], template) for n in numbers))
        for name, numbers in parts.items()
    }
    chat = ChatCodec(fit_codec(codec, texts["train"], cache_folder(cache)), template)
    encoded = [encode_answer(chat, one.prompt, one.answer, one.where) for one in answers]
    sizes = np.array([len(one.tokens) for one, _ in encoded])
    kept = _keep(sizes, length, long)
    side = Side.of([fit_answer(chat, one, prompt, length) for one, prompt in encoded])
    good = np.array([one.good for one in answers])
    splits = {
        name: LabelledRows(side, good, numbers[kept[numbers]], length, chat.pad or 0)
        for name, numbers in parts.items()
    }
    for name, split in splits.items():
        if not len(split):
            raise UserError(
                f"none of the {len(parts[name]):,} answers of {name} is left: hold out another "
                "part, or increase length",
                "length",
            )
    trained = good[splits["train"].rows]
    counted = f"{int(trained.sum()):,} desirable answers and {int((~trained).sum()):,} undesirable"
    spec = Spec(
        entry="tokens",
        shape=(length,),
        mean=np.zeros(length, np.float32),
        vocabulary=chat.vocabulary,
        classes=len(CLASSES),
        class_names=CLASSES,
    )
    contents = (f"{name} {part.fingerprint}" for name, part in sorted(texts.items()))
    marks = (*contents, repr((length, long)), repr(chat), good.tobytes().hex())
    fingerprint = digest(part.encode("utf-8", "surrogatepass") for part in marks)
    return Dataset(splits, spec, chat, fingerprint, remarks=(counted,))


def _render(one: LabelledAnswer, template: Template) -> tuple[str, str]:
    return one.where, whole_text(template, (*one.prompt, *one.answer), one.where)


def _keep(sizes: np.ndarray, length: int, long: Long) -> np.ndarray:
    """Return which answers are kept, bool [P], and print how many do not fit into a row."""
    over = sizes > length
    if over.any():
        done = "dropped" if long == "drop" else "cut"
        note(f"{int(over.sum()):,} of {len(over):,} answers exceed {length} tokens and are {done}")
    kept = ~over if long == "drop" else np.ones(len(sizes), bool)
    if kept.mean() < LEAST:
        need = int(np.quantile(sizes, 0.95, method="higher"))
        raise UserError(
            f"{int(over.sum()):,} of {len(over):,} answers are longer than {length} tokens and "
            f'would be dropped: length={need:,} keeps 95% of them whole, or long="cut" cuts them',
            "length",
        )
    return kept
