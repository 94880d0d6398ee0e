"""BERT (arXiv 1810.04805) and RoBERTa (arXiv 1907.11692) with their head, in Hugging Face's
format.
"""

from __future__ import annotations

import dataclasses

from genjax.interop.architecture import PLAIN, Architecture, Options, Tensor, linear, norm, spelling
from genjax.nets.transformer.transformer import Transformer
from genjax.serial.json_text import Json

FIXED = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}
PAD = 1  # RoBERTa's positions start after the number of its padding token


def _common(options: Options, context: int) -> Transformer:
    return Transformer(
        layers=options.read_int("num_hidden_layers"),
        heads=options.read_divisor("num_attention_heads", "hidden_size"),
        width=options.read_int("hidden_size"),
        context=context,
        hidden=options.read_int("intermediate_size"),
        norm_first=False,
        norm_embeddings=True,
        norm_epsilon=options.read_above(0, "layer_norm_eps", 1e-12),
        activation=options.read_activation("hidden_act", PLAIN, "gelu"),
        biases=("attention", "mix", "feed_forward", "norm", "head"),
        causal=False,
        tied=options.read_flag("tie_word_embeddings", True),
        head_transform=True,
        token_types=options.read_int("type_vocab_size", 2),
        dropout=options.read_share("hidden_dropout_prob", 0.1),
        attention_dropout=options.read_share("attention_probs_dropout_prob", 0.1),
        init_std=options.read_above(0, "initializer_range", 0.02),
    )


def _bert(options: Options) -> Transformer:
    return _common(options, options.read_int("max_position_embeddings", 512))


def _without_head(net: Transformer) -> Transformer:
    biases = tuple(bias for bias in net.biases if bias != "head")
    return dataclasses.replace(net, biases=biases, head_transform=False, tied=True)


def _roberta(options: Options) -> Transformer:
    if options.read_activation("hidden_act", PLAIN, "gelu") != "gelu":
        raise options.make_error(
            "hidden_act", "as the head of RoBERTa always has an exact GELU: only 'gelu'"
        )
    unused = _count_unused(options)
    return _common(options, options.read_int("max_position_embeddings", 512, unused + 1) - unused)


def _count_unused(options: Options) -> int:
    """Return the number of unused rows at the start of RoBERTa's position table."""
    return options.read_int("pad_token_id", PAD, 0) + 1


def _write(net: Transformer, pad: int | None) -> dict[str, Json]:
    return {
        "hidden_size": net.width,
        "num_hidden_layers": net.layers,
        "num_attention_heads": net.heads,
        "intermediate_size": net.hidden_width,
        "max_position_embeddings": net.context,
        "type_vocab_size": max(net.token_types, 1),
        "layer_norm_eps": net.norm_epsilon,
        "hidden_act": spelling(PLAIN, net.activation),
        "tie_word_embeddings": net.tied,
        "hidden_dropout_prob": net.dropout,
        "attention_probs_dropout_prob": net.attention_dropout,
        "initializer_range": net.init_std,
        "pad_token_id": pad,
    }


def _write_roberta(net: Transformer, pad: int | None) -> dict[str, Json]:
    fields = _write(net, PAD if pad is None else pad) | {"hidden_act": "gelu"}
    return fields | {"max_position_embeddings": net.context + fields["pad_token_id"] + 1}


def _encoder(net: Transformer, prefix: str, before: int) -> list[Tensor]:
    table = [
        Tensor(f"{prefix}.embeddings.word_embeddings.weight", ("embedding",)),
        Tensor(
            f"{prefix}.embeddings.position_embeddings.weight",
            ("position_embedding",),
            before=before,
        ),
        Tensor(f"{prefix}.embeddings.token_type_embeddings.weight", ("type_embedding",)),
        *norm(f"{prefix}.embeddings.LayerNorm", "embedding_norm"),
    ]
    for i in range(net.layers):
        theirs, ours = f"{prefix}.encoder.layer.{i}", f"layer_{i}"
        for name in ("query", "key", "value"):
            table += linear(f"{theirs}.attention.self.{name}", f"{ours}/attention/{name}", True)
        table += [
            *linear(f"{theirs}.attention.output.dense", f"{ours}/attention/mix", True),
            *norm(f"{theirs}.attention.output.LayerNorm", f"{ours}/attention_norm"),
            *linear(f"{theirs}.intermediate.dense", f"{ours}/feed_forward/up", True),
            *linear(f"{theirs}.output.dense", f"{ours}/feed_forward/down", True),
            *norm(f"{theirs}.output.LayerNorm", f"{ours}/feed_forward_norm"),
        ]
    return table


def _head(net: Transformer, transform: str, transform_norm: str, head: str) -> list[Tensor]:
    # An untied decoder has its own bias; transformers then ignores the other one.
    own = [
        Tensor(f"{head}.decoder.weight", ("head_kernel",)),
        Tensor(f"{head}.decoder.bias", ("head_bias",)),
    ]
    return [
        *linear(transform, "transform", True),
        *norm(transform_norm, "transform_norm"),
        *([Tensor(f"{head}.bias", ("head_bias",))] if net.tied else own),
    ]


def _bert_tensors(net: Transformer, options: Options) -> list[Tensor]:
    transform = "cls.predictions.transform"
    head = _head(net, f"{transform}.dense", f"{transform}.LayerNorm", "cls.predictions")
    return _encoder(net, "bert", 0) + head


def _roberta_tensors(net: Transformer, options: Options) -> list[Tensor]:
    return _encoder(net, "roberta", _count_unused(options)) + _head(
        net, "lm_head.dense", "lm_head.layer_norm", "lm_head"
    )


BERT = Architecture(
    kind="bert",
    models=("BertForMaskedLM", "BertForPreTraining"),
    prefix="bert.",
    fixed=FIXED,
    ignored=r"bert\.embeddings\.position_ids|bert\.pooler\..*|cls\.seq_relationship\..*",
    read=_bert,
    write=_write,
    tensors=_bert_tensors,
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
        "cls.predictions.bias": "cls.predictions.decoder.bias",
    },
    causal=False,
)
# Without its head, as sentence encoders are stored; heads in a file are ignored.
ENCODER = dataclasses.replace(
    BERT,
    models=("BertModel", *BERT.models),
    ignored=rf"{BERT.ignored}|cls\..*",
    read=lambda options: _without_head(_bert(options)),
    tensors=lambda net, options: _encoder(net, "bert", 0),
    copies={},
)
ROBERTA = Architecture(
    kind="roberta",
    models=("RobertaForMaskedLM",),
    prefix="roberta.",
    fixed=FIXED,
    ignored=r"roberta\.embeddings\.(position_ids|token_type_ids)|roberta\.pooler\..*",
    read=_roberta,
    write=_write_roberta,
    tensors=_roberta_tensors,
    copies={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
        "lm_head.bias": "lm_head.decoder.bias",
    },
    causal=False,
)
