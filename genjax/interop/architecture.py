"""Architectures of Hugging Face: how their options and tensors map to a ``Transformer``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from genjax.errors import UserError
from genjax.nets.transformer.feed_forward import Activation
from genjax.nets.transformer.transformer import Bias, Transformer
from genjax.serial.json_text import Json

PLAIN: Mapping[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
}
GATES: Mapping[str, Activation] = {
    "silu": "swiglu",
    "swish": "swiglu",
    "gelu_pytorch_tanh": "geglu",
    "gelu_new": "geglu",
    "gelu_fast": "geglu",
}
COMMON = {"quantization_config": None, "is_encoder_decoder": False}
LARGEST = 2**31 - 1  # largest number in a config; larger sizes overflow array indices
# Fields that do not change logits, only training and how they are computed.
FREE = ("dropout", "attention_dropout", "attention", "scan_layers", "remat", "init_std")


class Tensor(NamedTuple):
    """A tensor of a checkpoint and the parameters that it maps to.

    Attributes:
      theirs: name in the checkpoint.
      ours: paths of parameters; several are concatenated along its last axis.
      transposed: whether it is stored as [out, in], as in PyTorch.
      before: number of unused rows at its start.
      groups: number of equal groups of columns, each with its share of each of ``ours``: the heads
        of a fused projection that is stored head by head.
      added: what is added to it: 1 for norms that store their difference from 1.
      number: the entry of the parameter's first axis that it is, of an expert; None for all.
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    before: int = 0
    groups: int = 1
    added: float = 0.0
    number: int | None = None

    def shape(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        """Return its shape in the checkpoint, given those of the parameters."""
        if self.number is not None:
            shapes = {path: shapes[path][1:] for path in self.ours}
        first, *rest = (
            *shapes[self.ours[0]][:-1],
            sum(shapes[path][-1] for path in self.ours),
        )
        shape = (first + self.before, *rest)
        return shape[::-1] if self.transposed else shape

    def split(
        self, array: np.ndarray, shapes: Mapping[str, tuple[int, ...]]
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the parameters that the tensor holds, with their paths."""
        array = (array.T if self.transposed else array)[self.before :]
        if self.added:  # of norms, whose sum does not fit in 16 bits
            array = array.astype(np.float32) + np.float32(self.added)
        sizes = [shapes[path][-1] // self.groups for path in self.ours]
        grouped = array.reshape(*array.shape[:-1], self.groups, -1)
        for path, part in zip(self.ours, np.split(grouped, np.cumsum(sizes)[:-1], -1), strict=True):
            yield path, part.reshape(*part.shape[:-2], -1)

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the tensor as the checkpoint stores it, from the parameters that it holds."""
        grouped = [part.reshape(*part.shape[:-1], self.groups, -1) for part in parts]
        whole = np.concatenate(grouped, -1)
        whole = whole.reshape(*whole.shape[:-2], -1)
        if self.added:
            whole = whole - np.asarray(self.added, whole.dtype)
        blank = np.zeros((self.before, *whole.shape[1:]), whole.dtype)
        whole = np.concatenate([blank, whole]) if self.before else whole
        return whole.T if self.transposed else whole


@dataclass(frozen=True)
class Options:
    """The fields of a ``config.json``.

    Attributes:
      values: values of the fields.
      where: path of the file, for messages.
    """

    values: Mapping[str, Json]
    where: str

    def read_int(self, name: str, default: int | None = None, least: int = 1) -> int:
        """Read a whole number; the default replaces a missing or null field."""
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.make_refusal(name, f"a whole number >= {least}", value)
        if value > LARGEST:
            raise self.make_refusal(name, f"<= {LARGEST:,}", value)
        return value

    def read_divisor(self, name: str, of: str, default: int | None = None) -> int:
        """Read a whole number that divides that of the field ``of``."""
        value, whole = self.read_int(name, default), self.read_int(of)
        if whole % value:
            raise self.make_refusal(name, f"a divisor of {of} = {whole}", value)
        return value

    def read_number(self, name: str, default: float) -> float:
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.make_refusal(name, "a number", value)
        if not abs(value) <= LARGEST:
            raise self.make_refusal(name, f"at most {LARGEST:,} in size", value)
        return float(value)

    def read_above(self, bound: float, name: str, default: float) -> float:
        """Read a number above a bound."""
        value = self.read_number(name, default)
        if not value > bound:
            raise self.make_refusal(name, f"> {bound:g}", value)
        return value

    def read_at_least(self, bound: float, name: str, default: float) -> float:
        """Read a number that is at least a bound."""
        value = self.read_number(name, default)
        if not value >= bound:
            raise self.make_refusal(name, f">= {bound:g}", value)
        return value

    def read_share(self, name: str, default: float) -> float:
        """Read a number of at least 0 and below 1."""
        value = self.read_number(name, default)
        if not 0 <= value < 1:
            raise self.make_refusal(name, ">= 0 and < 1", value)
        return value

    def read_flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.make_refusal(name, "true or false", value)
        return value

    def read_numbers(self, name: str, count: int) -> tuple[float, ...]:
        """Read a list of so many numbers above 0."""
        values = self.values.get(name)
        if not isinstance(values, list) or len(values) != count:
            raise self.make_refusal(name, f"a list of {count} numbers", values)
        each = [Options({name: value}, self.where) for value in values]
        return tuple(one.read_above(0, name, 1.0) for one in each)

    def make_refusal(self, name: str, rule: str, value: Any) -> UserError:
        """Return the error for a field that violates a rule."""
        return UserError(f"{name} in {self.where} must be {rule}, got {_format_value(value)}", name)

    def read_activation(
        self, name: str, known: Mapping[str, Activation], default: str
    ) -> Activation:
        value = self.values.get(name) or default
        if not isinstance(value, str) or value not in known:
            raise self.make_error(name, f"only {', '.join(known)}")
        return known[value]

    def make_error(self, name: str, remedy: str) -> UserError:
        """Return the error for a field with an unsupported value."""
        return UserError(
            f"{name} {_format_value(self.values.get(name))} in {self.where} is not supported, "
            f"{remedy}",
            name,
        )


@dataclass(frozen=True)
class Architecture:
    """A ``model_type`` of transformers.

    Attributes:
      kind: value of ``model_type``.
      models: classes whose weights can be read; the first is the one written.
      prefix: prefix of all tensor names but those of the head; missing in checkpoints of the bare
        model.
      fixed: options that change the results, with their only supported value.
      ignored: regular expression of tensor names to ignore: buffers, other heads.
      read: function from options to hyper-parameters.
      write: function from hyper-parameters and the padding token to options; reading them back
        shows what is lost.
      tensors: function from hyper-parameters and options to the tensors of a checkpoint.
      copies: names of tensors that may be stored as copies, with the name of the original.
      causal: whether the model predicts the next token.
      depth: name of the option that counts the layers.
    """

    kind: str
    models: tuple[str, ...]
    prefix: str
    fixed: Mapping[str, Json]
    ignored: str
    read: Callable[[Options], Transformer]
    write: Callable[[Transformer, int | None], dict[str, Json]]
    tensors: Callable[[Transformer, Options], Sequence[Tensor]]
    copies: Mapping[str, str]
    causal: bool
    depth: str = "num_hidden_layers"

    def net(self, options: Options) -> Transformer:
        """Convert options to hyper-parameters.

        Raises:
          UserError: an option is not supported; the message names it.
        """
        wrong = {
            name: f"{name} {options.values[name]!r} (only {value!r})"
            for name, value in (COMMON | dict(self.fixed)).items()
            if options.values.get(name, value) != value and options.values[name] is not None
        }
        if wrong:
            listed = "; ".join(wrong.values())
            raise UserError(f"{options.where} has unsupported options: {listed}", next(iter(wrong)))
        return self.read(options)

    def list_obstacles(self, net: Transformer) -> list[str]:
        """List what this architecture cannot express of a net; empty if it fits."""
        try:
            mine, theirs = (
                _essence(net),
                _essence(self.net(Options(self.write(net, None), self.kind))),
            )
        except UserError as error:  # the options are inconsistent
            return [str(error)]
        if (mine["positions"], theirs["positions"]) != ("rotary", "rotary"):
            del mine["rotary"], theirs["rotary"]
        lost = set(net.biases) - set(theirs.pop("biases"))  # additional ones become zeros
        lines = [
            f"{name} is {mine[name]!r} ({self.kind}: {other!r})"
            for name, other in theirs.items()
            if mine[name] != other
        ]
        without_bias = {"norm"} if net.norm == "rms" else set()
        return lines + [f"{bias} has biases" for bias in sorted(lost - without_bias)]

    def map_name(self, name: str, bare: bool) -> str:
        """Convert the name of a tensor in a checkpoint to that in the table."""
        name = re.sub(
            r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name)
        )  # BERT's first checkpoints
        heads = ("lm_head.", "embed_out.", "cls.")
        return self.prefix + name if bare and not name.startswith(heads) else name


def _format_value(value: Any) -> str:
    """Format a value for a message, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _essence(net: Transformer) -> dict[str, Json]:
    """Return the fields of a net that determine its logits, with explicit defaults."""
    found = {
        field.name: getattr(net, field.name)
        for field in dataclasses.fields(net)
        if field.name not in (*FREE, "window", "rotary", "layer_kinds")
    }
    return found | {
        "window": _merge([kind.window for kind in net.kinds]),
        "rotary": _merge([kind.rotary for kind in net.kinds]),
        "normed": _merge([kind.normed for kind in net.kinds]),
        "kv_heads": net.keys_of_heads,
        "head_width": net.head_size,
        "hidden": net.hidden_width if net.experts is None or net.experts.dense else None,
        "experts": _describe_experts(net),
        "score_width": net.head_size if net.score_width is None else net.score_width,
    }


def _describe_experts(net: Transformer) -> Json:
    """Return what of a net's experts determines its logits, with explicit defaults."""
    if net.experts is None:
        return None
    hidden = net.hidden_width if net.experts.hidden is None else net.experts.hidden
    return dataclasses.replace(net.experts, hidden=hidden, balance=0.0, z_loss=0.0)


def _merge(values: Sequence[Json]) -> Json:
    """Return the value that all layers have, or if they differ a list of each layer's."""
    return values[0] if all(value == values[0] for value in values) else list(values)


def biases(chosen: Mapping[Bias, bool]) -> tuple[Bias, ...]:
    """Return the names of the biases that are present."""
    return tuple(name for name, there in chosen.items() if there)


def spelling(known: Mapping[str, Activation], activation: Activation) -> str:
    """Return the first name of an activation in transformers, or the first of all names if there is
    none.
    """
    return next((name for name, ours in known.items() if ours == activation), next(iter(known)))


def linear(theirs: str, ours: str, bias: bool) -> Iterator[Tensor]:
    """Yield the kernel of a dense layer, stored as [out, in], and its bias if it has one."""
    yield Tensor(f"{theirs}.weight", (f"{ours}/kernel",), True)
    if bias:
        yield Tensor(f"{theirs}.bias", (f"{ours}/bias",))


def norm(theirs: str, ours: str, bias: bool = True, added: float = 0.0) -> Iterator[Tensor]:
    """Yield the scale of a norm, from which ``added`` is missing, and its bias if it has one."""
    yield Tensor(f"{theirs}.weight", (f"{ours}/scale",), added=added)
    if bias:
        yield Tensor(f"{theirs}.bias", (f"{ours}/bias",))
