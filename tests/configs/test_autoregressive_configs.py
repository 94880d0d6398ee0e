"""The configs of configs/autoregressive."""

import pytest

from tests.configs.checks import check_tiny_form, check_whole_form, configs, quick_ones_first

NAMES = configs("autoregressive")


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_form_is_sound(name, monkeypatch):
    check_whole_form(name, monkeypatch)


@pytest.mark.parametrize("name", quick_ones_first(NAMES))
def test_the_tiny_form_trains_samples_and_is_judged(name, trained, tmp_path, monkeypatch):
    check_tiny_form(name, trained, tmp_path, monkeypatch)
