"""Rotary positions in Hugging Face's format: plain, partial, and stretched in four ways."""

from __future__ import annotations

import math
from collections.abc import Mapping

from genjax.interop.architecture import Options
from genjax.nets.transformer.positions import Rotary
from genjax.serial.json_text import Json

KINDS = ("default", "linear", "llama3", "yarn", "longrope")
CONTEXT = "max_position_embeddings"
TRAINED = "original_max_position_embeddings"
SHARE = "partial_rotary_factor"


def find_table(options: Options, name: str | None = None) -> Mapping[str, Json]:
    """Return ``rope_parameters``, or the older ``rope_scaling``; with the name of a kind of layer,
    its table in it. If it is not by kinds of layers, it is that of layers with full attention.

    Raises:
      UserError: it is not a table.
    """
    given = options.values.get("rope_parameters") or options.values.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise options.make_error("rope_parameters", "only a table of numbers")
    if name is None:
        return given
    if not {"full_attention", "sliding_attention"} & set(given):
        return given if name == "full_attention" else {}
    own = given.get(name) or {}
    if not isinstance(own, Mapping):
        raise options.make_error("rope_parameters", "only a table of numbers per kind of layer")
    return own


def read_rotary(
    options: Options,
    given: Mapping[str, Json],
    head_width: int,
    *,
    base: float,
    share: float | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Rotary:
    """Read rotary positions.

    Args:
      options: all options of the model.
      given: the table of these positions, see ``find_table``.
      head_width: entries of a head.
      base: base where the table names none.
      share: share of a head's entries that are turned, where the table names none; None for
        models that can turn only all.
      aliases: other names of kinds.

    Raises:
      UserError: the kind is not one of ``KINDS``; a share is given that the model does not know; a
        number is missing or out of its range.
    """
    table = Options(given, options.where)
    turned = table.read_above(0, SHARE, options.read_above(0, SHARE, share or 1.0))
    if turned > 1 or (turned != 1 and share is None):
        raise Options({SHARE: turned}, options.where).make_error(
            SHARE, "only 1" if share is None else "only up to 1"
        )
    if (width := int(turned * head_width)) % 2 or not width:
        raise options.make_refusal(SHARE, f"even entries of a head of {head_width}", turned)
    found = given.get("rope_type") or given.get("type") or "default"
    kind = (aliases or {}).get(found, found) if isinstance(found, str) else found
    if kind not in KINDS:
        shown = Options({"rope_type": kind}, options.where)
        raise shown.make_error("rope_type", f"only {', '.join(map(repr, KINDS))}")
    base = table.read_above(1, "rope_theta", base)
    if kind == "default":
        return Rotary(base, share=turned)
    if kind == "linear":
        return Rotary(base, table.read_at_least(1, "factor", 1.0), share=turned)
    trained = table if given.get(TRAINED) is not None else options
    length = trained.read_int(TRAINED)
    if kind == "llama3":
        return Rotary(
            base,
            table.read_at_least(1, "factor", 1.0),
            length,
            low := table.read_above(0, "low_freq_factor", 1.0),
            table.read_above(low, "high_freq_factor", 4.0),
            turned,
        )
    ratio = options.read_int(CONTEXT, length) / length
    if kind == "yarn":
        return _read_yarn(table, Rotary(base, trained=length, share=turned), ratio)
    stretch = table.read_above(0, "factor", ratio)
    gain = 1.0
    if stretch > 1:
        if length == 1:
            raise trained.make_refusal(TRAINED, ">= 2", length)
        gain = math.sqrt(1 + math.log(stretch) / math.log(length))
    short, long = (table.read_numbers(name, width // 2) for name in ("short_factor", "long_factor"))
    gain = table.read_above(0, "attention_factor", gain)
    return Rotary(base, trained=length, share=turned, short=short, long=long, gain=gain)


def _read_yarn(table: Options, plain: Rotary, ratio: float) -> Rotary:
    """Read YaRN's numbers; its gain is None where it is that of the paper."""
    factor = table.read_at_least(1, "factor", max(ratio, 1.0))
    gain: float | None = None
    if table.values.get("attention_factor") is not None:
        gain = table.read_above(0, "attention_factor", 1.0)
    elif table.values.get("mscale") and table.values.get("mscale_all_dim"):
        one, other = (
            0.1 * table.read_above(0, name, 1.0) * math.log(factor) + 1
            for name in ("mscale", "mscale_all_dim")
        )
        gain = one / other
    return Rotary(
        plain.base,
        factor,
        plain.trained,
        low := table.read_above(0, "beta_slow", 1.0),
        table.read_above(low, "beta_fast", 32.0),
        plain.share,
        yarn=True,
        whole_pairs=table.read_flag("truncate", True),
        gain=gain,
    )


def write_rotary(rotary: Rotary) -> dict[str, Json]:
    """Return the table of ``rope_parameters``, without the share."""
    start: dict[str, Json] = {"rope_theta": rotary.base}
    if rotary.short:
        return start | {
            "rope_type": "longrope",
            "short_factor": list(rotary.short),
            "long_factor": list(rotary.long),
            TRAINED: rotary.trained,
            "attention_factor": float(rotary.turned_gain),
        }
    if rotary.yarn:
        gain = {} if rotary.gain is None else {"attention_factor": rotary.gain}
        return (
            start
            | gain
            | {
                "rope_type": "yarn",
                "factor": rotary.factor,
                TRAINED: rotary.trained,
                "beta_slow": rotary.low,
                "beta_fast": rotary.high,
                "truncate": rotary.whole_pairs,
            }
        )
    if rotary.trained is not None:
        return start | {
            "rope_type": "llama3",
            "factor": rotary.factor,
            TRAINED: rotary.trained,
            "low_freq_factor": rotary.low,
            "high_freq_factor": rotary.high,
        }
    if rotary.factor == 1:
        return start | {"rope_type": "default"}
    return start | {"rope_type": "linear", "factor": rotary.factor}
