"""Every number of every component keeps a rule: NaN, infinity and other types are refused by
the name of the field.
"""

import dataclasses
import importlib
import math
import pkgutil
import types
import typing

import flax.linen
import pytest

import genjax
from genjax.data.design.attributes import Attribute, Attributes
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.evaluation.text.bias import Probe
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.code_prior import CodePrior, CodeSampler
from genjax.families.autoregressive.next_scale import NextScale
from genjax.families.autoregressive.request import Decoding
from genjax.families.classifier import Classifier
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.gan.gan import GAN, LatentSampler
from genjax.families.masking import Masking
from genjax.families.multiscale import MultiscaleCodebook
from genjax.families.vae import VAE, PriorSampler
from genjax.families.vdvae import VDVAE
from genjax.families.vqvae import VQVAE
from genjax.nets.conv.conv import ConvCoder
from genjax.nets.conv.resnet import ResNet
from genjax.nets.conv.unet import UNet
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.nets.transformer.dit import DiT
from genjax.nets.transformer.positions import Rotary
from genjax.nets.transformer.transformer import LayerKind, Transformer
from genjax.optim import SGD, Adam
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.dpo import DPO
from genjax.prepare.matching.linkage import Blocking, FieldComparison
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Csv
from genjax.prepare.stages.splits import Splits
from genjax.samplers.diffusion.ancestral import DDIM, DDPM
from genjax.samplers.diffusion.processes import Straight
from genjax.samplers.diffusion.solvers import Heun
from genjax.samplers.tokens.beam import BeamSearch
from genjax.samplers.tokens.decoding import TokenSampler
from genjax.schedules import Constant, Cosine, Cyclical, Linear, Piecewise, WarmUp
from tests.toy import Toy, ToyData, experiment

NAN, INF = math.nan, math.inf
WRONG = (
    NAN,
    INF,
    -INF,
    -1,
    0,
    1e30,
    10**12,
    -(10**12),
    10**400,
    -(10**5000),
    True,
    "3",
    None,
    (),
    [1, 2],
    3j,
    b"3",
    {},
)
NEEDED = {  # the fields without a default
    "ImageCodec": {"height": 8, "width": 8, "channels": 3},
    "PointsCodec": {"dim": 2},
    "VideoCodec": {"height": 8, "width": 8},
    "MelCodec": {"rate": 8000, "bands": 32, "frames": 32},
    "SignalCodec": {"rate": 8000, "length": 64},
    "TrajectoryCodec": {"columns": ("x",), "interval": 1.0, "mean": (0.0,), "scale": (1.0,)},
    "FieldCodec": {"columns": ("x",), "interval": 1.0, "mean": (0.0,), "scale": (1.0,)},
    "TrajectoryFiles": {"root": "x"},
    "WavFolder": {"root": "x", "rate": 8000, "length": 64},
    "Attribute": {"name": "x", "values": ("a", "b")},
    "Attributes": {"attributes": (Attribute("x", ("a", "b")),)},
    "Mixture": {"sources": (ToyData(), ToyData())},
    "QuantileColumn": {"name": "x", "shares": (0.0, 1.0), "values": (1.0, 2.0)},
    "NumberColumn": {"name": "x", "weights": (1.0,), "means": (0.0,), "stds": (1.0,)},
    "CategoryColumn": {"name": "x", "values": ("a", "b")},
    "TableCodec": {"numbers": (), "categories": (), "order": ()},
    "RelatedCodec": {"numbers": (), "categories": (), "order": ()},
    "RelatedTables": {"parents": "x", "children": "y", "key": "z"},
    "MixtureModes": {"centres": ((0.0, 1.0),), "std": 0.1},
    "Probe": {"name": "x", "templates": ("a {} b",), "pairs": (("c", "d"),) * 30},
    "ShardRule": {"pattern": "x", "axes": (None,)},
    "Linkage": {"blocks": (Blocking(("a",)),), "comparisons": (FieldComparison("a"),)},
    "ScoreOptions": {"reward": "x"},
    "CategoriseOptions": {"run": "x"},
    "UrlOptions": {"url": "http://x"},
    "AnchorOptions": {"to": "x"},
    "TrimOptions": {"before": "2026-01-01"},
    "DriftOptions": {"reference": "x", "window": "y"},
    "KubernetesOptions": {"image": "x"},
    "SshOptions": {"hosts": ("a",)},
    "TpuOptions": {"zone": "us-central1-a", "type": "v4-8"},
    "PPO": {"reward": print},
    "GRPO": {"reward": print},
    "Grouped": {"reward": print},
    "RLOO": {"reward": print},
    "OnlineDPO": {"reward": print},
    "RewardedDiffusion": {"reward": print},
    "DDPO": {"reward": print},
}
DEFAULTS = {
    "attributes": Attributes((Attribute("x", ("a", "b")),)),
    "parts": (),
    "root": "x",
    "name": "x",
    "path": "x",
    "function": print,
    "classifier": "x",
    "reward": print,
    "experiment": experiment(),
    "family": Toy(),
    "data": ToyData(),
    "sources": (ToyData(),),
    "tokens": Subwords(),
    "column": "x",
    "columns": ("x",),
    "words": ("x",),
    "files": ("x",),
    "readers": (Csv(("x",)),),
    "against": (Csv(("x",)),),
    "preparation": Preparation((Csv(("x",)),)),
    "process": Straight(),
    "sampler": TokenSampler(),
    "probes": (Probe("x", ("a {} b",), (("c", "d"),) * 30),),
}


def components() -> dict[str, type]:
    """What a config or a command can hold, by name: the dataclasses that check their fields."""
    found = {}
    for module in pkgutil.walk_packages(genjax.__path__, "genjax."):
        # One runs, one needs a package; records and what is served are made by programs.
        if module.name in ("genjax.__main__", "genjax.interop.lm_eval"):
            continue
        if module.name.startswith(("genjax.store", "genjax.serve.pages", "genjax.serve.texts")):
            continue
        for name, cls in vars(importlib.import_module(module.name)).items():
            mine = (
                isinstance(cls, type)
                and cls.__module__ == module.name
                and dataclasses.is_dataclass(cls)
            )
            rules = mine and hasattr(cls, "__post_init__") and "Speculator" not in name
            if rules and not issubclass(cls, flax.linen.Module):
                found[f"{module.name.removeprefix('genjax.')}:{name}"] = cls
    return found


COMPONENTS = components()


def made(cls, **changes):
    fields = [f for f in dataclasses.fields(cls) if f.init]
    open_ = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    needed = {name: DEFAULTS[name] for name in open_ if name in DEFAULTS}
    return cls(**(needed | NEEDED.get(cls.__name__, {}) | changes))


def numbers(cls) -> dict[str, tuple]:
    """The fields that hold a number or numbers, each with the types of its values."""
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        parts = (
            typing.get_args(hint)
            if typing.get_origin(hint) in (typing.Union, types.UnionType)
            else (hint,)
        )
        if field.init and {int, float} & {
            *parts,
            *(a for p in parts for a in typing.get_args(p) if isinstance(a, type)),
        }:
            found[field.name] = parts
    return found


def finite(value) -> bool:
    return (
        all(map(finite, value))
        if isinstance(value, tuple)
        else value is None or isinstance(value, str) or math.isfinite(value)
    )


def test_all_components_are_found():
    assert len(COMPONENTS) > 200
    unchecked = [
        n for n, c in COMPONENTS.items() if not c.__post_init__.__qualname__.startswith("frozen.")
    ]
    assert not unchecked  # decorated with dataclass in the place of checks.frozen


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_number_is_taken_or_refused_by_name(name):
    cls = COMPONENTS[name]
    made(cls)
    for field, parts in numbers(cls).items():
        default = next(f.default for f in dataclasses.fields(cls) if f.name == field)
        for wrong in WRONG:
            try:
                taken = getattr(made(cls, **{field: wrong}), field)
            except UserError as error:
                assert field in str(error), (wrong, error)
                assert "\n" not in str(error)
            else:
                assert finite(taken) or (default == INF and abs(taken) == INF), (field, wrong)
                kinds = int | float | tuple | str if str in parts else int | float | tuple
                assert taken is None or isinstance(taken, kinds), (field, wrong)
                assert not isinstance(taken, bool) or bool in parts
                assert taken is not None or type(None) in parts, field
                assert not isinstance(taken, float) or float in parts, field


# Values of the right type that no component can work with.
REFUSED = [
    (TokenSampler, "temperature", (-1e-9,)),
    (TokenSampler, "top_p", (0, 1.01)),
    (TokenSampler, "top_k", (0, -5)),
    (TokenSampler, "min_p", (0.0, 2)),
    (TokenSampler, "steps", (0,)),
    (TokenSampler, "repetition_penalty", (0,)),
    (Decoding, "beams", (0,)),
    (Decoding, "draft_tokens", (0,)),
    (Decoding, "length_penalty", (-0.1,)),
    (Decoding, "top_p", (0,)),
    (BeamSearch, "width", (0,)),
    (DDPM, "steps", (0,)),
    (DDIM, "eta", (-0.1, 1.1)),
    (Heun, "steps", (0,)),
    (Denoising, "guidance_scale", (-1,)),
    (CodeSampler, "guidance_scale", (-1,)),
    (PriorSampler, "temperature", (-1,)),
    (LatentSampler, "truncation", (0,)),
    (VAE, "latent_dim", (0,)),
    (VAE, "free_bits", (-1,)),
    (VAE, "chunk", (0,)),
    (VQVAE, "codes", (1,)),
    (VQVAE, "decay", (1.0,)),
    (VDVAE, "width", (0,)),
    (VDVAE, "patch", (0,)),
    (GAN, "loss", ("hing",)),
    (GAN, "latent_dim", (0,)),
    (GAN, "r1", (-1,)),
    (GAN, "pack", (0,)),
    (Diffusion, "gamma", (0,)),
    (Diffusion, "drop_label", (1,)),
    (Diffusion, "weighting", ("none",)),
    (Classifier, "dropout", (1, -0.1)),
    (Classifier, "label_smoothing", (1,)),
    (Classifier, "top", (1,)),
    (Autoregressive, "chunk", (0,)),
    (Autoregressive, "z_loss", (-1,)),
    (CodePrior, "drop_label", (1,)),
    (NextScale, "drop_label", (1,)),
    (MultiscaleCodebook, "scales", (0,)),
    (MultiscaleCodebook, "smoothing", (-0.1, 1.1)),
    (Masking, "rate", (0, 1)),
    (Masking, "masked", (-0.1, 1.1)),
    (Masking, "span_end", (0,)),
    (Transformer, "layers", (0,)),
    (Transformer, "heads", (0, 7)),
    (Transformer, "kv_heads", (5,)),
    (Transformer, "dropout", (1,)),
    (Transformer, "positions", ("rotery",)),
    (Transformer, "biases", (("all",),)),
    (Transformer, "window", (0,)),
    (Transformer, "context", (0,)),
    (Transformer, "init_std", (0,)),
    (Rotary, "low", (0, 4.0)),
    (Rotary, "base", (1,)),
    (Rotary, "share", (0, 1.5)),
    (Rotary, "gain", (0,)),
    (LayerKind, "window", (0,)),
    (Transformer, "score_width", (0,)),
    (Transformer, "embedding_scale", (0,)),
    (DiT, "heads", (0, 7)),
    (DiT, "depth", (0,)),
    (ConvCoder, "channels", ((), (0,), (32, -1))),
    (UNet, "channels", ((), (0, 32))),
    (UNet, "blocks", (0,)),
    (UNet, "dropout", (1,)),
    (ResNet, "channels", ((),)),
    (ResNet, "blocks", ((1, -1, 1),)),
    (MLPCoder, "hidden", ((0,),)),
    (MLPBackbone, "dropout", (1,)),
    (Adapters, "rank", (0,)),
    (Adapters, "alpha", (0,)),
    (DPO, "beta", (0, -1)),
    (DPO, "label_smoothing", (0.5,)),
    (Adam, "b1", (1, -0.1)),
    (Adam, "eps", (0,)),
    (SGD, "momentum", (1,)),
    (SGD, "clip", (0,)),
    (SGD, "accumulate", (0,)),
    (Linear, "steps", (0,)),
    (Cosine, "steps", (0,)),
    (Cyclical, "cycles", (0,)),
    (Cyclical, "ramp", (0, 1.5)),
    (WarmUp, "warm_up", (-1,)),
    (Constant, "value", (NAN,)),
    (Piecewise, "values", ((1.0,), (1.0, NAN))),
    (Splits, "test", (1, -0.1)),
    (Splits, "validation", (1, 0.9)),
]


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [(cls, field, value) for cls, field, values in REFUSED for value in values],
    ids=lambda part: getattr(part, "__name__", repr(part)),
)
def test_an_impossible_value_is_refused(cls, field, value):
    with pytest.raises(UserError) as error:
        cls(**{field: value})
    assert field in str(error.value)
    assert "must be" in str(error.value)
    assert "got" in str(error.value)
