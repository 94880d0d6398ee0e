"""Problems: each once, the two splits apart, answers right but for a known share, and what a
right answer is.
"""

import dataclasses

import numpy as np
import pytest

from genjax.data.sources import Arithmetic
from genjax.data.sources.arithmetic import correct
from genjax.errors import UserError
from genjax.families.rewards import score_texts

SOURCE = Arithmetic(size=900, test_size=100)


def right(problem, answer):
    return eval(problem) == int(answer) and str(int(answer)) == answer


@pytest.mark.parametrize(("digits", "operations"), [(1, "+"), (1, "*-"), (2, "+"), (2, "-+*")])
def test_the_splits_hold_every_problem_once(digits, operations):
    total = len(operations) * 100**digits
    source = Arithmetic(digits, operations, size=total - 30, test_size=30)
    assert source.problems == total
    train, test = (
        [problem for problem, _ in source.make_examples(split)] for split in ("train", "test")
    )
    numbers = range(10**digits)
    assert len(train) == total - 30 and len(test) == 30
    assert sorted(train + test) == sorted(
        f"{a}{sign}{b}" for sign in operations for a in numbers for b in numbers
    )


def test_a_problem_depends_on_the_seed_and_its_place_alone():
    for split, size in (("train", "size"), ("test", "test_size")):
        fewer = dataclasses.replace(SOURCE, **{size: 40})
        assert fewer.make_examples(split) == SOURCE.make_examples(split)[:40]
    assert dataclasses.replace(SOURCE, test_size=5).make_examples("train") == SOURCE.make_examples(
        "train"
    )
    assert dataclasses.replace(SOURCE, seed=1).make_examples("train") != SOURCE.make_examples(
        "train"
    )
    assert SOURCE.make_examples("train") == Arithmetic(size=900, test_size=100).make_examples(
        "train"
    )


def test_a_known_share_of_training_answers_is_wrong_and_no_test_answer():
    source = dataclasses.replace(SOURCE, size=9_000, wrong=0.25)
    train, test = source.make_examples("train"), source.make_examples("test")
    assert all(right(*example) for example in test + SOURCE.make_examples("train"))
    off = np.array([int(answer) - eval(problem) for problem, answer in train])
    assert abs((off != 0).mean() - 0.25) < 4 * (0.25 * 0.75 / 9_000) ** 0.5
    counts = np.array([(off == by).sum() for by in range(-9, 10) if by])
    assert counts.sum() == (off != 0).sum(), "by 1 to 9"
    assert (abs(counts / counts.sum() - 1 / 18) < 4 * (1 / 18 / counts.sum()) ** 0.5).all()
    always = dataclasses.replace(source, wrong=1.0).make_examples("train")
    assert not any(right(*example) for example in always)
    assert [problem for problem, _ in always] == [problem for problem, _ in train]


def test_rows_give_the_problem_and_predict_the_answer_and_its_end():
    data = SOURCE.open()
    assert data.spec.shape == (12,) and data.spec.prefixed and data.spec.vocabulary == 15
    for name, split in data.splits.items():
        batch = split.batch(np.arange(len(split)))
        for row, (problem, answer) in enumerate(SOURCE.make_examples(name)):
            tokens, prefix, learned = (
                batch[n][row] for n in ("tokens", "prefix_mask", "loss_mask")
            )
            asked = [data.codec.start, *data.codec.encode(f"{problem}=")]
            np.testing.assert_array_equal(tokens[prefix > 0], asked)
            np.testing.assert_array_equal(
                tokens[learned > 0], [*data.codec.encode(answer), data.codec.end]
            )
            assert prefix.sum() == len(asked) and not (prefix * learned).any()
    np.testing.assert_array_equal(data.codec.encode_prompt("12+7"), data.codec.encode("12+7="))
    assert SOURCE.open().fingerprint == data.fingerprint
    assert dataclasses.replace(SOURCE, seed=1).open().fingerprint != data.fingerprint


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("operations", ["-", "*", "+"])
def test_every_answer_has_room(digits, operations):
    source = Arithmetic(digits, operations, size=100**digits - 1, test_size=1, wrong=1.0)
    assert len(source.open().splits["train"]) == 100**digits - 1, "none is dropped"


def test_right_answers():
    cases = {
        ("12+7=", "19"): 1.0,
        ("3-12=", "-9"): 1.0,
        ("0-0=", "0"): 1.0,
        ("99*99=", "9801"): 1.0,
        ("12345+1=", "12346"): 1.0,  # more digits than the source has
        ("12+7=", "019"): 0.0,
        ("12+7=", "+19"): 0.0,
        ("12+7=", " 19"): 0.0,
        ("12+7=", "19="): 0.0,
        ("12+7=", "190"): 0.0,
        ("12+7=", "1"): 0.0,
        ("12+7=", ""): 0.0,
        ("12+7=", "*-+"): 0.0,
        ("3-12=", "9"): 0.0,
        ("0-0=", "-0"): 0.0,
    }
    prompts, responses = zip(*cases, strict=True)
    assert correct(prompts, responses) == list(cases.values())


def test_a_prompt_that_is_no_problem_is_named():
    for prompt in ("12+7", "12/7=", "12+=", "=", "1+2+3="):
        with pytest.raises(UserError, match="must be problems such as '12"):
            correct([prompt], ["19"])
    with pytest.raises(
        UserError, match=r"the reward correct failed on the response '3' to the prompt '1\+x='"
    ):
        score_texts(correct, ["1+2=", "1+x="], ["3", "3"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"digits": 0}, "digits must be from 1 to 3, got 0"),
        ({"digits": 4}, "digits must be from 1 to 3, got 4"),
        ({"operations": ""}, "distinct and at least one, got ''"),
        ({"operations": "++"}, r"distinct and at least one, got '\+\+'"),
        ({"operations": "+/"}, "unknown operation '/'"),
        ({"size": 0}, "size must be from 1 to 1000000"),
        ({"wrong": 1.5}, "wrong must be from 0 to 1"),
        (
            {"digits": 1},
            "size . test_size must be <= 200, .* got 16,000 . 1,000",
        ),
    ],
)
def test_bad_settings_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        Arithmetic(**changes)


def test_there_is_no_third_split():
    with pytest.raises(UserError, match="unknown split 'validation'"):
        SOURCE.make_examples("validation")
