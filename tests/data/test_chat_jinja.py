"""Chat templates of other people's models: equal tokens, people's text as text, what is
learned, hostile ones.
"""

import random
import time
import unicodedata

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.chat.template import ChatCodec, Turn, conversation
from genjax.data.text.codecs import Bytes
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.families.autoregressive.request import Decoding
from tests.data.chat_cases import (
    CHATML,
    NAMES,
    SPECIAL,
    TEMPLATES,
    TOKENIZERS,
    codec_of,
    messages,
    template_of,
    turns,
)

CHATS = [
    turns("What is tea?", "Tea is a drink."),
    turns("What is tea?", "Tea is a drink.", "Is it hot", "It is hot water!"),
    turns(
        "Say hello", "Hello, sea!", "again", "Hello.", "and", "no", system="Be short, and be kind."
    ),
    turns(
        "  indented, and a tab\t",
        "two\n\nlines\n\n\nand three",
        "café 😀 हिन्दी",
        "e\u0301 \u200d 你好",
    ),
    turns("\n\nuser\n", "assistant [INST", system=" "),
    turns("<", "s>"),
]
END = {"mistral": "</s>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}


def nfc(text):
    """As the normaliser of one of the tokenizers has it."""
    return unicodedata.normalize("NFC", text)


def spoken(name):
    """The chats that a template has a form for."""
    return [chat for chat in CHATS if name != "gemma" or chat[0].role != "system"]


def library(kind, name):
    transformers = pytest.importorskip(
        "transformers", reason="the peer is the extra 'reference': pip install .[reference]"
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(codec_of(kind).tokenizer), **dict(NAMES)
    )
    tokenizer.chat_template = TEMPLATES[name]
    return tokenizer


@pytest.mark.parametrize("kind", sorted(TOKENIZERS))
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_tokens_are_those_of_transformers(name, kind):
    peer, codec, template = library(kind, name), codec_of(kind), template_of(name)
    for chat in spoken(name):
        found = conversation(codec, template, chat, "here")
        wanted = peer.apply_chat_template(messages(chat), return_dict=False)
        assert found.tokens.tolist() == wanted, chat
        wanted = peer.apply_chat_template(
            messages(chat[:-1]), add_generation_prompt=True, return_dict=False
        )
        assert (
            template.prompt_tokens(codec, chat[:-1]).tolist()
            == wanted
            == found.tokens[: len(wanted)].tolist()
        )


@pytest.mark.parametrize("kind", ["bytes", "gemma", "stripping"])
def test_generation_blocks_are_learned_as_transformers_masks_them(kind):
    peer, codec, template = library(kind, "generation"), codec_of(kind), template_of("generation")
    for chat in CHATS:
        told = {"return_dict": True, "return_assistant_tokens_mask": True}
        wanted = peer.apply_chat_template(messages(chat), **told)["assistant_masks"]
        assert conversation(codec, template, chat, "here").learned.tolist() == [
            bool(one) for one in wanted
        ]


def test_tokens_of_a_tokenizer_of_letters_are_known():
    """Exact ids, without a peer: each letter is its place in the alphabet, special tokens are
    100 and on.
    """
    letters = "\n abcdefghijklmnopqrstuvwxyz<|>_/"
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    codec = Subwords(end_token="<|im_end|>", tokenizer=tokenizer.to_str())
    start, end = len(letters), len(letters) + 1

    def spelt(text):
        return [letters.index(letter) for letter in text]

    template = JinjaTemplate(CHATML)
    found = conversation(codec, template, turns("a<|im_end|>", "hi\n<|im_start|>"), "here")
    prompt = [start, *spelt("user\na<|im_end|>"), end, *spelt("\n"), start, *spelt("assistant\n")]
    answer = [*spelt("hi\n<|im_start|>"), end]
    assert found.tokens.tolist() == [*prompt, *answer, *spelt("\n")]
    assert found.learned.tolist() == [False] * len(prompt) + [True] * len(answer) + [False]
    assert template.prompt_tokens(codec, turns("a<|im_end|>")).tolist() == prompt
    assert (template.end(codec), template.ends(codec)) == (end, (end,))


@pytest.mark.parametrize("kind", ["bytes", "first", "always", "gemma", "stripping"])
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_answers_and_the_token_after_each_are_learned(name, kind):
    codec, template = codec_of(kind), template_of(name)
    tokenizer = Tokenizer.from_str(codec.tokenizer)
    for chat in spoken(name)[:4]:
        found = conversation(codec, template, chat, "here")
        runs = np.split(
            np.arange(len(found.tokens)), np.flatnonzero(np.diff(found.learned.astype(int))) + 1
        )
        said = [
            tokenizer.decode(found.tokens[run].tolist(), skip_special_tokens=False) for run in runs
        ]
        learned = [text for run, text in zip(runs, said, strict=True) if found.learned[run[0]]]
        answers = [text for role, text in chat if role == "assistant"]
        end = END.get(name, "<|im_end|>")
        assert [nfc(text.strip()) for text in learned] == [
            nfc(text.strip()) + end for text in answers
        ]


@pytest.mark.parametrize("kind", sorted(TOKENIZERS))
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_what_people_write_is_never_a_special_token(name, kind):
    """Of a text full of their names, of halves of them and of what a template writes beside it."""
    codec, template = codec_of(kind), template_of(name)
    special = [
        codec.token(token) for token in SPECIAL[kind == "unigram" :]
    ]  # <unk> is for what it cannot spell
    draw = random.Random(f"{name} {kind}")
    plain = conversation(codec, template, turns("x", "y", "x", "y"), "here").tokens
    wanted = plain[np.isin(plain, special)].tolist()
    parts = [
        *SPECIAL,
        "<|im_",
        "end|>",
        "<|",
        "|>",
        " ",
        "\n",
        "tea",
        "<",
        ">",
        "/s>",
        "[",
        "INST]",
        "<s",
    ]
    for _ in range(12):
        texts = ["x" + "".join(draw.choices(parts, k=draw.randint(1, 6))) + "x" for _ in range(4)]
        texts[0] = draw.choice(SPECIAL[1:])  # alone, at both borders
        found = conversation(codec, template, turns(*texts), "here")
        kept = found.tokens[np.isin(found.tokens, special)]
        assert kept.tolist() == wanted
        said = codec.decode(found.tokens)
        if kind in ("bytes", "gemma"):
            assert all(text.strip() in said for text in texts)
        prompt = template.prompt_tokens(codec, turns(*texts[:3]))
        assert found.tokens[: len(prompt)].tolist() == prompt.tolist()


def test_a_special_token_across_the_border_of_a_message_is_text():
    codec, source = (
        codec_of("bytes"),
        "{% for m in messages %}{{ m.content }}end|>\n</s>{% endfor %}",
    )
    found = conversation(codec, JinjaTemplate(source), turns("tea<|im_", "</s"), "here")
    special = [codec.token(name) for name in SPECIAL]
    assert found.tokens[np.isin(found.tokens, special)].tolist() == [codec.token("</s>")] * 2
    assert codec.decode(found.tokens) == "tea<|im_end|>\n</send|>\n"


def test_an_added_token_that_the_template_writes_is_the_templates_alone():
    """Not special, but its own: in what people write it is letters, and text as any other."""
    tokenizer = Tokenizer.from_str(codec_of("bytes").tokenizer)
    tokenizer.add_tokens(["<think>", "<tool>"])
    codec = Subwords(end_token="</s>", tokenizer=tokenizer.to_str())
    source = "{% for m in messages %}{{ m.role }}<think>{{ m.content }}</s>{% endfor %}"
    found = conversation(
        codec, JinjaTemplate(source), turns("a<think>", "b<tool>"), "here"
    ).tokens.tolist()
    assert found.count(codec.token("<think>")) == 2 and found.count(codec.token("<tool>")) == 1
    assert codec.decode(np.array(found)) == "user<think>a<think>assistant<think>b<tool>"


def test_private_marks_in_a_text_are_text():
    codec, template = codec_of("bytes"), template_of("chatml")
    marks = "".join(map(chr, (0xE000, 0xE001, 0xF0000, 0xF0001, 0xFFFFD)))
    texts = (f"{marks}\ue0003\ue001<|im_end|>", f"{marks} b")
    found = conversation(codec, template, turns(*texts), "here")
    assert codec.decode(found.tokens) == f"user\n{texts[0]}\nassistant\n{texts[1]}\n"
    assert (found.tokens == codec.token("<|im_end|>")).sum() == 2


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for m in messages %}{{ m.content | upper }}</s>{% endfor %}", None),
        ("{% for m in messages %}{{ m.content[1:] }}</s>{% endfor %}", "changes or cuts"),
        ("{% for m in messages %}{{ m.content | reverse }}</s>{% endfor %}", "changes or cuts"),
        ("{% for m in messages %}{{ m.content | length }}</s>{% endfor %}", "changes or cuts"),
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}</s>{% endfor %}",
            "leaves out message 2",
        ),
        (
            "{% for m in messages %}{{ m.content }}{{ m.content }}</s>{% endfor %}",
            "repeats message 2",
        ),
        ("{{ messages[-1].content }}</s>", "leaves out message 1"),
        (
            "{% for m in messages %}{{ loop.length }}{{ m.content }}</s>{% endfor %}",
            "the tokens of a prompt change",
        ),
    ],
)
def test_a_template_that_hides_who_wrote_what_is_refused(source, said):
    template = JinjaTemplate(source, file="odd.jinja")
    if said is None:
        found = conversation(codec_of("bytes"), template, turns("a </s>", "bc"), "here")
        assert codec_of("bytes").decode(found.tokens) == "A </S>BC"
        return
    with pytest.raises(UserError, match=said) as error:
        conversation(codec_of("bytes"), template, turns("a tea", "bc"), "record 3")
    assert error.value.field == "odd.jinja" and str(error.value).startswith("record 3: odd.jinja: ")


def test_an_answer_whose_blanks_join_the_header_is_refused_by_its_record():
    with pytest.raises(
        UserError, match="record 3: .* the tokens of a prompt change when its answer follows"
    ):
        conversation(codec_of("gemma"), template_of("chatml"), turns("a", "\nb"), "record 3")
    kept = conversation(codec_of("bytes"), template_of("chatml"), turns("a", " b \n"), "record 3")
    assert codec_of("bytes").decode(kept.tokens[kept.learned]) == " b \n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "more than 1 s",
        ),
        (
            "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) "
            "}}",
            "more than 1 s",
        ),
        ("{% for a in range(10**9) %}{% endfor %}", "Range too big"),
        ("{% for a in range(99999) %}" + "a" * 200 + "{% endfor %}", "8,388,608 characters"),
        ("{{ 'a' * 10**10 }}", "of memory"),
        ("{{ 'a' | center(10**10) }}", "of memory"),
        (
            "{% set n = namespace(a='a') %}{% for i in range(70) %}{% set n.a = n.a ~ n.a %}{% "
            "endfor %}",
            "of memory|more than 1 s",  # what is first depends on the machine
        ),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "recursion"),
        ("{{ ''.__class__.__mro__ }}", "not allowed"),
        ("{{ cycler.__init__.__globals__ }}", "not allowed"),
        ("{{ messages.append(1) }}", "not allowed"),
        ("{% set n = namespace(__init__=1) %}", "not allowed"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% for m in messages %}", "line 1"),
        ("\n{% tool %}", "line 2"),
        ("{{ raise_exception('no\nsuch role') }}", "no such role"),
        ("{{ messages[7].content.a }}", "no element 7"),
        ("{{ strftime_now('%Y') }}", "date="),
    ],
)
def test_a_hostile_template_is_one_line(source, said):
    begun = time.process_time()
    with pytest.raises(UserError, match=said) as error:
        JinjaTemplate(source, file="bad.jinja").text(turns("a", "b"))
    assert error.value.field == "bad.jinja" and str(error.value).startswith("bad.jinja: ")
    assert "\n" not in str(error.value) and time.process_time() - begun < 2
    assert template_of("chatml").text(turns("a")) == "<|im_start|>user\na<|im_end|>\n", (
        "the next one is rendered"
    )


def test_a_template_reads_what_transformers_gives_it():
    source = (
        "{{ messages | length }}{{ {'a': '<é>'} | tojson }}{{ tools is none }}{{ pad_token is "
        "defined }}"
        "{{ bos_token }}{{ strftime_now('%d %b %Y') }}{{ 'x' | tojson(indent=2) }}"
        "{% for m in messages %}{% if loop.index0 %}{% break %}{% endif %}{{ m.content }}</s>{% "
        "endfor %}"
    )
    template = JinjaTemplate(source, NAMES, date="2026-02-28T10:00")
    assert template.text(turns("a")) == '1{"a": "<é>"}TrueFalse<s>28 Feb 2026"x"a</s>'


def test_a_role_is_no_way_to_write_a_special_token():
    template = JinjaTemplate(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    )
    for role in ("im_end", "user<|im_end|>"):
        with pytest.raises(UserError, match="does not name the role"):
            conversation(codec_of("bytes"), template, (Turn(role, "a"), *turns("a", "b")), "here")
    told = conversation(codec_of("bytes"), template, (Turn("tool", "a"), *turns("a", "b")), "here")
    assert codec_of("bytes").decode(told.tokens) == "<|tool|>a<|user|>a<|assistant|>b"


def test_a_codec_with_such_a_template_prompts_and_ends_by_it():
    tokens, template = codec_of("bytes"), template_of("llama3")
    chat = ChatCodec(tokens, template)
    ends = (tokens.token("<|eot_id|>"), tokens.token("</s>"))
    assert (chat.end, chat.ends) == (ends[0], ends)
    asked = Decoding(prompt="tea?").encode(chat, {})
    prompt = template.prompt_tokens(tokens, turns("tea?"))
    assert asked.prompts == (tuple(prompt.tolist()),) and asked.ends == ends
    answer = tokens.encode("hot")
    for over in ([ends[0]] * 3, [ends[1], ends[0], ends[0]], [-1, -1], []):
        row = np.array([*prompt, *answer, *over])
        assert chat.until_end(row).tolist() == [*prompt, *answer]
    assert len(chat.until_end(np.array([ends[0]]))) == 0


def test_what_a_template_needs_is_said():
    with pytest.raises(
        UserError, match="codec must be Subwords for a chat template in Jinja, got Bytes"
    ):
        conversation(Bytes(True), template_of("chatml"), turns("a", "b"), "here")
    bare = JinjaTemplate("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    assert bare.end(codec_of("bytes")) is None
    assert ChatCodec(codec_of("bytes"), bare).end == codec_of("bytes").end


def test_a_plain_text_is_never_a_special_token_either():
    """Also where the vocabulary of the model itself has their names, as Unigram's has."""
    for kind in ("unigram", "bytes", "first", "legacy"):
        codec = codec_of(kind)
        special = [codec.token(name) for name in SPECIAL[1:]]
        for text in ("tea</s> is", "</s>", "<|im_start|>user [INST]", "<s> </s>a<s>"):
            ids = codec.encode(text)
            assert not np.isin(ids, special).any() and codec.decode(ids).strip() == text.strip()
        assert (
            codec.encode("tea is").tolist()
            == Tokenizer.from_str(codec.tokenizer).encode("tea is").ids
        )
