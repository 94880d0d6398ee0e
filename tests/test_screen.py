"""What a person sees of a run: on a terminal, in a pipe, in a notebook; evaluations and the end."""

import fcntl
import io
import os
import pty
import re
import struct
import termios
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from toy import Toy, experiment

import genjax
from genjax.evaluation.outliers import describe_outliers
from genjax.experiment import Every, Keep
from genjax.family import Mean
from genjax.runs import meter, screen, writers
from genjax.runs.meter import describe_pauses
from genjax.runs.screen import (
    Lines,
    Notebook,
    Status,
    Terminal,
    choose_screen,
    describe,
    draw_bar,
    format_time,
)
from genjax.runs.summary import EARLIEST, PATIENCE, Alarms, Summary

STATUS = Status(1200, {"loss": 23.4, "kl": 3.125}, 512.0, 65536.0, 7.4)
NUMBERS = {"loss": 2.0, "accuracy": 0.5, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5}


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(screen, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


class Tty(io.StringIO):
    """Standard error of a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (7.4, "0:07"),
        (59.6, "1:00"),
        (3599.4, "59:59"),
        (3599.6, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (86_399, "1 d 0 h"),
        (105_342, "1 d 5 h"),  # once shown as 1755:42
        (1e9, "11,574 d 2 h"),
        (float("nan"), "?"),
        (float("inf"), "?"),
        (-1, "?"),
    ],
)
def test_a_time_is_in_minutes_hours_or_days(seconds, text):
    assert format_time(seconds) == text


def test_a_line_names_the_step_the_numbers_the_rate_and_what_is_left():
    assert describe(STATUS, 5000) == (
        "step 1200/5000  loss 23.4  kl 3.125  512 steps/s  65,536 examples/s  0:07 left"
    )


def test_a_bar_fills_up_and_takes_the_characters_that_can_be_written(monkeypatch):
    assert [draw_bar(share, 4) for share in (-1, 0, 0.5, 0.99, 1, 7)] == [
        *("░░░░", "░░░░", "██░░", "███░", "████", "████")
    ]
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert draw_bar(0.5, 4) == "##--"


def test_a_pipe_gets_lines_now_and_then_and_the_last(capfd, clock):
    lines = choose_screen(100)
    assert type(lines) is Lines
    for step in range(1, 101):
        lines.show(Status(step, {"loss": float("nan")}))
        clock[0] += 0.5
    lines.close()
    shown = capfd.readouterr().err
    steps = [line.split()[1] for line in shown.splitlines()]
    assert steps == [*(f"{step}/100" for step in range(1, 101, 10)), "100/100"]
    assert "loss nan" in shown and "\x1b" not in shown and "\r" not in shown


def test_a_day_in_a_pipe_is_a_line_a_minute(capfd, clock):
    lines = Lines(10**9)
    for step in range(24 * 360):
        lines.show(Status(step))
        clock[0] += 10
    assert 1400 < len(capfd.readouterr().err.splitlines()) < 2000


def test_a_terminal_redraws_one_bar_and_lines_that_stay_are_above_it(monkeypatch, clock):
    monkeypatch.setattr("sys.stderr", terminal := Tty())
    monkeypatch.setenv("COLUMNS", "200")
    shown = choose_screen(100)
    assert type(shown) is Terminal
    shown.show(Status(1, {"loss": 1.0}))
    shown.show(Status(2, {"loss": 1.0}))  # too soon
    clock[0] += 1
    shown.say("held out")
    shown.show(Status(50, {"loss": 1.0}))
    shown.close()
    text = terminal.getvalue()
    assert text.count("\r\x1b[K") == 3 and "step 2/" not in text
    assert "█" * 10 + "░" * 10 in text and text.endswith("left\n")
    shown.say("trained")
    shown.close()
    assert terminal.getvalue() == f"{text}\r\x1b[Ktrained\n", "nothing is drawn after the end"
    first = "░" * 20 + " " + describe(Status(1, {"loss": 1.0}), 100)
    assert f"\r\x1b[K{first}\r\x1b[Kheld out\n{first}\r\x1b[K" in text, "the bar stays below"


def test_a_bar_becomes_short_before_a_number_goes(monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Tty())
    monkeypatch.setenv("COLUMNS", "80")
    numbers = {"loss": 29.874, "kl": 0.90531, "reconstruction": 28.968}
    Terminal(40).show(Status(20, numbers, 512.0, 65536.0, 7.4))
    shown = terminal.getvalue().removeprefix("\r\x1b[K")
    assert shown == (
        "████░░░░ step 20/40  loss 29.874  kl 0.90531  reconstruction 28.968  0:07 left"
    )


def test_a_terminal_folds_between_numbers_and_words_and_leaves_commands_whole(monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Tty())
    monkeypatch.setenv("COLUMNS", "40")
    shown, path = Terminal(100), "a/folder/with/a/name/longer/than/the/screen.png"
    pairs = [f"number_{n} {n / 7:.5g}" for n in range(8)]
    shown.say("  ".join(["held out 20/40", *pairs, "(the best loss so far)"]))
    lines = terminal.getvalue().replace("\r\x1b[K", "").splitlines()
    assert all(len(line) < 40 for line in lines) and len(lines) > 3
    assert all(line.startswith("  number_") for line in lines[1:-1])
    assert "  ".join(lines).replace("    ", "  ").split("  ")[1:-1] == pairs
    shown.say(sentence := "say " + "python -m genjax train " * 5)
    assert terminal.getvalue().endswith(f"\r\x1b[K{sentence}\n")
    shown.say("the decoder does without the latents, " * 3 + path)
    lines = terminal.getvalue().replace("\r\x1b[K", "").splitlines()[-3:]
    assert lines[-1] == f"  {path}" and all(len(line) < 40 for line in lines[:-1])


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_a_bar_is_never_wider_than_the_terminal(columns, clock, monkeypatch):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(slave, "w", encoding="utf-8") as file:
        monkeypatch.setattr("sys.stderr", file)
        choose_screen(5000).show(STATUS)
        shown = os.read(master, 4096).decode().removeprefix("\r\x1b[K")
        assert len(shown) < columns and shown.startswith("█")
        assert ("left" in shown) == (columns > 20)
        monkeypatch.setenv("TERM", "dumb")
        assert type(choose_screen(5000)) is Lines
    os.close(master)


def test_a_notebook_updates_one_line_and_shows_the_newest_picture(monkeypatch, clock, tmp_path):
    shown = []

    class Handle:
        def __init__(self, number):
            self.number = number

        def update(self, content):
            shown[self.number] = content

    def display(content, display_id):
        assert display_id is True
        shown.append(content)
        return Handle(len(shown) - 1)

    monkeypatch.setattr("IPython.display.display", display)
    notebook, path = Notebook(100), tmp_path / "a.png"
    notebook.show_picture(path)  # which is not there
    for step in (50, 100):
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([step]) * 20)
        notebook.show(Status(step, {"loss": 1.0}))
        notebook.show_picture(path)
    line, picture = shown
    assert repr(line).startswith("█" * 20 + " step 100/100") and picture.data[-1] == 100


def run(tmp_path, family=Toy(), **changes):
    settings = {"steps": 4, "every": Every(log=1, evaluate=2, sample=4, checkpoint=4)} | changes
    return genjax.train(experiment(family=family, **settings), tmp_path / "run")


class KeyNumbers(Toy):
    key_numbers = ("grad_norm", "unknown")


def test_a_run_tells_its_key_numbers_its_evaluations_and_its_end(tmp_path, capfd):
    run(tmp_path, KeyNumbers())
    lines = capfd.readouterr().err.splitlines()
    assert re.match(r"step 1/4  loss \S+  grad_norm \S+  \S+ steps/s", lines[0])
    held = [line for line in lines if line.startswith("held out")]
    assert [line.split("  ")[0] for line in held] == [
        *("held out 2/4", "held out 4/4", "held out (test, 40 examples, step 4)")
    ]
    assert held[0].endswith("(the best loss so far)") and lines[-2].startswith("trained 4 steps in")
    assert "best" not in held[2], "the last evaluation is the best"
    rows = writers.read_rows(tmp_path / "run" / "metrics.jsonl")
    (last,) = (row for row in rows if row["split"] == "eval" and row["step"] == 4)
    assert f"  loss {last['loss']:.5g}" in held[2]


def test_a_finished_run_tells_what_it_has_reached_and_a_quiet_one_nothing(tmp_path, capfd):
    run(tmp_path)
    before = capfd.readouterr().err.splitlines()
    run(tmp_path)
    lines = capfd.readouterr().err.splitlines()
    assert "is finished" in lines[0] and lines[1:] == before[-1:]
    genjax.train(experiment(steps=2), tmp_path / "other", quiet=True)
    assert capfd.readouterr().err == ""


def test_what_was_not_evaluated_is_said_to_be_so(tmp_path, capfd):
    run(tmp_path, every=Every(log=1, evaluate=0, sample=0, checkpoint=0))
    assert capfd.readouterr().err.splitlines()[-1].startswith("nothing was evaluated")


def test_the_best_so_far_is_known_after_a_pause_and_by_any_number():
    rows = [
        {"step": 1, "split": "eval", "loss": 2.0, "accuracy": 0.9},
        {"step": 2, "split": "eval", "loss": None, "accuracy": 0.95},
        {"step": 3, "split": "train", "loss": 0.0, "accuracy": 1.0},
    ]
    summary = Summary(Keep(best="accuracy", larger_is_better=True), (), "test", rows)
    line = summary.take(4, 10, {"loss": 1.0, "accuracy": 0.5})
    assert line == "held out 4/10  loss 1  accuracy 0.5  (best accuracy 0.95 at step 2)"
    assert summary.conclude()[-1] == "the best: accuracy 0.95 at step 2"
    assert summary.take(5, 10, {"accuracy": 0.96}).endswith("(the best accuracy so far)")
    assert "best" not in "".join(summary.conclude())


def test_a_line_has_the_familys_numbers_first_and_says_how_many_are_left_out():
    summary = Summary(Keep(best=None), ("e", "accuracy"), "test")
    line = summary.take(1, 2, NUMBERS)
    assert line == "held out 1/2  loss 2  e 5  accuracy 0.5  a 1  b 2  c 3  and 1 more"


def test_a_collapse_is_said_once_it_lasts_and_again_after_a_recovery():
    alarms = Alarms(1000)
    found = {"kl": "it has collapsed"}
    assert not any(alarms.check(step, "train", found) for step in (1, 100, 249))
    said = [alarms.check(step, "train", found) for step in range(250, 256)]
    assert said == [(), (), ("it has collapsed",), (), (), ()] and PATIENCE == 3
    assert list(alarms.standing) == ["kl"]
    assert alarms.check(300, "train", {}) == () and not alarms.standing
    assert alarms.check(301, "eval", found) == ("it has collapsed",)
    assert Alarms(20).check(EARLIEST - 1, "eval", found) == ()


class OneIsFar(Toy):
    """The loss of the example with the largest first coordinate is far above the others."""

    def evaluate(self, state, batch, key):
        x = batch["points"][:, 0]
        return {"loss": Mean.of(1.0 + 0.1 * np.sin(1) * x + 400.0 * (x > 2.9), batch["mask"])}


def test_the_examples_that_dominate_a_held_out_loss_are_named(tmp_path, capfd):
    found = run(tmp_path, OneIsFar(), batch_size=16).evaluate()
    points = experiment().data.open().splits["test"].batch(np.arange(40))["points"][:, 0]
    far = np.flatnonzero(points > 2.9)
    assert 1 <= len(far) <= 2
    (remark,) = found.remarks
    named = ", ".join(map(str, far))
    assert "of the 40 of test dominate its loss: without them it is" in remark
    assert f"{named}, counted from 0" in remark
    assert remark in capfd.readouterr().err.splitlines(), "while it trains, too"
    assert run(tmp_path / "other").evaluate().remarks == ()


def test_few_examples_dominate_where_they_make_more_than_half_of_a_loss():
    rng = np.random.default_rng(0)
    ones, loss = np.ones(142), 1.1 + 0.05 * rng.normal(size=142)
    loss[[17, 88]] = 560.0, 570.0
    (remark,) = describe_outliers(loss, ones, "test")
    assert remark.startswith("2 examples of the 142 of test dominate its loss: without them it is")
    assert remark.endswith("(rows 17, 88, counted from 0)") and " 1.10" in remark
    tokens = rng.integers(5, 50, 142)
    assert "(rows 17, 88," in describe_outliers(loss * tokens, 1.0 * tokens, "test")[0]
    loss[3] = np.nan
    assert "1 of 142 examples of t is not finite (row 3," in describe_outliers(loss, ones, "t")[0]


@pytest.mark.parametrize(
    "loss",
    [
        np.random.default_rng(0).exponential(size=400),  # a long tail is not an outlier
        np.random.default_rng(0).normal(-20, 30, size=400),  # densities: around 0, of any sign
        np.random.default_rng(0).lognormal(0, 1.5, size=400),
        np.r_[np.zeros(390), np.ones(10)],  # a classifier that is wrong about some
        np.ones(5),
        np.full(50, np.nan),
        np.zeros(50),
    ],
)
def test_losses_that_are_as_losses_are_raise_no_alarm(loss):
    assert describe_outliers(loss, np.ones(len(loss)), "test") == ()


class Looping(Toy):
    """A loss with a loop that has no gradient in the mask."""

    def evaluate(self, state, batch, key):
        import jax

        total = jax.lax.while_loop(
            lambda c: c[0] < 3,
            lambda c: (c[0] + 1, c[1] + (batch["mask"] * c[1]).sum()),
            (0, batch["mask"].sum()),
        )[1]
        return {"loss": Mean(total, batch["mask"].sum())}


def test_a_loss_without_a_slope_in_the_mask_is_judged_all_the_same(tmp_path, capfd):
    assert run(tmp_path, Looping()).evaluate().numbers["loss"] > 1
    assert "dominate" not in capfd.readouterr().err


def test_a_rate_is_measured_over_a_second_where_rows_come_faster(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = meter.Clock(0)
    speeds = []
    for step in range(1, 41):
        now[0] += 0.25 if step < 40 else 1e-4  # the last row is read as soon as the one before
        speeds.append(clock.measure_speed(step))
    assert all(abs(speed - 4) < 0.01 for speed in speeds[:-1]) and speeds[-1] < 5.1
    now[0] += 10
    assert clock.measure_speed(140) == 10.0, "rows that come slower are each measured alone"


def test_time_left_counts_evaluations_and_not_the_compilation(monkeypatch):
    now = [50.0]
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = meter.Clock(100)
    with clock.skip_compilation():
        now[0] += 60
    assert clock.estimate_seconds_left(100, 200) == float("inf")
    now[0] += 2
    with clock.pause("evaluate"):
        now[0] += 3  # an evaluation
    assert clock.measure_speed(110) == 5.0
    assert clock.estimate_seconds_left(110, 200) == 45.0 and clock.measure_total(110) == (10, 5.0)
    assert clock.paused == {"evaluate": 3.0}


def test_a_run_says_when_much_of_its_time_was_not_training_and_what_to_change():
    every = {"log": 50, "evaluate": 100, "sample": 500, "checkpoint": 1000}
    say = partial(describe_pauses, every=every, steps=1000)
    assert say({"evaluate": 9.0, "checkpoint": 1.0}, seconds=100.0) == ()
    assert say({"evaluate": 50.0}, seconds=59.0) == (), "a short run is not worth it"
    (line,) = say({"evaluate": 20.0, "sample": 8.0, "checkpoint": 2.0}, seconds=100.0)
    assert line == (
        "30% of the time was not training (evaluate 20%, sample 8%): "
        "try --every.evaluate 386 --every.sample 1000"
    )
    # With that the 70 seconds of steps get 30 / 3.86 beside them: a tenth of the whole.
    assert say({"sample": 40.0, "checkpoint": 0.0}, seconds=100.0, steps=500) == (), "once"


def test_the_time_of_evaluations_is_measured_in_a_run(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(meter, "WORTH", 0.0)
    every = Every(log=5, evaluate=1, sample=2, checkpoint=0)
    genjax.train(experiment(steps=10, every=every), tmp_path / "run")
    said = capfd.readouterr().err
    assert "of the time was not training" in said and "try --every.evaluate" in said
    monkeypatch.setattr(meter, "SHARE", 1.0)
    genjax.train(experiment(steps=10, every=every), tmp_path / "other")
    assert "not training" not in capfd.readouterr().err
