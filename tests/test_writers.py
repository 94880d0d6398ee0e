"""What a run writes: rows, events, pictures and the plot of the losses."""

import json
import math
import shutil
import subprocess
import sys

import matplotlib.figure
import numpy as np
import pytest
from etils import epath
from PIL import Image

from genjax.runs.events import records
from genjax.runs.screen import Status
from genjax.runs.writers import Writers, plot_losses, read_rows, truncate_rows


@pytest.fixture
def folder(run_dir):
    (run_dir / "samples").mkdir(parents=True)
    return epath.Path(run_dir)


def write_rows(folder, *steps):
    with Writers(folder, 0, 100, quiet=True) as out:
        for step in steps:
            out.write_row(step, "train", {"loss": step / 2})


def steps_of(folder):
    return [row["step"] for row in read_rows(folder / "metrics.jsonl")]


def test_a_row_is_one_line_of_json_at_once(folder):
    with Writers(folder, 0, 100, quiet=True) as out:
        out.write_row(5, "train", {"loss": 0.5, "kl": np.float32(0.25)})
        out.write_row(5, "eval", {"loss": 2})
        lines = (
            (folder / "metrics.jsonl").read_text().splitlines()
        )  # before it is closed: a reader may look any time
    assert json.loads(lines[0]) == {"step": 5, "split": "train", "loss": 0.5, "kl": 0.25}
    assert json.loads(lines[1]) == {"step": 5, "split": "eval", "loss": 2.0}


def test_rows_past_the_step_are_cut_and_the_file_goes_on(folder):
    write_rows(folder, 10, 20, 30)
    with Writers(folder, 20, 100, quiet=True) as out:
        assert steps_of(folder) == [10, 20]
        out.write_row(25, "train", {"loss": 1.0})
    assert steps_of(folder) == [10, 20, 25]
    assert not list(folder.glob("*.new"))


def test_a_half_written_last_line_is_dropped_and_nothing_is_glued_to_it(folder):
    write_rows(folder, 10, 20)
    path = folder / "metrics.jsonl"
    whole = path.read_text()
    for end in range(1, len(whole) // 2):
        path.write_text(whole[:-end] if end > 1 else whole[:-1])
        kept = [10, 20] if end == 1 else [10]
        assert steps_of(folder) == kept
        truncate_rows(path, 20)
        with path.open("a") as file:
            file.write('{"step": 30, "split": "train"}\n')
        assert steps_of(folder) == [*kept, 30]


def test_the_rows_of_no_file_are_none(folder):
    assert read_rows(folder / "metrics.jsonl") == []
    truncate_rows(folder / "metrics.jsonl", 5)
    assert (folder / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")]
)
def test_what_is_not_finite_becomes_null_without_noise(folder, capfd, value):
    with Writers(folder, 0, 100, quiet=True) as out:
        out.write_row(1, "train", {"loss": value, "kl": 1.0})
    (line,) = (folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {
        "step": 1,
        "split": "train",
        "loss": None,
        "kl": 1.0,
    }
    assert capfd.readouterr() == ("", "")


def scalars(folder):
    """Tag, step and value of every scalar of the event files, as they lie there."""
    from tensorboardX.proto import event_pb2  # by now without PyTorch

    found = []
    for path in sorted((folder / "tensorboard").glob("*")):
        for data in records(path.read_bytes()):
            event = event_pb2.Event.FromString(data)
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found


def test_tensorboard_s_files_are_written_without_pytorch_which_can_still_be_imported():
    code = "import sys, genjax.runs.events; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_tensorboard_holds_every_row_once_whatever_was_lost_with_a_process(folder):
    write_rows(folder, 10, 20, 30, 40)
    (path,) = (folder / "tensorboard").iterdir()
    whole = path.read_bytes()
    expected = [("train/loss", step, step / 2) for step in (10, 20, 30)]
    for cut in (
        len(whole),
        len(whole) - 3,
        len(whole) - 60,
        40,
        0,
    ):  # what a kill has left of the file
        shutil.rmtree(folder / "tensorboard")
        (folder / "tensorboard").mkdir()
        path.write_bytes(whole[:cut])
        with Writers(folder, 30, 100, quiet=True):
            pass
        assert sorted(scalars(folder)) == expected, cut
        assert steps_of(folder) == [10, 20, 30]
    with Writers(folder, 30, 100, quiet=True) as out:
        out.write_row(35, "eval", {"loss": math.nan})
        out.flush()
        assert len(scalars(folder)) == 4  # before it is closed
    assert sorted(scalars(folder))[0][:2] == ("eval/loss", 35) and math.isnan(
        sorted(scalars(folder))[0][2]
    )


def test_a_repeated_start_adds_no_event_file_and_a_flipped_bit_costs_no_row(folder):
    write_rows(folder, 10, 20)
    (path,) = (folder / "tensorboard").iterdir()
    before = path.read_bytes()
    with Writers(folder, 20, 20, quiet=True):
        pass
    assert [path] == list((folder / "tensorboard").iterdir()) and path.read_bytes() == before
    path.write_bytes(before[:-20] + bytes([before[-20] ^ 1]) + before[-19:])
    with Writers(folder, 20, 20, quiet=True):
        pass
    assert sorted(scalars(folder)) == [("train/loss", 10, 5.0), ("train/loss", 20, 10.0)]


def test_tensorboard_events_grow_and_hold_the_tags(folder):
    def content():
        return b"".join(path.read_bytes() for path in sorted((folder / "tensorboard").glob("*")))

    write_rows(folder)
    empty = len(content())
    write_rows(folder, 1, 2, 3)
    some = content()
    assert len(some) > empty and some.count(b"train/loss") == 3
    with Writers(folder, 3, 100, quiet=True) as out:
        out.write_row(4, "eval", {"bits_per_dim": 1.0})
        out.write_picture(4, "walk", np.zeros((8, 8, 3), np.uint8))
    assert b"eval/bits_per_dim" in content() and b"walk" in content() and len(content()) > len(some)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_a_png_of_the_same_pixels(folder, channels):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, channels), np.uint8)
    with Writers(folder, 0, 100, quiet=True) as out:
        out.write_picture(12, "walk", image)
    again = np.asarray(Image.open(folder / "samples" / "00000012_walk.png"))
    np.testing.assert_array_equal(again.reshape(image.shape), image)


def test_inactive_writers_write_nothing(tmp_path, capfd):
    run_dir = epath.Path(tmp_path / "other_process")
    with Writers(run_dir, 0, 100, active=False) as out:
        out.write_row(1, "train", {"loss": 1.0})
        out.write_picture(1, "walk", np.zeros((8, 8, 1), np.uint8))
        out.show_progress(Status(1, {"loss": 1.0}))
        out.report("held out")
        out.say("hello")
    assert not run_dir.exists()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn."""
    figures = []

    class Kept(matplotlib.figure.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            figures.append(self)

    monkeypatch.setattr(matplotlib.figure, "Figure", Kept)
    return figures


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_the_plot_of_no_rows_of_one_and_of_many(folder, drawn):
    path = plot_losses(folder)
    assert path == folder / "plots" / "loss.png" and Image.open(path).format == "PNG"
    write_rows(folder, 10)
    plot_losses(folder)
    with Writers(folder, 10, 100, quiet=True) as out:
        out.write_row(20, "train", {"loss": 7.0})
        out.write_row(20, "eval", {"loss": 8.0})
    plot_losses(folder)
    nothing, one, many = map(lines, drawn)
    assert not nothing
    assert one["train"].get_marker() == "o"  # a line of one point alone would not be seen
    assert many["train"].get_xydata().tolist() == [[10, 5], [20, 7]]
    assert many["eval"].get_xydata().tolist() == [[20, 8]]


def test_the_plot_leaves_out_what_has_no_loss(folder, drawn):
    with Writers(folder, 0, 100, quiet=True) as out:
        out.write_row(1, "train", {"loss": math.nan})
        out.write_row(2, "eval", {"kl": 1.0})
    plot_losses(folder)
    assert not lines(drawn[0])
