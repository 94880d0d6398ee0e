"""Arithmetic problems as text, whose answers can be checked."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence

import numpy as np

from genjax import checks
from genjax.data.chat.rows import ChatLayout, Record, chat_dataset
from genjax.data.chat.template import ChatTemplate, Turn
from genjax.data.dataset import Dataset
from genjax.data.splits import DRAW, MOST_MADE
from genjax.data.stream import permutation, raw_bits
from genjax.data.text.codecs import Characters
from genjax.errors import UserError, unknown_name

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
PROBLEM = re.compile(r"([0-9]+)([-+*])([0-9]+)=")
MOST_DIGITS = 3  # all problems are enumerated, so there must not be too many
MOST_OFF = 9
CODEC = Characters("*+-0123456789=", delimiter=True)
TEMPLATE = ChatTemplate((("user", "", "="), ("assistant", "", "")))


@checks.frozen
class Arithmetic:
    """Generates problems such as "12+7=" with answers such as "19".

    Each operation is applied to all pairs of numbers of up to ``digits`` digits. The problems are
    shuffled; the first ones are for training and the last ones for test, so that no problem occurs
    twice. For given digits and operations, problem i of a split and its answer depend only on the
    seed and i. Test answers are always right.

    Attributes:
      digits: digits of the largest numbers, 1 to 3.
      operations: some of "+", "-" and "*".
      size: number of training problems.
      test_size: number of test problems.
      wrong: probability that a training answer is wrong, by 1 to 9 up or down, uniformly. A model
        that imitates such answers perfectly is right with probability 1 - wrong.
      seed: seed of the problems and of the wrong answers.
    """

    digits: int = 2
    operations: str = "+-"
    size: int = 16_000
    test_size: int = 1_000
    wrong: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.digits <= MOST_DIGITS:
            raise UserError(f"digits must be from 1 to {MOST_DIGITS}, got {self.digits}", "digits")
        if not self.operations or len(set(self.operations)) < len(self.operations):
            raise UserError(
                f"operations must be distinct and at least one, got {self.operations!r}",
                "operations",
            )
        for name in self.operations:
            if name not in OPERATIONS:
                raise unknown_name("operation", name, OPERATIONS)
        checks.between(self, 1, MOST_MADE, "size", "test_size")
        checks.at_least(self, 0, "seed")
        checks.between(self, 0, 1, "wrong")
        if self.size + self.test_size > self.problems:
            raise UserError(
                f"size + test_size must be <= {self.problems:,}, the number of problems with "
                f"{self.digits} digits and the operations {self.operations}, got {self.size:,} + "
                f"{self.test_size:,}",
                "size",
            )

    @property
    def problems(self) -> int:
        """Number of all problems."""
        return len(self.operations) * 100**self.digits

    def open(self) -> Dataset:
        """Open the data set; batches are those of ``chat_dataset``, one problem per row.

        The prompt is the problem with "=", the response its answer. The codec is a ``ChatCodec``,
        to which people give a problem without "=".
        """
        parts = {
            split: [
                Record(
                    f"problem {number:,} of {split}",
                    (Turn("user", problem), Turn("assistant", answer)),
                )
                for number, (problem, answer) in enumerate(self.make_examples(split), 1)
            ]
            for split in ("train", "test")
        }
        # Each row holds a problem and its answer.
        longest = (
            2 * self.digits + 2,
            max(2 * self.digits, self.digits + 2),
        )
        return chat_dataset(parts, CODEC, TEMPLATE, ChatLayout(sum(longest) + 1), None)

    def make_examples(self, split: str) -> list[tuple[str, str]]:
        """Return the problems of a split, without "=", and their answers, in order."""
        counts = {"train": self.size, "test": self.test_size}
        if split not in counts:
            raise unknown_name("split", split, counts)
        shuffled = permutation(self.seed, DRAW, self.problems)
        chosen = shuffled[: self.size] if split == "train" else shuffled[::-1][: self.test_size]
        words = raw_bits(self.seed, DRAW + 1, 2 * len(chosen)).reshape(-1, 2)
        uniform = (words >> np.uint64(11)) * 2.0**-53  # [N, 2] in [0, 1)
        offs = [off for off in range(-MOST_OFF, MOST_OFF + 1) if off]
        wrong = self.wrong if split == "train" else 0.0
        found = []
        for number, (chance, place) in zip(chosen.tolist(), uniform, strict=True):
            operation, pair = divmod(number, 100**self.digits)
            a, b = divmod(pair, 10**self.digits)
            sign = self.operations[operation]
            off = offs[int(place * len(offs))] if chance < wrong else 0
            found.append((f"{a}{sign}{b}", str(OPERATIONS[sign](a, b) + off)))
        return found


def correct(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Return 1 for each response that is the right answer to its problem, exactly as written by
    ``Arithmetic``, and 0 for others.

    Raises:
      UserError: a prompt is not a problem.
    """
    return [
        float(response == _answer(prompt))
        for prompt, response in zip(prompts, responses, strict=True)
    ]


def _answer(prompt: str) -> str:
    found = PROBLEM.fullmatch(prompt)
    if found is None:
        raise UserError(f"prompts must be problems such as '12+7=', got {prompt!r}")
    a, sign, b = found.groups()
    return str(OPERATIONS[sign](int(a), int(b)))
