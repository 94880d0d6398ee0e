"""The ablations: each arm is a sound config, and the page is that of the numbers."""

import re

import pytest

from benchmarks import ablations
from genjax import gx
from genjax.config_files import load_config

FOUND = ablations.read(ablations.DOCS / ablations.STORED)


@pytest.mark.parametrize("name", ablations.list_ablations())
def test_every_arm_changes_its_config_alone(name):
    ablation = ablations.list_ablations()[name]
    config, _ = load_config(ablation.config)
    made = {
        arm: gx.replace_fields(config, {**ablation.fixed, **changes, "seed": 1})
        for arm, changes in ablation.arms.items()
    }
    shared = any("{arm}" in metric for metric in ablation.metrics)  # of one run
    assert len(set(map(repr, made.values()))) == (1 if shared else len(made))
    assert all(one.seed == 1 for one in made.values()) and len(ablation.seeds) > 1


def test_the_page_is_that_of_the_numbers_and_says_what_they_show():
    page = (ablations.DOCS / ablations.PAGE).read_text("utf-8")
    assert page == ablations.write_page(FOUND)
    pictures = set(re.findall(r"\]\((\S+\.png)\)", page))
    assert pictures == {f"{ablations.PICTURES}/{name}.png" for name in FOUND}
    for name, arms in FOUND.items():
        ablation = ablations.list_ablations()[name]
        assert (ablations.DOCS / ablations.PICTURES / f"{name}.png").exists() and ablation.answer
        assert set(arms) == set(ablation.arms)
        for numbers in arms.values():
            assert set(numbers) == set(map(str, ablation.seeds))
