"""DistilBERT (arXiv 1910.01108) with its head, in Hugging Face's format."""

from __future__ import annotations

from genjax.interop.architecture import PLAIN, Architecture, Options, Tensor, linear, norm, spelling
from genjax.nets.transformer.transformer import Transformer
from genjax.serial.json_text import Json

EPSILON = 1e-12  # of its norms; it has no option


def _read(options: Options) -> Transformer:
    return Transformer(
        layers=options.read_int("n_layers", 6),
        heads=options.read_divisor("n_heads", "dim", 12),
        width=options.read_int("dim"),
        context=options.read_int("max_position_embeddings", 512),
        hidden=options.read_int("hidden_dim", 3072),
        norm_first=False,
        norm_embeddings=True,
        norm_epsilon=EPSILON,
        activation=options.read_activation("activation", PLAIN, "gelu"),
        biases=("attention", "mix", "feed_forward", "norm", "head"),
        causal=False,
        tied=options.read_flag("tie_word_embeddings", True),
        head_transform=True,
        dropout=options.read_share("dropout", 0.1),
        attention_dropout=options.read_share("attention_dropout", 0.1),
        init_std=options.read_above(0, "initializer_range", 0.02),
    )


def _write(net: Transformer, pad: int | None) -> dict[str, Json]:
    return {
        "dim": net.width,
        "n_layers": net.layers,
        "n_heads": net.heads,
        "hidden_dim": net.hidden_width,
        "max_position_embeddings": net.context,
        # Positions are stored as a table in any case.
        "sinusoidal_pos_embds": False,
        "activation": spelling(PLAIN, net.activation),
        "tie_word_embeddings": net.tied,
        "dropout": net.dropout,
        "attention_dropout": net.attention_dropout,
        "initializer_range": net.init_std,
        "pad_token_id": pad,
    }


def _tensors(net: Transformer, options: Options) -> list[Tensor]:
    embeddings = "distilbert.embeddings"
    table = [
        Tensor(f"{embeddings}.word_embeddings.weight", ("embedding",)),
        Tensor(f"{embeddings}.position_embeddings.weight", ("position_embedding",)),
        *norm(f"{embeddings}.LayerNorm", "embedding_norm"),
    ]
    for i in range(net.layers):
        theirs, ours = f"distilbert.transformer.layer.{i}", f"layer_{i}"
        parts = {
            "attention.q_lin": "attention/query",
            "attention.k_lin": "attention/key",
            "attention.v_lin": "attention/value",
            "attention.out_lin": "attention/mix",
            "ffn.lin1": "feed_forward/up",
            "ffn.lin2": "feed_forward/down",
        }
        for name, path in parts.items():
            table += linear(f"{theirs}.{name}", f"{ours}/{path}", True)
        table += norm(f"{theirs}.sa_layer_norm", f"{ours}/attention_norm")
        table += norm(f"{theirs}.output_layer_norm", f"{ours}/feed_forward_norm")
    head = [] if net.tied else [Tensor("vocab_projector.weight", ("head_kernel",))]
    return [
        *table,
        *linear("vocab_transform", "transform", True),
        *norm("vocab_layer_norm", "transform_norm"),
        *head,
        Tensor("vocab_projector.bias", ("head_bias",)),
    ]


DISTILBERT = Architecture(
    kind="distilbert",
    models=("DistilBertForMaskedLM",),
    prefix="distilbert.",
    fixed={},
    ignored=r"distilbert\.embeddings\.position_ids",
    read=_read,
    write=_write,
    tensors=_tensors,
    copies={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    causal=False,
    depth="n_layers",
)
