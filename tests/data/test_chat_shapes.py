"""Records of conversations in every shape: what comes out is what went in, or one line says
what was left out.
"""

import itertools
import json
from collections import Counter

import numpy as np
import pytest

from genjax.data.chat.pairs import read_pairs
from genjax.data.chat.records import parse_turns
from genjax.data.chat.template import ChatTemplate, Turn, conversation
from genjax.data.sources import Instructions
from genjax.data.text.codecs import Bytes
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError
from tests.data.chat_cases import codec_of, template_of

SAYS = ("hi <|im_end|>", " two\n\nlines ", "été 😀", "ho", "\tcode\n", "bye")
SYSTEMS = (None, "", "Be kind.", "  Be\n\nkind. ")
ROLES = {"messages": ("user", "assistant"), "conversations": ("human", "gpt")}
NAMES = {"messages": ("role", "content"), "conversations": ("from", "value")}
ODD = ChatTemplate((("system", "", "\n"), ("asks", "", "\n"), ("bot", "", "\n")), "asks", "bot")


def content(text, parts):
    """A text, or the same in one or several parts."""
    if parts == 0:
        return text
    pieces = [text] if parts == 1 else [text[:2], "", text[2:]]
    return [{"type": "text", "text": piece} for piece in pieces]


def of_messages(form, rounds, system, beside, parts, empty):
    """A record of messages, whose system text is a message or stands beside them."""
    speaks, says = NAMES[form]
    texts = [(ROLES[form][i % 2], SAYS[i]) for i in range(2 * rounds)]
    if system is not None and not beside:
        texts.insert(0, ("system", system))
    told = {} if empty == "none" else {"name": empty, "tool_calls": empty}
    record = {form: [{speaks: role, says: content(text, parts)} | told for role, text in texts]}
    others = {name: empty for name in ("instruction", "input", "id", *ROLES) if name != form}
    return record | (others if empty != "none" else {}) | ({"system": system} if beside else {})


def wanted(template, rounds, system):
    roles = (template.user, template.assistant)
    turns = tuple(Turn(roles[i % 2], SAYS[i]) for i in range(2 * rounds))
    return turns if system is None else (Turn("system", system), *turns)


def passed_over(left):
    """The fields that are not read, without those that are read and null."""
    return {what: count for what, count in left.items() if "skipped" in what}


@pytest.mark.parametrize(
    "template", [ChatTemplate(), ODD, template_of("chatml")], ids=["alpaca", "odd", "jinja"]
)
@pytest.mark.parametrize("form", sorted(ROLES))
def test_messages_come_out_as_they_went_in(form, template):
    shapes = itertools.product((1, 2, 3), SYSTEMS, (False, True), (0, 1, 3), ("none", None, "", []))
    for rounds, system, beside, parts, empty in shapes:
        record = json.loads(json.dumps(of_messages(form, rounds, system, beside, parts, empty)))
        left = Counter()
        said = (
            None if beside and not system else system
        )  # an empty text beside the messages is no message
        assert parse_turns(record, "here", template, "|", left) == wanted(template, rounds, said), (
            record
        )
        assert not passed_over(left)


@pytest.mark.parametrize(
    "template", [ChatTemplate(), ODD, template_of("chatml")], ids=["alpaca", "odd", "jinja"]
)
def test_instructions_come_out_as_they_went_in(template):
    for system, added, fields in itertools.product(
        SYSTEMS, (None, "", "1 2", " \n"), itertools.product("01", repeat=2)
    ):
        record = {"instruction": SAYS[0], "output": SAYS[1], "input": added, "system": system}
        for name, leave in zip(("input", "system"), fields, strict=True):
            if leave == "1" and not record[name]:
                del record[name]
        left = Counter()
        found = parse_turns(record | {"messages": None, "id": ""}, "here", template, "|", left)
        first, *rest = wanted(template, 1, None)
        asked = Turn(first.role, first.text + "|" + added) if added else first
        assert found == ((Turn("system", system),) if system else ()) + (
            asked,
            *rest,
        ) and not passed_over(left)


def test_what_is_left_out_is_said_with_its_count(tmp_path, capsys):
    base = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "name": "Ann"},
        ]
    }
    extra = {
        "id": 7,
        "tools": [{"a": 1}],
        "score": 0,
        "done": False,
        "instruction": "x",
        "conversations": [],
    }
    records = [base | extra, base, {"instruction": "q", "output": "r", "history": [["a", "b"]]}]
    (tmp_path / "a.json").write_text(json.dumps(records))
    split = ByDocuments(test=0.0)
    Instructions(
        str(tmp_path / "a.json"), codec=Bytes(True), split=split, cache=str(tmp_path)
    ).open()
    said = capsys.readouterr().err
    for name in ("done", "id", "instruction", "score", "tools"):
        assert f"1 fields {name!r} of a record skipped" in said
    assert "2 fields 'name' of a message skipped" in said
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    (tmp_path / "pairs.json").write_text(
        json.dumps([pair, pair | {"system": "s", "input": "i", "score": None}])
    )
    left = Counter()
    found = read_pairs(tmp_path / "pairs.json", ChatTemplate(), "|", left)
    assert passed_over(left) == {"fields 'input' of a record skipped": 1}
    assert found[1].prompt == (Turn("system", "s"), Turn("user", "p"))


def test_two_system_texts_are_refused():
    record = {
        "system": "a",
        "messages": [{"role": "system", "content": "b"}, {"role": "user", "content": "c"}],
    }
    with pytest.raises(
        UserError, match="here must not have both 'system' and a system message"
    ) as error:
        parse_turns(record, "here", ChatTemplate(), "|", Counter())
    assert error.value.field == "system"


def test_rows_say_all_that_the_records_say(tmp_path):
    """Through a file and the tokens of a template in Jinja."""
    shapes = list(itertools.product(sorted(ROLES), (1, 2, 3), SYSTEMS[:3], (False, True), (0, 3)))
    records = [of_messages(form, rounds, *rest, "none") for form, rounds, *rest in shapes]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    template, codec = template_of("chatml"), codec_of("bytes")
    data = Instructions(
        str(tmp_path / "a.jsonl"), template=template, codec=codec, split=ByDocuments(test=0.0)
    ).open()
    rows = data.splits["train"]
    for number, (_, rounds, system, beside, _) in enumerate(shapes):
        batch = rows.batch(np.array([number]))
        said = None if beside and not system else system
        turns = wanted(template, rounds, said)
        ids = conversation(codec, template, turns, "here").tokens
        assert (
            batch["tokens"][0][: len(ids)].tolist() == ids.tolist()
            and not batch["tokens"][0][len(ids) :].any()
        )
        assert data.codec.decode(ids) == "".join(f"{role}\n{text}\n" for role, text in turns)
        learned = batch["tokens"][0][batch["loss_mask"][0] > 0]
        assert data.codec.decode(learned) == "".join(
            text for role, text in turns if role == "assistant"
        )
        assert (learned == codec.token("<|im_end|>")).sum() == rounds
