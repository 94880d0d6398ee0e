import functools
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genjax.config_files import build_config
from genjax.errors import UserError
from genjax.prepare import run as preparing
from genjax.prepare import shards
from genjax.prepare.json_lines import JsonLines
from genjax.prepare.matching.minhash import MinHash
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Images, Parquet, Texts
from genjax.prepare.stages.anonymous import Anonymous
from genjax.prepare.stages.duplicates import ExactDuplicates, NearDuplicates, NearImages
from genjax.prepare.stages.splits import Decontaminated, Named, Splits
from genjax.prepare.stages.texts import Length, StandardText
from genjax.prepare.stages.values import Balanced, Missing

NEAR = MinHash(permutations=64, ngram=2, threshold=0.6)


def words(seed, count=40):
    return " ".join(f"w{n}" for n in np.random.default_rng(seed).integers(0, 500, count))


@pytest.fixture
def raw(tmp_path):
    """Two files of lines: 30 different texts, one twice, one nearly twice, an empty and a
    broken one.
    """
    folder = tmp_path / "raw"
    folder.mkdir()
    texts = [words(number) for number in range(30)]
    (folder / "a.txt").write_text("\n".join([*texts[:20], texts[3].upper() + "!", "x"]))
    near = texts[25].split()
    near[5] = "other"
    lines = [*texts[20:], " ".join(near), "   "]
    (folder / "b.txt").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    return folder


def preparation(raw, **changes):
    stages = (
        StandardText(),
        Length(5),
        ExactDuplicates(),
        NearDuplicates(NEAR),
        Splits(0.3, texts=NEAR),
    )
    found = Preparation(
        (Texts(("*.txt",), str(raw), "lines"),), stages, "CC0", "made up", max_bad=0.1
    )
    return replace(found, **changes)


def prepared(raw, out, **changes):
    said = []
    manifest = preparing.prepare(preparation(raw, **changes), "made", out, say=said.append)
    return json.loads(manifest.read_text()), said


def rows(out, split="train"):
    return [
        row
        for path in sorted(out.glob(f"{split}-*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def contents(out):
    """Every file but those of the stages."""
    paths = sorted(path for path in out.rglob("*") if path.is_file() and "stages" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def test_all_records_are_accounted_for(raw, tmp_path):
    manifest, said = prepared(raw, tmp_path / "out")
    assert [(s["name"], s["kept"], s["dropped"]) for s in manifest["stages"]] == [
        ("read", 33, {"not in utf-8": 1}),
        ("StandardText", 33, {}),
        ("Length", 32, {"too short": 1}),
        ("ExactDuplicates", 31, {"duplicate": 1}),
        ("NearDuplicates", 30, {"near-duplicate": 1}),
        ("Splits", 30, {}),
    ]
    assert len(said) == 6 and said[2] == "02_Length: 32 kept, 1 dropped"
    train, test = rows(tmp_path / "out"), rows(tmp_path / "out", "test")
    assert {row["text"] for row in train + test} == {words(number) for number in range(30)}
    assert len(train) + len(test) == 30 and len(test) > 2
    assert [shard["rows"] for shard in manifest["shards"]] == [len(test), len(train)]
    quarantine = [
        json.loads(line)
        for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    ]
    assert [(row["id"], row["stage"], row["reason"]) for row in quarantine] == [
        ("b.txt#line-000000013", "read", "not in utf-8")
    ]
    card = (tmp_path / "out" / "card.md").read_text()
    assert (
        "34 records of 2 files became 30" in card
        and "CC0" in card
        and manifest["fingerprint"] in card
    )
    assert "| ExactDuplicates | duplicate | a.txt#line-000000021 | W" in card
    for picture in ("stages", "length_text"):
        assert (tmp_path / "out" / "plots" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_a_dropped_duplicate_names_what_is_kept(raw, tmp_path):
    prepared(raw, tmp_path / "out")
    (path,) = (tmp_path / "out" / "stages" / "04_NearDuplicates" / "dropped").glob("*")
    (row,) = pq.read_table(path).to_pylist()
    assert (row["id"], row["reason"]) == (
        "b.txt#line-000000011",
        "near-duplicate: of b.txt#line-000000006",
    )


def test_the_same_input_gives_the_same_bytes_and_one_byte_changes_the_fingerprint(raw, tmp_path):
    first, _ = prepared(raw, tmp_path / "1")
    prepared(raw, tmp_path / "2")
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    path = raw / "a.txt"
    path.write_text(path.read_text().replace("w", "v", 1))
    changed, _ = prepared(raw, tmp_path / "3")
    assert changed["fingerprint"] != first["fingerprint"]


def test_the_fingerprint_is_of_the_records_not_of_the_files_that_they_are_in(raw, tmp_path):
    whole, _ = prepared(raw, tmp_path / "1")
    parts, _ = prepared(raw, tmp_path / "2", shard_mb=0.001)
    assert len(parts["shards"]) > len(whole["shards"]) == 2
    assert parts["fingerprint"] == whole["fingerprint"]
    ids = [row["id"] for row in rows(tmp_path / "2")]
    assert sorted(ids) == [row["id"] for row in rows(tmp_path / "1")]


def test_finished_stages_are_not_repeated_and_changed_ones_are(raw, tmp_path, monkeypatch):
    out = tmp_path / "out"
    first, _ = prepared(raw, out)
    again, said = prepared(raw, out)
    assert again == first and all("done before" in line for line in said)
    stages = (StandardText(), Length(1), *preparation(raw).stages[2:])
    changed, said = prepared(raw, out, stages=stages)
    assert ["done before" in line for line in said] == [True, True, False, False, False, False]
    assert changed["stages"][2]["kept"] == 33
    (raw / "b.txt").write_text("another text of more than five letters")
    _, said = prepared(raw, out)
    assert not any("done before" in line for line in said)


def test_a_set_to_judge_by_that_has_changed_is_compared_with_again(raw, tmp_path):
    judge, out = tmp_path / "judge.txt", tmp_path / "out"
    judge.write_text(words(0))
    stages = (Decontaminated((Texts(("judge.txt",), str(tmp_path)),)),)
    first, _ = prepared(raw, out, stages=stages)
    assert list(first["stages"][1]["inputs"]) == ["judge.txt"]
    judge.write_text(words(0) + " " + words(1))
    again, said = prepared(raw, out, stages=stages)
    assert [line.split(",")[0] for line in said] == [
        "00_read: done before",
        "01_Decontaminated: 31 kept",
    ]
    assert first["stages"][1]["inputs"] != again["stages"][1]["inputs"]


def test_another_secret_key_gives_other_pseudonyms_and_is_told_to_nobody(
    raw, tmp_path, monkeypatch
):
    (raw / "a.txt").write_text("write to ann@example.org")
    out = tmp_path / "out"
    found = []
    for key in ("first key", "second key", "second key"):
        monkeypatch.setenv("GENJAX_PSEUDONYM_KEY", key)
        _, said = prepared(raw, out, stages=(Anonymous(pseudonyms=True),))
        (text,) = (row["text"] for row in rows(out) if row["id"].startswith("a.txt"))
        found.append((text, "done before" in said[1]))
        assert not any(key.encode() in content for content in contents(out).values())
    (first, _), (second, repeated), (third, again) = found
    assert first != second == third and not repeated and again


STAGE = """
from dataclasses import dataclass

from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Texts
from genjax.prepare.stages.texts import Length, TextFilter


BEGIN = "w1"


@dataclass(frozen=True)
class Begins(TextFilter):
    column: str = "text"

    def find_fault(self, text):
        return None if text.startswith(BEGIN) else "begins otherwise"


def get_config(tiny=False):
    return Preparation((Texts(("*.txt",), "raw", "lines"),), (Length(1), Begins()), max_bad=0.1)
"""


def test_a_stage_of_the_config_is_done_again_once_its_code_has_changed(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def told(code):
        (tmp_path / "made.py").write_text(code)
        said = []
        preparing.prepare(build_config("made.py")[0], "made", "out", say=said.append)
        return ["done before" in line for line in said]

    assert told(STAGE) == [False, False, False]
    assert told(STAGE) == [True, True, True]
    assert told(STAGE.replace('"w1"', '"w2"')) == [True, True, False]


def test_raw_files_are_never_taken_for_shards_of_an_earlier_run(tmp_path):
    table = pa.table({"text": ["a", "b"]})
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    found = Preparation((Parquet(("*.parquet",), str(tmp_path)),))
    for where, words in (
        (tmp_path, "holds raw files of this"),
        (tmp_path / "other", "holds other Parquet files"),
    ):
        where.mkdir(exist_ok=True)
        pq.write_table(table, where / "train-00000-of-00001.parquet")
        with pytest.raises(UserError, match=words):
            preparing.prepare(found, "x", where, say=str)
        assert pq.read_table(where / "train-00000-of-00001.parquet") == table
    for sign in "*[%":
        with pytest.raises(UserError, match="in its name"):
            preparing.prepare(found, "x", tmp_path / f"a{sign}b", say=str)


def test_what_a_split_was_called_is_a_split_or_is_given_anew(tmp_path):
    told = [{"text": str(n), "split": ("train", "dev")[n % 2]} for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in told))
    reader = JsonLines(("a.jsonl",), str(tmp_path), ("text", "split"))
    stages = (
        (),
        (Named("split", (("train", "train"), ("dev", "test"))),),
        (Splits(0.5), Splits(0.5)),
    )
    for number, stage in enumerate(stages):
        out = tmp_path / f"out{number}"
        preparing.prepare(Preparation((reader,), stage), "x", out, say=str)
        assert [set(row) for row in rows(out)] == [{"id", "source", "text"}] * len(rows(out))
        other = rows(out, "dev" if number == 0 else "test")
        assert len(rows(out)) + len(other) == 40 and (len(other) == 20 or number == 2)
    for name in ("a/b", None):
        (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x", "split": name}))
        with pytest.raises(UserError, match="names of splits must consist of"):
            preparing.prepare(Preparation((reader,)), "x", tmp_path / "bad", say=str)


@pytest.mark.parametrize("column", ["id", "kept", "*"])
def test_columns_that_a_preparation_needs_for_itself_are_refused(column, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({column: "x"}))
    reader = JsonLines(("a.jsonl",), str(tmp_path), (column,))
    with pytest.raises(UserError, match="raw columns must not be called"):
        preparing.prepare(Preparation((reader,)), "x", tmp_path / "out", say=str)


def test_few_long_texts_are_no_classes(tmp_path):
    (tmp_path / "a.txt").write_text("x " * 500_000)
    found = Preparation((Texts(("a.txt",), str(tmp_path)),))
    preparing.prepare(found, "x", tmp_path / "out", say=str)
    assert (
        not shards.classes(tmp_path / "out")
        and (tmp_path / "out" / "plots" / "length_text.png").exists()
    )


def test_what_is_anonymised_later_is_shown_nowhere(tmp_path):
    told = ["ann@example.org " * 20, "ann@example.org " * 20, "\ufffd" * 30 + " bob@example.org"]
    (tmp_path / "a.txt").write_text("\n".join(told))
    out = tmp_path / "out"
    reader = Texts(("a.txt",), str(tmp_path), "lines")
    stages = (ExactDuplicates(), Length(100))
    for later in ((), (Anonymous(),)):
        preparing.prepare(Preparation((reader,), stages + later), "x", out, say=str)
        card = (out / "card.md").read_text()
        assert ("example.org" in card) == (not later) and ("<email>" in card) == bool(later)
        assert "too short" in card and "duplicate" in card


def test_a_stage_that_fails_leaves_those_before_it(raw, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def fail(self, records):
        raise UserError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr(NearDuplicates, "__call__", fail)
        with pytest.raises(UserError, match="no luck"):
            prepared(raw, out)
    _, said = prepared(raw, out)
    assert ["done before" in line for line in said] == [True, True, True, True, False, False]
    prepared(raw, tmp_path / "straight")
    assert contents(out) == contents(tmp_path / "straight")


KILLED = """
import os, sys
from genjax.config_files import build_config
from genjax.prepare import card, shards
from genjax.prepare import run as preparing

at, out = int(sys.argv[1]), sys.argv[2]
where = {"_outcome": preparing._outcome, "_sha256": shards._sha256}

def outcome(stage, name, inputs, folder, examples):
    if int(folder.name[:2]) == at:
        os.kill(os.getpid(), 9)
    return where["_outcome"](stage, name, inputs, folder, examples)

def sha256(path):
    if at == 6:
        os.kill(os.getpid(), 9)
    return where["_sha256"](path)

def stages(outcomes):
    if at == 7:
        os.kill(os.getpid(), 9)
    return drawn(outcomes)

drawn = card._stages
preparing._outcome, shards._sha256, card._stages = outcome, sha256, stages
preparing.prepare(build_config("made.py")[0], "made", out, say=lambda line: print(line, flush=True))
"""

CONFIG = """
from genjax.prepare.stages.anonymous import Anonymous
from genjax.prepare.stages.duplicates import ExactDuplicates, NearDuplicates
from genjax.prepare.matching.minhash import MinHash
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Texts
from genjax.prepare.stages.splits import Splits
from genjax.prepare.stages.texts import Length, StandardText


def get_config(tiny=False):
    near = MinHash(permutations=64, ngram=2, threshold=0.6)
    duplicates = ExactDuplicates(), NearDuplicates(near)
    stages = (StandardText(), Length(5), *duplicates, Splits(0.3, texts=near))
    return Preparation((Texts(("*.txt",), "raw", "lines"),), stages, "CC0", "made up", max_bad=0.1)
"""


@pytest.mark.long
def test_killed_at_every_stage_in_turn_it_ends_alike_and_repeats_nothing(raw, tmp_path):
    (tmp_path / "made.py").write_text(CONFIG)
    (tmp_path / "killed.py").write_text(KILLED)

    def run(at, out):
        command = [sys.executable, "killed.py", str(at), out]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ)

    for at in range(8):
        found = run(at, "out")
        assert found.returncode == -signal.SIGKILL, found.stderr
        lines = found.stdout.splitlines()
        # All stages before the last one at which it was killed are done; the one of that time is
        # made now.
        done = ["done before" in line for line in lines]
        before = min(max(0, at - 1), 6)
        assert done == [True] * before + [False] * (min(at, 6) - before), found.stdout
    last = run(-1, "out")
    assert last.returncode == 0 and all("done before" in line for line in last.stdout.splitlines())
    assert run(-1, "straight").returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


@pytest.mark.long
def test_one_core_all_cores_and_a_ray_cluster_of_two_workers_give_the_same_bytes(raw, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'genjax-train[cluster]'")
    (tmp_path / "made.py").write_text(CONFIG)
    engines = {"all": "native", "one": "native", "ray": "ray"}
    for out, engine in engines.items():
        command = [
            sys.executable,
            "-m",
            "genjax",
            "data",
            "prepare",
            "made.py",
            "--engine",
            engine,
            "--out",
            out,
        ]
        cores = {min(os.sched_getaffinity(0))} if out == "one" else os.sched_getaffinity(0)
        found = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            preexec_fn=functools.partial(os.sched_setaffinity, 0, cores),
        )
        assert found.returncode == 0, found.stderr
    assert contents(tmp_path / "ray") == contents(tmp_path / "one") == contents(tmp_path / "all")


def test_more_broken_records_than_allowed_stop_it_once_they_are_written_down(raw, tmp_path):
    with pytest.raises(
        UserError,
        match=r"1 of 34 records are broken, more than max_bad 0.02 allows: not in utf-8 \(1\)",
    ):
        prepared(raw, tmp_path / "out", max_bad=0.02)
    assert "line-000000013" in (tmp_path / "out" / "quarantine.jsonl").read_text()
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_missing_values_count_as_broken(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": null}\n')
    with pytest.raises(UserError, match=r"1 of 2 records are broken.*no text \(1\)"):
        preparing.prepare(
            Preparation((JsonLines(("a.jsonl",), str(tmp_path)),), (Missing(),)),
            "x",
            tmp_path / "out",
            say=str,
        )


def test_a_stage_that_leaves_nothing_says_why(raw, tmp_path):
    with pytest.raises(
        UserError,
        match="Length drops all 33 records, most of them because: too long",
    ):
        prepared(raw, tmp_path / "out", stages=(Length(0, 0),))


def test_a_place_that_cannot_be_written_is_refused(raw, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match="file/out cannot be written"):
        prepared(raw, tmp_path / "file" / "out")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_full_disk_is_told_and_costs_no_finished_stage(raw, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "no space left on the disk")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        with pytest.raises(UserError, match="no space left on the disk"):
            prepared(raw, tmp_path / "out")
    _, said = prepared(raw, tmp_path / "out")
    assert all("done before" in line for line in said)


def test_near_duplicates_never_straddle_the_split(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    lines = []
    for number in range(40):  # families of three, each text with one word changed
        for change in range(3):
            text = words(number).split()
            text[change] = f"changed{change}"
            lines.append(" ".join(text))
    (folder / "a.txt").write_text("\n".join(lines))
    out = tmp_path / "out"
    prepared(folder, out, stages=(Splits(0.3, 0.2, texts=NEAR),))
    place = {
        row["text"]: split for split in ("train", "test", "validation") for row in rows(out, split)
    }
    families = [{place[line] for line in lines[i : i + 3]} for i in range(0, len(lines), 3)]
    assert all(len(family) == 1 for family in families)
    assert {split for family in families for split in family} == {"train", "test", "validation"}


def test_records_of_one_source_stay_together_and_missing_values_do_not_bind(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    told = [{"text": str(n), "who": None if n % 2 else f"p{n % 8}"} for n in range(80)]
    (folder / "a.jsonl").write_text("\n".join(json.dumps(row) for row in told))
    reader = JsonLines(("a.jsonl",), str(folder), ("text", "who"))
    out = tmp_path / "out"
    preparing.prepare(Preparation((reader,), (Splits(0.5, same=("who",)),)), "x", out, say=str)
    place = {row["text"]: split for split in ("train", "test") for row in rows(out, split)}
    for person in ("p0", "p2", "p4", "p6"):
        assert len({place[row["text"]] for row in told if row["who"] == person}) == 1
    assert len({place[row["text"]] for row in told if row["who"] is None}) == 2


def test_texts_to_be_judged_by_leave_the_training_set(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    secret = words(1, 30)
    lines = [
        words(2, 20) + " " + secret.upper()[:70] + " " + words(3),
        words(4),
        "short one!",
        "a short one too",
    ]
    (folder / "train.txt").write_text("\n".join(lines))
    (folder / "judge.txt").write_text(secret + "\n\nShort, one.")
    judge = Texts(("judge.txt",), str(folder), "paragraphs")
    found = Preparation(
        (Texts(("train.txt",), str(folder), "lines"),), (Decontaminated((judge,), 8, least=2),)
    )
    out = tmp_path / "out"
    manifest = json.loads(preparing.prepare(found, "x", out, say=str).read_text())
    assert manifest["stages"][1]["dropped"] == {"in an evaluation set": 3}
    assert [row["text"] for row in rows(out)] == [lines[1]]


def test_classes_are_cut_to_the_smallest(tmp_path):
    told = [{"text": str(n), "label": "a" if n < 30 else "b"} for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in told))
    reader = JsonLines(("a.jsonl",), str(tmp_path), ("text", "label"))
    for most, counts in ((None, (10, 10)), (4, (4, 4)), (20, (20, 10))):
        out = tmp_path / f"out{most}"
        preparing.prepare(Preparation((reader,), (Balanced(most=most),)), "x", out, say=str)
        labels = [row["label"] for row in rows(out)]
        assert shards.classes(out)["label"] == {"a": counts[0], "b": counts[1]}
        assert (out / "plots" / "classes_label.png").exists()
        assert (labels.count("a"), labels.count("b")) == counts


def test_a_record_of_no_class_is_dropped_before_classes_are_cut(tmp_path):
    told = [{"text": str(n), "label": ("a", "None", None)[n % 3]} for n in range(30)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in told))
    reader = JsonLines(("a.jsonl",), str(tmp_path), ("text", "label"))
    manifest = preparing.prepare(
        Preparation((reader,), (Balanced(),)), "x", tmp_path / "out", say=str
    )
    assert json.loads(manifest.read_text())["stages"][1]["dropped"] == {"no label": 10}
    assert shards.classes(tmp_path / "out")["label"] == {"a": 10, "None": 10}


def test_a_column_may_tell_the_split(tmp_path):
    told = [{"text": str(n), "part": ("train", "dev", "other")[n % 3]} for n in range(9)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in told))
    reader = JsonLines(("a.jsonl",), str(tmp_path), ("text", "part"))
    stage = Named("part", (("train", "train"), ("dev", "test")))
    out = tmp_path / "out"
    manifest = json.loads(
        preparing.prepare(Preparation((reader,), (stage,)), "x", out, say=str).read_text()
    )
    assert manifest["stages"][1]["dropped"] == {"no split": 3}
    assert [row["text"] for row in rows(out, "test")] == ["1", "4", "7"] and len(rows(out)) == 3


def test_images_that_look_alike_are_one(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(6):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize(
            (64, 64), Image.Resampling.BICUBIC
        )
        small.save(tmp_path / f"{number}.png")
    Image.open(tmp_path / "2.png").resize((48, 48)).save(tmp_path / "again.jpg")
    out = tmp_path / "out"
    found = Preparation((Images(("*.png", "*.jpg"), str(tmp_path)),), (NearImages(),))
    manifest = json.loads(preparing.prepare(found, "x", out, say=str).read_text())
    assert manifest["stages"][1]["dropped"] == {"near-duplicate": 1}
    assert sorted(row["id"] for row in rows(out)) == [f"{n}.png" for n in range(6)]


@dataclass(frozen=True)
class NoStage:
    pass


def test_what_is_no_preparation_is_refused():
    with pytest.raises(UserError, match="max_bad must be from 0 to 1"):
        Preparation((), max_bad=2)
    with pytest.raises(UserError, match="stages must be subclasses of"):
        Preparation((), (NoStage(),))
    with pytest.raises(UserError, match="test and validation together must be below 1"):
        Splits(0.6, 0.4)


def test_shards_hold_a_random_part_each(tmp_path):
    (tmp_path / "in").mkdir()
    table = pa.table({"id": [f"r{n:05d}" for n in range(3000)], "text": ["x" * 50] * 3000})
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    (tmp_path / "out").mkdir()
    found = shards.write(tmp_path / "in", tmp_path / "out", table.nbytes // 4)
    counts = [shard.rows for shard in found.files]
    assert sum(counts) == 3000 and 4 <= len(counts) <= 5
    assert np.abs(np.array(counts) - 3000 / len(counts)).max() < 4 * np.sqrt(3000 / len(counts))
