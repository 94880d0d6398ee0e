"""The map of components is that of the code: nothing is missing, and every link leads somewhere."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from benchmarks import components
from genjax import gx

SECTIONS = components.list_components()
LISTED = {each.name: each for section in SECTIONS.values() for each in section}
ROOT = Path(__file__).parent.parent


def test_the_page_is_current(tmp_path, capsys):
    assert components.main(["--check"]) == 0
    page = tmp_path / "components.md"
    assert components.main(["--check"], page) == 1 and "is not current" in capsys.readouterr().err
    assert components.main([], page) == 0 and components.main(["--check"], page) == 0


def test_every_component_that_a_config_is_written_with_is_listed_once():
    wanted = {
        name
        for name in dir(gx)
        if inspect.isclass(kind := getattr(gx, name)) and dataclasses.is_dataclass(kind)
    }
    assert not wanted - LISTED.keys()
    names = [each.name for section in SECTIONS.values() for each in section]
    assert len(names) == len(set(names)) > 150


@pytest.mark.parametrize("title", components.SECTIONS)
def test_every_kind_has_some_with_a_sentence_and_fields(title):
    section = SECTIONS[title]
    assert section and all(len(each.line) > 4 and "\n" not in each.line for each in section)
    lines = [re.sub(r"\[[-\d, ]+\)", "", each.line) for each in section]  # half-open ranges
    assert all(line.count("(") == line.count(")") for line in lines)


def test_fields_and_users_are_those_of_the_code():
    vae = LISTED["VAE"]
    assert "latent_dim=32" in vae.fields and "beta=Constant(...)" in vae.fields
    assert vae.config is not None and vae.config.startswith("../configs/vae/")
    assert LISTED["MLPCoder"].config is not None, "named by a config"
    assert LISTED["PriorSampler"].config is not None
    assert LISTED["Table"].config == "walks/table.md"
    assert LISTED["SGD"].fields == ("momentum=0.0", "nesterov=False"), "shared fields are said once"
    links = re.findall(r"\]\(([^)]+)\)", components.PAGE.read_text(encoding="utf-8"))
    assert len(links) > 120 and all((ROOT / "docs" / link).exists() for link in links)
