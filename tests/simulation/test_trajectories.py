"""Sources, systems and codecs of trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax import gx
from genjax.data.simulation.codec import FieldCodec, TrajectoryCodec, gif_bytes
from genjax.data.simulation.systems import advance, integrate
from genjax.errors import UserError


def test_a_fixed_point_of_lorenz_stays_and_the_flow_is_a_semigroup():
    system = gx.Lorenz63()
    root = np.sqrt(system.beta * (system.rho - 1))
    fixed = jnp.array([root, root, system.rho - 1])
    np.testing.assert_allclose(advance(system, fixed, 0.05), fixed, rtol=1e-5)
    start = jnp.array([[1.0, 2.0, 20.0]])
    whole = integrate(system, start, 0.05, 5)
    np.testing.assert_allclose(integrate(system, whole[:, 2], 0.05, 3), whole[:, 2:], rtol=1e-5)


def test_a_double_pendulum_keeps_its_energy_and_swings_slowly_with_its_normal_frequency():
    system = gx.DoublePendulum()
    start = jnp.array([[2.0, -1.0, 0.0, 0.0], [0.001, 0.001 * np.sqrt(2), 0.0, 0.0]])
    states = integrate(system, start, 0.05, 60)
    seen = system.observe(states)
    energy = system.energy(seen)
    assert float(jnp.abs(energy - energy[:, :1]).max()) < 1e-3  # of some 20 J, in float32
    np.testing.assert_allclose(system.energy(system.observe(jnp.zeros(4))), -3 * 9.81, rtol=1e-6)
    # The slow mode of small swings: angles in the ratio sqrt(2), frequency^2 = (2 - sqrt(2)) g / l.
    expected = 0.001 * np.cos(np.sqrt((2 - np.sqrt(2)) * 9.81) * 0.05 * np.arange(60))
    np.testing.assert_allclose(states[1, :, 0], expected, atol=2e-6)
    again = system.recover(seen)
    np.testing.assert_allclose(system.observe(again), seen, atol=1e-5)


def test_gray_scott_keeps_the_trivial_state_and_diffuses_at_its_rate():
    system = gx.GrayScott(size=8)
    still = jnp.stack([jnp.ones((8, 8)), jnp.zeros((8, 8))])
    np.testing.assert_allclose(system.slope(still), 0, atol=1e-6)
    data = gx.Trajectories(system, interval=20.0, length=2, size=2, test_size=1).open()
    assert data.spec.entry == "image" and data.spec.shape == (8, 8, 4)
    wave = jnp.cos(2 * jnp.pi * jnp.arange(8) / 8)[:, None] * jnp.ones((1, 8))
    slope = system.slope(still + jnp.stack([wave, 0 * wave]))[0]
    rate = system.diffusion * (2 * np.cos(2 * np.pi / 8) - 2) - system.feed
    np.testing.assert_allclose(slope, rate * wave, atol=1e-6)


def test_trajectories_are_seeded_and_a_larger_size_keeps_those_of_a_smaller_one():
    small = gx.Trajectories(length=6, size=3, test_size=2, window=3)
    data = small.open()
    assert data.spec.entry == "signal" and data.spec.shape == (3, 3)
    assert len(data.splits["train"]) == 3 * 4 and len(data.splits["test"]) == 2 * 4
    states = small.generate(0, 3)
    np.testing.assert_allclose(states, small.generate(0, 3))
    np.testing.assert_allclose(small.generate(1, 2), states[1:], rtol=1e-4)
    other = gx.Trajectories(length=6, size=3, test_size=2, window=3, seed=1)
    assert other.open().codec == data.codec  # which chaos must not change
    assert not np.allclose(other.generate(0, 3), states)
    assert other.open().fingerprint != data.fingerprint == small.open().fingerprint
    batch = data.splits["train"].batch(np.array([5]))["signal"]  # the second window of the second
    np.testing.assert_allclose(data.codec.decode(batch)[0], states[1, 1:4], rtol=1e-4)


def test_frames_of_fields_lie_in_the_channels():
    codec = FieldCodec(("u", "v"), 1.0, (0.5, 0.1), (2.0, 3.0))
    raw = np.random.default_rng(0).normal(size=(4, 3, 8, 6, 2)).astype(np.float32)
    image = codec.encode(raw)
    assert image.shape == (4, 8, 6, 6)
    np.testing.assert_allclose(image[1, :, :, 3], (raw[1, 1, :, :, 1] - 0.1) / 3, rtol=1e-5)
    np.testing.assert_allclose(codec.decode(image), raw, rtol=1e-4, atol=1e-5)


def test_samples_are_written_as_files_to_open(tmp_path):
    codec = TrajectoryCodec(("x", "y"), 0.5, (1.0, 2.0), (2.0, 1.0))
    path = codec.write(np.zeros((3, 4, 2), np.float32), tmp_path / "a")
    table = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1)
    assert path.suffix == ".png" and Image.open(path).size[0] > 100
    np.testing.assert_allclose(table[5], [1, 0.5, 1, 2])
    fields = FieldCodec(("u",), 1.0, (0.0,), (1.0,))
    path = fields.write(np.random.default_rng(0).normal(size=(2, 8, 8, 5)), tmp_path / "b")
    assert path.suffix == ".gif" and Image.open(path).n_frames == 5
    assert np.load(tmp_path / "b.npz")["fields"].shape == (2, 5, 8, 8, 1)
    assert gif_bytes([np.zeros((4, 4, 3), np.uint8)])[:3] == b"GIF"


def write(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return str(folder)


def test_own_files_are_read_from_folders_and_npz(tmp_path):
    walk = np.cumsum(np.random.default_rng(0).normal(size=(4, 10, 2)), 1)
    folder = write(tmp_path / "own", **{f"t{i}": one for i, one in enumerate(walk)})
    np.savez(tmp_path / "own.npz", **{f"t{i}": one for i, one in enumerate(walk)})
    by_folder = gx.TrajectoryFiles(folder).open()
    by_file = gx.TrajectoryFiles(str(tmp_path / "own.npz")).open()
    assert by_folder.fingerprint == by_file.fingerprint
    assert len(by_folder.splits["train"]) == 3 * 9 and len(by_folder.splits["test"]) == 9
    texts = tmp_path / "csv"
    texts.mkdir()
    for i, one in enumerate(walk):
        np.savetxt(texts / f"{i}.csv", one, delimiter=",", header="left,right", comments="")
    named = gx.TrajectoryFiles(str(texts), interval=0.5).open()
    assert named.codec.columns == ("left", "right") and named.codec.interval == 0.5
    fields = np.random.default_rng(1).normal(size=(2, 3, 4, 4, 2))
    folder = write(tmp_path / "fields", a=fields[0], b=fields[1])
    assert gx.TrajectoryFiles(folder).open().spec.shape == (4, 4, 4)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.full((5, 2), np.nan), ("b.npy", "NaN")),
        (np.zeros((4, 2)), ("b.npy", "[4, 2]")),
        (np.zeros((5, 3)), ("b.npy", "[5, 3]")),
        (np.zeros(5), ("b.npy", "[5]")),
        (np.array([["x", "y"]] * 5), ("b.npy",)),
    ],
)
def test_trajectories_that_do_not_fit_are_refused_by_name(tmp_path, bad, words):
    good = np.arange(10.0).reshape(5, 2)
    with pytest.raises(UserError) as caught:
        gx.TrajectoryFiles(write(tmp_path / "t", a=good, b=bad, c=good)).open()
    assert caught.value.field == "root" and all(word in str(caught.value) for word in words)


def test_missing_short_and_constant_files_are_refused(tmp_path):
    good = np.arange(10.0).reshape(5, 2)
    cases = [
        (lambda: gx.TrajectoryFiles(str(tmp_path / "none")), "root"),
        (lambda: gx.TrajectoryFiles(write(tmp_path / "empty")), "root"),
        (lambda: gx.TrajectoryFiles(write(tmp_path / "one", a=good)), "root"),
        (lambda: gx.TrajectoryFiles(write(tmp_path / "two", a=good, b=good), window=6), "window"),
        (lambda: gx.TrajectoryFiles(write(tmp_path / "still", a=0 * good, b=0 * good)), "columns"),
    ]
    for make, field in cases:
        with pytest.raises(UserError) as caught:
            make().open()
        assert caught.value.field == field
    (tmp_path / "torn.npz").write_bytes(b"PK\3\4 not a file")
    with pytest.raises(UserError) as caught:
        gx.TrajectoryFiles(str(tmp_path / "torn.npz")).open()
    assert caught.value.field == "root"


def test_settings_of_trajectories_are_checked():
    for fields, name in (
        ({"interval": 0.0}, "interval"),
        ({"window": 1}, "window"),
        ({"window": 9, "length": 8}, "length"),
        ({"size": 0}, "size"),
    ):
        with pytest.raises(UserError) as caught:
            gx.Trajectories(**fields)
        assert caught.value.field == name
    with pytest.raises(UserError) as caught:
        gx.Trajectories(interval=5.0, length=3, size=2, test_size=1).open()
    assert caught.value.field == "interval"


def test_the_key_of_a_trajectory_is_its_number():
    source = gx.Trajectories(gx.DoublePendulum(), length=2, size=2, test_size=1)
    key = jax.random.fold_in(jax.random.PRNGKey(0), 1)
    start = source.system.observe(source.system.draw_start(key))
    np.testing.assert_allclose(source.generate(1, 1)[0, 0], start, rtol=1e-6)
