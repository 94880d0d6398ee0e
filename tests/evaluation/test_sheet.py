"""The sheet: what it shows are the samples, their true neighbours and the right shares, in a
picture of fit size.
"""

import dataclasses

import numpy as np
import pytest

from genjax import parallel
from genjax.data.pictures import GAP, grid
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.images import sheet
from genjax.evaluation.images.sheet import Sheet
from genjax.families.classifier import Classifier
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.parallel import Devices
from tests.evaluation.test_bias import RUN, evenly, eyes, painted, planted

FAMILY = VAE(2, MLPCoder((4,)))


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


def on_levels(layout, drawn=None):
    """Samples of ten brightnesses, and data of every brightness a hundred times."""
    labels = {"train": evenly(1000), "test": evenly(500)}
    return planted(layout, painted(evenly(200) if drawn is None else drawn, 10), labels, 10)


@pytest.fixture
def drawn(monkeypatch):
    """What the sheet hands to its drawing."""
    seen = []
    draw = sheet._report
    monkeypatch.setattr(sheet, "_report", lambda *parts: seen.append(parts) or draw(*parts))
    return seen


def test_samples_stand_beside_their_nearest_training_images(layout, drawn):
    on = on_levels(layout, np.arange(200) % 10)
    Sheet(samples=200, shown=12, rows=5, neighbours=3)(on)
    [(images, pairs, columns, found, text)] = drawn
    decode = on.model.codec.decode
    np.testing.assert_array_equal(images, grid(decode(on.drawn[:12])))
    np.testing.assert_array_equal(
        pairs, grid(decode(np.repeat(on.drawn[:5], 4, axis=0)), columns=4)
    )
    assert columns == 4 and found is None
    assert text["beside"] == "samples (left) and the nearest training images, in pixels"


def test_the_histogram_counts_samples_and_held_out_images(layout, drawn):
    label = evenly(200)
    label[label == 3] = 7
    on = on_levels(layout, label)
    report = Sheet(samples=200, shown=4, rows=1, classifier=RUN, features=RUN)(on)
    found, text = drawn[0][3:]
    np.testing.assert_allclose(found.share, np.bincount(label, minlength=10) / 200)
    np.testing.assert_allclose(found.of_data, 0.1)
    assert list(np.flatnonzero(found.flagged)) == [3, 7]
    assert text["classes"] == "classes of 200 samples" and text["of_data"] == "test images"
    assert "in a classifier's features" in text["beside"] and text["title"] == "VAE, step 0"
    assert not report.numbers and set(report.pictures) == {"report"}


def test_the_line_after_the_samples_falls_between_two_columns():
    for columns, side in ((4, 8), (7, 28), (3, 64)):
        picture = grid(np.zeros((2 * columns, side, side, 1), np.uint8), columns=columns)
        at = (picture.shape[1] - GAP) / columns + (GAP - 1) / 2
        assert (picture[:, int(np.floor(at)), 0] == 255).all() and (
            picture[:, int(np.ceil(at)), 0] == 255
        ).all()


def test_the_histogram_adds_height_and_nothing_is_too_large(layout):
    on = on_levels(layout)
    bare, whole = (Sheet(samples=200, classifier=run)(on).pictures["report"] for run in (None, RUN))
    assert bare.dtype == np.uint8 and bare.shape[-1] == 3
    assert whole.shape[0] > bare.shape[0] + 200 and whole.shape[1] == bare.shape[1]
    long = Sheet(samples=200, shown=3, rows=1, neighbours=30)(on).pictures["report"]
    assert long.shape[1] < 1600 and max(whole.shape) < 1600 and min(whole.shape[:2]) > 600


def test_fewer_training_images_than_neighbours_are_all_shown(layout, drawn):
    labels = {"train": evenly(3, 3), "test": evenly(3, 3)}
    Sheet(samples=4, shown=4, rows=2, neighbours=5)(
        planted(layout, painted(evenly(4), 10), labels, 10)
    )
    assert drawn[0][2] == 1 + 3


def test_runs_are_named_once():
    assert Sheet().runs == () and Sheet(classifier=RUN).runs == (RUN,)
    assert Sheet(classifier=RUN, features=RUN).runs == (RUN,)
    assert Sheet(classifier="runs/a", features="runs/b").runs == ("runs/b", "runs/a")


def test_what_has_no_sheet_is_refused():
    images = Digits().open().spec
    Sheet(classifier=RUN).check(FAMILY, images, {})
    with pytest.raises(UserError, match="Sheet needs images, but the data are points"):
        Sheet().check(FAMILY, Points(size=10, test_size=5).open().spec, {})
    with pytest.raises(UserError, match="Sheet needs samples, but a classifier draws no samples"):
        Sheet().check(Classifier(MLPBackbone((4,))), images, {})
    for field in ("classifier", "features"):
        with pytest.raises(
            UserError, match="Sheet needs the run of an image classifier, but runs/eyes is none"
        ):
            Sheet(**{field: RUN}).check(
                FAMILY, images, {RUN: dataclasses.replace(eyes(10), family=FAMILY)}
            )
    for wrong in ({"rows": 0}, {"shown": 0}, {"neighbours": 0}, {"limit": 2}, {"samples": 63}):
        with pytest.raises(UserError, match="Sheet"):
            Sheet(**wrong)
