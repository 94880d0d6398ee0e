"""Conversations: who speaks, what is learned, and that a prompt is the same tokens wherever it
stands.
"""

import numpy as np
import pytest

from genjax.data.chat.template import ChatCodec, ChatTemplate, Turn, conversation
from genjax.data.text.codecs import Characters
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.families.autoregressive.request import Decoding

END = "<|endoftext|>"
TEMPLATE = ChatTemplate()
SHORT = ChatTemplate((("user", "Q:", "\n"), ("assistant", "A:", "\n")))
TURNS = (
    Turn("user", "one?"),
    Turn("assistant", "two"),
    Turn("user", "three?"),
    Turn("assistant", "four"),
)


def subwords():
    """A vocabulary that has learned the borders of turns, among them two new lines as one token."""
    text = (
        TEMPLATE.prompt((Turn("system", "Be short."), Turn("user", "Say it.\n\n### Input:\nwell")))
        + "It is said.\n\n"
    )
    codec = Subwords("bpe", 320, (END,), start_token=END, end_token=END).fit([text * 20])
    assert len(codec.encode("\n\n")) == 1
    return codec


def test_a_template_stands_around_turns():
    asked = (Turn("system", "Be short."), Turn("user", "Say it."))
    assert TEMPLATE.prompt(asked) == "Be short.\n\n### Instruction:\nSay it.\n\n### Response:\n"
    assert SHORT.render_pieces(TURNS) == [
        ("Q:one?\nA:", False),
        ("two", True),
        ("\nQ:three?\nA:", False),
        ("four", True),
    ]


def test_answers_and_their_ends_are_learned_and_nothing_else():
    codec = Characters(delimiter=True).fit(["QA:\nonetwhrfu?"])
    found = conversation(codec, SHORT, TURNS, "here")
    learned = [
        ("", False),
        ("Q:one?\nA:", False),
        ("two", True),
        ("\nQ:three?\nA:", False),
        ("four", True),
    ]
    wanted = [len(text) + flag for text, flag in learned]  # each answer has an end
    wanted[0] = int(codec.start is not None)
    assert found.learned.tolist() == np.repeat([flag for _, flag in learned], wanted).tolist()
    assert codec.decode(found.tokens[found.learned & (found.tokens != codec.end)]) == "twofour"
    assert (found.tokens[found.learned] == codec.end).sum() == 2 and found.tokens[-1] == codec.end
    assert found.tokens.dtype == np.int32 and found.learned.dtype == bool
    cut = found.truncate(wanted[0] + 9 + 4 + 3)  # into the second question
    assert (
        codec.decode(cut.tokens[cut.learned]).startswith("two")
        and cut.learned[-1]
        and len(cut.tokens) == 14
    )


@pytest.mark.parametrize("answer", ["It is said.", "\n\nwell", "###"])
@pytest.mark.parametrize(
    "question", ["Say it.", "Say it.\n\n### Input:\nwell", "say \n", "<|endoftext|>"]
)
def test_a_prompt_is_the_same_tokens_with_and_without_its_answer(question, answer):
    codec = subwords()
    found = conversation(
        codec, TEMPLATE, (Turn("user", question), Turn("assistant", answer)), "here"
    )
    first = int(found.learned.argmax())
    prompt = ChatCodec(codec, TEMPLATE).encode_prompt(question)
    assert found.tokens[:first].tolist() == [codec.start, *prompt.tolist()]
    assert not found.learned[:first].any() and found.learned[first:].all()
    assert found.tokens[first:].tolist() == [*codec.encode(answer).tolist(), codec.end]
    assert codec.decode(found.tokens) == TEMPLATE.prompt((Turn("user", question),)) + answer


def test_a_codec_of_conversations_is_that_of_its_text_but_for_prompts():
    codec = subwords()
    chat = ChatCodec(codec)
    for name in (
        "vocabulary",
        "start",
        "end",
        "pad",
        "mask",
        "one_spelling",
        "shown",
        "levels",
        "is_fitted",
    ):
        assert getattr(chat, name) == getattr(codec, name), name
    for name in ("token_bytes", "token_kinds"):
        np.testing.assert_array_equal(getattr(chat, name), getattr(codec, name))
    ids = chat.encode("Say it.")
    assert chat.decode(ids) == "Say it." and chat.target == codec
    asked = Decoding(prompt="Say it.", stop=("###",)).encode(chat, {})
    assert asked.prompts == (
        (codec.start, *chat.encode_prompt("Say it.").tolist()),
    ) and asked.ends == (codec.end,)


def test_what_is_no_conversation_is_refused():
    codec = Characters(delimiter=True).fit(["QA:\nonetwhrfu?"])
    for turns, message in (
        ((), "record 3 must end with a turn of the assistant"),
        ((*TURNS, Turn("user", "one?")), "record 3 must end with a turn of the assistant"),
        ((Turn("user", "one?"), Turn("assistant", " \n")), "record 3 has an empty response"),
        ((Turn("user", "one?"), Turn("assistant", ""), *TURNS), "record 3 has an empty response"),
        (
            (Turn("tool", "one?"), Turn("assistant", "two")),
            "record 3: .* role 'tool'; its roles are user, assistant",
        ),
        (
            (Turn("user", "one!"), Turn("assistant", "two")),
            "'!' .*at character 5 of record 3 is not in the vocabulary",
        ),
    ):
        with pytest.raises(UserError, match=message):
            conversation(codec, SHORT, turns, "record 3")
    with pytest.raises(UserError, match="no role 'assistant'; its roles are user, bot"):
        ChatTemplate((("user", "", "\n"), ("bot", "", "\n")))
    with pytest.raises(UserError, match="distinct, got user, user"):
        ChatTemplate((("user", "", "\n"), ("user", "", "\n")))
