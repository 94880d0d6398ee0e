"""Reads the config of adapters in peft's format, and refuses what W + (alpha / rank) A B is not."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from genjax.errors import UserError
from genjax.interop.architecture import Options
from genjax.interop.weights import list_names
from genjax.serial import json_text

CONFIG = "adapter_config.json"
MODULE = re.compile(r"\^?[\w.]+")  # a name of modules in a pattern
# Fields of the config that say how adapters were named, started and trained, or that are read here.
READ = (
    *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias"),
    *("init_lora_weights", "auto_mapping", "base_model_name_or_path", "ensure_weight_tying"),
    *("eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "layers_pattern"),
    *("layers_to_transform", "lora_dropout", "megatron_core", "peft_version", "revision"),
    *("qalora_group_size", "runtime_config", "target_modules", "task_type"),
)
STARTS = (None, True, False, "gaussian", "eva")  # others may subtract something from the base


def read_config(folder: Path) -> Options:
    """Read the config of a folder.

    Raises:
      UserError: it is missing or damaged, or asks for what W + (alpha / rank) A B cannot express,
        named by its field.
    """
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


def check_targets(options: Options, names: Sequence[str]) -> None:
    """Refuse a config that lists modules of which the weights have none.

    Args:
      options: the config.
      names: modules that have weights.
    """
    targets = options.values.get("target_modules")
    if not isinstance(targets, list):  # a regular expression
        return
    missing = [
        str(target) for target in targets if not any(_matches(str(target), name) for name in names)
    ]
    if missing:
        raise UserError(
            f"target_modules in {options.where} must have their weights in the file, which lacks "
            f"{list_names(missing)}",
            "target_modules",
        )


def _matches(pattern: str, name: str) -> bool:
    """Return whether a name of modules is this one's whole name, or its end."""
    bare = pattern.removeprefix("^")
    return name == bare or (bare == pattern and name.endswith(f".{bare}"))


def find_pattern(options: Options, field: str, name: str, default: float) -> float:
    """Return a module's own number in a table of patterns, the first that fits, or the default.

    Raises:
      UserError: the table has regular expressions, or other values than numbers above 0.
    """
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
