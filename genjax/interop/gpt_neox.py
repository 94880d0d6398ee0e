"""GPT-NeoX (arXiv 2204.06745), Pythia's architecture (arXiv 2304.01373), in Hugging Face's
format.
"""

from __future__ import annotations

from genjax.interop.architecture import PLAIN, Architecture, Options, Tensor, linear, norm, spelling
from genjax.interop.layer_kinds import KindRules, read_kinds, write_kinds
from genjax.interop.rope import SHARE
from genjax.nets.transformer.transformer import Bias, Transformer
from genjax.serial.json_text import Json

KINDS = KindRules(share=0.25)
OLDER = {"rotary_emb_base": "rope_theta", "rotary_pct": SHARE}  # names of options


def _read(options: Options) -> Transformer:
    renamed = {OLDER.get(name, name): value for name, value in options.values.items()}
    options = Options(renamed, options.where)
    width = options.read_int("hidden_size")
    heads = options.read_divisor("num_attention_heads", "hidden_size")
    there: tuple[Bias, ...] = (
        ("attention", "mix") if options.read_flag("attention_bias", True) else ()
    )
    return Transformer(
        layers=options.read_int("num_hidden_layers"),
        heads=heads,
        width=width,
        context=options.read_int("max_position_embeddings", 2048),
        hidden=options.read_int("intermediate_size"),
        positions="rotary",
        norm_epsilon=options.read_above(0, "layer_norm_eps", 1e-5),
        parallel=options.read_flag("use_parallel_residual", True),
        activation=options.read_activation("hidden_act", PLAIN, "gelu"),
        biases=(*there, "feed_forward", "norm"),
        tied=options.read_flag("tie_word_embeddings", False),
        dropout=options.read_share("hidden_dropout", 0.0),
        attention_dropout=options.read_share("attention_dropout", 0.0),
        init_std=options.read_above(0, "initializer_range", 0.02),
        **read_kinds(KINDS, options, width // heads),
    )


def _write(net: Transformer, pad: int | None) -> dict[str, Json]:
    kinds = write_kinds(KINDS, net.kinds)
    return {
        "hidden_size": net.width,
        "intermediate_size": net.hidden_width,
        "num_hidden_layers": net.layers,
        "num_attention_heads": net.heads,
        "max_position_embeddings": net.context,
        "hidden_act": spelling(PLAIN, net.activation),
        "layer_norm_eps": net.norm_epsilon,
        "use_parallel_residual": net.parallel,
        "attention_bias": bool({"attention", "mix"} & set(net.biases)),
        "tie_word_embeddings": net.tied,
        "hidden_dropout": net.dropout,
        "attention_dropout": net.attention_dropout,
        "initializer_range": net.init_std,
        "pad_token_id": pad,
        "rotary_emb_base": kinds["rope_theta"],
        "rotary_pct": kinds[SHARE],
        **{name: kinds[name] for name in ("rope_parameters", "rope_scaling")},
    }


def _tensors(net: Transformer, options: Options) -> list[Tensor]:
    table = [
        Tensor("gpt_neox.embed_in.weight", ("embedding",)),
        *norm("gpt_neox.final_layer_norm", "final_norm"),
    ]
    for i in range(net.layers):
        theirs, ours = f"gpt_neox.layers.{i}", f"layer_{i}"
        for part in ("kernel", "bias") if "attention" in net.biases else ("kernel",):
            table.append(
                Tensor(
                    f"{theirs}.attention.query_key_value.{'weight' if part == 'kernel' else part}",
                    tuple(f"{ours}/attention/{name}/{part}" for name in ("query", "key", "value")),
                    part == "kernel",
                    groups=net.heads,
                )
            )
        table += [
            *linear(f"{theirs}.attention.dense", f"{ours}/attention/mix", "mix" in net.biases),
            *linear(f"{theirs}.mlp.dense_h_to_4h", f"{ours}/feed_forward/up", True),
            *linear(f"{theirs}.mlp.dense_4h_to_h", f"{ours}/feed_forward/down", True),
            *norm(f"{theirs}.input_layernorm", f"{ours}/attention_norm"),
            *norm(f"{theirs}.post_attention_layernorm", f"{ours}/feed_forward_norm"),
        ]
    return table if net.tied else [*table, Tensor("embed_out.weight", ("head_kernel",))]


GPT_NEOX = Architecture(
    kind="gpt_neox",
    models=("GPTNeoXForCausalLM",),
    prefix="gpt_neox.",
    fixed={},
    ignored=r"gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\..*)",
    read=_read,
    write=_write,
    tensors=_tensors,
    copies={"embed_out.weight": "gpt_neox.embed_in.weight"},
    causal=True,
)
