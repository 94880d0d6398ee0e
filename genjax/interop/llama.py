"""Llama (arXiv 2302.13971) and its relatives in Hugging Face's format, by a table of what differs.

Mistral (arXiv 2310.06825), Qwen2 (arXiv 2407.10671), Qwen3 (arXiv 2505.09388), OLMo 2 (arXiv
2501.00656), Gemma 2 (arXiv 2408.00118), Gemma 3 (arXiv 2503.19786), SmolLM3, Phi-3 (arXiv
2404.14219), Mixtral and Qwen3-MoE.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from genjax.interop.architecture import (
    GATES,
    Architecture,
    Options,
    Tensor,
    linear,
    norm,
    spelling,
)
from genjax.interop.expert_layers import (
    MIXTRAL,
    QWEN_MOE,
    ExpertNames,
    read_mixtral,
    read_qwen_moe,
    write_mixtral,
    write_qwen_moe,
)
from genjax.interop.layer_kinds import (
    KindRules,
    alternate,
    read_kinds,
    slide_without_positions,
    write_kinds,
)
from genjax.nets.transformer.transformer import Bias, Transformer
from genjax.serial.json_text import Json

BUFFERS = r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\..*"
PRE_NORMS = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "feed_forward_norm",
}
POST_NORMS = {
    "post_attention_layernorm": "attention_last_norm",
    "post_feedforward_layernorm": "feed_forward_last_norm",
}
SANDWICH = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "attention_last_norm",
    "pre_feedforward_layernorm": "feed_forward_norm",
    "post_feedforward_layernorm": "feed_forward_last_norm",
}


@dataclass(frozen=True)
class Relative:
    """What a model has in common with Llama, or not.

    Attributes:
      kind: its ``model_type``.
      model: its class.
      net: fields of the net that all such models have.
      defaults: options that are missing in a ``config.json``, where Llama's differ.
      always: biases that all such models have.
      bias_options: options that add biases, and which.
      activation: option of the activation.
      kinds: how the kinds of its layers are read and written.
      norms: the norms of a layer, and ours.
      added: what the norms' scales lack.
      experts: names of layers of experts; None for none.
      fused: whether queries, keys and values are one matrix, and gate and up.
      fixed: options with their only supported value.
      read: reads further fields of the net.
      write: writes further options.
    """

    kind: str
    model: str
    net: Mapping[str, Json] = field(default_factory=dict)
    defaults: Mapping[str, Json] = field(default_factory=dict)
    always: tuple[Bias, ...] = ()
    bias_options: Mapping[str, tuple[Bias, ...]] = field(default_factory=dict)
    activation: str = "hidden_act"
    kinds: KindRules = KindRules()
    norms: Mapping[str, str] = field(default_factory=lambda: PRE_NORMS)
    added: float = 0.0
    experts: ExpertNames | None = None
    fused: bool = False
    fixed: Mapping[str, Json] = field(default_factory=dict)
    read: Callable[[Options], dict[str, Json]] = lambda options: {}
    write: Callable[[Transformer], dict[str, Json]] = lambda net: {}

    def make_architecture(self) -> Architecture:
        """Return how models of this kind are read and written."""
        return Architecture(
            kind=self.kind,
            models=(self.model,),
            prefix="model.",
            fixed=self.fixed,
            ignored=BUFFERS,
            read=lambda options: _read(self, options),
            write=lambda net, pad: _write(self, net, pad),
            tensors=lambda net, options: _tensors(self, net),
            copies={"lm_head.weight": "model.embed_tokens.weight"},
            causal=True,
        )


def _head_width(options: Options) -> int:
    """Read the width of a head; without a default it is the width over the number of heads.

    Raises:
      UserError: the width is odd, which rotary positions do not allow.
    """
    default = None
    if options.values.get("head_dim") is None:
        default = options.read_int("hidden_size") // options.read_divisor(
            "num_attention_heads", "hidden_size"
        )
    width = options.read_int("head_dim", default)
    if width % 2:
        raise options.make_refusal("head_dim", "even", width)
    return width


def _read(relative: Relative, options: Options) -> Transformer:
    options = dataclasses.replace(options, values={**relative.defaults, **options.values})
    width, heads = options.read_int("hidden_size"), options.read_int("num_attention_heads")
    head_width = _head_width(options)
    more = relative.bias_options
    added = (
        bias for name, gives in more.items() if options.read_flag(name, False) for bias in gives
    )
    biases = {*relative.always, *added}
    order: tuple[Bias, ...] = ("attention", "mix", "feed_forward")
    values: dict[str, Any] = {
        "layers": options.read_int("num_hidden_layers"),
        "heads": heads,
        "width": width,
        "context": options.read_int("max_position_embeddings", 2048),
        "kv_heads": options.read_divisor("num_key_value_heads", "num_attention_heads", heads),
        "head_width": head_width,
        "hidden": options.read_int("intermediate_size"),
        "positions": "rotary",
        "norm": "rms",
        "norm_epsilon": options.read_above(0, "rms_norm_eps", 1e-6),
        "activation": options.read_activation(relative.activation, GATES, "silu"),
        "biases": tuple(name for name in order if name in biases),
        "tied": options.read_flag("tie_word_embeddings", False),
        "attention_dropout": options.read_share("attention_dropout", 0.0),
        "init_std": options.read_above(0, "initializer_range", 0.02),
    }
    values |= read_kinds(relative.kinds, options, head_width)
    return Transformer(**values | dict(relative.net) | relative.read(options))


def _write(relative: Relative, net: Transformer, pad: int | None) -> dict[str, Json]:
    flags = {name: bool({*gives} & {*net.biases}) for name, gives in relative.bias_options.items()}
    return {
        "hidden_size": net.width,
        "intermediate_size": net.hidden_width,
        "num_hidden_layers": net.layers,
        "num_attention_heads": net.heads,
        "num_key_value_heads": net.keys_of_heads,
        "head_dim": net.head_size,
        "max_position_embeddings": net.context,
        relative.activation: spelling(GATES, net.activation),
        "rms_norm_eps": net.norm_epsilon,
        "tie_word_embeddings": net.tied,
        "attention_dropout": net.attention_dropout,
        "initializer_range": net.init_std,
        "pad_token_id": pad,
        **flags,
        **write_kinds(relative.kinds, net.kinds),
        **relative.write(net),
    }


def _tensors(relative: Relative, net: Transformer) -> list[Tensor]:
    added = relative.added
    table = [
        Tensor("model.embed_tokens.weight", ("embedding",)),
        *norm("model.norm", "final_norm", False, added),
    ]
    for i in range(net.layers):
        theirs, ours = f"model.layers.{i}", f"layer_{i}"
        parts = {"query": "q", "key": "k", "value": "v"}
        kernels = {f"{theirs}.self_attn.{p}_proj": f"attention/{n}" for n, p in parts.items()}
        forward = {f"{theirs}.mlp.{name}_proj": f"feed_forward/{name}" for name in ("gate", "up")}
        last = {f"{theirs}.mlp.down_proj": "feed_forward/down"}
        experts = net.experts_of(i)
        if experts is not None and relative.experts is not None:
            table += relative.experts.list_tensors(theirs, ours, experts.count)
            forward = last = {}
        if relative.fused:
            table += _fuse(f"{theirs}.self_attn.qkv_proj", ours, tuple(kernels.values()))
            table += _fuse(f"{theirs}.mlp.gate_up_proj", ours, tuple(forward.values()))
            kernels = forward = {}
        for name, path in kernels.items():
            table += linear(name, f"{ours}/{path}", "attention" in net.biases)
        for name, path in (forward | last).items():
            table += linear(name, f"{ours}/{path}", "feed_forward" in net.biases)
        table += linear(f"{theirs}.self_attn.o_proj", f"{ours}/attention/mix", "mix" in net.biases)
        for name in ("query", "key") if net.qk_norm else ():
            path = f"{ours}/attention/{name}_norm"
            table += norm(f"{theirs}.self_attn.{parts[name]}_norm", path, False, added)
        for name, path in relative.norms.items():
            table += norm(f"{theirs}.{name}", f"{ours}/{path}", False, added)
    return table if net.tied else [*table, Tensor("lm_head.weight", ("head_kernel",))]


def _fuse(theirs: str, layer: str, paths: tuple[str, ...]) -> list[Tensor]:
    """Return the one matrix of several dense layers without biases."""
    return [Tensor(f"{theirs}.weight", tuple(f"{layer}/{path}/kernel" for path in paths), True)]


def _read_gemma(options: Options) -> dict[str, Json]:
    caps = {
        "attention_softcap": "attn_logit_softcapping",
        "logit_softcap": "final_logit_softcapping",
    }
    found = {
        ours: None if options.values.get(name) is None else options.read_above(0, name, 1.0)
        for ours, name in caps.items()
    }
    return found | {
        "score_width": options.read_int("query_pre_attn_scalar"),
        "embedding_scale": options.read_int("hidden_size") ** 0.5,
    }


def _write_gemma(net: Transformer) -> dict[str, Json]:
    return {
        "attn_logit_softcapping": net.attention_softcap,
        "final_logit_softcapping": net.logit_softcap,
        "query_pre_attn_scalar": net.head_size if net.score_width is None else net.score_width,
    }


ATTENTION: dict[str, tuple[Bias, ...]] = {"attention_bias": ("attention", "mix")}
BOTH: dict[str, tuple[Bias, ...]] = {**ATTENTION, "mlp_bias": ("feed_forward",)}
QWEN = KindRules("typed", flagged=True)
GEMMA2 = Relative(
    "gemma2",
    "Gemma2ForCausalLM",
    net={"norm_last": True},
    defaults={
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window": 4096,
    },
    bias_options=ATTENTION,
    activation="hidden_activation",
    kinds=KindRules("typed", lambda options, layers: alternate(layers, 2), needed=True),
    norms=SANDWICH,
    added=1.0,
    fixed={"use_bidirectional_attention": False},
    read=_read_gemma,
    write=_write_gemma,
)
GEMMA3 = dataclasses.replace(
    GEMMA2,
    kind="gemma3_text",
    model="Gemma3ForCausalLM",
    net={"norm_last": True, "qk_norm": True},
    defaults={
        **GEMMA2.defaults,
        "max_position_embeddings": 131_072,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "rope_theta": 1_000_000.0,
    },
    kinds=KindRules(
        "typed",
        lambda options, layers: alternate(layers, options.read_int("sliding_window_pattern", 6)),
        needed=True,
        two_bases=True,
    ),
    # transformers reads a cap, but its attention does not apply it.
    fixed={**GEMMA2.fixed, "attn_logit_softcapping": None},
    write=lambda net: _write_gemma(net) | {"attn_logit_softcapping": None},
)
RELATIVES = (
    Relative("llama", "LlamaForCausalLM", bias_options=BOTH),
    Relative(
        "mistral",
        "MistralForCausalLM",
        defaults={"max_position_embeddings": 131_072, "sliding_window": 4096},
        kinds=KindRules("all"),
    ),
    Relative(
        "qwen2",
        "Qwen2ForCausalLM",
        defaults={"max_position_embeddings": 32_768, "sliding_window": 4096},
        always=("attention",),
        kinds=QWEN,
    ),
    Relative(
        "qwen3",
        "Qwen3ForCausalLM",
        net={"qk_norm": True},
        defaults={"head_dim": 128, "max_position_embeddings": 32_768, "sliding_window": 4096},
        bias_options=ATTENTION,
        kinds=QWEN,
    ),
    Relative(
        "olmo2",
        "Olmo2ForCausalLM",
        net={"norm_first": False, "norm_last": True, "qk_norm": True, "qk_norm_whole": True},
        defaults={"rms_norm_eps": 1e-5},
        bias_options=ATTENTION,
        norms=POST_NORMS,
    ),
    GEMMA2,
    GEMMA3,
    Relative(
        "smollm3",
        "SmolLM3ForCausalLM",
        defaults={
            "max_position_embeddings": 32_768,
            "num_key_value_heads": 4,
            "rope_theta": 2_000_000.0,
            "tie_word_embeddings": True,
        },
        bias_options=BOTH,
        kinds=KindRules("typed", slide_without_positions, flagged=True, plain_layers=True),
    ),
    Relative(
        "phi3",
        "Phi3ForCausalLM",
        defaults={"rms_norm_eps": 1e-5, "max_position_embeddings": 4096},
        kinds=KindRules("all", share=1.0, rope_names={"su": "longrope", "yarn": "longrope"}),
        fused=True,
        read=lambda options: {"dropout": options.read_share("resid_pdrop", 0.0)},
        write=lambda net: {"resid_pdrop": net.dropout},
    ),
    Relative(
        "mixtral",
        "MixtralForCausalLM",
        defaults={
            "max_position_embeddings": 131_072,
            "num_key_value_heads": 8,
            "num_experts_per_tok": 2,
            "num_local_experts": 8,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1_000_000.0,
        },
        kinds=KindRules("all"),
        experts=MIXTRAL,
        read=read_mixtral,
        write=write_mixtral,
    ),
    Relative(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        net={"qk_norm": True},
        defaults={
            "max_position_embeddings": 32_768,
            "num_experts_per_tok": 8,
            "num_key_value_heads": 4,
            "num_local_experts": 128,
            "sliding_window": 4096,
        },
        bias_options=ATTENTION,
        kinds=KindRules("all", flagged=True),
        experts=QWEN_MOE,
        read=read_qwen_moe,
        write=write_qwen_moe,
    ),
)
LLAMAS = tuple(relative.make_architecture() for relative in RELATIVES)
