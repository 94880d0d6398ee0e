"""The table of all configs: whole, as its file says, without a fault."""

import os

import pytest

from benchmarks import plan_and_run, plans
from benchmarks.plans_page import write_page
from genjax.plan.topology import PLUGINS
from genjax.serial.config_places import list_configs

FOUND = plans.read(plans.DOCS / plans.STORED)
ROW = {
    **{"config": "vae_digits", "on": "v5e:1x1", "options": "", "instead": "", "fits": True},
    "memory": {"needed": 7_000_000},
    "flops": 2_000_000_000,
    "roofline_s": {"products": 1e-3, "memory": 2e-3, "links": 0.0},
    **{"step_s": 2e-3, "steps": 3600, "hours": 2e-3, "compile_s": 5.0, "collectives": []},
}


def test_the_page_is_that_of_its_file(capsys, tmp_path):
    assert plans.main(["--check"]) == 0
    assert plans.main(["--check"], docs=tmp_path) == 1
    assert capsys.readouterr().err.endswith("is not current: python -m benchmarks.plans\n")


def test_every_config_that_trains_has_its_rows():
    rows = {(row["config"], row["on"]) for row in FOUND["rows"]}
    for name, path in list_configs().items():
        if path.parent.name == plans.NOT_TRAINED:
            continue
        wanted = plans.MACHINES if name not in plans.TOO_LARGE else ("v5e:16x16", "h200:8")
        for on in wanted:
            assert (name, on) in rows


def test_everything_compiles_and_fits():
    for row in FOUND["rows"]:
        assert row.get("fits"), row
        memory = row["memory"]
        parts = ("parameters", "optimizer", "average", "frozen", "batch", "activations")
        assert sum(memory[part] for part in parts) + memory["temporaries"] <= memory["usable"]
        assert row["step_s"] > 0 and row["hours"] > 0


def test_large_ones_are_planned_in_full():
    rows = [row for job in plans.LARGE if (row := plans.find_row(FOUND["rows"], job)) is not None]
    for row in rows:
        assert row["instead"] == "" and row["devices"] in (8, 256) and row["collectives"]


def test_plans_of_this_machine_are_near_what_a_step_took():
    assert {one["config"] for one in FOUND["measured"]} <= set(plan_and_run.CONFIGS)
    for one in FOUND["measured"]:
        assert abs(one["grown"] - one["planned"]) <= max(0.15 * one["planned"], 20e6), one
        assert 0 < one["reached"] <= 1


def test_faults_and_smaller_forms_are_marked():
    found = {**FOUND, "missing": [], "rows": [ROW]}
    assert "| `vae_digits` | 2 | 7 MB, 2 ms (memory), 7.2 s |  |  | 5 to 5 s |" in write_page(found)
    marked = (
        {"instead": "--tiny"},
        {"instead": "--family.net.blocks 1"},
        {"fits": False},
        {"fault": "no such"},
    )
    for change, said in zip(
        marked,
        ("| fits **(1)** |", "7.2 s **(1)** |", "**does not fit**", "**no such**"),
        strict=True,
    ):
        page = write_page({**FOUND, "rows": [ROW | change]})
        assert said in next(line for line in page.splitlines() if line.startswith("| `vae_digits"))


def test_jobs_of_one_config_share_a_process():
    jobs = [job for job in plans.list_jobs() if job.config == "vae_digits"]
    assert plans.group(jobs) == [jobs] and [job.on for job in jobs] == list(plans.MACHINES)
    row = {name: ROW[name] for name in ("config", "on", "options")}
    gone = {**row, "config": "gone"}
    assert plans.put([gone], row) == [row]


@pytest.mark.skipif(PLUGINS not in os.environ, reason=f"{PLUGINS} names no folder of compilers")
@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_every_config_compiles_for_every_machine(tmp_path):
    assert plans.main(["--again"], docs=tmp_path) == 0
