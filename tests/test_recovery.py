"""Starts after kills, damage and read errors: from the newest whole checkpoint, bitwise as if
nothing had happened.
"""

import errno
import random
import shutil
import string
from types import SimpleNamespace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

import genjax
from genjax import parallel
from genjax.errors import UserError
from genjax.experiment import Every, Keep
from genjax.machine import patience
from genjax.runs import writers
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.checkpoint_files import newest_step
from genjax.runs.setup import initial_state
from tests import toy

KEEP = Keep(3)
END = 40
NESTED = b"[" * 100_000
WRONG = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"3",
    "empty object": b"{}",
    "negative step": b'{"step": -5}',
    "text for a step": b'{"step": "30", "position": 480, "meter": null}',
    "text for a score": b'{"loss": "low"}',
    "list for a score": b'{"loss": [1.0]}',
    "cut": b'{"step": 3',
    "not UTF-8": b"\xff\xfe\x00",
    "zeros": bytes(70),
    "nested": NESTED,
}
COPIES = [
    "30.bak",
    "30_old",
    "30 (copy)",
    "30~",
    "030",
    "-30",
    "+30",
    "3e1",
    "30.0",
    "٣٠",
    "foo",
    ".hidden",
    ".30.swp",
]


def config(steps):
    every = Every(log=10, evaluate=10 if steps < END else 0, sample=0, checkpoint=10)
    return toy.experiment(steps=steps, ema=0.9, every=every, keep=KEEP)


def leaves(state):
    return [
        np.asarray(x).tobytes()
        for x in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
    ]


@pytest.fixture(scope="module", autouse=True)
def without_plots():
    """Drawing takes longer than all else here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "plot_losses", lambda run_dir: None)
        yield


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, without_plots):
    """A run with the checkpoints 10, 20 and 30, the last of them its newest and best."""
    run_dir = tmp_path_factory.mktemp("stopped") / "run"
    genjax.train(config(30), run_dir, quiet=True)
    return run_dir


@pytest.fixture(scope="module")
def truth(stopped, tmp_path_factory):
    """The bits of the state by step: of the checkpoints, and of the end of a run that was
    never stopped.
    """
    whole = genjax.train(config(END), tmp_path_factory.mktemp("whole") / "run", quiet=True)
    return {step: leaves(genjax.load(stopped, step).state) for step in (10, 20, 30)} | {
        END: leaves(whole.state)
    }


@pytest.fixture
def copied(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def target():
    experiment = config(END)
    spec = experiment.data.open().spec
    return parallel.start(experiment.devices).eval_shapes(initial_state(experiment, spec))


def restore(run_dir, target, read_only=False):
    """The bits and the step that a reader or writer finds; a writer writes the next
    checkpoint, too.
    """
    with Checkpoints(run_dir, KEEP, read_only) as checkpoints:
        state, progress = checkpoints.restore(target)
        assert progress["step"] == int(state.step)
        if not read_only:
            checkpoints.save(
                35, state.replace(step=state.step * 0 + 35), progress | {"step": 35}, {"loss": 1e9}
            )
            checkpoints.wait()
            assert 35 in checkpoints.list_steps() and checkpoints.find_best_step() in (10, 20, 30)
    return leaves(state), progress["step"]


def steps_left(folder):
    return {path.name for path in folder.iterdir()}


UNFINISHED = "orbax-checkpoint-tmp"
ITEMS = ("state", "progress", "checksums", "metrics", "_CHECKPOINT_METADATA")


def half_written(*items):
    """What a process leaves that was killed as it wrote checkpoint 40."""

    def do(folder):
        (folder / f"40.{UNFINISHED}").mkdir()
        for item in items:
            copy = shutil.copytree if (folder / "30" / item).is_dir() else shutil.copy
            copy(folder / "30" / item, folder / f"40.{UNFINISHED}" / item)

    return do


def tmp_items(folder):
    (folder / f"40.{UNFINISHED}").mkdir()
    for item in ITEMS[:4]:
        shutil.copytree(folder / "30" / item, folder / f"40.{UNFINISHED}" / f"{item}.{UNFINISHED}")


def tmp_beside_items(folder):
    (folder / "30" / f"state.{UNFINISHED}").mkdir()


def partial(*missing):
    """A folder of checkpoint 40 that lacks something."""

    def do(folder):
        shutil.copytree(folder / "30", folder / "40")
        for name in missing:
            path = folder / "40" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return do


def written(name, content=b""):
    def do(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return do


FORMS = {
    "nothing in it": half_written(),
    **{f"{item} alone": half_written(item) for item in ITEMS},
    "all in it": half_written(*ITEMS),
    "items unfinished": tmp_items,
    "unfinished in a whole one": tmp_beside_items,
    "two unfinished": lambda folder: [
        (folder / f"{n}.{UNFINISHED}-17{n}").mkdir() for n in (40, 50)
    ],
    "unfinished as a file": written(f"40.{UNFINISHED}"),
    "an empty folder": lambda folder: (folder / "40").mkdir(),
    "a file for a folder": written("40", b"x"),
    **{f"without {name}": partial(name) for name in ("state", "progress", "checksums", "state/d")},
    "without state and progress": partial("state", "progress"),
    "without arrays": partial("state/d", "state/ocdbt.process_0"),
    "without manifest": partial("state/manifest.ocdbt"),
    "without metadata": partial("state/_METADATA"),
    "a stale lock": written("40.lock"),
    "a stale lock within": written("30/state/.lock"),
    "a stale file": written("tmp_1234", b"x" * 10),
}
HARMLESS = [
    "metrics",
    "_CHECKPOINT_METADATA",
    "commit_success.txt",
    "state/commit_success.txt",
    "state/_sharding",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_start_after_a_kill_ends_as_if_there_had_been_none(copied, truth, form, capfd):
    FORMS[form](copied / "checkpoints")
    assert leaves(genjax.train(config(END), copied).state) == truth[END]
    said = capfd.readouterr().err
    assert "resuming from step 30" in said and "Traceback" not in said
    assert {"20", "30", "40"} <= steps_left(copied / "checkpoints")
    assert not [
        path for path in copied.rglob("*") if UNFINISHED in path.name and path.parent.name != "30"
    ]
    assert leaves(genjax.load(copied).state) == truth[END]


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_not_needed_may_lack(copied, truth, target, name):
    path = copied / "checkpoints" / "30" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for read_only in (True, False):
        assert restore(copied, target, read_only) == (truth[30], 30)


@pytest.mark.parametrize("read_only", [True, False])
def test_copies_are_left_in_place_and_not_taken(copied, truth, target, read_only, capfd):
    folder = copied / "checkpoints"
    for name in COPIES:
        shutil.copytree(folder / "10", folder / name)
    (folder / "notes.txt").write_text("mine")
    assert restore(copied, target, read_only) == (truth[30], 30)
    assert {*COPIES, "notes.txt"} <= steps_left(folder)
    assert capfd.readouterr().err == "" and not (copied / "damaged").exists()


def test_a_run_with_copies_ends_as_one_without(copied, truth):
    folder = copied / "checkpoints"
    for name in COPIES:
        shutil.copytree(folder / "10", folder / name)
    assert leaves(genjax.train(config(END), copied, quiet=True).state) == truth[END]
    assert {*COPIES} <= steps_left(folder)


@pytest.mark.parametrize("content", WRONG)
@pytest.mark.parametrize("part", ["progress/metadata", "checksums/metadata"])
def test_wrong_progress_costs_one_checkpoint_and_one_line(
    copied, truth, target, part, content, capfd
):
    (copied / "checkpoints" / "30" / part).write_bytes(WRONG[content])
    assert restore(copied, target, read_only=True) == (truth[20], 20)
    assert restore(copied, target) == (truth[20], 20)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("checkpoint 30 is damaged (") for line in lines)
    assert (copied / "damaged" / "30" / part).read_bytes() == WRONG[content]


@pytest.mark.parametrize("content", WRONG)
@pytest.mark.parametrize("part", ["metrics/metrics", "_CHECKPOINT_METADATA"])
def test_wrong_scores_and_dates_cost_no_checkpoint(copied, truth, target, part, content, capfd):
    (copied / "checkpoints" / "30" / part).write_bytes(WRONG[content])
    assert restore(copied, target, read_only=True) == (truth[30], 30)
    assert restore(copied, target) == (truth[30], 30)
    assert len(capfd.readouterr().err.splitlines()) <= 1


@pytest.mark.parametrize(
    "part", ["metrics", "metrics/metrics", "_CHECKPOINT_METADATA", "progress", "state/d"]
)
def test_a_folder_for_a_file_or_a_file_for_a_folder(copied, truth, target, part):
    path = copied / "checkpoints" / "30" / part
    if path.is_dir():
        shutil.rmtree(path)
        path.write_bytes(b"x")
    else:
        path.unlink()
        path.mkdir()
    expected = 30 if part[0] in "m_" else 20
    for read_only in (True, False):
        assert restore(copied, target, read_only) == (truth[expected], expected)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_copy_under_the_name_of_a_newer_step_is_not_that_step(
    copied, truth, target, read_only, capfd
):
    shutil.copytree(copied / "checkpoints" / "10", copied / "checkpoints" / "33")
    assert restore(copied, target, read_only) == (truth[30], 30)
    (line,) = capfd.readouterr().err.splitlines()
    assert "checkpoint 33 is damaged (it is a copy of checkpoint 10)" in line


def test_arrays_of_another_step_are_not_taken(copied, truth, target, capfd):
    folder = copied / "checkpoints"
    shutil.rmtree(folder / "30" / "state")
    shutil.copytree(folder / "20" / "state", folder / "30" / "state")
    assert restore(copied, target) == (truth[20], 20)
    assert "is not what was written" in capfd.readouterr().err


def flips(run_dir, seed, count):
    """Seeded places, spread evenly over the files of the newest checkpoint, whatever their
    sizes.
    """
    draw = random.Random(seed)
    files = sorted(
        path.relative_to(run_dir)
        for path in (run_dir / "checkpoints" / "30").rglob("*")
        if path.is_file()
    )
    for number in range(count):
        file = files[number % len(files)]
        yield file, draw.randrange(8 * (run_dir / file).stat().st_size)


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.long
def test_no_flipped_bit_is_silent(stopped, truth, target, tmp_path, capfd):
    fell_back = 0
    for number, (file, bit) in enumerate(flips(stopped, seed=0, count=60)):
        run_dir = tmp_path / str(number)
        shutil.copytree(stopped, run_dir)
        flip(run_dir / file, bit)
        found, step = restore(run_dir, target)
        said = capfd.readouterr().err
        assert found == truth[step], (file, bit)
        assert step == 30 or (step == 20 and said.startswith("checkpoint 30 is damaged")), (
            file,
            bit,
        )
        assert len(said.splitlines()) <= 1, (file, bit, said)
        fell_back += step == 20
    assert fell_back > 10


def test_readers_see_flipped_bits_too(stopped, truth, tmp_path, capfd):
    for number, (file, bit) in enumerate(flips(stopped, seed=1, count=22)):
        run_dir = tmp_path / str(number)
        shutil.copytree(stopped, run_dir)
        flip(run_dir / file, bit)
        before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
        run = genjax.load(run_dir)
        assert leaves(run.state) == truth[run.step], (file, bit)
        assert (run.step == 30) != ("checkpoint 30 is damaged" in capfd.readouterr().err), (
            file,
            bit,
        )
        assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


ERRORS = {
    "EIO": OSError(errno.EIO, "Input/output error"),
    "ESTALE": OSError(errno.ESTALE, "Stale file handle"),
    "as text": ValueError(
        'UNKNOWN: Error reading "d/1": Input/output error [OS error 5: EIO Input/output error]'
    ),
}


@pytest.fixture
def failing(monkeypatch):
    """``failing(error, times)``: so many reads of arrays fail, and nobody waits; returns the
    waits.
    """

    def fail(error, times):
        waits, left, real = [], [times], ocp.StandardCheckpointer.restore

        def read(self, *args, **kwargs):
            left[0] -= 1
            if left[0] >= 0:
                raise error
            return real(self, *args, **kwargs)

        monkeypatch.setattr(ocp.StandardCheckpointer, "restore", read)
        monkeypatch.setattr(patience, "time", SimpleNamespace(sleep=waits.append))
        return waits

    return fail


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("error", ERRORS)
def test_a_passing_read_error_is_tried_again(
    copied, truth, target, failing, error, read_only, capfd
):
    waits = failing(ERRORS[error], times=2)
    assert restore(copied, target, read_only) == (truth[30], 30)
    assert waits == list(patience.WAITS[:2])
    assert capfd.readouterr().err == "" and not (copied / "damaged").exists()


@pytest.mark.parametrize("error", ERRORS)
def test_a_lasting_read_error_moves_nothing(copied, target, failing, error):
    waits = failing(ERRORS[error], times=10**6)
    with pytest.raises(UserError) as raised:
        restore(copied, target)
    assert raised.value.field == str(copied / "checkpoints" / "30")
    assert waits == list(patience.WAITS)
    assert (
        steps_left(copied / "checkpoints") == {"10", "20", "30"}
        and not (copied / "damaged").exists()
    )


def test_a_lasting_error_in_listing_is_no_lack_of_checkpoints(copied, failing, monkeypatch):
    failing(None, times=0)
    kind = type(epath.Path(copied))

    def refuse(self):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(kind, "iterdir", refuse)
    with pytest.raises(UserError) as raised:
        newest_step(epath.Path(copied))
    assert raised.value.field == str(copied / "checkpoints")


@pytest.mark.parametrize(
    "missing", [["state"], ["progress"], ["state/_METADATA"], ["metrics", "progress"], []]
)
def test_a_half_removed_checkpoint_is_cleared_without_a_word(copied, truth, target, missing, capfd):
    folder = copied / "checkpoints"
    shutil.copytree(folder / "10", folder / "5")
    for name in missing or ["state", "progress", "checksums", "metrics", "_CHECKPOINT_METADATA"]:
        path = folder / "5" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert restore(copied, target, read_only=True) == (truth[30], 30)
    assert (folder / "5").is_dir()
    assert restore(copied, target) == (truth[30], 30)
    assert not (folder / "5").exists() and not (copied / "damaged").exists()
    assert capfd.readouterr().err == ""


VISIBLE = [c for c in string.printable if c.isprintable() and c not in "/."]
NAMES = [
    "lr[0.1]",
    "back\\slash",
    "'single' \"double\"",
    "50%_%41%20",
    "*?",
    "[!a]*",
    " spaces ",
    "{a,b}",
    "~home$HOME`x`",
    "#1?q=1&x;y",
    "file:x",
    "a|b<c>^",
    "-rf",
    "...",
    "ünï¢ödé_模型_🎉",
    "e\u0301",
    *("".join(VISIBLE[i : i + 12]) for i in range(0, len(VISIBLE), 12)),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_directory_may_have_any_name(stopped, truth, target, name, tmp_path):
    run_dir = tmp_path / name
    shutil.copytree(stopped, run_dir)
    assert restore(run_dir, target) == (truth[30], 30)
    assert steps_left(run_dir / "checkpoints") == {"20", "30", "35"}
    assert restore(run_dir, target, read_only=True)[1] == 35
    assert steps_left(tmp_path) == {name}


def test_the_names_have_every_printable_character():
    assert set(VISIBLE) | {"."} <= set("".join(NAMES))


def test_a_run_of_an_odd_name_is_trained_stopped_and_loaded(tmp_path, truth):
    run_dir = tmp_path / "lr[0.1] \\%41*?" / "'x'\"{a}"
    genjax.train(config(30), run_dir, quiet=True)
    assert leaves(genjax.train(config(END), run_dir, quiet=True).state) == truth[END]
    assert leaves(genjax.load(run_dir).state) == truth[END]
