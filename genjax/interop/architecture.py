"""What is known of an architecture of Hugging Face's: its options and its tensors, and the
same here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
# What changes no logit: how it is trained and how it is computed.
LARGEST = 2**31 - 1  # of any number in a config; sizes above it overflow where arrays are indexed
FREE = ("dropout", "attention_dropout", "attention", "scan_layers", "remat", "init_std")


class Tensor(NamedTuple):
    """A tensor of a checkpoint and what it is here.

    Attributes:
      theirs: its name.
      ours: paths of parameters; several lie side by side along its last axis.
      transposed: whether it is kept as [out, in], PyTorch's way.
      before: rows of it before the first that is used.
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    before: int = 0


@dataclass(frozen=True)
class Options:
    """The fields of a ``config.json``.

    Attributes:
      values: of the fields.
      where: the file, for messages.
    """

    values: Mapping[str, Json]
    where: str

    def read_int(self, name: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number, unless there is a default for a field that is not there or
        null.
        """
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.refused(name, f"a whole number >= {least}", value)
        if value > LARGEST:
            raise self.refused(name, f"<= {LARGEST:,}", value)
        return value

    def divisor(self, name: str, of: str, default: int | None = None) -> int:
        """Return a whole number that divides that of the field ``of``."""
        value, whole = self.read_int(name, default), self.read_int(of)
        if whole % value:
            raise self.refused(name, f"a divisor of {of} = {whole}", value)
        return value

    def read_number(self, name: str, default: float) -> float:
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.refused(name, "a number", value)
        if not abs(value) <= LARGEST:
            raise self.refused(name, f"at most {LARGEST:,} in size", value)
        return float(value)

    def above(self, bound: float, name: str, default: float) -> float:
        """Return a number that is larger than a bound."""
        value = self.read_number(name, default)
        if not value > bound:
            raise self.refused(name, f"> {bound:g}", value)
        return value

    def at_least(self, bound: float, name: str, default: float) -> float:
        """Return a number that is not smaller than a bound."""
        value = self.read_number(name, default)
        if not value >= bound:
            raise self.refused(name, f">= {bound:g}", value)
        return value

    def share(self, name: str, default: float) -> float:
        """Return a number of at least 0 and below 1."""
        value = self.read_number(name, default)
        if not 0 <= value < 1:
            raise self.refused(name, ">= 0 and < 1", value)
        return value

    def read_flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.refused(name, "true or false", value)
        return value

    def refused(self, name: str, rule: str, value: Any) -> UserError:
        """Return the error for a field that does not keep a rule."""
        return UserError(f"{name} in {self.where} must be {rule}, got {_format_value(value)}", name)

    def read_activation(
        self, name: str, known: Mapping[str, Activation], default: str
    ) -> Activation:
        value = self.values.get(name) or default
        if not isinstance(value, str) or value not in known:
            raise self.make_error(name, f"only {', '.join(known)}")
        return known[value]

    def make_error(self, name: str, remedy: str) -> UserError:
        """Return the error for a field whose value there is no form of here."""
        return UserError(
            f"{name} {_format_value(self.values.get(name))} in {self.where} is not supported, "
            f"{remedy}",
            name,
        )


@dataclass(frozen=True)
class Architecture:
    """A ``model_type`` of transformers.

    Attributes:
      kind: its name.
      models: classes whose weights are read; the first is the one that is written.
      prefix: what all names but those of the head start with; checkpoints of the bare model lack
        it.
      fixed: options that change the numbers, each with the one value that is supported.
      ignored: a regular expression of names that tell nothing: buffers, other heads.
      read: the hyper-parameters that options describe.
      write: the options that describe hyper-parameters and the number of the padding token, as far
        as they can: ``read`` of them tells what is lost.
      tensors: the table of a net; the options are those of the checkpoint.
      copies: names that may be next to the tensor of which they are a copy.
      causal: whether it predicts the next token.
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

    def net(self, options: Options) -> Transformer:
        """Return the hyper-parameters that options describe.

        Raises:
          UserError: an option has no form here; it is named.
        """
        wrong = [
            f"{name} {options.values[name]!r} (only {value!r})"
            for name, value in (COMMON | dict(self.fixed)).items()
            if options.values.get(name, value) != value and options.values[name] is not None
        ]
        if wrong:
            raise UserError(f"{options.where} needs what is not supported: {'; '.join(wrong)}")
        return self.read(options)

    def list_obstacles(self, net: Transformer) -> list[str]:
        """What of a net this architecture cannot say; empty where it fits."""
        try:
            mine, theirs = (
                _essence(net),
                _essence(self.net(Options(self.write(net, None), self.kind))),
            )
        except UserError as error:  # what it does say makes no whole
            return [str(error)]
        if (mine["positions"], theirs["positions"]) != ("rotary", "rotary"):
            del mine["rotary"], theirs["rotary"]
        lost = set(net.biases) - set(theirs.pop("biases"))  # where it has more, zeros do
        lines = [
            f"{name} is {mine[name]!r} ({self.kind}: {other!r})"
            for name, other in theirs.items()
            if mine[name] != other
        ]
        without_bias = {"norm"} if net.norm == "rms" else set()
        return lines + [f"{bias} has biases" for bias in sorted(lost - without_bias)]

    def map_name(self, name: str, bare: bool) -> str:
        """Return the name of a tensor as the table has it, of one in a checkpoint."""
        name = re.sub(
            r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name)
        )  # BERT's first checkpoints
        return self.prefix + name if bare and not name.startswith(("lm_head.", "cls.")) else name


def _format_value(value: Any) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _essence(net: Transformer) -> dict[str, Json]:
    """What of a net the logits depend on, defaults written out."""
    found = {
        field.name: getattr(net, field.name)
        for field in dataclasses.fields(net)
        if field.name not in FREE
    }
    return found | {
        "kv_heads": net.keys_of_heads,
        "head_width": net.head_size,
        "hidden": net.hidden_width,
    }


def biases(chosen: Mapping[Bias, bool]) -> tuple[Bias, ...]:
    """Return the names of those that are there."""
    return tuple(name for name, there in chosen.items() if there)


def spelling(known: Mapping[str, Activation], activation: Activation) -> str:
    """Return the first name that transformers has for an activation; the first of all where there
    is none.
    """
    return next((name for name, ours in known.items() if ours == activation), next(iter(known)))


def linear(theirs: str, ours: str, bias: bool) -> Iterator[Tensor]:
    """Yield a matrix that is kept as [out, in], and its bias if there is any."""
    yield Tensor(f"{theirs}.weight", (f"{ours}/kernel",), True)
    if bias:
        yield Tensor(f"{theirs}.bias", (f"{ours}/bias",))


def norm(theirs: str, ours: str, bias: bool = True) -> Iterator[Tensor]:
    yield Tensor(f"{theirs}.weight", (f"{ours}/scale",))
    if bias:
        yield Tensor(f"{theirs}.bias", (f"{ours}/bias",))
