"""Extracts features of images by vision transformers in Hugging Face's format: ViT (Dosovitskiy et
al., arXiv 2010.11929) and DINOv2 (Oquab et al., arXiv 2304.07193).

The features are those of the class token after the last norm. Stein et al. (arXiv 2306.04675) found
that distances in DINOv2's agree better with people's judgement than those in Inception's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.errors import UserError
from genjax.evaluation.features.processor import Processor, read_options, read_processor
from genjax.interop import weights
from genjax.interop.architecture import PLAIN, Options
from genjax.nets.transformer.feed_forward import Activation, activate

KINDS = ("vit", "dinov2")
CONFIG = "config.json"
IGNORED = ("pooler.", "classifier.", "decoder.", "embeddings.mask_token")
CUBIC = -0.75  # of torch's bicubic interpolation

Params = Mapping[str, jax.Array | np.ndarray]  # by transformers' names


@dataclass(frozen=True)
class Vision:
    """The hyper-parameters of a vision transformer.

    Attributes:
      kind: "vit" or "dinov2", whose branches have a learned scale.
      layers: number of blocks.
      heads: attention heads.
      width: token width; the number of features.
      hidden: width of the perceptron.
      patch: side of a patch in pixels.
      sides: height and width of the images that it was trained on.
      activation: of the perceptron; "swiglu" is DINOv2's giant form.
      epsilon: added to the variance in norms.
      biases: whether queries, keys and values have biases.
    """

    kind: str
    layers: int
    heads: int
    width: int
    hidden: int
    patch: int
    sides: tuple[int, int]
    activation: Activation
    epsilon: float
    biases: bool

    @property
    def grid(self) -> tuple[int, int]:
        """The rows and columns of patches of the images that it was trained on."""
        return self.sides[0] // self.patch, self.sides[1] // self.patch

    def check_sides(self, height: int, width: int) -> None:
        """Refuse prepared images of a size that the network cannot read.

        DINOv2 interpolates its positions to other sizes; ViT does not.
        """
        if self.kind == "vit" and (height, width) != self.sides:
            raise UserError(
                f"image_size in {CONFIG} must be that of the prepared images, {height}x{width}, "
                f"got {self.sides[0]}x{self.sides[1]}",
                "image_size",
            )
        if min(height, width) < self.patch:
            raise UserError(
                f"patch_size in {CONFIG} must be <= {min(height, width)}, the smaller side of the "
                f"prepared images, got {self.patch}",
                "patch_size",
            )


@dataclass(frozen=True)
class Pretrained:
    """A vision transformer with its weights and processor.

    Attributes:
      vision: hyper-parameters.
      processor: how images become its inputs.
      params: tensors by their names.
      origin: name of the folder.
    """

    vision: Vision
    processor: Processor
    params: Mapping[str, np.ndarray]
    origin: str

    def describe(self, height: int, width: int) -> str:
        """Describe the features of images of these sides."""
        name = {"vit": "ViT", "dinov2": "DINOv2"}[self.vision.kind]
        return (
            f"{name} ({self.origin}, {self.vision.layers} layers, {self.vision.width} wide) class "
            f"token of 8-bit images, {self.processor.describe(height, width)}"
        )

    def check_image(self, height: int, width: int, channels: int) -> None:
        """Refuse images that cannot be prepared for the network.

        Raises:
          UserError: they are neither grey nor RGB, or have another size than the network needs.
        """
        if channels not in (1, 3):
            raise UserError(f"{self.vision.kind} needs images with 1 or 3 channels, got {channels}")
        self.vision.check_sides(*self.processor.find_sides(height, width)[1])


def load(kind: str, folder: str | Path) -> Pretrained:
    """Load the network of a folder with config.json, preprocessor_config.json and safetensors.

    Heads and poolers are not read.

    Raises:
      UserError: a file is missing or damaged, it is a network of another kind, an option is not
        supported, or tensors are missing, unknown or of another shape.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"features {kind}:{folder} must name a folder with {CONFIG} and safetensors", "features"
        )
    options = read_options(folder / CONFIG)
    if options.values.get("model_type") != kind:
        raise options.make_error("model_type", f"only {kind!r} as features {kind}:{folder}")
    vision = read_vision(options)
    found = weights.weights(folder)
    if vision.layers > len(found.shapes):
        raise options.make_refusal("num_hidden_layers", f"<= {len(found.shapes)}", vision.layers)
    wanted = list_shapes(vision)
    prefix = f"{kind}." if any(name.startswith(f"{kind}.") for name in found.shapes) else ""
    there = {name.removeprefix(prefix): name for name in found.shapes}
    extra = [n for n in there if n not in wanted and not n.startswith(IGNORED)]
    wrong = [f"{name} is missing" for name in wanted if name not in there]
    wrong += [f"{name} is unknown" for name in extra]
    wrong += [
        f"{name} has shape {list(found.shapes[there[name]])}, not {list(wanted[name])}"
        for name in wanted
        if name in there and found.shapes[there[name]] != wanted[name]
    ]
    if wrong:
        raise UserError(
            f"the weights in {folder} do not fit its {CONFIG}: {weights.list_names(sorted(wrong))}",
            str(folder),
        )
    size = 4.0 * sum(math.prod(shape) for shape in wanted.values())
    checks.check_size(size, "its weights in float32", str(folder))
    arrays = found.read([there[name] for name in wanted])
    params = dict(zip(wanted, arrays, strict=True))
    return Pretrained(vision, read_processor(folder, kind == "vit"), params, folder.resolve().name)


def read_vision(options: Options) -> Vision:
    """Read the hyper-parameters from a config.json.

    Raises:
      UserError: an option is not supported.
    """
    kind = str(options.values["model_type"])
    if options.read_int("num_channels", 3) != 3:
        raise options.make_error("num_channels", "only 3")
    width, patch = options.read_int("hidden_size"), options.read_int("patch_size", 16)
    layers = options.read_int("num_hidden_layers")
    if layers > checks.DEEPEST:
        raise options.make_refusal("num_hidden_layers", f"<= {checks.DEEPEST}", layers)
    sides = _read_sides(options, patch)
    activation = options.read_activation("hidden_act", PLAIN, "gelu")
    if kind == "vit":
        hidden = options.read_int("intermediate_size")
    else:
        if sides[0] != sides[1]:
            raise options.make_error("image_size", "only square images")
        hidden = int(width * options.read_above(0, "mlp_ratio", 4))
        if options.read_flag("use_swiglu_ffn", False):
            activation = "swiglu"
            hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
    return Vision(
        kind,
        layers,
        options.read_divisor("num_attention_heads", "hidden_size"),
        width,
        hidden,
        patch,
        sides,
        activation,
        options.read_above(0, "layer_norm_eps", 1e-12 if kind == "vit" else 1e-6),
        options.read_flag("qkv_bias", True),
    )


def _read_sides(options: Options, patch: int) -> tuple[int, int]:
    value = options.values.get("image_size")
    if isinstance(value, list):
        parts = [Options({"image_size": part}, options.where) for part in value]
        sides = [part.read_int("image_size", None, patch) for part in parts]
    else:
        sides = [options.read_int("image_size", 224, patch)] * 2
    if len(sides) != 2:
        raise options.make_error("image_size", "only one or two numbers")
    return sides[0], sides[1]


def list_shapes(vision: Vision) -> dict[str, tuple[int, ...]]:
    """List the shapes of all tensors by their names in transformers."""
    width, hidden, side = vision.width, vision.hidden, vision.patch
    found: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, math.prod(vision.grid) + 1, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, side, side),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    names = _names(vision)
    twice = 2 if vision.activation == "swiglu" else 1
    for i in range(vision.layers):
        block = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            found[f"{block}.attention.attention.{name}.weight"] = (width, width)
            if vision.biases:
                found[f"{block}.attention.attention.{name}.bias"] = (width,)
        dense = {
            "attention.output.dense": (width, width),
            names["up"]: (twice * hidden, width),
            names["down"]: (width, hidden),
        }
        for name, shape in dense.items():
            found[f"{block}.{name}.weight"] = shape
            found[f"{block}.{name}.bias"] = shape[:1]
        for name in (names["before"], names["after"]):
            found[f"{block}.{name}.weight"] = found[f"{block}.{name}.bias"] = (width,)
        if vision.kind == "dinov2":
            for number in (1, 2):
                found[f"{block}.layer_scale{number}.lambda1"] = (width,)
    return found


def _names(vision: Vision) -> dict[str, str]:
    """Return the names of a block's norms and dense layers."""
    if vision.kind == "vit":
        return {
            "before": "layernorm_before",
            "after": "layernorm_after",
            "up": "intermediate.dense",
            "down": "output.dense",
        }
    gated = vision.activation == "swiglu"
    return {
        "before": "norm1",
        "after": "norm2",
        "up": "mlp.weights_in" if gated else "mlp.fc1",
        "down": "mlp.weights_out" if gated else "mlp.fc2",
    }


def features(vision: Vision, params: Params, pixels: jax.Array) -> jax.Array:
    """Compute the features [B, width] of prepared images [B, H, W, 3]."""
    names = _names(vision)
    x = _embed(vision, params, pixels)
    # Scores must agree between devices, so no TF32 or bfloat16.
    with jax.default_matmul_precision("highest"):
        for i in range(vision.layers):
            block = f"encoder.layer.{i}"
            y = _normalise(vision, params, f"{block}.{names['before']}", x)
            y = _attend(vision, params, f"{block}.attention", y)
            x = x + _scale(vision, params, f"{block}.layer_scale1", y)
            y = _normalise(vision, params, f"{block}.{names['after']}", x)
            y = _dense(params, f"{block}.{names['up']}", y)
            if vision.activation == "swiglu":
                gate, y = jnp.split(y, 2, -1)
                y = activate("silu", gate) * y
            else:
                y = activate(vision.activation, y)
            y = _dense(params, f"{block}.{names['down']}", y)
            x = x + _scale(vision, params, f"{block}.layer_scale2", y)
    return _normalise(vision, params, "layernorm", x[:, 0])


def _embed(vision: Vision, params: Params, pixels: jax.Array) -> jax.Array:
    """Project patches, put the class token before them, and add positions: [B, 1 + S, C]."""
    kernel = jnp.asarray(params["embeddings.patch_embeddings.projection.weight"])
    x = jax.lax.conv_general_dilated(
        pixels,
        kernel,
        (vision.patch, vision.patch),
        "VALID",
        dimension_numbers=("NHWC", "OIHW", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    rows, columns = x.shape[1:3]
    x = x.reshape(len(x), rows * columns, vision.width)
    x = x + params["embeddings.patch_embeddings.projection.bias"][None, None]
    first = jnp.broadcast_to(params["embeddings.cls_token"], (len(x), 1, vision.width))
    places = jnp.asarray(params["embeddings.position_embeddings"])
    if (rows, columns) != vision.grid:
        down, across = (
            jnp.asarray(resize_matrix(old, new), places.dtype)
            for old, new in zip(vision.grid, (rows, columns), strict=True)
        )
        grid = places[0, 1:].reshape(*vision.grid, vision.width)
        moved = jnp.einsum("ri,cj,ijd->rcd", down, across, grid, precision="highest")
        places = jnp.concatenate([places[:, :1], moved.reshape(1, -1, vision.width)], 1)
    return jnp.concatenate([first, x], 1) + places


@functools.cache
def resize_matrix(old: int, new: int) -> np.ndarray:
    """Return the weights of torch's bicubic interpolation of ``old`` values at ``new`` places,
    without antialiasing: float64 [new, old].
    """
    at = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(at).astype(int)
    made = np.zeros((new, old))
    for offset in (-1, 0, 1, 2):
        distance = np.abs(at - (first + offset))
        near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
        far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
        weight = np.where(distance <= 1, near, far)
        np.add.at(made, (np.arange(new), np.clip(first + offset, 0, old - 1)), weight)
    return made


def _attend(vision: Vision, params: Params, name: str, x: jax.Array) -> jax.Array:
    b, s, _ = x.shape
    query, key, value = (
        _dense(params, f"{name}.attention.{part}", x).reshape(b, s, vision.heads, -1)
        for part in ("query", "key", "value")
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)
    return _dense(params, f"{name}.output.dense", mixed.reshape(b, s, -1))


def _dense(params: Params, name: str, x: jax.Array) -> jax.Array:
    """Apply a dense layer, stored as [out, in], to [B, S, in]."""
    flat = x.reshape(-1, x.shape[-1]) @ params[f"{name}.weight"].T
    if f"{name}.bias" in params:
        flat = flat + params[f"{name}.bias"][None]
    return flat.reshape(*x.shape[:-1], -1)


def _scale(vision: Vision, params: Params, name: str, x: jax.Array) -> jax.Array:
    if vision.kind == "vit":
        return x
    return x * params[f"{name}.lambda1"][None, None]


def _normalise(vision: Vision, params: Params, name: str, x: jax.Array) -> jax.Array:
    """Apply a layer norm over the last axis."""
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    variance = jnp.square(centred).mean(-1, keepdims=True)
    lead = (None,) * (x.ndim - 1)
    scaled = centred * jax.lax.rsqrt(variance + vision.epsilon)
    return scaled * params[f"{name}.weight"][lead] + params[f"{name}.bias"][lead]
