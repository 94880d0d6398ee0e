"""Texts of scripts that put no spaces between words: they are compared and counted by their
characters.
"""

import random

import daft
import pyarrow as pa
import pytest

from genjax.prepare.matching.minhash import MinHash
from genjax.prepare.readers import Texts
from genjax.prepare.stages.duplicates import ExactDuplicates, NearDuplicates
from genjax.prepare.stages.splits import Decontaminated
from genjax.prepare.stages.texts import Length

LETTERS = {
    "Chinese": "的一是在不了有和人这中大为上个国我以要他时来"
    "用们生到作地于出就分对成会可主发年动同工也能",
    "Japanese": "のにはをたがでてとしれさあるいるもするからなこ"
    "と日本人大学生先月火水木金土国語行来食見聞話アイ",
    "Thai": "กขคงจชซญดตถทธนบปผฝพฟภมยรลวศษสหอฮะาำเแโใไ",
    "Lao": "ກຂຄງຈຊຍດຕຖທນບປຜຝພຟມຢຣລວສຫອຮະາຳເແໂໃໄ",
    "Khmer": "កខគឃងចឆជឈញដឋឌឍណតថទធនបផពភមយរលវសហអាិីឹឺុូួ",
    "Burmese": "ကခဂဃငစဆဇဈညတထဒဓနပဖဗဘမယရလဝသဟအာိီုူေ",
}


def texts_of(script):
    """Eight texts by name, "near" copies of two of them and "same" ones of two others, and
    words that all share.
    """
    draw = random.Random(script)
    letters = LETTERS[script]
    found = {f"{number}": "".join(draw.choices(letters, k=200)) for number in range(8)}
    for number in (0, 1):
        changed = list(found[f"{number}"])
        for _ in range(3):
            changed[draw.randrange(200)] = draw.choice(letters)
        found[f"near {number}"] = "".join(changed)
    for number, stop in ((2, "。"), (3, " ")):
        text = found[f"{number}"]
        at = next(
            i for i in range(100, 200) if text[i] in letters[:8]
        )  # a letter, not a mark of the one before
        found[f"same {number}"] = f"「{text[:at]}{stop}{text[at:]}」"
    return found


def dropped(stage, texts):
    records = daft.from_pydict(
        {"id": list(texts), "source": ["x"] * len(texts), "text": list(texts.values())}
    )
    return sorted(row["id"] for row in stage(records).to_pylist() if row["reason"] is not None)


@pytest.mark.parametrize("script", LETTERS)
def test_duplicates_are_found_and_others_stay(script):
    texts = texts_of(script)
    assert dropped(ExactDuplicates(), texts) == ["same 2", "same 3"]
    assert dropped(NearDuplicates(MinHash(threshold=0.7)), texts) == [
        "near 0",
        "near 1",
        "same 2",
        "same 3",
    ]


def test_what_is_judged_by_is_found_in_training_and_no_short_piece_of_it(tmp_path):
    everything = {script: texts_of(script)["4"] for script in LETTERS}
    (tmp_path / "judge.txt").write_text("\n".join(everything.values()), encoding="utf-8")
    stage = Decontaminated((Texts(("judge.txt",), str(tmp_path), "lines"),))
    training = {f"{script} copied": f"{text[20:60]}" for script, text in everything.items()}
    training |= {f"{script} short": text[20:25] for script, text in everything.items()}
    training |= {f"{script} other": texts_of(script)["5"] for script in LETTERS}
    assert dropped(stage, training) == sorted(f"{script} copied" for script in LETTERS)


@pytest.mark.parametrize("script", LETTERS)
def test_words_are_counted_by_characters_and_their_marks(script):
    text = texts_of(script)["6"]
    table = pa.table({"text": [text, text[:5], "one two, drei"]})
    _, reasons = Length(least=50, words=True).rows(table)
    assert reasons == [None, "too short", "too short"]
    _, reasons = Length(most=3, words=True).rows(table)
    assert reasons[0] == "too long" and reasons[2] is None
