"""Reads and writes low-rank adapters in the format of the package ``peft``: adapter_config.json and
adapter_model.safetensors.

LoRA: Hu et al., arXiv 2106.09685; scaled by the root of the rank: Kalajdzievski, arXiv 2312.03732.
Modules are named by the tables of the architectures that whole models are read with.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from genjax.errors import UserError
from genjax.interop import weights
from genjax.interop.architecture import Architecture, Options, Tensor
from genjax.interop.huggingface import ARCHITECTURES, choose_architecture
from genjax.interop.peft_config import CONFIG, check_targets, find_pattern, read_config
from genjax.machine import disk
from genjax.nets.transformer.token_net import unstack_layers
from genjax.nets.transformer.transformer import Transformer
from genjax.serial.json_text import Json

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
FACTOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
BASE = re.compile(r"base_model\.model\.(.+)\.base_layer\.weight")  # peft stores heads whole, too
DOWN, UP = "lora_a", "lora_b"  # of genjax's adapters: [in, rank] and [rank, out]


@dataclass(frozen=True)
class LowRank:
    """Low-rank adapters of a net: W becomes W + (alpha / rank) A B.

    Attributes:
      rank: their rank; adapters of a lower one are padded with zeros, which training leaves there.
      alpha: see above.
      targets: regular expressions on the paths of the matrices.
      params: parameters by the net's names, with ``lora_a`` [in, rank] and ``lora_b`` [rank, out]
        in place of each matrix.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    params: Mapping[str, Json]


class Module(NamedTuple):
    """A dense layer of an architecture.

    Attributes:
      tensor: its kernel in the table of the architecture.
      widths: width of each of our parts, along the output.
      inputs: width of the input.
    """

    tensor: Tensor
    widths: tuple[int, ...]
    inputs: int

    @property
    def is_head(self) -> bool:
        """Whether our kernel is stored as [out, in], as theirs is."""
        return self.tensor.ours == ("head_kernel",)


class Factors(NamedTuple):
    """The adapters of one module: A [r, in], B [out, r], and their factor."""

    a: np.ndarray
    b: np.ndarray
    scale: float


def load(folder: str | Path, net: Transformer, params: Mapping[str, Json]) -> LowRank:
    """Load the adapters in a folder for a net with these parameters, of which the shapes matter.

    Dropout of adapters is in training alone and is left out. Ranks and alphas that differ between
    modules are expressed by zeros and by a factor on B.

    Raises:
      UserError: a file is missing or damaged; the config asks for something that W + A B is not,
        named by its field; modules or shapes do not fit the net.
    """
    folder = Path(folder).expanduser()
    options = read_config(folder)
    found = weights.open_file(folder / WEIGHTS)
    strange = [
        name for name in found.shapes if not (FACTOR.fullmatch(name) or BASE.fullmatch(name))
    ]
    if strange:
        raise UserError(
            f"{folder / WEIGHTS} must have only lora_A and lora_B of dense layers, got "
            f"{weights.list_names(strange)}",
            str(folder / WEIGHTS),
        )
    names = sorted({match[1] for name in found.shapes if (match := FACTOR.fullmatch(name))})
    modules = _find_modules(net, params, names, folder)
    check_targets(options, names)
    shapes = flatten_dict(dict(params), sep="/")
    _check_base(found, modules, shapes)
    factors = {
        name: _read_factors(options, found, name, module) for name, module in modules.items()
    }
    parts: dict[str, Factors] = {}
    for name, module in modules.items():
        parts |= _split(module, factors[name])
    return _join(parts, set(shapes))


def save(
    adapters: LowRank, folder: str | Path, net: Transformer, params: Mapping[str, Json]
) -> None:
    """Write adapters of a net with these parameters as a folder that ``peft`` opens.

    ``PeftModel.from_pretrained(base, folder)`` puts them on the base model as ``huggingface.save``
    writes it. A fused layer of theirs (GPT-2's queries, keys and values) gets the sum of the ranks.

    Raises:
      UserError: no architecture fits the net; something else than kernels of dense layers is
        trained.
    """
    folder = Path(folder).expanduser()
    architecture = choose_architecture(net, None)
    tree, base = dict(adapters.params), dict(params)
    tree, base = (unstack_layers(part) if "layers" in part else part for part in (tree, base))
    mine = _list_factors(tree)
    modules = _list_modules(architecture, net, flatten_dict(base, sep="/"))
    kernels = {path for module in modules.values() for path in module.tensor.ours}
    others = sorted(mine.keys() - kernels)
    if others:
        raise UserError(
            "adapters.targets must match kernels of dense layers alone for peft, but there are "
            f"adapters of {weights.list_names(others)}",
            "adapters.targets",
        )
    joined = {
        name: _fuse(module, mine)
        for name, module in modules.items()
        if mine.keys() & set(module.tensor.ours)
    }
    tensors = {}
    for name, (a, b) in joined.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b
    ranks = {name: len(a) for name, (a, _) in joined.items() if len(a) != adapters.rank}
    scale = adapters.alpha / adapters.rank
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if net.causal else None,
        "base_model_name_or_path": None,
        "r": adapters.rank,
        "lora_alpha": _whole(adapters.alpha),
        "rank_pattern": ranks,
        "alpha_pattern": {name: _whole(scale * rank) for name, rank in ranks.items()},
        "target_modules": _shorten(sorted(joined), set(modules)),
        "fan_in_fan_out": any(
            not (modules[name].tensor.transposed or modules[name].is_head) for name in joined
        ),
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "inference_mode": True,
        "modules_to_save": None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    weights.write(folder / WEIGHTS, tensors)
    disk.write(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def _check_base(
    found: weights.Weights, modules: Mapping[str, Module], params: Mapping[str, np.ndarray]
) -> None:
    """Refuse weights of the base model that are not those of ours."""
    for full in found.shapes:
        match = BASE.fullmatch(full)
        if match is None:
            continue
        module = modules.get(match[1])
        if module is not None:
            mine = module.tensor.join([np.asarray(params[path]) for path in module.tensor.ours])
            (theirs,) = found.read([full])
            if np.array_equal(mine, theirs):
                continue
        raise UserError(
            f"{full} in {found.folder / WEIGHTS} must equal the base model's, as adapters alone "
            "are read",
            str(found.folder / WEIGHTS),
        )


def _list_modules(
    architecture: Architecture, net: Transformer, shapes: Mapping[str, np.ndarray]
) -> dict[str, Module]:
    """List the dense layers of an architecture by their names."""
    options = Options(architecture.write(net, None), architecture.kind)
    found = {}
    for tensor in architecture.tensors(net, options):
        if not all(path.rpartition("/")[2] in ("kernel", "head_kernel") for path in tensor.ours):
            continue
        sides = [np.shape(shapes[path]) for path in tensor.ours]
        if any(len(side) != 2 for side in sides):
            continue  # of several experts
        if tensor.ours == ("head_kernel",):
            sides = [side[::-1] for side in sides]
        found[tensor.theirs.removesuffix(".weight")] = Module(
            tensor, tuple(side[1] for side in sides), sides[0][0]
        )
    return found


def _find_modules(
    net: Transformer, params: Mapping[str, Json], names: list[str], folder: Path
) -> dict[str, Module]:
    """Find the dense layers of these names, in the architecture that knows most of them."""
    if "layers" in params:
        raise UserError(
            "net.scan_layers must be False for adapters of peft, which differ between layers",
            "net.scan_layers",
        )
    shapes = flatten_dict(dict(params), sep="/")
    fitting = [a for a in ARCHITECTURES if not a.list_obstacles(net)]
    best: dict[str, Module] = {}
    for architecture in fitting or [choose_architecture(net, None)]:
        known = _list_modules(architecture, net, shapes)
        bare = not any(name.startswith(architecture.prefix) for name in names)
        there = {name: architecture.map_name(name, bare) for name in names}
        found = {name: known[full] for name, full in there.items() if full in known}
        if len(found) > len(best):
            best = found
    unknown = [name for name in names if name not in best]
    if unknown or not names:
        raise UserError(
            f"target_modules of {folder} must be dense layers of the base model, which lacks "
            f"{weights.list_names(unknown) or 'adapters'}",
            "target_modules",
        )
    return best


def _read_factors(options: Options, found: weights.Weights, name: str, module: Module) -> Factors:
    """Read A and B of a module, and check their shapes."""
    rank = int(find_pattern(options, "rank_pattern", name, options.read_int("r", 8)))
    alpha = find_pattern(options, "alpha_pattern", name, options.read_number("lora_alpha", 8.0))
    wanted = {"A": (rank, module.inputs), "B": (sum(module.widths), rank)}
    read: list[np.ndarray] = []
    for part, shape in wanted.items():
        full = f"{PREFIX}{name}.lora_{part}.weight"
        if found.shapes.get(full) != shape:
            got = list(found.shapes[full]) if full in found.shapes else "nothing"
            raise UserError(
                f"{full} in {found.folder / WEIGHTS} must have shape {list(shape)}, got {got}",
                str(found.folder / WEIGHTS),
            )
        read += found.read([full])
    rooted = options.read_flag("use_rslora", False)
    return Factors(read[0], read[1], alpha / (math.sqrt(rank) if rooted else rank))


def _split(module: Module, factors: Factors) -> dict[str, Factors]:
    """Split the factors of a fused layer into those of our parts, without columns of the rank that
    act on other parts alone.
    """
    tensor, rank = module.tensor, len(factors.a)
    if module.is_head:
        return {"head_kernel": factors}
    shapes = {path: (rank, width) for path, width in zip(tensor.ours, module.widths, strict=True)}
    made = {}
    for path, up in tensor.split(factors.b if tensor.transposed else factors.b.T, shapes):
        kept = np.any(up, axis=1) | ~np.any(factors.b, axis=0)
        if not kept.any():
            kept[:1] = True
        made[path] = Factors(factors.a[kept], up[kept].T, factors.scale)
    return made


def _join(parts: Mapping[str, Factors], paths: set[str]) -> LowRank:
    """Bring adapters to one rank and one scale."""
    rank = max(len(part.a) for part in parts.values())
    scale = Counter(part.scale for part in parts.values()).most_common(1)[0][0]
    flat: dict[str, np.ndarray] = {}
    for path, (a, b, own) in parts.items():
        missing = rank - len(a)
        down = np.pad(a.T, ((0, 0), (0, missing)))
        up = np.pad(b.T * np.float32(own / scale), ((0, missing), (0, 0)))
        if path == "head_kernel":  # [out, in]
            down, up = up.T, down.T
        flat[f"{path}/{DOWN}"], flat[f"{path}/{UP}"] = down, up
    return LowRank(
        rank, scale * rank, _make_targets(set(parts), paths), unflatten_dict(flat, sep="/")
    )


def _make_targets(chosen: set[str], paths: set[str]) -> tuple[str, ...]:
    """Return regular expressions that match the chosen paths and no others."""
    made = []
    for path in sorted(chosen):
        general = re.sub(r"^layer_\d+", r"layer_\\d+", re.escape(path))
        wide = f"^{general}$"
        matched = {other for other in paths if re.search(wide, other)}
        made.append(wide if matched <= chosen else f"^{re.escape(path)}$")
    return tuple(dict.fromkeys(made))


def _list_factors(tree: Mapping[str, Json]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """List A [in, r] and B [r, out] by the path of their matrix."""
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(dict(tree), sep="/").items()}
    whole = sorted(path for path in flat if path.rpartition("/")[2] not in (DOWN, UP))
    if whole:
        raise UserError(
            "adapters.whole must be empty for peft, but these parameters are trained whole: "
            f"{weights.list_names(whole)}",
            "adapters.whole",
        )
    paths = {path.rpartition("/")[0] for path in flat}
    return {path: (flat[f"{path}/{DOWN}"], flat[f"{path}/{UP}"]) for path in sorted(paths)}


def _fuse(
    module: Module, mine: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return A [r, in] and B [out, r] of one of their layers, which may have several of our
    parts.
    """
    if module.is_head:
        down, up = mine["head_kernel"]
        return up, down
    tensor = module.tensor
    there = [path for path in tensor.ours if path in mine]
    downs = [mine[path][0] for path in there]
    if len(there) == len(tensor.ours) and all(np.array_equal(downs[0], a) for a in downs):
        down, ups = downs[0], [mine[path][1] for path in there]
    else:  # each part has columns of the rank for itself
        down, ups, before = np.concatenate(downs, 1), [], 0
        for path, width in zip(tensor.ours, module.widths, strict=True):
            up = np.zeros((down.shape[1], width), np.float32)
            if path in mine:
                rows = mine[path][1]
                up[before : before + len(rows)] = rows
                before += len(rows)
            ups.append(up)
    joined = tensor.join(ups)
    return down.T, joined if tensor.transposed else joined.T


def _shorten(names: list[str], known: set[str]) -> list[str]:
    """Return the last parts of names where all modules with that last part are among them."""
    ends = {name.rpartition(".")[2] for name in names}
    whole = {end for end in ends if all(n in names for n in known if n.rpartition(".")[2] == end)}
    return sorted({end if (end := name.rpartition(".")[2]) in whole else name for name in names})


def _whole(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number
