"""Inception-v3: the same features as PyTorch's operations give, weights from every format,
damaged files refused.
"""

import hashlib
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.evaluation.features import inception
from genjax.evaluation.features.inception import Conv, Fork, Pool, list_shapes, load, weights

TINY = (
    Conv("stem", 4, (3, 3), 2),
    Fork(((Conv("left", 3, (1, 3)),), (Pool("mean"), Conv("right", 2)))),
)


@pytest.fixture
def tiny(monkeypatch):
    """Reading does not care how large a network is."""
    monkeypatch.setattr(inception, "NETWORK", TINY)


def draws(seed=0):
    """Weights that keep the size of what passes through."""
    draw = np.random.default_rng(seed)
    found = {}
    for name, shape in list_shapes().items():
        if name.endswith("conv.weight"):
            value = draw.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(("bias", "running_mean")):
            value = 0.1 * draw.normal(size=shape)
        else:
            value = draw.uniform(0.7, 1.3, shape)
        found[name] = value.astype(np.float32)
    return found


IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 32, 24, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def both():
    """Weights of the whole network and its features of two images."""
    params = draws()
    return params, np.asarray(jax.jit(inception.features)(params, IMAGES))


def reference(torch, params, x):
    """The network by PyTorch's functions: [B, 3, 299, 299] -> [B, 2048]."""
    f = torch.nn.functional
    p = {name: torch.tensor(value) for name, value in params.items()}

    def conv(x, name, stride=1, padding=0):
        x = f.conv2d(x, p[f"{name}.conv.weight"], None, stride, padding)
        norm = [
            p[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        ]
        return f.relu(f.batch_norm(x, *norm, eps=0.001))

    def mean(x):
        return f.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    x = conv(conv(conv(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3"), "Conv2d_2b_3x3", 1, 1)
    x = conv(conv(f.max_pool2d(x, 3, 2), "Conv2d_3b_1x1"), "Conv2d_4a_3x3")
    x = f.max_pool2d(x, 3, 2)
    for m in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        five = conv(conv(x, f"{m}.branch5x5_1"), f"{m}.branch5x5_2", 1, 2)
        three = conv(conv(x, f"{m}.branch3x3dbl_1"), f"{m}.branch3x3dbl_2", 1, 1)
        three = conv(three, f"{m}.branch3x3dbl_3", 1, 1)
        x = torch.cat(
            [conv(x, f"{m}.branch1x1"), five, three, conv(mean(x), f"{m}.branch_pool")], 1
        )
    three = conv(conv(x, "Mixed_6a.branch3x3dbl_1"), "Mixed_6a.branch3x3dbl_2", 1, 1)
    three = conv(three, "Mixed_6a.branch3x3dbl_3", 2)
    x = torch.cat([conv(x, "Mixed_6a.branch3x3", 2), three, f.max_pool2d(x, 3, 2)], 1)
    for m in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        seven = conv(conv(x, f"{m}.branch7x7_1"), f"{m}.branch7x7_2", 1, (0, 3))
        seven = conv(seven, f"{m}.branch7x7_3", 1, (3, 0))
        twice = conv(x, f"{m}.branch7x7dbl_1")
        for number, padding in ((2, (3, 0)), (3, (0, 3)), (4, (3, 0)), (5, (0, 3))):
            twice = conv(twice, f"{m}.branch7x7dbl_{number}", 1, padding)
        x = torch.cat(
            [conv(x, f"{m}.branch1x1"), seven, twice, conv(mean(x), f"{m}.branch_pool")], 1
        )
    three = conv(conv(x, "Mixed_7a.branch3x3_1"), "Mixed_7a.branch3x3_2", 2)
    seven = conv(conv(x, "Mixed_7a.branch7x7x3_1"), "Mixed_7a.branch7x7x3_2", 1, (0, 3))
    seven = conv(conv(seven, "Mixed_7a.branch7x7x3_3", 1, (3, 0)), "Mixed_7a.branch7x7x3_4", 2)
    x = torch.cat([three, seven, f.max_pool2d(x, 3, 2)], 1)
    for m, pool in (("Mixed_7b", mean), ("Mixed_7c", lambda x: f.max_pool2d(x, 3, 1, 1))):
        stems = {
            "branch3x3_2": conv(x, f"{m}.branch3x3_1"),
            "branch3x3dbl_3": conv(conv(x, f"{m}.branch3x3dbl_1"), f"{m}.branch3x3dbl_2", 1, 1),
        }
        ends = [(stem, end, pad) for stem in stems for end, pad in (("a", (0, 1)), ("b", (1, 0)))]
        wide = [conv(stems[stem], f"{m}.{stem}{end}", 1, padding) for stem, end, padding in ends]
        x = torch.cat([conv(x, f"{m}.branch1x1"), *wide, conv(pool(x), f"{m}.branch_pool")], 1)
    return x.mean((2, 3))


def test_the_features_are_those_of_the_same_network_in_pytorch(both):
    torch = pytest.importorskip("torch", reason="compares with the network in PyTorch")
    params, found = both
    x = torch.nn.functional.interpolate(
        torch.tensor(IMAGES.transpose(0, 3, 1, 2)), (299, 299), mode="bilinear"
    )
    with torch.no_grad():
        want = reference(torch, params, x).numpy()
    assert found.shape == (2, 2048) and want.std() > 0.1
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-5 * want.max())


def test_the_features_are_those_of_pytorch_fid(both, monkeypatch):
    torch = pytest.importorskip("torch", reason="compares with pytorch-fid")
    module = pytest.importorskip(
        "pytorch_fid.inception", reason="pytorch-fid and torchvision are not installed"
    )
    params, found = both
    stored = {name: torch.tensor(value) for name, value in params.items()}
    convs = [name.removesuffix("conv.weight") for name in params if name.endswith("conv.weight")]
    stored |= {f"{name}bn.num_batches_tracked": torch.tensor(0) for name in convs}
    stored |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda url, progress: stored)
    network = module.InceptionV3([module.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    with torch.no_grad():
        want = network(torch.tensor(IMAGES.transpose(0, 3, 1, 2) / 2 + 0.5))[0][:, :, 0, 0].numpy()
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-5 * want.max())


def test_the_network_has_the_published_number_of_weights():
    learned = [np.prod(shape) for name, shape in list_shapes().items() if "running" not in name]
    assert (
        len(list_shapes()) == 94 * 5 and sum(learned) == 21_785_568
    )  # of 27,161,264 with both heads


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(8, 8, 3), (32, 24, 1), (400, 320, 3), (299, 299, 1)]
)
def test_images_are_resized_as_pytorch_interpolates(height, width, channels):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's interpolate")
    images = (
        np.random.default_rng(0).uniform(-1, 1, (2, height, width, channels)).astype(np.float32)
    )
    want = torch.nn.functional.interpolate(
        torch.tensor(images.transpose(0, 3, 1, 2)), (299, 299), mode="bilinear"
    )
    want = np.broadcast_to(want.numpy().transpose(0, 2, 3, 1), (2, 299, 299, 3))
    np.testing.assert_allclose(inception.prepare_images(jnp.asarray(images)), want, atol=2e-5)


def test_images_of_two_channels_are_refused():
    with pytest.raises(UserError, match="images with 1 or 3 channels, got 2"):
        inception.prepare_images(jnp.zeros((1, 8, 8, 2)))


def write_safetensors(path, tensors, kind="F32", dtype=np.float32):
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, value in tensors.items():
        data = value.astype(dtype).tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def stored_in(path, tensors):
    """Writes ``tensors`` with what a state dict holds besides them."""
    ignored = {
        "fc.weight": np.zeros((8, 5)),
        "AuxLogits.fc.bias": np.zeros(3),
        "stem.bn.num_batches_tracked": np.ones(()),
    }
    tensors = tensors | {name: value.astype(np.float32) for name, value in ignored.items()}
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    elif path.suffix == ".safetensors":
        write_safetensors(path, tensors)
    else:
        torch = pytest.importorskip("torch", reason="writes a .pth file")
        torch.save({name: torch.tensor(value) for name, value in tensors.items()}, path)
    return path


FORMATS = ["a.safetensors", "a.npz", "a.pth"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_weights(tiny, tmp_path, name):
    params = draws()
    found = load(stored_in(tmp_path / name, params))
    assert found.keys() == params.keys() == list_shapes().keys()
    for key, value in params.items():
        np.testing.assert_array_equal(found[key], value, strict=True)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("F64", np.float64), ("F16", np.float16), ("BF16", jnp.bfloat16)]
)
def test_safetensors_of_other_precisions_become_float32(tiny, tmp_path, kind, dtype):
    params = draws()
    write_safetensors(tmp_path / "a.safetensors", params, kind, dtype)
    for name, value in load(tmp_path / "a.safetensors").items():
        np.testing.assert_array_equal(
            value, params[name].astype(dtype).astype(np.float32), strict=True
        )


def test_safetensors_of_integers_are_refused(tiny, tmp_path):
    write_safetensors(tmp_path / "a.safetensors", draws(), "I32", np.int32)
    with pytest.raises(UserError, match="is I32, not one of F64, F32, F16, BF16"):
        load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", FORMATS)
def test_all_wrong_tensors_are_named_at_once(tiny, tmp_path, name):
    params = draws()
    params["stem.bn.bias"] = params["stem.bn.bias"][:3]
    params["right.conv.weight"] = params["right.conv.weight"].transpose(2, 3, 1, 0)
    params["left.bn.weight"][1] = np.nan
    params["more"] = params.pop("left.bn.bias")
    with pytest.raises(UserError) as refused:
        load(stored_in(tmp_path / name, params))
    assert str(refused.value).partition(": ")[2].split("; ") == [
        "left.bn.bias is missing",
        "left.bn.weight is not finite",
        "more is unknown",
        "right.conv.weight has shape [1, 1, 4, 2], not [2, 4, 1, 1]",
        "stem.bn.bias has shape [3], not [4]",
    ]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kept", [0, 5, 60, 0.5, -1])
def test_a_truncated_file_is_one_line(tiny, tmp_path, name, kept):
    path = stored_in(tmp_path / name, draws())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(
        UserError, match="cannot read the Inception weights .* which may be damaged: "
    ) as refused:
        load(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "header",
    [b"[]", b"{", b'{"a": 3}', b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}'],
)
def test_a_safetensors_header_that_lies_is_one_line(tiny, tmp_path, header):
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(UserError, match="may be damaged|is not JSON") as refused:
        load(path)
    assert str(path) in str(refused.value)


def test_nothing_is_unpickled(tiny, tmp_path):
    torch = pytest.importorskip("torch", reason="writes a .pth file")
    touched = tmp_path / "touched"

    class Harmful:
        def __reduce__(self):
            return touched.write_text, ("",)

    torch.save({"stem.bn.bias": Harmful()}, tmp_path / "a.pth")
    np.savez(tmp_path / "a.npz", **{"stem.bn.bias": np.array([Harmful()], object)})
    touched.unlink(missing_ok=True)
    for name in ("a.pth", "a.npz"):
        with pytest.raises(UserError, match="cannot read"):
            load(tmp_path / name)
    assert not touched.exists()


def test_files_that_are_not_weights_are_refused(tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match="weights must be a .safetensors, .npz, .pth file, got weights.pickle"
    ):
        load("weights.pickle")
    with pytest.raises(UserError, match="there are no Inception weights at nowhere.npz"):
        load("nowhere.npz")
    (tmp_path / "a.pth").write_bytes(b"")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError,
        match="is PyTorch's: install it .* or save the same tensors as .safetensors or .npz",
    ):
        load(tmp_path / "a.pth")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small file that stands where the published one does, and an empty cache."""
    source = tmp_path / "elsewhere" / "pt_inception.pth"
    source.parent.mkdir()
    source.write_bytes(b"weights")
    monkeypatch.setattr(inception, "URL", source.as_uri())
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(b"weights").hexdigest()[:8])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return source


def test_the_published_weights_are_downloaded_once(published, tmp_path):
    assert weights("~/mine.npz") == (tmp_path / "x").home() / "mine.npz"
    found = weights(None)
    assert (
        found == tmp_path / "cache" / "genjax" / "pt_inception.pth"
        and found.read_bytes() == b"weights"
    )
    published.unlink()
    assert weights() == found and list(found.parent.iterdir()) == [found]


def test_another_file_than_the_published_one_is_not_kept(published, tmp_path):
    published.write_bytes(b"weight")
    with pytest.raises(UserError, match="gave another file: its SHA-256 starts with"):
        weights()
    assert not list((tmp_path / "cache" / "genjax").iterdir())


def test_without_a_network_the_error_says_what_to_fetch_and_where_to_put_it(published, tmp_path):
    published.unlink()
    with pytest.raises(
        UserError,
        match=f"fetch {published.as_uri()} and put it at {tmp_path}/cache/genjax/pt_incep",
    ):
        weights()
    assert not list((tmp_path / "cache" / "genjax").iterdir())
