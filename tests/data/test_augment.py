"""Augmentations against windows, closed forms, scipy and colorsys; their draws; and in the loop."""

import colorsys
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import genjax
from genjax.data.images.augment import Color, Crop, Cutout, Flip, Mixup, Rotate, rotate_image
from genjax.data.sources import Digits
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPCoder
from genjax.parallel import Devices

ACTIVE = [
    Flip(),
    Crop(),
    Crop(3, "edge"),
    Crop(3, "constant", 0.5),
    Rotate(40.0),
    Rotate(180.0, "constant", -0.5),
    Color(0.3, 0.8, 0.9, 0.5),
    Cutout(5),
    Mixup(0.5),
]
OFF = [Flip(0), Crop(0), Rotate(0), Color(), Cutout(0), Cutout(prob=0), Mixup(0)]


def batch_of(size=16, height=9, width=11, channels=3, seed=0):
    draw = np.random.default_rng(seed)
    return {
        "image": draw.uniform(-1, 1, (size, height, width, channels)).astype(np.float32),
        "label": draw.integers(0, 10, size).astype(np.int32),
        "mask": np.ones(size, np.float32),
        "text": draw.integers(0, 99, (size, 4)).astype(np.int32),
    }


def augmented(augmentation, batch, seed=0):
    new = jax.jit(augmentation)(jax.random.key(seed), batch)
    return {name: np.asarray(value) for name, value in new.items()}


def many(augmentation, image, copies=512, seed=0):
    """Draws [copies, H, W, C] for one image."""
    return augmented(augmentation, {"image": np.repeat(image[None], copies, 0)}, seed)["image"]


@pytest.mark.parametrize("augmentation", ACTIVE, ids=repr)
def test_images_stay_images_and_the_rest_stays_as_it_was(augmentation):
    batch = batch_of()
    batch["image"] = np.sign(batch["image"])  # only the ends of the range, where rounding shows
    before = {name: value.copy() for name, value in batch.items()}
    new = augmented(augmentation, batch)
    assert new["image"].shape == batch["image"].shape and new["image"].dtype == np.float32
    assert np.abs(new["image"]).max() <= 1
    assert not np.array_equal(new["image"], batch["image"])
    added = {"other_label", "other_weight"} if isinstance(augmentation, Mixup) else set()
    assert new.keys() == batch.keys() | added
    for name in batch.keys() - {"image"}:
        np.testing.assert_array_equal(new[name], batch[name])
        assert new[name].dtype == batch[name].dtype
    for name in batch:
        np.testing.assert_array_equal(batch[name], before[name])


@pytest.mark.parametrize("augmentation", ACTIVE, ids=repr)
def test_the_key_decides_and_examples_differ(augmentation):
    """Equal images in one batch come back different, but for a Mixup of equals."""
    batch = batch_of()
    if not isinstance(augmentation, Mixup):
        batch["image"][:] = batch["image"][0]
    one, again, other = (augmented(augmentation, batch, seed) for seed in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert not np.array_equal(one["image"], other["image"])
    assert len(np.unique(one["image"], axis=0)) > 1


@pytest.mark.parametrize("augmentation", OFF, ids=repr)
def test_with_zero_it_is_off_to_the_last_bit(augmentation):
    batch = batch_of(height=2, width=2, channels=1)  # too small for the defaults, and grey
    new = augmented(augmentation, batch)
    for name in batch:
        np.testing.assert_array_equal(new[name], batch[name])
    if isinstance(augmentation, Mixup):
        np.testing.assert_array_equal(new.pop("other_weight"), np.zeros(16, np.float32))
        np.testing.assert_array_equal(new.pop("other_label"), batch["label"])
    assert new.keys() == batch.keys()


@pytest.mark.parametrize("augmentation", ACTIVE, ids=repr)
def test_mapped_over_devices_each_treats_its_own_rows(augmentation):
    batch = {name: value for name, value in batch_of().items() if name != "text"}
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))

    def step(key, batch):
        return augmentation(jax.random.fold_in(key, jax.lax.axis_index("data")), batch)

    rows = PartitionSpec("data")
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False
    )
    new = jax.jit(mapped)(jax.random.key(5), batch)
    halves = [
        jax.jit(augmentation)(
            jax.random.fold_in(jax.random.key(5), device),
            jax.tree.map(lambda x, device=device: x[8 * device : 8 * device + 8], batch),
        )
        for device in (0, 1)
    ]
    for name in new:
        np.testing.assert_allclose(
            new[name], np.concatenate([half[name] for half in halves]), atol=1e-5
        )


@pytest.mark.parametrize("augmentation", ACTIVE, ids=repr)
def test_over_a_batch_split_by_the_compiler_the_draws_are_the_same(augmentation):
    batch = batch_of()
    rows = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("data",)), PartitionSpec("data"))
    new = jax.jit(augmentation, in_shardings=(None, rows), out_shardings=rows)(
        jax.random.key(3), batch
    )
    whole = augmented(augmentation, batch, 3)
    for name in whole:
        np.testing.assert_allclose(new[name], whole[name], atol=1e-5)


def test_a_sure_flip_is_the_mirror_image():
    image = batch_of()["image"]
    np.testing.assert_array_equal(
        augmented(Flip(1.0), {"image": image})["image"], image[:, :, ::-1]
    )


def test_flips_are_as_frequent_as_they_should_be():
    image = batch_of()["image"][0]
    flipped = [np.array_equal(new, image[:, ::-1]) for new in many(Flip(0.3), image, 2000)]
    kept = [np.array_equal(new, image) for new in many(Flip(0.3), image, 2000)]
    assert sum(flipped) + sum(kept) == 2000
    assert abs(np.mean(flipped) - 0.3) < 0.04  # four standard deviations


@pytest.mark.parametrize("mode", ["reflect", "edge", "constant"])
def test_a_crop_is_a_window_of_the_padded_picture_and_all_occur_equally(mode):
    image = batch_of()["image"][0]
    fill = {"constant_values": 0.25} if mode == "constant" else {}
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode, **fill)
    windows = {padded[i : i + 9, j : j + 11].tobytes(): (i, j) for i in range(5) for j in range(5)}
    counts = dict.fromkeys(windows.values(), 0)
    for new in many(Crop(2, mode, 0.25), image, 2500):
        counts[windows[new.tobytes()]] += 1
    assert len(counts) == 25
    assert min(counts.values()) > 60 and max(counts.values()) < 145  # 100 expected, deviation 10


def test_black_is_what_a_crop_and_a_turn_fill_with():
    image = np.ones((8, 8, 1), np.float32)
    assert set(np.unique(many(Crop(2, "constant"), image))) == {-1.0, 1.0}
    assert many(Rotate(90.0, "constant"), image).min() == -1
    turned = many(Rotate(90.0), image)
    assert turned.min() == pytest.approx(1) and turned.max() <= 1


def smooth(height, width):
    y, x = np.mgrid[:height, :width] / 6
    return np.stack([np.sin(y + 0.3) * np.cos(x), np.cos(y - x), 0.8 * np.sin(2 * x)], -1).astype(
        np.float32
    )


@pytest.mark.parametrize("degrees", [-160.0, -33.0, -5.0, 0.0, 10.0, 71.5])
@pytest.mark.parametrize(("mode", "scipys"), [("edge", "nearest"), ("constant", "grid-constant")])
@pytest.mark.parametrize("shape", [(15, 12), (8, 8)])
def test_a_turn_is_that_of_scipy(degrees, mode, scipys, shape):
    image = smooth(*shape)
    expected = scipy.ndimage.rotate(image, degrees, reshape=False, order=1, mode=scipys, cval=0.3)
    turned = rotate_image(jnp.asarray(image), np.deg2rad(degrees), mode, 0.3)
    np.testing.assert_allclose(turned, expected, atol=1e-5)
    if not degrees:
        np.testing.assert_array_equal(turned, image)


def test_a_quarter_turn_is_counter_clockwise():
    image = smooth(9, 9)
    np.testing.assert_allclose(
        rotate_image(jnp.asarray(image), np.pi / 2), np.rot90(image), atol=1e-5
    )


def test_angles_are_uniform_up_to_the_limit_on_both_sides():
    """In a ramp from left to right the slope from top to bottom tells the angle."""
    ramp = np.repeat(np.linspace(-0.5, 0.5, 21, dtype=np.float32)[None, :, None], 21, 0)
    new = many(Rotate(30.0), ramp, 2000)[..., 0]
    down, right = new[:, 14, 10] - new[:, 6, 10], new[:, 10, 14] - new[:, 10, 6]
    angles = np.rad2deg(np.arctan2(-down, right))
    assert np.abs(angles).max() < 30.01
    found = np.histogram(angles, 6, (-30.01, 30.01))[0]
    assert (
        found.sum() == 2000 and found.min() > 250 and found.max() < 420
    )  # 333 expected, deviation 17


def unit(image):
    return (image.astype(np.float64) + 1) / 2


def middling(size=400, channels=3):
    """Images far enough from black and white that nothing is clipped."""
    return 0.3 * batch_of(size, 5, 4, channels)["image"]


def assert_fills(values, low, high):
    """``values`` are as a uniform draw between ``low`` and ``high``."""
    assert low - 1e-3 <= values.min() and values.max() <= high + 1e-3
    assert np.histogram(values, 4, (low - 1e-3, high + 1e-3))[0].min() > 0.17 * len(values)


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_is_added(channels):
    image = middling(channels=channels)
    new = augmented(Color(brightness=0.2), {"image": image})["image"]
    added = unit(new) - unit(image)
    shift = added.mean((1, 2, 3))
    np.testing.assert_allclose(
        added, np.broadcast_to(shift[:, None, None, None], added.shape), atol=1e-6
    )
    assert_fills(shift, -0.2, 0.2)


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_multiplies_differences_from_the_mean_of_the_channel(channels):
    image = middling(channels=channels)
    new = augmented(Color(contrast=0.6), {"image": image})["image"]
    mean = unit(image).mean((1, 2), keepdims=True)
    np.testing.assert_allclose(unit(new).mean((1, 2), keepdims=True), mean, atol=1e-6)
    apart = unit(image) - mean
    factor = ((unit(new) - mean) * apart).sum((1, 2, 3)) / (apart**2).sum((1, 2, 3))
    np.testing.assert_allclose(unit(new), mean + factor[:, None, None, None] * apart, atol=1e-6)
    assert_fills(factor, 0.4, 1.6)


def hsv(image):
    """By the standard library, pixel by pixel: [N, H, W, 3] in [0, 1] to hue, saturation, value."""
    flat = [colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3)]
    return np.reshape(flat, image.shape)


def rgb(image):
    return np.reshape([colorsys.hsv_to_rgb(*pixel) for pixel in image.reshape(-1, 3)], image.shape)


def test_saturation_is_multiplied_in_hsv():
    image = middling()
    before = hsv(unit(image))
    new = augmented(Color(saturation=0.4), {"image": image})["image"]
    least = before[..., 1].reshape(400, -1).argmin(1)  # a pixel that 1.4 does not saturate
    pick = lambda x: np.take_along_axis(x[..., 1].reshape(400, -1), least[:, None], 1)[:, 0]  # noqa: E731
    factor = pick(hsv(unit(new))) / pick(before)
    expected = before.copy()
    expected[..., 1] = np.minimum(before[..., 1] * factor[:, None, None], 1)
    np.testing.assert_allclose(unit(new), rgb(expected), atol=1e-4)
    assert_fills(factor, 0.6, 1.4)


def test_hue_is_turned_in_hsv():
    image = middling()
    before = hsv(unit(image))
    new = augmented(Color(hue=0.25), {"image": image})["image"]
    most = before[..., 1].reshape(400, -1).argmax(1)  # where hue is known best
    pick = lambda x: np.take_along_axis(x[..., 0].reshape(400, -1), most[:, None], 1)[:, 0]  # noqa: E731
    turn = (pick(hsv(unit(new))) - pick(before) + 0.5) % 1 - 0.5
    expected = before.copy()
    expected[..., 0] = (before[..., 0] + turn[:, None, None]) % 1
    np.testing.assert_allclose(unit(new), rgb(expected), atol=1e-4)
    assert_fills(turn, -0.25, 0.25)


def test_saturation_and_hue_together_leave_the_value_and_draw_apart():
    image = middling(64)
    before = hsv(unit(image))
    after = hsv(unit(augmented(Color(saturation=0.5, hue=0.2), {"image": image})["image"]))
    np.testing.assert_allclose(after[..., 2], before[..., 2], atol=1e-6)
    clear = (before[..., 1] > 0.3) & (after[..., 1] > 0.1) & (after[..., 1] < 0.99)
    turns = (after[..., 0] - before[..., 0] + 0.5) % 1 - 0.5
    factors = after[..., 1] / before[..., 1]
    per_image = np.array(
        [
            (t[c].mean(), f[c].mean())
            for t, f, c in zip(turns, factors, clear, strict=True)
            if c.any()
        ]
    )
    assert len(per_image) > 50
    assert max(np.ptp(t[c]) for t, c in zip(turns, clear, strict=True) if c.any()) < 1e-3
    assert abs(np.corrcoef(per_image.T)[0, 1]) < 0.5


def test_what_brightness_made_white_or_black_stays_so():
    image = middling(1)[0]
    bright = many(Color(brightness=1.0), image, 300)  # of the same draws as that of the next line
    new = many(Color(brightness=1.0, saturation=1.0, hue=0.5), image, 300)
    for end in (-1, 1):
        there = (bright == end).all(-1)
        assert there.sum() > 500
        np.testing.assert_allclose(new[there], end, atol=1e-6)
    np.testing.assert_allclose(new.max(-1), bright.max(-1), atol=1e-6)


def test_what_leaves_the_range_is_clipped_and_black_stays_free_of_nan():
    image = np.stack([np.full((4, 4, 3), v, np.float32) for v in (-1, 1)])
    new = many(Color(1.0, 1.0, 1.0, 0.5), image[0])
    assert np.isfinite(new).all() and new.min() == -1 and new.max() > 0.5
    new = many(Color(1.0, 1.0, 1.0, 0.5), image[1])
    assert new.max() == 1 and new.min() < -0.5


@pytest.mark.parametrize("size", [1, 4, 5, 7])
def test_a_cutout_is_one_square_cut_off_by_the_borders(size):
    """Every centre occurs, so every window [c - size // 2, c - size // 2 + size) along both
    sides.
    """
    height, width = 8, 8  # equal, or one draw for both would look like two
    image = np.full((height, width, 2), 0.5, np.float32)
    spans = {
        n: {(max(c - size // 2, 0), min(c - size // 2 + size, n)) for c in range(n)}
        for n in (height, width)
    }
    seen = set()
    for new in many(Cutout(size, -0.25), image, 1500):
        hit = new != 0.5
        assert (new[hit] == -0.25).all() and np.array_equal(hit[..., 0], hit[..., 1])
        rows, columns = hit[..., 0].any(1).nonzero()[0], hit[..., 0].any(0).nonzero()[0]
        box = (rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1)
        assert hit[..., 0].sum() == (box[0][1] - box[0][0]) * (box[1][1] - box[1][0])
        seen.add(box)
    assert seen == {(a, b) for a in spans[height] for b in spans[width]}


def test_cutouts_are_as_frequent_as_they_should_be():
    image = np.full((8, 8, 1), 0.5, np.float32)
    hit = (many(Cutout(3, prob=0.25), image, 2000) != 0.5).any((1, 2, 3))
    assert abs(hit.mean() - 0.25) < 0.04


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 4.0])
def test_a_mixup_is_the_mixture_that_its_entries_say_by_a_beta_distribution(alpha):
    size = 20_000
    batch = batch_of(size, 2, 2, 1)
    batch["label"] = np.arange(size, dtype=np.int32)  # the label tells the partner
    new = augmented(Mixup(alpha), batch)
    other, weight = new["other_label"], new["other_weight"]
    assert (
        other.dtype == np.int32
        and weight.dtype == np.float32
        and other.shape == weight.shape == (size,)
    )
    assert sorted(other) == list(range(size)) and (other == np.arange(size)).sum() < 10
    share = weight.astype(np.float64)
    expected = (1 - share)[:, None, None, None] * batch["image"] + share[
        :, None, None, None
    ] * batch["image"][other]
    np.testing.assert_allclose(new["image"], expected, atol=1e-6)
    assert share.min() >= 0 and share.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 5 * np.sqrt(variance / size)
    np.testing.assert_allclose(share.var(), variance, rtol=0.04)
    fourth = variance**2 * (
        3 - 6 / (2 * alpha + 3)
    )  # tells a beta distribution from others of that variance
    np.testing.assert_allclose(np.mean((share - 0.5) ** 4), fourth, rtol=0.06)


def test_without_labels_a_mixup_mixes_images_alone():
    batch = {"image": batch_of()["image"]}
    new = augmented(Mixup(0.5), batch)
    assert new.keys() == {"image"} and not np.array_equal(new["image"], batch["image"])


def test_a_masked_example_is_mixed_into_no_other():
    batch = batch_of()
    batch["label"] = np.arange(16, dtype=np.int32)
    batch["mask"][10:] = 0
    new = augmented(Mixup(0.5), batch)
    masked = new["other_label"] >= 10
    assert masked.sum() == 6
    np.testing.assert_array_equal(new["other_weight"][masked], 0)
    np.testing.assert_array_equal(new["image"][masked], batch["image"][masked])
    assert new["other_weight"][~masked].min() > 0


def test_a_second_mixup_is_refused():
    once = batch_of() | {
        "other_label": np.zeros(16, np.int32),
        "other_weight": np.zeros(16, np.float32),
    }
    with pytest.raises(UserError, match="at most one Mixup"):
        Mixup()(jax.random.key(0), once)


@pytest.mark.parametrize("augmentation", [*ACTIVE, *OFF], ids=repr)
def test_a_batch_without_images_is_refused_by_name(augmentation):
    batch = {"points": jnp.zeros((4, 2)), "mask": jnp.ones(4)}
    with pytest.raises(
        UserError,
        match=f"^{type(augmentation).__name__} needs .* images, but these data have mask, points",
    ):
        jax.jit(augmentation)(jax.random.key(0), batch)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (Crop(8), "Crop.padding must be < 8 for images of 9x8 pixels, got 8"),
        (Crop(8, "constant"), "Crop.padding must be"),
        (Cutout(9), "Cutout.size must be <= 8 for images of 9x8 pixels, got 9"),
        (Color(saturation=0.1), "Color.saturation must be 0 for images of 1 channels"),
        (Color(hue=0.1), "Color.hue must be 0 for images of 1 channels"),
    ],
    ids=repr,
)
def test_what_does_not_fit_the_images_is_refused(augmentation, message):
    batch = batch_of(2, 9, 8, 1)
    with pytest.raises(UserError, match=message):
        jax.jit(augmentation)(jax.random.key(0), batch)


@pytest.mark.parametrize(
    "augmentation", [Crop(7), Crop(7, "edge"), Cutout(8), Color(0.1, 0.1)], ids=repr
)
def test_the_largest_that_fits_is_taken(augmentation):
    batch = batch_of(64, 9, 8, 1)
    assert not np.array_equal(augmented(augmentation, batch)["image"], batch["image"])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *[
            (partial(kind, prob=p), f"{kind.__name__}.prob")
            for kind in (Flip, Cutout)
            for p in (-0.1, 1.1, np.nan)
        ],
        *[
            (partial(kind, fill=f), f"{kind.__name__}.fill")
            for kind in (Crop, Rotate, Cutout)
            for f in (-1.1, 255)
        ],
        *[(partial(Crop, padding=p), "Crop.padding") for p in (-1, 1.5)],
        *[(partial(Cutout, size=s), "Cutout.size") for s in (-1, 2.5)],
        *[(partial(Rotate, degrees=d), "Rotate.degrees") for d in (-1, 181, np.nan)],
        *[
            (partial(Color, **{f: v}), f"Color.{f}")
            for f in ("brightness", "contrast", "saturation")
            for v in (-1, 2)
        ],
        *[(partial(Color, hue=h), "Color.hue") for h in (-0.1, 0.6, np.nan)],
        *[(partial(Mixup, alpha=a), "Mixup.alpha") for a in (-0.1, np.inf, np.nan)],
        (partial(Crop, mode="reflekt"), "Crop.mode"),
        (partial(Rotate, mode="reflect"), "Rotate.mode"),
    ],
)
def test_a_bad_value_is_refused_by_name(make, name):
    kind, field = name.split(".")
    with pytest.raises(UserError, match=rf"^{field} must be .* \({kind}\)"):
        make()


ALL = (Flip(), Crop(1), Rotate(), Color(0.1, 0.1), Cutout(3, prob=0.5), Mixup())


def go(run_dir, **changes):
    settings = dict(
        family=VAE(latent_dim=2, coder=MLPCoder((8,))),
        data=Digits(),
        augment=ALL,
        steps=6,
        batch_size=16,
        every=Every(log=1, evaluate=0, sample=0, checkpoint=0),
        devices=Devices(count=1),
    )
    return genjax.train(Experiment(**settings | changes), run_dir, quiet=True)


def losses(run):
    return [
        json.loads(line)["loss"]
        for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()
    ]


@pytest.mark.long
def test_a_run_with_all_of_them_goes_on_bitwise(tmp_path):
    whole = go(tmp_path / "whole")
    go(tmp_path / "parts", steps=3)
    parts = go(tmp_path / "parts")
    states = [run.state.replace(key=jax.random.key_data(run.state.key)) for run in (whole, parts)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert losses(whole) == losses(parts) and np.isfinite(losses(whole)).all()
    assert losses(whole) != losses(go(tmp_path / "plain", augment=()))


@pytest.mark.long
def test_the_command_line_switches_one_off(tmp_path, monkeypatch):
    from genjax.__main__ import main

    (tmp_path / "mine.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                "train",
                "mine.py",
                "--run-dir",
                "run",
                "--augment.0.padding",
                "0",
                "--augment.1.prob",
                "1",
            ]
        )
        == 0
    )
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["experiment"]["augment"]
    assert [item.get("padding", item.get("prob")) for item in stored] == [0, 1]


def test_a_size_that_does_not_fit_the_data_is_one_line(tmp_path, monkeypatch, capfd):
    from genjax.__main__ import main

    (tmp_path / "mine.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "mine.py", "--run-dir", "run", "--augment.0.padding", "8"]) == 2
    told = [line for line in capfd.readouterr().err.splitlines() if "padding" in line]
    assert told == ["genjax: Crop.padding must be < 8 for images of 8x8 pixels, got 8"]


CONFIG = """
from genjax.data.images.augment import Crop, Flip
from genjax.data.sources import Digits
from genjax.experiment import Every, Experiment
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPCoder


def get_config(tiny=False):
    family, augment = VAE(2, MLPCoder((8,))), (Crop(), Flip())
    return Experiment(family, Digits(), augment=augment, steps=1, every=Every(1, 0, 0, 0))
"""
