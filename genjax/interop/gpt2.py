"""GPT-2 (Radford et al., 2019) in Hugging Face's format."""

from __future__ import annotations

from collections.abc import Iterator

from genjax.interop.architecture import PLAIN, Architecture, Options, Tensor, norm, spelling
from genjax.nets.transformer.transformer import Transformer
from genjax.serial.json_text import Json


def _read(options: Options) -> Transformer:
    width = options.read_int("n_embd")
    return Transformer(
        layers=options.read_int("n_layer"),
        heads=options.read_divisor("n_head", "n_embd"),
        width=width,
        context=options.read_int("n_positions"),
        hidden=options.read_int("n_inner", 4 * width),
        norm_epsilon=options.read_above(0, "layer_norm_epsilon", 1e-5),
        activation=options.read_activation("activation_function", PLAIN, "gelu_new"),
        tied=options.read_flag("tie_word_embeddings", True),
        dropout=options.read_share("resid_pdrop", 0.1),
        attention_dropout=options.read_share("attn_pdrop", 0.1),
        init_std=options.read_above(0, "initializer_range", 0.02),
    )


def _write(net: Transformer, pad: int | None) -> dict[str, Json]:
    return {
        "n_embd": net.width,
        "n_layer": net.layers,
        "n_head": net.heads,
        "n_positions": net.context,
        "n_inner": net.hidden_width,
        "layer_norm_epsilon": net.norm_epsilon,
        "activation_function": spelling(PLAIN, net.activation),
        "tie_word_embeddings": net.tied,
        "resid_pdrop": net.dropout,
        "embd_pdrop": net.dropout,
        "attn_pdrop": net.attention_dropout,
        "initializer_range": net.init_std,
        "pad_token_id": pad,
    }


def _conv(theirs: str, *ours: str) -> Iterator[Tensor]:
    """Yield the kernel of a Conv1D, stored as [in, out] with several parts concatenated, and its
    bias.
    """
    yield Tensor(f"{theirs}.weight", tuple(f"{name}/kernel" for name in ours))
    yield Tensor(f"{theirs}.bias", tuple(f"{name}/bias" for name in ours))


def _tensors(net: Transformer, options: Options) -> list[Tensor]:
    table = [
        Tensor("transformer.wte.weight", ("embedding",)),
        Tensor("transformer.wpe.weight", ("position_embedding",)),
        *norm("transformer.ln_f", "final_norm"),
    ]
    for i in range(net.layers):
        theirs, ours = f"transformer.h.{i}", f"layer_{i}"
        attention = f"{ours}/attention"
        table += [
            *norm(f"{theirs}.ln_1", f"{ours}/attention_norm"),
            *_conv(
                f"{theirs}.attn.c_attn",
                *(f"{attention}/{name}" for name in ("query", "key", "value")),
            ),
            *_conv(f"{theirs}.attn.c_proj", f"{attention}/mix"),
            *norm(f"{theirs}.ln_2", f"{ours}/feed_forward_norm"),
            *_conv(f"{theirs}.mlp.c_fc", f"{ours}/feed_forward/up"),
            *_conv(f"{theirs}.mlp.c_proj", f"{ours}/feed_forward/down"),
        ]
    return table if net.tied else [*table, Tensor("lm_head.weight", ("head_kernel",))]


GPT2 = Architecture(
    kind="gpt2",
    models=("GPT2LMHeadModel", "GPT2Model"),
    prefix="transformer.",
    fixed={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    ignored=r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",
    read=_read,
    write=_write,
    tensors=_tensors,
    copies={"lm_head.weight": "transformer.wte.weight"},
    causal=True,
    depth="n_layer",
)
