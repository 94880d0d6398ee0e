"""The Inception-v3 network (Szegedy et al., arXiv 1512.00567) behind published FIDs.

It is the TensorFlow graph of 2015-12-05 in the version of the PyPI package ``pytorch-fid``: average
pools ignore padding, and the last block uses max pooling. Other versions of the network give other
numbers.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import shutil
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data.compressed import check_npz
from genjax.data.images.decode import note
from genjax.errors import UserError
from genjax.machine import disk
from genjax.serial.json_text import parse

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d"  # the first digits
FEATURES = 2048
SIDE = 299  # size of its input images
EPSILON = 1e-3  # of its batch norm
NORM = ("weight", "bias", "running_mean", "running_var")

Params = Mapping[str, Any]  # arrays by the names of torch's state dict


class Conv(NamedTuple):
    """A convolution without bias, then batch norm and ReLU."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"


class Pool(NamedTuple):
    """A 3x3 pool, with stride 2 and no padding, or with stride 1."""

    kind: str
    stride: int = 1


class Fork(NamedTuple):
    """Branches from the same input, concatenated along the channels."""

    branches: tuple[tuple[Any, ...], ...]


def _chain(prefix: str, *convs: tuple[Any, ...]) -> tuple[Conv, ...]:
    """Build convolutions named ``prefix``_1, ``prefix``_2, ... from their ``Conv`` arguments after
    the name.
    """
    return tuple(Conv(f"{prefix}_{number}", *conv) for number, conv in enumerate(convs, 1))


def _pool_branch(name: str, width: int, kind: str = "mean") -> tuple[Any, ...]:
    return Pool(kind), Conv(f"{name}.branch_pool", width)


def _build_35x35(name: str, pool: int) -> Fork:
    """Build a block at 35x35: 5x5 and double 3x3 branches."""
    five = _chain(f"{name}.branch5x5", (48,), (64, (5, 5)))
    double = _chain(f"{name}.branch3x3dbl", (64,), (96, (3, 3)), (96, (3, 3)))
    return Fork(((Conv(f"{name}.branch1x1", 64),), five, double, _pool_branch(name, pool)))


def _build_to_17x17(name: str) -> Fork:
    """Build the block from 35x35 to 17x17."""
    double = _chain(f"{name}.branch3x3dbl", (64,), (96, (3, 3)), (96, (3, 3), 2, "VALID"))
    return Fork(((Conv(f"{name}.branch3x3", 384, (3, 3), 2, "VALID"),), double, (Pool("max", 2),)))


def _build_17x17(name: str, width: int) -> Fork:
    """Build a block at 17x17: 7x7 convolutions factored into 1x7 and 7x1."""
    seven = _chain(f"{name}.branch7x7", (width,), (width, (1, 7)), (192, (7, 1)))
    twice = ((width, (7, 1)), (width, (1, 7)), (width, (7, 1)), (192, (1, 7)))
    double = _chain(f"{name}.branch7x7dbl", (width,), *twice)
    return Fork(((Conv(f"{name}.branch1x1", 192),), seven, double, _pool_branch(name, 192)))


def _build_to_8x8(name: str) -> Fork:
    """Build the block from 17x17 to 8x8."""
    three = _chain(f"{name}.branch3x3", (192,), (320, (3, 3), 2, "VALID"))
    seven = _chain(
        f"{name}.branch7x7x3", (192,), (192, (1, 7)), (192, (7, 1)), (192, (3, 3), 2, "VALID")
    )
    return Fork((three, seven, (Pool("max", 2),)))


def _build_8x8(name: str, pool: str) -> Fork:
    """Build a block at 8x8: 3x3 convolutions split into parallel 1x3 and 3x1."""

    def split(stem: str) -> Fork:
        return Fork(((Conv(f"{stem}a", 384, (1, 3)),), (Conv(f"{stem}b", 384, (3, 1)),)))

    three = (Conv(f"{name}.branch3x3_1", 384), split(f"{name}.branch3x3_2"))
    double = (
        *_chain(f"{name}.branch3x3dbl", (448,), (384, (3, 3))),
        split(f"{name}.branch3x3dbl_3"),
    )
    return Fork(((Conv(f"{name}.branch1x1", 320),), three, double, _pool_branch(name, 192, pool)))


NETWORK: tuple[Any, ...] = (
    Conv("Conv2d_1a_3x3", 32, (3, 3), 2, "VALID"),
    Conv("Conv2d_2a_3x3", 32, (3, 3), 1, "VALID"),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
    Pool("max", 2),
    Conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, (3, 3), 1, "VALID"),
    Pool("max", 2),
    _build_35x35("Mixed_5b", 32),
    _build_35x35("Mixed_5c", 64),
    _build_35x35("Mixed_5d", 64),
    _build_to_17x17("Mixed_6a"),
    _build_17x17("Mixed_6b", 128),
    _build_17x17("Mixed_6c", 160),
    _build_17x17("Mixed_6d", 160),
    _build_17x17("Mixed_6e", 192),
    _build_to_8x8("Mixed_7a"),
    _build_8x8("Mixed_7b", "mean"),
    _build_8x8("Mixed_7c", "max"),
)


def features(params: Params, images: jax.Array) -> jax.Array:
    """Compute the pool features [B, 2048] of images [B, H, W, 1 or 3] in [-1, 1]; grey is repeated
    as RGB.

    Published numbers use images rounded to 8 bits.
    """
    x = _apply(NETWORK, params, prepare_images(images))
    return x.mean((1, 2))


def prepare_images(images: jax.Array) -> jax.Array:
    """Resize images [B, H, W, 1 or 3] to [B, 299, 299, 3]: bilinear, half-pixel centres, no
    antialiasing.

    Raises:
      UserError: the images are neither grey nor RGB.
    """
    check_channels(images.shape[-1])
    size = (len(images), SIDE, SIDE, images.shape[-1])
    resized = jax.image.resize(images, size, "bilinear", antialias=False)
    return jnp.broadcast_to(resized, (*size[:-1], 3))


def check_channels(channels: int) -> None:
    """Refuse images that are neither grey nor RGB."""
    if channels not in (1, 3):
        raise UserError(f"Inception needs images with 1 or 3 channels, got {channels}")


def _apply(steps: tuple[Any, ...], params: Params, x: jax.Array) -> jax.Array:
    for step in steps:
        match step:
            case Conv():
                x = _conv(step, params, x)
            case Pool():
                x = _pool(step, x)
            case Fork():
                x = jnp.concatenate([_apply(branch, params, x) for branch in step.branches], -1)
    return x


def _conv(conv: Conv, params: Params, x: jax.Array) -> jax.Array:
    kernel = params[f"{conv.name}.conv.weight"]
    strides, layout = (conv.stride, conv.stride), ("NHWC", "OIHW", "NHWC")
    # Scores must agree between devices, so no TF32 or bfloat16.
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        conv.padding,
        dimension_numbers=layout,
        precision=jax.lax.Precision.HIGHEST,
    )
    gain, offset, mean, variance = (params[f"{conv.name}.bn.{name}"] for name in NORM)
    scale = gain * jax.lax.rsqrt(variance + EPSILON)
    return jax.nn.relu(y * scale[None, None, None] + (offset - mean * scale)[None, None, None])


def _pool(pool: Pool, x: jax.Array) -> jax.Array:
    window, strides = (1, 3, 3, 1), (1, pool.stride, pool.stride, 1)
    padding = "SAME" if pool.stride == 1 else "VALID"
    if pool.kind == "max":
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding)
    ones = jnp.ones((1, *x.shape[1:3], 1))
    total, count = (
        jax.lax.reduce_window(a, 0.0, jax.lax.add, window, strides, padding) for a in (x, ones)
    )
    return total / count  # padding does not count


def list_shapes() -> dict[str, tuple[int, ...]]:
    """List the shapes of all tensors of the network by their torch names; convolutions are [out,
    in, height, width].
    """
    found: dict[str, tuple[int, ...]] = {}

    def width(steps: tuple[Any, ...], channels: int) -> int:
        for step in steps:
            match step:
                case Conv():
                    found[f"{step.name}.conv.weight"] = (step.width, channels, *step.kernel)
                    found.update({f"{step.name}.bn.{name}": (step.width,) for name in NORM})
                    channels = step.width
                case Fork():
                    channels = sum(width(branch, channels) for branch in step.branches)
        return channels

    width(NETWORK, 3)
    return found


def load(path: str | Path) -> dict[str, np.ndarray]:
    """Load the network's tensors, float32, from a ``.safetensors``, ``.npz`` or PyTorch ``.pth``
    file.

    Names are torch's, as in ``pytorch-fid``. The classifier's head and batch counters are not read.

    Raises:
      UserError: the file is missing, damaged or has other tensors, or it is a ``.pth`` and PyTorch
          is not installed.
    """
    path = Path(path)
    readers = {".safetensors": _safetensors, ".npz": _npz, ".pth": _torch}
    if path.suffix not in readers:
        raise UserError(f"Inception weights must be a {', '.join(readers)} file, got {path}")
    if not path.is_file():
        raise UserError(f"there are no Inception weights at {path}")
    try:
        found = readers[path.suffix](path)
    except UserError:
        raise
    except Exception as error:  # readers raise all sorts of errors for damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot read the Inception weights {path}, which may be damaged: {reason}"
        ) from error
    wanted = list_shapes()
    wrong = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    wrong += [f"{name} is unknown" for name in found.keys() - wanted.keys()]
    for name in wanted.keys() & found.keys():
        if found[name].shape != wanted[name]:
            wrong.append(f"{name} has shape {list(found[name].shape)}, not {list(wanted[name])}")
        elif not np.isfinite(found[name]).all():
            wrong.append(f"{name} is not finite")
    if wrong:
        raise UserError(f"{path} does not have the Inception network: {'; '.join(sorted(wrong))}")
    return found


def _is_needed(name: str) -> bool:
    return not (name.startswith(("fc.", "AuxLogits.")) or name.endswith(".num_batches_tracked"))


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file: the length of a JSON header in 8 bytes, the header, then the
    tensors.
    """
    kinds: dict[str, Any] = {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": jnp.dtype("bfloat16"),
    }
    data = memoryview(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < max(start, 8):
        raise ValueError("it ends within its header")
    found = {}
    for name, entry in parse(bytes(data[8:start]), str(path)).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(data) - start:
            raise ValueError(f"it ends before {name}")
        if not _is_needed(name):
            continue
        if entry["dtype"] not in kinds:
            raise ValueError(f"{name} is {entry['dtype']}, not one of {', '.join(kinds)}")
        values = np.frombuffer(data[start + begin : start + end], kinds[entry["dtype"]])
        found[name] = values.reshape(entry["shape"]).astype(np.float32)
    return found


def _npz(path: Path) -> dict[str, np.ndarray]:
    check_npz(path)
    with np.load(path, allow_pickle=False) as stored:
        return {
            name: np.asarray(stored[name], np.float32) for name in stored.files if _is_needed(name)
        }


def _torch(path: Path) -> dict[str, np.ndarray]:
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            f"{path} is PyTorch's: install it (pip install torch), or save the same tensors as "
            ".safetensors or .npz"
        )
    import torch  # slow to import, and only these files need it

    stored = torch.load(path, map_location="cpu", weights_only=True)
    return {
        name: tensor.detach().float().numpy() for name, tensor in stored.items() if _is_needed(name)
    }


def weights(path: str | None = None) -> Path:
    """Return the file of weights: ``path``, or the published one in ~/.cache/genjax, downloaded
    once (95 MB).

    Raises:
      UserError: the file cannot be downloaded, or has another checksum than the published one.
    """
    if path is not None:
        return Path(path).expanduser()
    kept = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "genjax"
        / URL.rpartition("/")[2]
    )
    if kept.is_file():
        return kept
    part = kept.with_suffix(f".{os.getpid()}.part")
    note(f"downloading {URL}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(URL, timeout=60) as answer, part.open("wb") as file:
            shutil.copyfileobj(answer, file)
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        if not digest.startswith(SHA256):
            raise UserError(
                f"{URL} gave another file: its SHA-256 starts with {digest[:8]}, not {SHA256}; try "
                "again"
            )
        part.replace(kept)  # atomic
    except (OSError, http.client.HTTPException) as error:
        if (number := disk.full_disk_errno(error)) is not None:
            raise disk.refusal(kept, "make room for the Inception weights", number) from error
        raise UserError(
            f"cannot download the Inception weights ({error}): fetch {URL} and put it at {kept}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return kept
