"""Which layers of a model of transformers have a sliding window, and which rotary positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from genjax.interop.architecture import Options
from genjax.interop.rope import SHARE, TRAINED, find_table, read_rotary, write_rotary
from genjax.nets.transformer.positions import Rotary
from genjax.nets.transformer.transformer import LayerKind
from genjax.serial.json_text import Json

FULL, SLIDING = "full_attention", "sliding_attention"
WINDOW = 4096  # that transformers needs where no layer has one


def slide_from(options: Options, layers: int) -> list[bool]:
    """Return whether each layer slides, where those from ``max_window_layers`` on do."""
    first = options.read_int("max_window_layers", layers, 0)
    return [i >= first for i in range(layers)]


def slide_without_positions(options: Options, layers: int) -> list[bool]:
    """Return whether each layer slides, where those without positions do."""
    return [not turned for turned in _read_turned(options, layers)]


def alternate(layers: int, period: int) -> list[bool]:
    """Return whether each layer slides, where each last one of a period does not."""
    return [(i + 1) % period != 0 for i in range(layers)]


@dataclass(frozen=True)
class KindRules:
    """How a model's options tell the kinds of its layers.

    Attributes:
      windows: which layers have a sliding window: none, all, or the typed ones of ``layer_types``.
      slides: which they are where ``layer_types`` is missing.
      flagged: whether ``use_sliding_window`` must be true for any.
      needed: whether ``sliding_window`` must be a number even if no layer has one.
      plain_layers: whether some layers may have no positions, as ``no_rope_layers`` says.
      two_bases: whether layers with a window have rotary positions of their own.
      share: default share of a head's entries that are turned; None where it is always 1.
      rope_names: other names of kinds of rotary positions.
    """

    windows: Literal["none", "all", "typed"] = "none"
    slides: Callable[[Options, int], list[bool]] = slide_from
    flagged: bool = False
    needed: bool = False
    plain_layers: bool = False
    two_bases: bool = False
    share: float | None = None
    rope_names: Mapping[str, str] = field(default_factory=dict)


def read_kinds(rules: KindRules, options: Options, head_width: int) -> dict[str, Any]:
    """Read the window and rotary positions of the layers, as fields of ``Transformer``.

    Raises:
      UserError: an option is not supported, or out of its range; the message names it.
    """

    def read(name: str, base: str) -> Rotary:
        return read_rotary(
            options,
            find_table(options, name if rules.two_bases else None),
            head_width,
            base=options.read_above(1, base, 10_000.0),
            share=rules.share,
            aliases=rules.rope_names,
        )

    layers = options.read_int("num_hidden_layers")
    slides = _read_slides(rules, options, layers)
    window = options.read_int("sliding_window") if any(slides) else None
    rotary = own = read(FULL, "rope_theta")
    if rules.two_bases:
        own = read(SLIDING, "rope_local_base_freq")
    turned = _read_turned(options, layers) if rules.plain_layers else [True] * layers
    return join_kinds(
        [
            LayerKind(window if slid else None, (own if slid else rotary) if turn else None)
            for slid, turn in zip(slides, turned, strict=True)
        ]
    )


def join_kinds(kinds: Sequence[LayerKind]) -> dict[str, Any]:
    """Return the kinds of layers as fields of ``Transformer``: those of all, or the shortest cycle
    of them.
    """
    cycle = next(
        n for n in range(1, len(kinds) + 1) if all(k == kinds[i % n] for i, k in enumerate(kinds))
    )
    if cycle == 1 and kinds[0].rotary is not None:
        return {"window": kinds[0].window, "rotary": kinds[0].rotary}
    return {"layer_kinds": tuple(kinds[:cycle])}


def _read_slides(rules: KindRules, options: Options, layers: int) -> list[bool]:
    """Read whether each layer has a window."""
    used = not rules.flagged or options.read_flag("use_sliding_window", False)
    given = options.values.get("layer_types") if rules.windows == "typed" else None
    if given is None:
        there = used and options.values.get("sliding_window") is not None
        if rules.windows == "none" or not there:
            return [False] * layers
        return [True] * layers if rules.windows == "all" else rules.slides(options, layers)
    if (
        not isinstance(given, list)
        or len(given) != layers
        or not all(one in (FULL, SLIDING) for one in given)
    ):
        raise options.make_refusal(
            "layer_types", f"a list of {layers} of {FULL!r} and {SLIDING!r}", given
        )
    if SLIDING in given and not used:
        raise options.make_error("use_sliding_window", f"as layer_types has {SLIDING!r}: only True")
    return [one == SLIDING for one in given]


def _read_turned(options: Options, layers: int) -> list[bool]:
    """Read whether each layer has positions, a 1 in ``no_rope_layers``."""
    given = options.values.get("no_rope_layers")
    if given is None:
        period = options.read_int("no_rope_layer_interval", 4)
        return [(i + 1) % period != 0 for i in range(layers)]
    if not isinstance(given, list) or len(given) < layers or not all(x in (0, 1) for x in given):
        raise options.make_refusal("no_rope_layers", f"a list of {layers} of 0 and 1", given)
    return [bool(one) for one in given[:layers]]


def write_kinds(rules: KindRules, kinds: Sequence[LayerKind]) -> dict[str, Json]:
    """Return the options of these kinds, as far as there are any; reading them back shows what
    is lost.
    """
    slides = [kind.window is not None for kind in kinds]
    window = next((kind.window for kind in kinds if kind.window is not None), None)
    options: dict[str, Json] = _write_rotaries(rules, kinds)
    if rules.windows != "none":
        options["sliding_window"] = WINDOW if rules.needed and window is None else window
    if rules.windows == "typed":
        options["layer_types"] = [SLIDING if slid else FULL for slid in slides]
    if rules.flagged:
        options["use_sliding_window"] = any(slides)
        options["max_window_layers"] = 0 if all(slides) else len(kinds)
    if rules.plain_layers:
        options["no_rope_layers"] = [int(kind.rotary is not None) for kind in kinds]
    return options


def _write_rotaries(rules: KindRules, kinds: Sequence[LayerKind]) -> dict[str, Json]:
    def first(slid: bool | None) -> Rotary:
        found = [kind.rotary for kind in kinds if slid in (None, kind.window is not None)]
        return next((rotary for rotary in found if rotary is not None), Rotary())

    rotary = first(False if rules.two_bases else None)
    table = write_rotary(rotary)
    options: dict[str, Json] = {}
    if rules.share is not None:  # which transformers reads from both places
        table[SHARE] = options[SHARE] = rotary.share
        if rotary.trained is not None:
            options[TRAINED] = rotary.trained
    if rules.two_bases:
        own = write_rotary(first(True))
        options["rope_local_base_freq"] = own["rope_theta"]
        options["rope_parameters"] = {FULL: table, SLIDING: own}
    else:
        options["rope_parameters"] = table
    # transformers 4 reads rope_theta and rope_scaling.
    scaling = {name: value for name, value in table.items() if name != "rope_theta"}
    plain = table["rope_type"] == "default"
    return options | {
        "rope_theta": table["rope_theta"],
        "rope_scaling": None if plain else scaling,
    }
