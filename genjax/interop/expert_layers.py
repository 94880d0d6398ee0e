"""Layers of experts in Hugging Face's format: Mixtral (arXiv 2401.04088) and Qwen3-MoE (arXiv
2505.09388).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from genjax.interop.architecture import Options, Tensor, linear
from genjax.nets.transformer.experts import Experts
from genjax.nets.transformer.transformer import Transformer
from genjax.serial.json_text import Json


@dataclass(frozen=True)
class ExpertNames:
    """What the tensors of a layer of experts are called.

    Attributes:
      layer: the layer.
      gate: the gate of an expert.
      up: the other first matrix.
      down: the last matrix.
    """

    layer: str
    gate: str
    up: str
    down: str

    def list_tensors(self, theirs: str, ours: str, count: int) -> Iterator[Tensor]:
        """Yield the tensors of a layer with so many experts, each of which is one of a stack."""
        yield from linear(f"{theirs}.{self.layer}.gate", f"{ours}/feed_forward/router", False)
        for number in range(count):
            for name in ("gate", "up", "down"):
                yield Tensor(
                    f"{theirs}.{self.layer}.experts.{number}.{getattr(self, name)}.weight",
                    (f"{ours}/feed_forward/experts/{name}/kernel",),
                    True,
                    number=number,
                )


def _read(options: Options, **fields: Json) -> Experts:
    count = options.read_int("num_local_experts")
    active = options.read_int("num_experts_per_tok")
    if active > count:
        raise options.make_refusal("num_experts_per_tok", f"<= {count}, the experts", active)
    balance = options.read_at_least(0, "router_aux_loss_coef", 0.001)
    return Experts(count, active, balance=balance, z_loss=0.0, **fields)


def _write(experts: Experts) -> dict[str, Json]:
    return {
        "num_local_experts": experts.count,
        "num_experts_per_tok": experts.active,
        "router_aux_loss_coef": experts.balance,
    }


def read_mixtral(options: Options) -> dict[str, Json]:
    return {"experts": _read(options)}


def write_mixtral(net: Transformer) -> dict[str, Json]:
    if net.experts is None:
        return {}
    hidden = net.hidden_width if net.experts.hidden is None else net.experts.hidden
    return _write(net.experts) | {"intermediate_size": hidden}


def read_qwen_moe(options: Options) -> dict[str, Json]:
    """Read the experts of Qwen3-MoE, some of whose layers may have none.

    Raises:
      UserError: no layer has experts, or an option is out of its range.
    """
    if options.values.get("num_experts") is not None:  # the name of older configs
        renamed = {**options.values, "num_local_experts": options.values["num_experts"]}
        options = Options(renamed, options.where)
    layers, step = options.read_int("num_hidden_layers"), options.read_int("decoder_sparse_step", 1)
    given = options.values.get("mlp_only_layers") or []
    if not isinstance(given, list) or not all(type(i) is int and 0 <= i < layers for i in given):
        raise options.make_refusal("mlp_only_layers", f"a list of numbers below {layers}", given)
    dense = tuple(i for i in range(layers) if i in given or (i + 1) % step)
    if len(dense) == layers:
        raise options.make_error("mlp_only_layers", "as no layer has experts: load it as qwen3")
    return {
        "experts": _read(
            options,
            hidden=options.read_int("moe_intermediate_size", 768),
            renormalise=options.read_flag("norm_topk_prob", False),
            dense=dense,
        )
    }


def write_qwen_moe(net: Transformer) -> dict[str, Json]:
    if net.experts is None:
        return {}
    hidden = net.hidden_width if net.experts.hidden is None else net.experts.hidden
    return _write(net.experts) | {
        "num_experts": net.experts.count,
        "moe_intermediate_size": hidden,
        "norm_topk_prob": net.experts.renormalise,
        "mlp_only_layers": list(net.experts.dense),
        "decoder_sparse_step": 1,
    }


MIXTRAL = ExpertNames("block_sparse_moe", "w1", "w3", "w2")
QWEN_MOE = ExpertNames("mlp", "gate_proj", "up_proj", "down_proj")
