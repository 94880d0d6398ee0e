"""ModernBERT (arXiv 2412.13663) with its head, in Hugging Face's format."""

from __future__ import annotations

from collections.abc import Mapping

from genjax.interop.architecture import Architecture, Options, Tensor, biases, linear, norm
from genjax.interop.layer_kinds import FULL, SLIDING
from genjax.interop.rope import find_table, read_rotary, write_rotary
from genjax.nets.transformer.feed_forward import Activation
from genjax.nets.transformer.positions import Rotary
from genjax.nets.transformer.transformer import Bias, LayerKind, Transformer
from genjax.serial.json_text import Json

GATES: Mapping[str, Activation] = {
    "gelu": "geglu_exact",
    "gelu_pytorch_tanh": "geglu",
    "silu": "swiglu",
}
BASES = {FULL: 160_000.0, SLIDING: 10_000.0}
OLDER = {FULL: "global_rope_theta", SLIDING: "local_rope_theta"}  # names of the bases


def _read(options: Options) -> Transformer:
    width = options.read_int("hidden_size")
    heads = options.read_divisor("num_attention_heads", "hidden_size")
    if width // heads % 2:
        raise options.make_refusal(
            "num_attention_heads", "such that heads have an even width", heads
        )
    activation = options.read_activation("hidden_activation", GATES, "gelu")
    if options.read_activation("classifier_activation", GATES, "gelu") != activation:
        raise options.make_error("classifier_activation", "only that of hidden_activation")
    return Transformer(
        layers=options.read_int("num_hidden_layers"),
        heads=heads,
        width=width,
        context=options.read_int("max_position_embeddings", 8192),
        hidden=options.read_int("intermediate_size"),
        positions="rotary",
        norm_embeddings=True,
        norm_epsilon=options.read_above(0, "norm_eps", 1e-5),
        activation=activation,
        biases=biases(_read_biases(options)),
        causal=False,
        layer_kinds=_read_kinds(options),
        tied=options.read_flag("tie_word_embeddings", True),
        head_transform=True,
        dropout=options.read_share("mlp_dropout", 0.0),
        attention_dropout=options.read_share("attention_dropout", 0.0),
        init_std=options.read_above(0, "initializer_range", 0.02),
    )


def _read_biases(options: Options) -> Mapping[Bias, bool]:
    attention = options.read_flag("attention_bias", False)
    decoder = options.read_flag("decoder_bias", True)
    return {
        "attention": attention,
        "mix": attention,
        "feed_forward": options.read_flag("mlp_bias", False),
        "norm": options.read_flag("norm_bias", False),
        # One flag here for two layers; what a file lacks becomes zeros.
        "head": decoder or options.read_flag("classifier_bias", False),
    }


def _read_kinds(options: Options) -> tuple[LayerKind, ...]:
    """Read which layers see all tokens and which a window, each with its base of rotary
    positions.
    """
    layers = options.read_int("num_hidden_layers")
    types = options.values.get("layer_types")
    if types is None:
        every = options.read_int("global_attn_every_n_layers", 3)
        types = [SLIDING if i % every else FULL for i in range(layers)]
    if not isinstance(types, list) or len(types) != layers or not set(types) <= set(BASES):
        raise options.make_error("layer_types", f"only {FULL} or {SLIDING} for each layer")
    # Half of the window on each side, and the token itself.
    windows = {FULL: None, SLIDING: options.read_int("local_attention", 128, 2) // 2 + 1}
    rotary = {
        kind: read_rotary(
            options,
            find_table(options, kind),
            options.read_int("hidden_size") // options.read_int("num_attention_heads"),
            base=options.read_above(1, OLDER[kind], base),
        )
        for kind, base in BASES.items()
    }
    return tuple(LayerKind(windows[kind], rotary[kind], i > 0) for i, kind in enumerate(types))


def _write(net: Transformer, pad: int | None) -> dict[str, Json]:
    types = [FULL if kind.window is None else SLIDING for kind in net.kinds]
    rotary = {kind: Rotary(base) for kind, base in BASES.items()}
    rotary |= {one: kind.rotary or Rotary() for kind, one in zip(net.kinds, types, strict=True)}
    windows = [kind.window for kind in net.kinds if kind.window is not None]
    activation = next((name for name, ours in GATES.items() if ours == net.activation), "gelu")
    chosen = set(net.biases)
    return {
        "hidden_size": net.width,
        "intermediate_size": net.hidden_width,
        "num_hidden_layers": net.layers,
        "num_attention_heads": net.heads,
        "max_position_embeddings": net.context,
        "hidden_activation": activation,
        "classifier_activation": activation,
        "norm_eps": net.norm_epsilon,
        "attention_bias": bool({"attention", "mix"} & chosen),
        "mlp_bias": "feed_forward" in chosen,
        "norm_bias": "norm" in chosen,
        "decoder_bias": "head" in chosen,
        "classifier_bias": "head" in chosen,
        "layer_types": types,
        "local_attention": max(2 * (windows[0] - 1), 2) if windows else 128,
        "rope_parameters": {kind: write_rotary(one) for kind, one in rotary.items()},
        # transformers 4 reads these.
        **{OLDER[kind]: one.base for kind, one in rotary.items()},
        "tie_word_embeddings": net.tied,
        "embedding_dropout": net.dropout,
        "mlp_dropout": net.dropout,
        "attention_dropout": net.attention_dropout,
        "initializer_range": net.init_std,
        "pad_token_id": pad,
    }


def _tensors(net: Transformer, options: Options) -> list[Tensor]:
    there = set(net.biases)
    table = [
        Tensor("model.embeddings.tok_embeddings.weight", ("embedding",)),
        *norm("model.embeddings.norm", "embedding_norm", "norm" in there),
        *norm("model.final_norm", "final_norm", "norm" in there),
    ]
    for i, kind in enumerate(net.kinds):
        theirs, ours = f"model.layers.{i}", f"layer_{i}"
        parts = {
            "attn.Wqkv": ("attention", ("attention/query", "attention/key", "attention/value")),
            "attn.Wo": ("mix", ("attention/mix",)),
            "mlp.Wi": ("feed_forward", ("feed_forward/gate", "feed_forward/up")),
            "mlp.Wo": ("feed_forward", ("feed_forward/down",)),
        }
        for name, (bias, paths) in parts.items():
            kernels = tuple(f"{ours}/{path}/kernel" for path in paths)
            table.append(Tensor(f"{theirs}.{name}.weight", kernels, True))
            if bias in there:
                offsets = tuple(f"{ours}/{path}/bias" for path in paths)
                table.append(Tensor(f"{theirs}.{name}.bias", offsets))
        if kind.normed:
            table += norm(f"{theirs}.attn_norm", f"{ours}/attention_norm", "norm" in there)
        table += norm(f"{theirs}.mlp_norm", f"{ours}/feed_forward_norm", "norm" in there)
    table += linear("head.dense", "transform", options.read_flag("classifier_bias", False))
    table += norm("head.norm", "transform_norm", "norm" in there)
    if not net.tied:
        table.append(Tensor("decoder.weight", ("head_kernel",)))
    if options.read_flag("decoder_bias", True):
        table.append(Tensor("decoder.bias", ("head_bias",)))
    return table


MODERNBERT = Architecture(
    kind="modernbert",
    models=("ModernBertForMaskedLM",),
    prefix="model.",
    fixed={},
    ignored=r"model\.rotary_emb\..*",
    read=_read,
    write=_write,
    tensors=_tensors,
    copies={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
    causal=False,
)
