"""Record linkage without a word about its columns; its links, doubts and decisions."""

import csv
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from genjax import gx
from genjax.__main__ import main
from genjax.errors import UserError
from genjax.prepare.matching.columns import guess_kinds
from genjax.prepare.matching.components import choose_links, components, measure_agreement
from genjax.prepare.matching.linkage import Linkage, Links
from genjax.prepare.matching.review import apply_decisions, read_decisions
from genjax.prepare.run import prepare
from genjax.prepare.stages.duplicates import Linked
from tests.prepare.contacts import make_contacts, make_firms

FEBRL = Path(os.environ.get("GENJAX_DATA", "/nowhere")).expanduser() / "dedup"


@pytest.mark.skipif(not FEBRL.is_dir(), reason="needs dedup/febrl_dataset*.csv under GENJAX_DATA")
@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.long), 3])
def test_linkage_needs_no_word_about_febrl(number):
    table = pa.csv.read_csv(FEBRL / f"febrl_dataset{number}.csv")
    table = table.rename_columns([name.strip() for name in table.column_names])
    people = [name.strip().split("-")[1] for name in table["rec_id"].to_pylist()]
    known = np.unique(people, return_inverse=True)[1]
    found = measure_agreement(Linkage().link(table).group, known)
    assert found.precision >= 0.99 and found.recall >= 0.95
    kinds = guess_kinds(table, ())
    assert "rec_id" not in kinds and kinds["date_of_birth"] == "date"
    assert kinds["state"] == "category" and kinds["surname"] == "words"


LONG = [pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3, 4, 5, 6)]


@pytest.mark.parametrize("seed", [0, 7, *LONG])
@pytest.mark.parametrize("make", [make_contacts, make_firms])
def test_other_errors_and_households_are_told_apart(make, seed):
    table, known = make(1000, seed)
    found = measure_agreement(Linkage().link(table).group, known)
    assert found.precision >= 0.99 and found.recall >= 0.95


def test_a_single_link_does_not_join_groups_that_speak_against_it():
    def choose(*pairs):
        left, right, probability = (np.array(column) for column in zip(*pairs, strict=True))
        links = choose_links(np.stack([left, right]), probability, 0.9)
        return components(left[links], right[links], 6).tolist()

    pair, other, bridge = (0, 1, 0.999), (2, 3, 0.99), (1, 2, 0.95)
    assert choose(pair, other, bridge) == [0, 0, 0, 0, 4, 5]
    assert choose(pair, other, bridge, (0, 2, 1e-9), (0, 3, 0.01)) == [0, 0, 2, 2, 4, 5]
    # One pair of three records was changed twice: the way between them is as sure.
    assert choose(pair, (1, 2, 0.99), (0, 2, 1e-9)) == [0, 0, 0, 3, 4, 5]
    assert choose(pair, (1, 2, 0.91), (0, 2, 1e-9)) == [0, 0, 2, 3, 4, 5]
    assert choose((0, 1, 1.0), (1, 2, 1.0), (0, 2, 0.0)) == [0, 0, 0, 3, 4, 5]
    assert choose((0, 1, 0.2)) == [0, 1, 2, 3, 4, 5]
    nobody = np.zeros((2, 0), np.int64)
    assert choose_links(nobody, np.zeros(0), 0.9).tolist() == []


def test_columns_may_be_ignored_and_faults_are_named():
    table, _ = make_contacts(200)
    assert set(guess_kinds(table, ("mail",))) == {"name", "phone", "street", "town", "born"}
    with pytest.raises(UserError, match="ignores 'mial'") as error:
        Linkage(ignore=("mial",)).link(table)
    assert error.value.field == "ignore"
    with pytest.raises(UserError, match="no column to compare"):
        Linkage().link(table.select(["key"]))


def test_rows_that_agree_in_nothing_are_not_one_however_few_there_are():
    others = ["yy", "zz", "uu", "vv"]
    for count in range(1, 5):
        table = pa.table({"a": ["xx", "xx", *others[:count]], "b": ["1", "1", *others[:count]]})
        links = Linkage().link(table)
        assert links.group.tolist()[2:] == [*range(2, count + 2)]
    assert links.group.tolist() == [0, 0, 2, 3, 4, 5]


def links_of(pairs, count):
    left, right, probability = (np.array(column) for column in zip(*pairs, strict=True))
    return Links(np.arange(count), left, right, probability, {})


def test_decisions_hold_also_by_way_of_others():
    links = links_of([(0, 1, 0.99), (1, 2, 0.95), (3, 4, 0.2)], 6)
    ids = [*"abcdef"]
    assert apply_decisions(links, ids, 0.9, {}).group.tolist() == [0, 0, 0, 3, 4, 5]
    found = apply_decisions(links, ids, 0.9, {("d", "e"): True, ("c", "f"): True})
    assert found.group.tolist() == [0, 0, 0, 3, 3, 0]
    assert apply_decisions(links, ids, 0.9, {("a", "c"): False}).group.tolist() == [
        0,
        0,
        2,
        3,
        4,
        5,
    ]
    with pytest.raises(UserError, match="a and c are decided to be different, but other"):
        decided = {("a", "b"): True, ("b", "c"): True, ("a", "c"): False}
        apply_decisions(links, ids, 0.9, decided)
    with pytest.raises(UserError, match="must name records of this table, got 'z' and 0 others"):
        apply_decisions(links, ids, 0.9, {("a", "z"): True})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,b,maybe", "decision of row 1 of r.csv must be 'same', 'different' or empty"),
        (",b,same", "row 1 of r.csv has a decision, but no 'left' record"),
        ("a, ,different", "row 1 of r.csv has a decision, but no 'right' record"),
        ("c,c,same", "row 1 of r.csv compares c with itself"),
        ("a,b,same\nb,a,no", "row 2 of r.csv contradicts another row about a and b"),
    ],
)
def test_bad_decisions_are_named(tmp_path, rows, message):
    (tmp_path / "r.csv").write_text(f"left,right,decision\n{rows}\n")
    with pytest.raises(UserError, match=message) as error:
        read_decisions(str(tmp_path / "r.csv"))
    assert error.value.field == "decisions"
    (tmp_path / "r.csv").write_text("left,right\na,b\n")
    with pytest.raises(UserError, match="has no 'decision'"):
        read_decisions(str(tmp_path / "r.csv"))
    (tmp_path / "r.csv").write_text("left,right,decision\nb,a,Yes\nc,d,\nd,e,0\n")
    assert read_decisions(str(tmp_path / "r.csv")) == {("a", "b"): True, ("d", "e"): False}


@pytest.mark.long
def test_a_preparation_leaves_links_and_doubts_and_applies_what_a_person_decides(tmp_path):
    table, _ = make_contacts(300)
    pyarrow.csv.write_csv(table, tmp_path / "people.csv")
    out = tmp_path / "out"

    def run(decisions=None):
        stages = (Linked(review=(0.05, 0.995), decisions=decisions), gx.Splits(test=0.1))
        readers = (gx.Csv(("people.csv",), root=str(tmp_path)),)
        prepare(gx.Preparation(readers=readers, stages=stages), "people", out, say=lambda _: None)
        return pyarrow.parquet.read_table(out / "links.parquet").to_pylist()

    found = run()
    linked = [row for row in found if row["linked"]]
    assert all(row["linked"] for row in found if row["probability"] >= 0.9) and len(linked) > 50
    card = (out / "card.md").read_text()
    assert "weights in bits: name -" in card and "in doubt (review.csv)" in card
    with (out / "review.csv").open(newline="") as file:
        doubts = list(csv.DictReader(file))
    assert doubts and all(0.05 <= float(row["probability"]) < 0.995 for row in doubts)
    assert doubts[0]["name (left)"] and doubts[0]["decision"] == ""
    one, other = linked[0], next(row for row in doubts)
    doubts[0]["decision"] = "different" if float(other["probability"]) >= 0.9 else "same"
    doubts.append(dict.fromkeys(doubts[0], "") | {n: one[n] for n in ("left", "right")})
    doubts[-1]["decision"] = "different"
    with (out / "review.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, list(doubts[0]))
        rows.writeheader()
        rows.writerows(doubts)
    again = {(row["left"], row["right"]): row for row in run(str(out / "review.csv"))}
    assert (one["left"], one["right"]) not in again  # certain to be different
    pair = again.get((other["left"], other["right"]), {"linked": False})
    assert pair["linked"] == (doubts[0]["decision"] == "same")
    kept = {name: (out / name).read_bytes() for name in ("review.csv", "links.parquet", "card.md")}
    assert sum("different" in row for row in kept["review.csv"].decode().splitlines()) >= 1
    run(str(out / "review.csv"))
    assert kept == {name: (out / name).read_bytes() for name in kept}


CONFIG = """from genjax import gx

def get_config(tiny: bool = False) -> gx.Preparation:
    readers = (gx.Csv(("people.csv",), root="."),)
    return gx.Preparation(readers=readers, stages=(gx.ExactDuplicates(("key",)), gx.Linked()))
"""


def test_the_command_of_the_docs_applies_decisions_and_refuses_wrong_ones(
    tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    pyarrow.csv.write_csv(make_contacts(120)[0], "people.csv")
    Path("people.py").write_text(CONFIG, encoding="utf-8")
    page = (Path(__file__).parents[2] / "docs" / "prepare.md").read_text(encoding="utf-8")
    (first, second) = (
        line.removeprefix("genjax ").split()
        for line in page.splitlines()
        if line.startswith("genjax data prepare people.py")
    )
    assert main(first) == 0
    review = Path(second[-1])
    with review.open(encoding="utf-8", newline="") as file:
        doubts = list(csv.DictReader(file))
    links = Path("prepared/people/links.parquet")
    pairs = [(row["left"], row["right"]) for row in pa.parquet.read_table(links).to_pylist()]
    linked = next(row for row in pa.parquet.read_table(links).to_pylist() if row["linked"])
    rows = [f"{row['left']},{row['right']},same" for row in doubts[:1]]
    rows.append(f"{linked['left']},{linked['right']},different")

    def decide(*lines):
        review.write_text("\n".join(["left,right,decision", *lines]) + "\n", encoding="utf-8")
        capfd.readouterr()
        return main(second), capfd.readouterr().err

    before = {path.name: path.read_bytes() for path in links.parent.iterdir() if path.is_file()}
    for line, words in (
        ("a:1,b:2,same", "must name records of this table"),
        (f"{linked['left']},,same", "no 'right' record"),
        (f"{linked['left']},{linked['right']},perhaps", "or empty, got"),
        (f"{rows[1]}\n{rows[1].replace('different', 'same')}", "contradicts another row"),
    ):
        code, said = decide(line)
        assert code == 2 and words in said and "Traceback" not in said
        after = {path.name: path.read_bytes() for path in links.parent.iterdir() if path.is_file()}
        assert {n: c for n, c in after.items() if n != "review.csv"} == {
            n: c for n, c in before.items() if n != "review.csv"
        }, line
    assert decide(*rows)[0] == 0
    again = pa.parquet.read_table(links).to_pylist()
    assert (linked["left"], linked["right"]) in pairs
    assert (linked["left"], linked["right"]) not in {(row["left"], row["right"]) for row in again}
    assert f"{len(rows)} decided" in Path("prepared/people/card.md").read_text(encoding="utf-8")
