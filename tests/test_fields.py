"""Fields of nested components are replaced by dotted name."""

import pytest

from genjax import gx
from genjax.errors import UserError
from tests import toy


def test_the_named_fields_change_and_nothing_else():
    before = toy.experiment(
        family=gx.VAE(4, gx.MLPCoder((6, 5)), gx.Gaussian()), evaluators=(gx.LatentMap(),)
    )
    after = gx.replace_fields(
        before,
        {
            "steps": 8,
            "family.coder.hidden": (3,),
            "evaluators.0.while_training": False,
            "every.log": 2,
        },
    )
    assert (after.steps, after.family.coder.hidden, after.every.log) == (8, (3,), 2)
    assert (
        not after.evaluators[0].while_training
        and after.family.likelihood == before.family.likelihood
    )
    changed_back = {
        "steps": before.steps,
        "family.coder.hidden": (6, 5),
        "evaluators.0.while_training": True,
        "every.log": before.every.log,
    }
    assert gx.replace_fields(after, changed_back) == before


def test_all_changes_are_made_before_a_component_checks_itself():
    net = gx.Transformer(layers=1, heads=4, width=8)
    assert gx.replace_fields(net, {"width": 6, "heads": 3}) == gx.Transformer(
        layers=1, heads=3, width=6
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"stepz": 1},
        {"family.depth": 1},
        {"evaluators.0": 1},
        {"steps.x": 1},
        {"every": gx.Every(), "every.log": 1},
    ],
)
def test_what_is_not_there_is_refused(changes):
    with pytest.raises(UserError):
        gx.replace_fields(toy.experiment(), changes)


def test_every_name_of_the_namespace_is_there_and_named_once():
    for name in dir(gx):
        getattr(gx, name)
