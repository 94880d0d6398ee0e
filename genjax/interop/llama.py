"""Llama (arXiv 2302.13971) and relatives, Mistral, Qwen2 and Qwen3, in Hugging Face's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genjax.interop.architecture import (
    GATES,
    Architecture,
    Options,
    Tensor,
    biases,
    linear,
    norm,
    spelling,
)
from genjax.nets.transformer.positions import Rotary
from genjax.nets.transformer.transformer import Transformer
from genjax.serial.json_text import Json

BUFFERS = r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\..*"


def _rotary(options: Options) -> Rotary:
    """Read ``rope_parameters``, or the older ``rope_theta`` and ``rope_scaling``.

    Raises:
      UserError: the scaling is not "default", "linear" or "llama3".
    """
    given = options.values.get("rope_parameters") or options.values.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise options.make_error("rope_parameters", "only a table of numbers")
    scaling = Options(given, options.where)
    base = scaling.read_above(1, "rope_theta", options.read_above(1, "rope_theta", 10_000.0))
    if (
        scaling.read_number(
            "partial_rotary_factor", options.read_number("partial_rotary_factor", 1.0)
        )
        != 1
    ):
        raise scaling.make_error("partial_rotary_factor", "only 1")
    kind = given.get("rope_type") or given.get("type") or "default"
    if kind == "default":
        return Rotary(base)
    if kind == "linear":
        return Rotary(base, scaling.read_at_least(1, "factor", 1.0))
    if kind == "llama3":
        return Rotary(
            base,
            scaling.read_at_least(1, "factor", 1.0),
            scaling.read_int("original_max_position_embeddings"),
            low := scaling.read_above(0, "low_freq_factor", 1.0),
            scaling.read_above(low, "high_freq_factor", 4.0),
        )
    shown = Options({"rope_type": kind}, options.where)
    raise shown.make_error("rope_type", "only 'default', 'linear' and 'llama3'")


def _scaling(rotary: Rotary) -> dict[str, Json]:
    if rotary.trained is not None:
        return {
            "rope_type": "llama3",
            "factor": rotary.factor,
            "original_max_position_embeddings": rotary.trained,
            "low_freq_factor": rotary.low,
            "high_freq_factor": rotary.high,
        }
    return (
        {"rope_type": "default"}
        if rotary.factor == 1
        else {"rope_type": "linear", "factor": rotary.factor}
    )


def _window(options: Options, default: bool) -> int | None:
    """Read the sliding window of all layers; ``default`` says whether there is one if the option is
    missing.

    Raises:
      UserError: only some layers have one.
    """
    layers, window = (
        options.read_int("num_hidden_layers"),
        options.values.get("sliding_window", 4096),
    )
    if not options.read_flag("use_sliding_window", default) or window is None:
        return None
    sliding = layers
    if "max_window_layers" in options.values:  # layers from there on slide
        sliding = max(0, layers - int(options.read_number("max_window_layers", layers)))
    if options.values.get("layer_types") is not None:
        types = options.values["layer_types"]
        if not isinstance(types, list):
            raise options.make_error("layer_types", "only a list of names")
        sliding = types.count("sliding_attention")
    if sliding not in (0, layers):
        raise options.make_error(
            "sliding_window", f"as {sliding} of {layers} layers have it: only all or none"
        )
    return options.read_int("sliding_window", 4096) if sliding else None


def _head_width(options: Options, default: int | None) -> int:
    """Read the width of a head; without a default it is the width over the number of heads.

    Raises:
      UserError: the width is odd, which rotary positions do not allow.
    """
    if default is None and options.values.get("head_dim") is None:
        default = options.read_int("hidden_size") // options.read_divisor(
            "num_attention_heads", "hidden_size"
        )
    width = options.read_int("head_dim", default)
    if width % 2:
        raise options.make_refusal("head_dim", "even", width)
    return width


def _common(options: Options, head_width: int | None = None, **fields: Any) -> Transformer:
    width, heads = options.read_int("hidden_size"), options.read_int("num_attention_heads")
    values: dict[str, Json] = {
        "layers": options.read_int("num_hidden_layers"),
        "heads": heads,
        "width": width,
        "context": options.read_int("max_position_embeddings", 2048),
        "kv_heads": options.read_divisor("num_key_value_heads", "num_attention_heads", heads),
        "head_width": _head_width(options, head_width),
        "hidden": options.read_int("intermediate_size"),
        "positions": "rotary",
        "rotary": _rotary(options),
        "norm": "rms",
        "norm_epsilon": options.read_above(0, "rms_norm_eps", 1e-6),
        "activation": options.read_activation("hidden_act", GATES, "silu"),
        "tied": options.read_flag("tie_word_embeddings", False),
        "attention_dropout": options.read_share("attention_dropout", 0.0),
        "init_std": options.read_above(0, "initializer_range", 0.02),
    }
    return Transformer(**values | fields)


def _llama(options: Options) -> Transformer:
    attention, perceptron = (
        options.read_flag("attention_bias", False),
        options.read_flag("mlp_bias", False),
    )
    return _common(
        options,
        biases=biases({"attention": attention, "mix": attention, "feed_forward": perceptron}),
    )


def _mistral(options: Options) -> Transformer:
    return _common(options, biases=(), window=_window(options, True))


def _qwen2(options: Options) -> Transformer:
    return _common(options, biases=("attention",), window=_window(options, False))


def _qwen3(options: Options) -> Transformer:
    there = options.read_flag("attention_bias", False)
    return _common(
        options,
        biases=biases({"attention": there, "mix": there}),
        head_width=128,
        window=_window(options, False),
        qk_norm=True,
    )


def _write(net: Transformer, pad: int | None) -> dict[str, Json]:
    scaling = _scaling(net.rotary)
    return {
        "hidden_size": net.width,
        "intermediate_size": net.hidden_width,
        "num_hidden_layers": net.layers,
        "num_attention_heads": net.heads,
        "num_key_value_heads": net.keys_of_heads,
        "head_dim": net.head_size,
        "max_position_embeddings": net.context,
        "hidden_act": spelling(GATES, net.activation),
        "rms_norm_eps": net.norm_epsilon,
        "rope_theta": net.rotary.base,
        # transformers 4 reads rope_theta and rope_scaling.
        "rope_scaling": None if scaling["rope_type"] == "default" else scaling,
        "rope_parameters": {"rope_theta": net.rotary.base} | scaling,
        "tie_word_embeddings": net.tied,
        "attention_dropout": net.attention_dropout,
        "initializer_range": net.init_std,
        "pad_token_id": pad,
    }


def _write_llama(net: Transformer, pad: int | None) -> dict[str, Json]:
    return _write(net, pad) | {
        "attention_bias": bool({"attention", "mix"} & set(net.biases)),
        "mlp_bias": "feed_forward" in net.biases,
    }


def _write_mistral(net: Transformer, pad: int | None) -> dict[str, Json]:
    return _write(net, pad) | {"sliding_window": net.window}


def _write_qwen(net: Transformer, pad: int | None) -> dict[str, Json]:
    slides = net.window is not None
    return _write_llama(net, pad) | {
        "use_sliding_window": slides,
        "sliding_window": net.window,
        "max_window_layers": 0 if slides else net.layers,
        "layer_types": ["sliding_attention" if slides else "full_attention"] * net.layers,
    }


def _tensors(net: Transformer, options: Options) -> list[Tensor]:
    table = [
        Tensor("model.embed_tokens.weight", ("embedding",)),
        *norm("model.norm", "final_norm", False),
    ]
    for i in range(net.layers):
        theirs, ours = f"model.layers.{i}", f"layer_{i}"
        for name, part in (("query", "q"), ("key", "k"), ("value", "v")):
            table += linear(
                f"{theirs}.self_attn.{part}_proj",
                f"{ours}/attention/{name}",
                "attention" in net.biases,
            )
            if net.qk_norm and name != "value":
                table += norm(
                    f"{theirs}.self_attn.{part}_norm", f"{ours}/attention/{name}_norm", False
                )
        table += linear(f"{theirs}.self_attn.o_proj", f"{ours}/attention/mix", "mix" in net.biases)
        for name in ("gate", "up", "down"):
            table += linear(
                f"{theirs}.mlp.{name}_proj",
                f"{ours}/feed_forward/{name}",
                "feed_forward" in net.biases,
            )
        table += norm(f"{theirs}.input_layernorm", f"{ours}/attention_norm", False)
        table += norm(f"{theirs}.post_attention_layernorm", f"{ours}/feed_forward_norm", False)
    return table if net.tied else [*table, Tensor("lm_head.weight", ("head_kernel",))]


def _make_architecture(kind: str, model: str, read: Any, write: Any) -> Architecture:
    return Architecture(
        kind=kind,
        models=(model,),
        prefix="model.",
        fixed={},
        ignored=BUFFERS,
        read=read,
        write=write,
        tensors=_tensors,
        copies={"lm_head.weight": "model.embed_tokens.weight"},
        causal=True,
    )


LLAMA = _make_architecture("llama", "LlamaForCausalLM", _llama, _write_llama)
MISTRAL = _make_architecture("mistral", "MistralForCausalLM", _mistral, _write_mistral)
QWEN2 = _make_architecture("qwen2", "Qwen2ForCausalLM", _qwen2, _write_qwen)
QWEN3 = _make_architecture("qwen3", "Qwen3ForCausalLM", _qwen3, _write_qwen)
