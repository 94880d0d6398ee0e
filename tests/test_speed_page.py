"""docs/speed.md is what its results make it, and the command of the peers reads and keeps what it
should.
"""

import json

import pytest

from benchmarks import cases, extras, peers, speed
from genjax.errors import UserError

RUN = {
    "processor": "A Processor (AVX-512)",
    "cores": 2,
    "date": "2026-11-29",
    "versions": {"jax": "0.10.2"},
}


def row(name="vae", cores=2, ratio=0.5, genjax=3.0, peer=6.0):
    return {
        "name": name,
        "cores": cores,
        "genjax": genjax,
        "peer": peer,
        "unit": "ms/step",
        "ratio": ratio,
        "low": ratio,
        "high": ratio,
    }


def written(folder, name="run.json", **changes):
    path = folder / name
    path.write_text(json.dumps({**RUN, "results": [row()], **changes}), encoding="utf-8")
    return path


def docs(folder, text=f"# Speed\n\n{speed.BEGIN}\n{speed.END}\nafter\n"):
    (folder / speed.PAGE).write_text(text, encoding="utf-8")
    return folder


def test_the_page_is_current():
    assert speed.main(["--check"]) == 0


def test_the_stored_results_are_of_known_cases_and_written_as_they_are_read():
    text = (speed.DOCS / speed.STORED).read_text(encoding="utf-8")
    machines = json.loads(text)
    assert machines and speed.dump(machines) == text
    for machine in machines.values():
        assert set(machine["cases"]) <= set(cases.CASES)


def test_three_runs_become_their_median_and_range(tmp_path):
    paths = [
        written(
            tmp_path,
            f"{i}.json",
            date=f"2026-11-{28 + i // 2}",
            results=[row(ratio=ratio, genjax=10 * ratio), row("gpt", 1, 0.9), row("dcgan")],
        )
        for i, ratio in enumerate((0.44, 0.4, 0.5))
    ]
    place = docs(tmp_path)
    assert speed.main(list(map(str, paths)), place) == 0
    page = (place / speed.PAGE).read_text(encoding="utf-8")
    assert page.startswith("# Speed\n") and page.endswith(f"{speed.END}\nafter\n")
    assert "## A Processor (AVX-512), 2 cores" in page and "jax 0.10.2" in page
    assert "2026-11-28 and 2026-11-29" in page
    assert "| PyTorch | 0.45 | 0.44 (0.40–0.50) |  | 4.4 / 6 |" in page  # reaches its goal
    assert "| PyTorch | 0.7 |  | **0.90** (0.90–0.90) | 3 / 6 |" in page  # misses it, on one core
    assert speed.main(["--check"], place) == 0
    assert speed.main([], place) == 0 and (place / speed.PAGE).read_text() == page


def test_runs_replace_those_of_the_same_processor_and_no_other(tmp_path):
    place = docs(tmp_path)
    speed.main([str(written(tmp_path))], place)
    speed.main([str(written(tmp_path, processor="Other"))], place)
    speed.main([str(written(tmp_path, results=[row(ratio=0.3)]))], place)
    machines = json.loads((place / speed.STORED).read_text())
    ratios = {name: machine["cases"]["vae"]["2"]["ratios"] for name, machine in machines.items()}
    assert ratios == {RUN["processor"]: [0.3], "Other": [0.5]}


def test_added_runs_stand_beside_those_that_are_stored(tmp_path, capsys):
    place = docs(tmp_path)
    speed.main([str(written(tmp_path, results=[row(), row("gpt", 1, 0.9)]))], place)
    later = written(tmp_path, date="2026-11-30", results=[row(ratio=0.3, genjax=2.0)])
    assert speed.main(["--add", str(later)], place) == 0
    machine = json.loads((place / speed.STORED).read_text())[RUN["processor"]]
    assert machine["cases"]["vae"]["2"] == {"ratios": [0.5, 0.3], "genjax": 2.0, "peer": 6.0}
    assert machine["cases"]["gpt"]["1"]["ratios"] == [0.9]
    assert machine["dates"] == ["2026-11-29", "2026-11-30"]
    other = written(tmp_path, versions={"jax": "0.11.0"})
    assert speed.main(["--add", str(other)], place) == 2
    assert "versions" in capsys.readouterr().err


def test_a_page_that_someone_edited_is_not_current(tmp_path, capsys):
    place = docs(tmp_path)
    speed.main([str(written(tmp_path))], place)
    page = place / speed.PAGE
    page.write_text(page.read_text().replace("0.50", "0.30"), encoding="utf-8")
    assert speed.main(["--check"], place) == 1
    assert capsys.readouterr().err.endswith("is not current: python -m benchmarks.speed\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"results": []},
        {"results": [row("no such case")]},
        {"results": [row(ratio=float("nan"))]},
        {"results": [row(peer=0)]},
        {"results": [{"name": "vae"}]},
        {"results": 3},
        {"cores": "many"},
        {"versions": None},
        {"date": 3},
    ],
)
def test_a_file_that_is_no_run_is_refused(tmp_path, changes):
    path = written(tmp_path, **changes)
    with pytest.raises(UserError) as error:
        speed.read_run(path)
    assert error.value.field == str(path) and str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '"run"'])
def test_other_files_are_refused_and_nothing_is_written(tmp_path, capsys, text):
    place, path = docs(tmp_path), tmp_path / "other.json"
    path.write_text(text, encoding="utf-8")
    assert speed.main([str(path)], place) == 2
    assert speed.main([str(tmp_path / "missing.json")], place) == 2
    assert not (place / speed.STORED).exists()
    assert [line[:6] for line in capsys.readouterr().err.splitlines()] == ["error:"] * 2


@pytest.mark.parametrize("key", ["processor", "cores", "versions"])
def test_runs_of_two_machines_are_not_merged(key):
    other = {"processor": "Other", "cores": 4, "versions": {"jax": "1"}}
    runs = [{**RUN, "results": [row()]}, {**RUN, key: other[key], "results": [row()]}]
    with pytest.raises(UserError) as error:
        speed.merge(runs)
    assert error.value.field == key


@pytest.mark.parametrize("text", ["# Speed\n", f"{speed.BEGIN}\n", f"{speed.END}{speed.BEGIN}"])
def test_a_page_without_its_marks_is_refused(text):
    with pytest.raises(UserError) as error:
        speed.fill(text, {})
    assert error.value.field == speed.PAGE


def test_a_file_of_today_is_continued_and_another_is_not(tmp_path):
    path = tmp_path / "deep" / "run.json"
    new = peers.load_file(path)
    assert new["results"] == [] and new["cores"] == peers.count_cores()
    peers.save_file(path, new | {"results": [row()]})
    assert peers.load_file(path)["results"] == [row()]
    assert peers.load_file(path, ["gpt"])["results"] == [row()]
    assert peers.load_file(path, ["vae"])["results"] == []
    peers.save_file(path, new | {"results": [row()], "date": "2020-01-01"})
    assert peers.load_file(path)["results"] == []
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]


def test_measured_cases_are_not_measured_again(tmp_path, capsys, monkeypatch):
    asked = []

    def compare(case, rounds, seconds, core=None):
        asked.append((case, 1 if core is not None else peers.count_cores()))
        return row(case, asked[-1][1])

    monkeypatch.setattr(peers, "compare", compare)
    monkeypatch.setattr(peers, "find_missing", lambda case: [])
    path = str(tmp_path / "run.json")
    assert peers.main(["vae", "--json", path]) == 0
    assert peers.main(["vae", "gpt", "vae", "--pin", "--json", path]) == 0
    assert len(asked) == len(set(asked)) and {name for name, _ in asked} == {"vae", "gpt"}
    table = capsys.readouterr().out.splitlines()
    assert table[-2].startswith("| `vae` | PyTorch | 0.45 |") and "`gpt`" in table[-1]
    assert peers.main(["gpt", "--again", "--json", path]) == 0
    assert len(asked) == len(set(asked)) + 1


def test_a_peer_that_is_missing_is_said_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(peers, "find_missing", lambda case: ["trl"])
    assert peers.main(["grpo"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "grpo is left out: its peer needs trl\n" and shown.out == ""


@pytest.mark.parametrize(
    "words", [[], ["vea"], ["vae", "--rounds", "0"], ["vae", "--seconds", "0"]]
)
def test_wrong_words_end_with_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as error:
        peers.main(words)
    assert error.value.code == 2 and "error: " in capsys.readouterr().err


def test_each_number_of_cores_has_its_own_programs(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    folders = {peers.compile_cache(n)["JAX_COMPILATION_CACHE_DIR"] for n in (1, 2, 12)}
    assert len(folders) == 3 and all(folder.startswith("/somewhere") for folder in folders)


def test_all_leaves_out_only_what_takes_minutes():
    assert set(cases.CASES) - set(cases.ALL) == {"dedup"}
    assert all(case.goal > 0 and case.packages for case in cases.CASES.values())


def test_the_cost_of_extras_is_in_percent_of_a_step_without_them():
    took = {
        "whole": [12.0, 24.0, 12.0],
        "average": [11.0, 22.0, 11.0],
        "check": [12.0, 24.0, 12.0],
        "metrics": [11.5, 23.0, 11.5],
        "bare": [10.0, 20.0, 10.0],
    }
    assert extras.summarise(took) == {
        "average_percent": 10.0,
        "check_percent": 0.0,
        "metrics_percent": 5.0,
        "all_percent": 20.0,
    }
