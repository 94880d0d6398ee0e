"""Reads and writes low-rank adapters in the format of the package ``peft``: adapter_config.json and
adapter_model.safetensors.

LoRA: Hu et al., arXiv 2106.09685; scaled by the root of the rank: Kalajdzievski, arXiv 2312.03732.
Modules are named by the tables of the architectures that whole models are read with.
"""

from __future__ import annotations

import json
import math
import re
import sys
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
from genjax.machine import disk
from genjax.nets.transformer.token_net import unstack_layers
from genjax.nets.transformer.transformer import Transformer
from genjax.serial import json_text
from genjax.serial.json_text import Json

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
FACTOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
BASE = re.compile(r"base_model\.model\.(.+)\.base_layer\.weight")  # peft stores heads whole, too
MODULE = re.compile(r"\^?[\w.]+")  # a name of modules in a pattern
DOWN, UP = "lora_a", "lora_b"  # of genjax's adapters: [in, rank] and [rank, out]
# Fields of the config that say how adapters were named, started and trained, or that are read here.
READ = (
    *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias"),
    *("init_lora_weights", "auto_mapping", "base_model_name_or_path", "ensure_weight_tying"),
    *("eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "layers_pattern"),
    *("layers_to_transform", "lora_dropout", "megatron_core", "peft_version", "revision"),
    *("qalora_group_size", "runtime_config", "target_modules", "task_type"),
)
STARTS = (None, True, False, "gaussian", "eva")  # others may subtract something from the base


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
    options = _read_config(folder)
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
    _check_targets(options, names)
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


def _read_config(folder: Path) -> Options:
    """Read the config, and refuse what W + (alpha / rank) A B cannot express."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} has no {CONFIG}: it is not an adapter of peft", str(folder))
    values = json_text.parse(path.read_bytes(), str(path), finite=False)
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged: it is not a table of fields in JSON", str(path))
    options = Options(values, str(path))
    if values.get("peft_type") != "LORA":
        raise options.make_error("peft_type", "only 'LORA'")
    if values.get("bias", "none") != "none":
        raise options.make_error("bias", "only 'none'")
    if values.get("init_lora_weights") not in STARTS:
        raise options.make_error(
            "init_lora_weights",
            "as it changed the base: convert it (path_initial_model_for_weight_conversion in peft)",
        )
    for name, value in values.items():
        if name not in READ and value:  # other methods are off as null, false or {}
            raise options.make_error(name, "only null or false")
    if options.read_at_least(0, "lora_dropout", 0.0):
        note = f"lora_dropout in {path} acts in training alone, and is left out"
        print(note, file=sys.stderr, flush=True)
    return options


def _check_targets(options: Options, names: list[str]) -> None:
    """Refuse modules that the config lists and the weights lack."""
    targets = options.values.get("target_modules")
    if not isinstance(targets, list):  # a regular expression
        return
    missing = [
        str(target) for target in targets if not any(_matches(str(target), name) for name in names)
    ]
    if missing:
        raise UserError(
            f"target_modules in {options.where} must have their weights in {WEIGHTS}, which lacks "
            f"{weights.list_names(missing)}",
            "target_modules",
        )


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


def _matches(pattern: str, name: str) -> bool:
    """Return whether a name of modules is this one's whole name, or its end."""
    bare = pattern.removeprefix("^")
    return name == bare or (bare == pattern and name.endswith(f".{bare}"))


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
    rank = int(_find_pattern(options, "rank_pattern", name, options.read_int("r", 8)))
    alpha = _find_pattern(options, "alpha_pattern", name, options.read_number("lora_alpha", 8.0))
    wanted = {"A": (rank, module.inputs), "B": (sum(module.widths), rank)}
    read = []
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


def _find_pattern(options: Options, field: str, name: str, default: float) -> float:
    """Return a module's own number in a table of patterns, the first that fits, or the default."""
    table = options.values.get(field) or {}
    if not isinstance(table, Mapping):
        raise options.make_refusal(field, "a table of numbers", table)
    for pattern, value in table.items():
        if not MODULE.fullmatch(pattern):
            raise options.make_error(field, "only names of modules, without regular expressions")
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise options.make_refusal(field, "a table of numbers > 0", table)
        if field == "rank_pattern" and not isinstance(value, int):
            raise options.make_refusal(field, "a table of whole numbers", table)
        if _matches(pattern, name):
            return value
    return default


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
