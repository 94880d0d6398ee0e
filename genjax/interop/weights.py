"""Reads and writes tensors in safetensors files, single or sharded. Nothing is ever unpickled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from genjax.errors import UserError
from genjax.machine import disk
from genjax.serial import json_text

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = {"F64": 4, "F32": 4, "F16": 2, "BF16": 2}  # bytes of a number once read
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
SHARD_NAME = re.compile(r"[\w.+-]{1,200}\.safetensors")
MOST = 100_000  # tensors; the largest models have some thousands
SHOWN = 10  # names in an error
SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")


@dataclass(frozen=True)
class Weights:
    """The tensors of weight files, which are read only when requested.

    Attributes:
      folder: folder of the files.
      files: file of each tensor, by name.
      shapes: shape of each tensor.
      types: dtype of each tensor in the format's notation, such as "F32" or "BF16".
    """

    folder: Path
    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]

    def width(self, name: str) -> int:
        """Return the bytes of one number of a tensor that is read as it is stored."""
        return FLOATS.get(self.types[name], 4)

    def read(self, names: list[str], keep_dtype: bool = False) -> Iterator[np.ndarray]:
        """Yield the tensors of these names as float32 or as they are stored, one after another.

        Raises:
          UserError: some are not floats.
        """
        strange = [
            f"{name} ({self.types[name]})" for name in names if self.types[name] not in FLOATS
        ]
        if strange:
            raise UserError(
                f"the weights in {self.folder} must be floats, but are quantised or integers: "
                f"{list_names(strange)}"
            )
        last: Path | None = None
        file: Any = None
        for name in names:
            if (path := self.files[name]) != last:
                # The NumPy framework does not support bfloat16.
                last, file = path, safe_open(path, framework="flax")
            array = np.asarray(file.get_tensor(name))
            kept = keep_dtype and self.width(name) == 2
            yield array if kept else array.astype(np.float32, copy=False)


def weights(folder: Path) -> Weights:
    """Open the tensors of a folder: those of its single file, or those in its index.

    Raises:
      UserError: there are no weights, or only pickles; a file is truncated; shards are missing.
    """
    whole, index = folder / WHOLE, folder / INDEX
    if whole.exists():
        placed = _contents(whole)
    elif index.exists():
        placed = _read_index(index)
    else:
        raise _missing_weights_error(folder)
    return _make_weights(folder, placed)


def open_file(path: Path) -> Weights:
    """Open the tensors of a single file.

    Raises:
      UserError: the file is missing, a pickle, or truncated.
    """
    if not path.exists():
        pickles = [other.name for other in path.parent.iterdir() if other.suffix in PICKLES]
        if pickles:
            raise UserError(
                f"{list_names(pickles)} in {path.parent} is refused: a pickle could run any "
                f"program when read; {path.name} is read",
                str(path),
            )
        raise UserError(f"{path.parent} has no {path.name}", str(path))
    return _make_weights(path.parent, _contents(path))


def _make_weights(folder: Path, placed: Mapping[str, tuple[Path, tuple[int, ...], str]]) -> Weights:
    return Weights(
        folder,
        {name: path for name, (path, _, _) in placed.items()},
        {name: shape for name, (_, shape, _) in placed.items()},
        {name: kind for name, (_, _, kind) in placed.items()},
    )


def list_names(names: Sequence[str]) -> str:
    """List the first names, and how many more there are; long names are cut."""
    first = (" ".join(name.split()) for name in names[:SHOWN])
    shown = ", ".join(name if len(name) <= 200 else f"{name[:200]}..." for name in first)
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN:,} more"


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a file atomically, in a layout that PyTorch can read, too."""
    # The library writes the memory of an array as it is, a transposed one in the wrong order.
    ordered = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with disk.write_atomically(path) as part:
        save_file(ordered, part, metadata={"format": "pt"})


def _contents(path: Path) -> dict[str, tuple[Path, tuple[int, ...], str]]:
    """Return the file, shape and dtype of each tensor of a file."""
    if not path.is_file():
        raise UserError(
            f"{path} must be a safetensors file, but is a folder or a device", str(path)
        )
    with path.open("rb") as file:
        start = file.read(64)
    # The length of safetensors' header, 8 bytes, may be that of a pickle's first bytes.
    if start[8:9] != b"{" and start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        raise _pickle_error(path.parent, [path.name])
    if start.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path} is a pointer of Git LFS, not the weights: git lfs pull fetches them"
        )
    try:
        with safe_open(path, framework="flax") as file:
            names = file.keys()
            if len(names) > MOST:
                raise UserError(
                    f"{path} must have <= {MOST:,} tensors, got {len(names):,}", str(path)
                )
            slices = {name: file.get_slice(name) for name in names}
            return {name: (path, tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
    except SafetensorError as error:
        raise UserError(
            f"{path} is not a complete safetensors file, fetch it again: {error}", str(path)
        ) from None


def _read_index(index: Path) -> dict[str, tuple[Path, tuple[int, ...], str]]:
    folder = index.parent
    try:
        named = json_text.parse(index.read_bytes(), str(index))["weight_map"]
        files = sorted(set(named.values()))
        outside = any(not SHARD_NAME.fullmatch(name) for name in files)
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index} is damaged: fetch it again", str(index)) from None
    if outside:
        raise UserError(
            f"{index} names files outside its folder, or of another kind than .safetensors",
            str(index),
        )
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of {len(files)} shards: {list_names(missing)}"
        )
    found = {name: entry for file in files for name, entry in _contents(folder / file).items()}
    wrong = sorted(
        name for name, file in named.items() if name not in found or found[name][0].name != file
    )
    if wrong:
        raise UserError(f"{index} names tensors that its shards do not have: {list_names(wrong)}")
    return found


def _missing_weights_error(folder: Path) -> UserError:
    """Return the error for a folder without readable weights, which says what is there instead."""
    shards = [
        match
        for path in sorted(folder.glob("*.safetensors"))
        if (match := SHARD.fullmatch(path.name))
    ]
    if shards:
        return UserError(
            f"{folder} has {len(shards)} of {int(shards[0][2])} shards, but no {INDEX}"
        )
    pickles = [path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLES]
    if pickles:
        return _pickle_error(folder, pickles)
    return UserError(f"{folder} has no weights: neither {WHOLE} nor {INDEX}")


def _pickle_error(folder: Path, names: list[str]) -> UserError:
    return UserError(
        f"{list_names(names)} in {folder} is refused: a pickle could run any program when read; "
        'if you trust where it comes from, convert it: python -c "from transformers import '
        "AutoModelForCausalLM as M; "
        f"M.from_pretrained('{folder}').save_pretrained('{folder}')\" (AutoModelForMaskedLM for "
        "BERT)"
    )
