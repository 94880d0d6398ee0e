"""Problems of the package reasoning-gym, and rewards by its verifiers (Stojanovski et al., arXiv
2505.24760).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.pairs import ChatPair
from genjax.data.chat.preferences import PreferenceRows, preference_dataset, single_prompt
from genjax.data.chat.rows import ChatLayout, Record, chat_dataset
from genjax.data.chat.template import ChatTemplate, Turn
from genjax.data.dataset import Dataset
from genjax.data.splits import DRAW, MOST_MADE
from genjax.data.stream import raw_bits
from genjax.data.text.codecs import Characters
from genjax.errors import UserError, unknown_name

TEMPLATE = ChatTemplate((("user", "", "\n"), ("assistant", "", "")))
TRIES = 4  # test problems drawn for each that is kept, as some are among the training problems
Form = Literal["answers", "pairs"]


class Problem(NamedTuple):
    """A question with its right answer, and ``entry``, by which the package verifies others."""

    question: str
    answer: str
    entry: Mapping[str, Any]


@checks.frozen
class ReasoningGym:
    """Generates problems of a task of reasoning-gym, whose answers its verifier scores.

    Problem i of a split depends only on the task, its options, the seed and i. Test problems are
    none of the training problems, and their answers are always right. A wrong answer is the right
    one of another training problem that the verifier scores below 1 here.

    Attributes:
      task: name of the task, such as "chain_sum" or "basic_arithmetic".
      options: options of the task by name, such as (("max_digits", 1),); others have the package's
        defaults.
      size: number of training problems.
      test_size: number of test problems.
      seed: seed of the problems and of the wrong answers.
      form: "answers" for rows of a question with an answer, or "pairs" of a right and a wrong
        answer, for preferences.
      wrong: probability that a training answer is wrong, in the form "answers". A model that
        imitates such answers perfectly is right with probability 1 - wrong.
      codec: codec of the text, with an end; without a vocabulary it is fitted to the training text.
      length: number of predictions in a row, T.
      cache: folder for a fitted codec; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
    """

    task: str = "chain_sum"
    options: tuple[tuple[str, Component], ...] = ()
    size: int = 4_000
    test_size: int = 500
    seed: int = 0
    form: Form = "answers"
    wrong: float = 0.0
    codec: Component = Characters(delimiter=True)
    length: int = 128
    cache: str | None = None

    def __post_init__(self) -> None:
        checks.between(self, 1, MOST_MADE, "size", "test_size")
        checks.at_least(self, 0, "seed")
        checks.at_least(self, 1, "length")
        checks.between(self, 0, 1, "wrong")
        if self.wrong and self.form == "pairs":
            raise UserError(f'wrong must be 0 with form="pairs", got {self.wrong}', "wrong")

    def open(self) -> Dataset:
        """Open the data set; batches are those of ``chat_dataset``, one problem per row, or those
        of ``genjax.data.chat.preferences``.

        Raises:
          UserError: reasoning-gym is not installed, or has no such task or option.
        """
        if self.form == "pairs":
            return self._open_pairs()
        parts = {
            split: [
                Record(where, (Turn("user", question), Turn("assistant", answer)))
                for where, question, answer in self._make_answers(split)
            ]
            for split in ("train", "test")
        }
        return chat_dataset(parts, self.codec, TEMPLATE, ChatLayout(self.length), self.cache)

    def _make_answers(self, split: str) -> list[tuple[str, str, str]]:
        """Return where each problem is, its question, and its answer, some of them wrong."""
        problems = make_problems(self, split)
        chances = _draw_uniform(self.seed, len(problems))
        wrong = self.wrong if split == "train" else 0.0
        return [
            (
                f"problem {number + 1:,} of {split}",
                one.question,
                self._find_wrong(problems, number) if chances[number] < wrong else one.answer,
            )
            for number, one in enumerate(problems)
        ]

    def _open_pairs(self) -> Dataset:
        pairs: list[ChatPair] = []
        parts: dict[str, np.ndarray] = {}
        for split in ("train", "test"):
            problems = make_problems(self, split)
            parts[split] = len(pairs) + np.arange(len(problems))
            for number, one in enumerate(problems):
                prompt, right = single_prompt(TEMPLATE, one.question, one.answer)
                _, wrong = single_prompt(TEMPLATE, one.question, self._find_wrong(problems, number))
                pairs.append(ChatPair(prompt, right, wrong, f"problem {number + 1:,} of {split}"))
        rows = PreferenceRows(self.length + 1, "drop", "refuse")
        return preference_dataset(pairs, parts, self.codec, TEMPLATE, rows, self.cache)

    def _find_wrong(self, problems: Sequence[Problem], number: int) -> str:
        """Return the answer of one of the following problems that is wrong for this one."""
        task = make_task(self.task, self.options, 1, self.seed)
        for other in range(number + 1, number + len(problems)):
            answer = problems[other % len(problems)].answer
            if answer and task.score_answer(answer, problems[number].entry) < 1:
                return answer
        raise UserError(
            f"task must have problems with different answers, got {self.task!r}", "task"
        )


@checks.frozen
class Verifier:
    """Scores answers to the problems of ``ReasoningGym`` by the task's own verifier, from 0 to 1.

    It is a function of prompts and responses, for GRPO and others.

    Attributes:
      problems: source of the problems.
    """

    problems: ReasoningGym = ReasoningGym()

    @property
    def __name__(self) -> str:
        return f"Verifier of {self.problems.task}"

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """Return the score of each response.

        Raises:
          UserError: a prompt is none of the problems.
        """
        source = self.problems
        entries = _index_problems(source)
        task = make_task(source.task, source.options, 1, source.seed)
        found = []
        for prompt, response in zip(prompts, responses, strict=True):
            entry = entries.get(prompt.strip())
            if entry is None:
                raise UserError(f"prompts must be problems of {source.task}, got {prompt!r}")
            found.append(float(task.score_answer(response, entry)))
        return found


@functools.lru_cache(maxsize=8)
def _index_problems(source: ReasoningGym) -> dict[str, Mapping[str, Any]]:
    problems = (one for split in ("train", "test") for one in make_problems(source, split))
    return {one.question.strip(): one.entry for one in problems}


@functools.lru_cache(maxsize=8)
def make_problems(source: ReasoningGym, split: str) -> tuple[Problem, ...]:
    """Generate the problems of a split, in order.

    Raises:
      UserError: reasoning-gym is not installed, has no such task or option, or too few problems.
    """
    counts = {"train": source.size, "test": source.test_size}
    if split not in counts:
        raise unknown_name("split", split, counts)
    if split == "train":
        return _draw_problems(source, source.size, source.seed)
    # Seeds of neighbours share problems: problem i is drawn with seed + i.
    far = source.seed + MOST_MADE
    known = {one.question for one in make_problems(source, "train")}
    drawn = _draw_problems(source, TRIES * source.test_size, far)
    fresh = tuple({p.question: p for p in drawn if p.question not in known}.values())
    if len(fresh) < source.test_size:
        raise UserError(
            f"test_size must be <= {len(fresh):,}, the problems found that are not among the "
            f"{source.size:,} training problems, got {source.test_size:,}: lower size or test_size",
            "test_size",
        )
    return fresh[: source.test_size]


def _draw_problems(source: ReasoningGym, size: int, seed: int) -> tuple[Problem, ...]:
    entries = make_task(source.task, source.options, size, seed)
    return tuple(Problem(one["question"], str(one["answer"]), one) for one in entries)


@functools.lru_cache(maxsize=16)
def make_task(task: str, options: tuple[tuple[str, Component], ...], size: int, seed: int) -> Any:
    """Make a task of the package: a sequence of entries, with ``score_answer``.

    Raises:
      UserError: the package is not installed, or has no such task or option.
    """
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UserError(
            f"ReasoningGym needs reasoning-gym: pip install 'genjax-train[reasoning]' ({error})"
        ) from None
    if task not in DATASETS:
        raise unknown_name("task", task, DATASETS)
    try:
        return reasoning_gym.create_dataset(task, size=size, seed=seed, **dict(options))
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"options of {task} must be its own, got {dict(options)}: {error}", "options"
        ) from None


def _draw_uniform(seed: int, count: int) -> np.ndarray:
    """Draw numbers [N] in [0, 1)."""
    return (raw_bits(seed, DRAW + 1, count) >> np.uint64(11)) * 2.0**-53
