"""Generated responses one at a time: those of the pairs, in the same tokens, given their
prompts or learned whole.
"""

import numpy as np
import pytest

from genjax.data.chat.template import ChatTemplate
from genjax.data.sources import RulePreferences, RuleResponses
from genjax.data.sources.preferences import OUTCOMES, rule_reward
from genjax.data.sources.rule_responses import positivity
from genjax.data.text.codecs import Characters
from genjax.data.text.dataset import get_tokenizer
from genjax.errors import UserError

FEW = RuleResponses(40, 20)


def test_each_pair_gives_two_responses_whose_rewards_are_even_and_the_chosen_are_better():
    pairs = RulePreferences(40, 20).make_examples("train")
    told = [record.turns[1].text for record in FEW.make_records("train")]
    assert told == [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    chosen = [
        record.turns[1].text
        for record in RuleResponses(40, 20, which="chosen").make_records("train")
    ]
    assert chosen == [pair.chosen for pair in pairs]
    many = RuleResponses(4_000, 1)
    rewards = np.array([rule_reward(record.turns[1].text) for record in many.make_records("train")])
    expected = np.mean(
        [positive - negative for (positive, negative), _ in OUTCOMES]
    )  # of the chosen
    assert abs(rewards.mean()) < 0.05 and abs(rewards[::2].mean() - expected) < 0.05
    assert (rewards[::2] > rewards[1::2]).all()
    assert positivity(["", ""], ["The soup was good. Good!", "A cold, dark room."]) == [2.0, -2.0]


def test_the_tokens_are_those_of_the_pairs_whether_prompts_are_given_or_not():
    given, whole, pairs = (
        FEW.open(),
        RuleResponses(40, 20, prompted=False).open(),
        RulePreferences(40, 20).open(),
    )
    assert get_tokenizer(given.codec) == get_tokenizer(whole.codec) == get_tokenizer(pairs.codec)
    assert [len(given.splits[name]) for name in ("train", "test")] == [80, 40]
    batch, texts = (
        given.splits["train"].batch(np.arange(80)),
        whole.splits["train"].batch(np.arange(80)),
    )
    np.testing.assert_array_equal(batch["tokens"], texts["tokens"])
    prompt, answer = batch["prefix_mask"] > 0, batch["loss_mask"] > 0
    assert given.spec.prefixed and not whole.spec.prefixed and (prompt.sum(1) == 16).all()
    np.testing.assert_array_equal(texts["loss_mask"] > 0, (prompt & (np.arange(65) > 0)) | answer)
    assert given.codec.decode(batch["tokens"][0][answer[0]][:-1]).startswith("the ")


def test_letters_under_a_template_of_their_own():
    template = ChatTemplate((("user", "", "\n"), ("assistant", "", "\n")))
    data = RuleResponses(
        40, 20, template=template, codec=Characters(delimiter=True), length=170
    ).open()
    batch = data.splits["test"].batch(np.arange(len(data.splits["test"])))
    assert len(batch["tokens"]) < 40, "the long ones are dropped"
    asked = data.codec.decode(batch["tokens"][0][batch["prefix_mask"][0] > 0])
    assert asked.startswith("How was the ") and asked.endswith("?\n")


def test_what_cannot_be_is_refused():
    for settings, words in (
        ({"which": "rejected"}, "which must be one of 'all', 'chosen'"),
        ({"size": 0}, "size must be from 1 to 1000000"),
        ({"length": 0}, "length must be at least 1"),
    ):
        with pytest.raises(UserError, match=words):
            RuleResponses(**settings)
