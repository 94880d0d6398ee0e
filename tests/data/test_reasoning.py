"""Problems of reasoning-gym: the same for a seed, none in both splits, scored by the verifier."""

import numpy as np
import pytest

from genjax.data.reasoning.problems import ReasoningGym, Verifier, make_problems
from genjax.errors import UserError

pytest.importorskip("reasoning_gym", reason="the problems are an extra: pip install '.[reasoning]'")
SUMS = (("max_digits", 1), ("max_terms", 2))
SOURCE = ReasoningGym("chain_sum", SUMS, size=60, test_size=20, length=96)


def texts(data, split, name="tokens"):
    rows = data.splits[split].batch(np.arange(len(data.splits[split])))
    return [data.codec.decode(row) for row in rows[name]]


def test_no_problem_is_in_both_splits():
    train, test = ({one.question for one in make_problems(SOURCE, s)} for s in ("train", "test"))
    assert len(test) == 20 and not train & test
    again = ReasoningGym("chain_sum", SUMS, size=60, test_size=20, length=96)
    assert make_problems(again, "test") == make_problems(SOURCE, "test")
    other = ReasoningGym("chain_sum", SUMS, size=60, test_size=20, seed=1, length=96)
    assert make_problems(other, "train") != make_problems(SOURCE, "train")


def test_right_answers_score_1_and_others_less():
    problems = make_problems(SOURCE, "train")
    prompts = [f"{one.question}\n" for one in problems]
    verify = Verifier(SOURCE)
    assert verify(prompts, [one.answer for one in problems]) == [1.0] * 60
    assert max(verify(prompts, [f"{one.answer}1" for one in problems])) < 1
    assert max(verify(prompts, [""] * 60)) < 1
    with pytest.raises(UserError, match="prompts"):
        verify(["What is a number?"], ["1"])


def test_rows_hold_questions_with_answers():
    data = SOURCE.open()
    assert data.spec.prefixed and data.spec.shape == (97,)
    one = make_problems(SOURCE, "test")[0]
    assert texts(data, "test")[0].startswith(f"{one.question}\n{one.answer}")


def test_the_share_of_wrong_answers():
    problems = make_problems(SOURCE, "train")
    verify = Verifier(SOURCE)
    for wrong, least, most in ((0.0, 60, 60), (0.4, 25, 47), (1.0, 0, 0)):
        source = ReasoningGym("chain_sum", SUMS, size=60, test_size=20, length=96, wrong=wrong)
        answers = [answer for _, _, answer in source._make_answers("train")]
        found = verify([f"{one.question}\n" for one in problems], answers)
        assert least <= sum(score == 1 for score in found) <= most
        assert [answer for *_, answer in source._make_answers("test")] == [
            one.answer for one in make_problems(source, "test")
        ]


def test_pairs_hold_a_right_and_a_wrong_answer():
    source = ReasoningGym("chain_sum", SUMS, size=60, test_size=20, length=96, form="pairs")
    data = source.open()
    assert data.spec.preferences
    verify = Verifier(SOURCE)
    problems = make_problems(source, "test")
    for side, right in (("chosen", True), ("rejected", False)):
        for one, text in zip(problems, texts(data, "test", f"{side}_tokens"), strict=True):
            question, answer = text.split("\n")
            assert question == one.question
            assert (verify([question], [answer.strip()]) == [1.0]) == right


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"task": "no_such_task"}, "task"),
        ({"options": (("no_such_option", 1),)}, "options"),
        ({"options": (("min_digits", 0),)}, "options"),
        ({"size": 2_000, "test_size": 500}, "test_size"),
    ],
)
def test_what_the_package_lacks_is_refused(changes, field):
    settings = {"task": "chain_sum", "options": SUMS, "size": 60, "test_size": 20}
    with pytest.raises(UserError) as found:
        ReasoningGym(**settings | changes).open()
    assert found.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"size": 0}, "size"),
        ({"wrong": 1.5}, "wrong"),
        ({"form": "pairs", "wrong": 0.5}, "wrong"),
        ({"length": 0}, "length"),
    ],
)
def test_what_cannot_be_is_refused(changes, field):
    with pytest.raises(UserError) as found:
        ReasoningGym(**changes)
    assert found.value.field == field
