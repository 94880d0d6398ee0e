"""Features of ViT and DINOv2 equal those of transformers, from files to images to numbers."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genjax import parallel
from genjax.data.sources import Digits
from genjax.errors import UserError
from genjax.evaluation.features import vision
from genjax.evaluation.features.features import check_features, label, list_runs
from genjax.evaluation.images.quality import SampleQuality
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPCoder
from genjax.parallel import Devices
from tests import toy
from tests.evaluation.test_judge import subject

torch = pytest.importorskip("torch", reason="compares with PyTorch")
transformers = pytest.importorskip(
    "transformers", reason="the peer is transformers: pip install '.[reference]'"
)

MEAN, STD = [0.48, 0.45, 0.4], [0.27, 0.26, 0.28]


def draw_config(kind, rng):
    heads, patch = int(rng.choice([1, 2, 3])), int(rng.choice([2, 3, 5]))
    side = patch * int(rng.integers(2, 5))
    fields = {
        "hidden_size": heads * int(rng.choice([5, 8, 9])),
        "num_hidden_layers": int(rng.integers(1, 4)),
        "num_attention_heads": heads,
        "patch_size": patch,
        "image_size": side,
        "qkv_bias": bool(rng.integers(2)),
        "hidden_act": str(rng.choice(["gelu", "relu", "gelu_new"])),
        "layer_norm_eps": float(rng.choice([1e-6, 1e-3])),
    }
    if kind == "vit":
        return fields | {
            "intermediate_size": int(rng.integers(9, 33)),
            "image_size": [side, side + patch * int(rng.integers(0, 2))],
        }
    return fields | {"mlp_ratio": int(rng.choice([1, 2, 3])), "use_swiglu_ffn": bool(rng.choice(2))}


def put(folder, kind, fields, seed=0, **options):
    """Save a model with random weights and the processor; return the model."""
    torch.manual_seed(seed)
    name = {"vit": "ViT", "dinov2": "Dinov2"}[kind]
    peer = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**fields))
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    peer.eval().save_pretrained(folder)
    sides = fields["image_size"]
    height, width = sides if isinstance(sides, list) else (sides, sides)
    asked = {"size": {"height": height, "width": width}, "image_mean": MEAN, "image_std": STD}
    if kind == "dinov2":
        crop = {"height": height + fields["patch_size"] + 1, "width": height}
        asked |= {"size": {"shortest_edge": max(crop.values())}, "crop_size": crop, "resample": 3}
    made = transformers.ViTImageProcessorPil if kind == "vit" else transformers.BitImageProcessorPil
    made(**asked | options).save_pretrained(folder)
    return peer


def compare(folder, kind, peer, shape):
    """Assert that features of random images equal those of the peer, prepared by its processor."""
    draw = np.random.default_rng(1).integers(0, 256, (2, *shape), dtype=np.uint8)
    images = draw.astype(np.float32) / 127.5 - 1
    network = vision.load(kind, folder)
    network.check_image(*shape)
    ready = network.processor(images)
    made = transformers.ViTImageProcessorPil if kind == "vit" else transformers.BitImageProcessorPil
    colour = [np.broadcast_to(image, (*shape[:2], 3)) for image in draw]
    theirs = made.from_pretrained(folder)(colour, return_tensors="pt")["pixel_values"]
    np.testing.assert_allclose(ready, theirs.permute(0, 2, 3, 1).numpy(), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        expected = peer(theirs).last_hidden_state[:, 0].numpy()
    got = jax.jit(vision.features, static_argnums=0)(network.vision, network.params, ready)
    assert got.shape == (2, network.vision.width)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    return float(np.abs(got - expected).max())


@pytest.mark.parametrize("kind", vision.KINDS)
def test_features_are_those_of_transformers(kind, tmp_path):
    rng = np.random.default_rng(3)
    fields = draw_config(kind, rng) | ({"use_swiglu_ffn": True} if kind == "dinov2" else {})
    compare(tmp_path, kind, put(tmp_path, kind, fields), (13, 17, 1))


@pytest.mark.long
@pytest.mark.parametrize("kind", vision.KINDS)
def test_features_of_twenty_random_networks_are_those_of_transformers(kind, tmp_path):
    worst = 0.0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        peer = put(tmp_path / str(seed), kind, draw_config(kind, rng), seed)
        shape = (*rng.integers(9, 24, 2).tolist(), 3)
        worst = max(worst, compare(tmp_path / str(seed), kind, peer, shape))
    print(f"{kind}: largest difference of 20 networks {worst:.1e}")


TINY = {
    "hidden_size": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 3,
    "image_size": 9,
}


def test_the_frechet_distance_is_named_after_the_network(tmp_path):
    put(tmp_path, "dinov2", TINY)
    features = f"dinov2:{tmp_path}"
    assert label(features) == "dinov2" and list_runs(features) == ()
    assert list_runs("./vit") == ("./vit",)
    layout = parallel.start(Devices(count=1))
    on = subject(layout, toy.experiment(family=VAE(2, MLPCoder((4,))), data=Digits()))
    assert check_features(features, on.model.spec, {}) == 6
    judge = SampleQuality(features, samples=20, limit=20, k=2, manifold=20, kernel_subset=9)
    found = judge(on)
    assert found.numbers["frechet_dinov2"] > 0 and "precision_dinov2" in found.numbers
    assert "fid" not in found.numbers
    assert f"DINOv2 ({tmp_path.name}, 1 layers, 6 wide)" in found.protocol
    assert "resized 8x8 to 13x13 bicubic, cropped to 13x9, grey repeated as RGB" in found.protocol


def refused(kind, folder, shape=(9, 9, 3)):
    """Return the field of the error for such a folder and images of such a shape."""
    with pytest.raises(UserError) as error:
        vision.load(kind, folder).check_image(*shape)
    assert "\n" not in str(error.value)
    return error.value.field


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    "file, fields",
    [
        ("config.json", {"model_type": "dinov2_with_registers"}),
        ("config.json", {"num_channels": 4}),
        ("config.json", {"num_attention_heads": 4}),
        ("config.json", {"num_hidden_layers": 300}),
        ("config.json", {"image_size": [9, 12]}),
        ("config.json", {"hidden_act": "mish"}),
        ("config.json", {"patch_size": [3, 3]}),
        ("preprocessor_config.json", {"resample": 7}),
        ("preprocessor_config.json", {"do_pad": True}),
        ("preprocessor_config.json", {"size": {"longest_edge": 5}}),
        ("preprocessor_config.json", {"crop_size": {"height": 99, "width": 9}}),
        ("preprocessor_config.json", {"image_std": [0.5, 0, 0.5]}),
        ("preprocessor_config.json", {"image_mean": [0.5]}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_done_is_refused_by_its_field(file, fields, tmp_path):
    put(tmp_path, "dinov2", TINY)
    change(tmp_path / file, **fields)
    assert refused("dinov2", tmp_path) == next(iter(fields))


def test_folders_that_do_not_fit_are_refused(tmp_path):
    put(tmp_path, "vit", TINY | {"intermediate_size": 8}, size={"height": 12, "width": 9})
    assert refused("vit", tmp_path) == "image_size"  # ViT does not interpolate positions
    assert refused("dinov2", tmp_path) == "model_type"
    assert refused("vit", tmp_path / "nowhere") == "features"
    change(tmp_path / "preprocessor_config.json", size=9)  # both sides in ViT's older files
    vision.load("vit", tmp_path).check_image(5, 7, 1)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | {"strange": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="strange is unknown"):
        vision.load("vit", tmp_path)
    del tensors["layernorm.bias"]
    tensors["embeddings.cls_token"] = np.zeros((1, 1, 5), np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="cls_token has shape .*layernorm.bias is missing"):
        vision.load("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    save_file({}, tmp_path / "model.safetensors")
    assert refused("vit", tmp_path) is not None
