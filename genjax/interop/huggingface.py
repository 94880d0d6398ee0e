"""Loads and saves models in Hugging Face's layout: a folder with config, safetensors and tokenizer,
or a name on the hub.

GPT-2, Llama and its relatives, GPT-NeoX, BERT, RoBERTa, DistilBERT and ModernBERT. Unsupported
options are refused by name; logits equal those of transformers.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.jinja import JinjaTemplate
from genjax.errors import UserError, unknown_name
from genjax.interop import chat_templates, tokenizers, weights
from genjax.interop.architecture import Architecture, Options, Tensor
from genjax.interop.bert import BERT, ENCODER, ROBERTA
from genjax.interop.distilbert import DISTILBERT
from genjax.interop.gpt2 import GPT2
from genjax.interop.gpt_neox import GPT_NEOX
from genjax.interop.llama import LLAMAS
from genjax.interop.modernbert import MODERNBERT
from genjax.machine import disk
from genjax.nets.transformer.token_net import TokenNet, unstack_layers
from genjax.nets.transformer.transformer import Transformer
from genjax.serial import json_text
from genjax.serial.json_text import Json

ARCHITECTURES = (GPT2, *LLAMAS, GPT_NEOX, BERT, ROBERTA, DISTILBERT, MODERNBERT)
CONFIG = "config.json"
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")  # of a model on the hub
# Nothing that could be a pickle or a program is ever fetched, nor subfolders, which hold copies in
# other formats.
WANTED = (
    "*.safetensors",
    weights.INDEX,
    CONFIG,
    tokenizers.FILE,
    tokenizers.CONFIG,
    chat_templates.FILE,
    chat_templates.MAP,
    chat_templates.GENERATION,
)


@dataclass(frozen=True)
class Pretrained:
    """A language model with its weights.

    Attributes:
      net: hyper-parameters.
      params: parameters of ``TokenNet(net, vocabulary)``, with a row of ``embedding`` per token;
          float32 unless loaded with ``keep_dtype``.
      codec: tokenizer.
      kind: ``model_type`` in transformers; None for the first that fits.
      template: chat template; None if there is none.
    """

    net: Transformer
    params: Mapping[str, Json]
    codec: Component
    kind: str | None = None
    template: JinjaTemplate | None = None

    @property
    def vocabulary(self) -> int:
        """The number of rows of the embedding, which may exceed the codec's tokens."""
        return len(self.params["embedding"])

    def logits(self, tokens: jax.Array, **inputs: Any) -> jax.Array:
        """Compute logits, float32 [B, T, V], of tokens int32 [B, T]; ``inputs`` of ``TokenNet`` are
        segment_ids and types.
        """
        module: Any = TokenNet(self.net, self.vocabulary)
        variables = {"params": self.params}
        hidden, _ = module.apply(variables, tokens, **inputs)
        return module.apply(variables, hidden, method="logits")


def load(source: str | Path, *, keep_dtype: bool = False) -> Pretrained:
    """Load the model in a folder, or of a name on the hub such as "openai-community/gpt2" (see
    ``fetch`` for its revision).

    Dropout is that of the branches in training. Layers are separate: ``token_net.stack_layers``
    stacks them for ``scan_layers``.

    Args:
      source: folder or name.
      keep_dtype: whether bfloat16 and float16 weights stay as they are stored, which halves their
        memory, instead of becoming float32; norms that are stored as a difference from 1 do become
        float32.

    Raises:
      UserError: config, tokenizer or weights are missing, truncated or pickles; the architecture or
          an option is not supported; tensors are missing, unknown or have another shape, and the
          message names them.
    """
    return _load(source, ARCHITECTURES, keep_dtype)


def load_encoder(source: str | Path) -> Pretrained:
    """Load the BERT in a folder, or of a name on the hub, without its head, as a sentence encoder;
    its logits mean nothing.

    Raises:
      UserError: as ``load``, or the model is not a BERT.
    """
    return _load(source, (ENCODER,))


def _load(
    source: str | Path, known: Sequence[Architecture], keep_dtype: bool = False
) -> Pretrained:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = fetch(str(source))
    architecture, options = _read_config(folder, known)
    name = architecture.depth
    if (layers := options.read_int(name)) > checks.DEEPEST:
        raise options.make_refusal(name, f"<= {checks.DEEPEST}", layers)
    net, rows = architecture.net(options), options.read_int("vocab_size")
    codec = tokenizers.read_codec(folder, options.values, rows)
    found = weights.weights(folder)
    sizes = {name: net.layers, "num_local_experts": net.experts.count if net.experts else 0}
    for size, count in sizes.items():  # checked before the table is built
        if count > len(found.shapes):
            raise UserError(
                f"{size} in {options.where} must be <= {len(found.shapes)}, the tensors of its "
                f"weights, got {count}",
                size,
            )
    template = chat_templates.read(folder, options.values, codec) if net.causal else None
    params = _params(architecture, net, rows, options, found, keep_dtype)
    return Pretrained(net, params, codec, architecture.kind, template)


def save(model: Pretrained, folder: str | Path) -> None:
    """Write a folder that ``transformers`` opens, with the same logits, in the type of the
    embedding; missing biases become zeros.

    Raises:
      UserError: no architecture fits the model, and the message says why; the codec cannot be
          converted.
    """
    folder = Path(folder).expanduser()
    architecture = choose_architecture(model.net, model.kind)
    texts = tokenizers.dump_files(
        model.codec, model.net.context, bool(model.net.token_types), model.template
    )
    ends = tokenizers.find_ends(model.codec, model.template)
    options = Options(
        architecture.write(model.net, model.codec.pad)
        | ends
        | {
            "architectures": [architecture.models[0]],
            "model_type": architecture.kind,
            "vocab_size": model.vocabulary,
            "torch_dtype": str(model.params["embedding"].dtype),
        },
        architecture.kind,
    )
    texts[CONFIG] = _dump_json(options.values)
    if architecture.causal:
        texts["generation_config.json"] = _dump_json(ends | {"pad_token_id": model.codec.pad})
    tensors = _tensors(architecture, model, options)
    folder.mkdir(parents=True, exist_ok=True)
    weights.write(folder / weights.WHOLE, tensors)
    (folder / weights.INDEX).unlink(missing_ok=True)  # of earlier shards
    (folder / chat_templates.FILE).unlink(missing_ok=True)
    if model.template is not None:
        texts[chat_templates.FILE] = model.template.source
    for name, text in texts.items():
        disk.write(folder / name, text)


def fetch(name: str, revision: str | None = None) -> Path:
    """Return the folder of a model from Hugging Face's hub, downloaded once: only config, tokenizer
    and safetensors.

    Raises:
      UserError: the extra ``hub`` is not installed, there is no network, or the model does not
          exist.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"there is no folder {name}")
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise UserError(
            f"there is no folder {name}; a name on the hub needs pip install 'genjax-train[hub]'"
        ) from None
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=list(WANTED), ignore_patterns=["*/*"]
            )
        )
    except Exception as error:  # also those of the HTTP library below
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"there is no folder {name}, and the hub does not give one: {reason}"
        ) from None


def _read_config(folder: Path, supported: Sequence[Architecture]) -> tuple[Architecture, Options]:
    """Read the architecture that a config.json names, and its options."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} has no {CONFIG}: it is not a model in Hugging Face's layout")
    try:
        values = json_text.parse(path.read_bytes(), str(path), finite=False)
        kind, models = values.get("model_type"), values.get("architectures") or ()
        if not isinstance(kind, str | None) or not isinstance(models, str | list | tuple):
            raise ValueError
    except UserError as error:
        raise UserError(f"{path} is damaged: {error}", str(path)) from None
    except (OSError, ValueError, AttributeError):
        raise UserError(
            f"{path} is damaged: it is not a table of fields in JSON", str(path)
        ) from None
    known = {architecture.kind: architecture for architecture in supported}
    if kind not in known:
        raise UserError(
            f"{path}: the architecture {kind!r} is not supported, only {', '.join(known)}",
            "model_type",
        )
    for model in [models] if isinstance(models, str) else models:
        if model not in known[kind].models:
            raise UserError(
                f"{path}: {model} is not supported, only {', '.join(known[kind].models)}",
                "architectures",
            )
    if values.get("auto_map"):
        note = (
            f"{path} names code of its own (auto_map), which is not run: genjax's own {kind} "
            "reads the weights"
        )
        print(note, file=sys.stderr, flush=True)
    return known[kind], Options(values, str(path))


def _params(
    architecture: Architecture,
    net: Transformer,
    rows: int,
    options: Options,
    found: weights.Weights,
    keep_dtype: bool,
) -> dict[str, Json]:
    """Load the parameters of a net by the table of its architecture."""
    table = architecture.tensors(net, options)
    wanted = {tensor.theirs: tensor for tensor in table}
    there = _names(architecture, found, wanted)
    shapes = _shapes(net, rows)
    expected = {tensor.theirs: tensor.shape(shapes) for tensor in table}
    missing = [name for name in wanted if name not in there]
    extra = sorted(
        name
        for name in there
        if name not in wanted
        and name not in architecture.copies
        and not re.fullmatch(architecture.ignored, name)
    )
    misshapen = [
        f"{name} {list(found.shapes[there[name]])} instead of {list(expected[name])}"
        for name in wanted
        if name in there and found.shapes[there[name]] != expected[name]
    ]
    problems = (("missing", missing), ("not known", extra), ("of another shape", misshapen))
    if missing or extra or misshapen:
        found_problems = "; ".join(
            f"{kind}: {weights.list_names(names)}" for kind, names in problems if names
        )
        raise UserError(
            f"the weights in {found.folder} do not fit its {CONFIG}: {found_problems}",
            str(found.folder),
        )
    widths = {name: found.width(there[name]) if keep_dtype else 4 for name in expected}
    size = float(sum(widths[name] * math.prod(shape) for name, shape in expected.items()))
    words = "its weights" if keep_dtype else "its weights in float32"
    checks.check_size(size, words, str(found.folder))
    if net.tied:
        _check_copies(architecture, found, there, wanted)
    flat: dict[str, Any] = {}
    # One file after another, each tensor by itself: no copy of all in another type is ever held.
    table = sorted(table, key=lambda tensor: found.files[there[tensor.theirs]])
    arrays = found.read([there[tensor.theirs] for tensor in table], keep_dtype)
    for tensor, array in zip(table, arrays, strict=True):
        for path, part in tensor.split(array, shapes):
            if tensor.number is None:
                flat[path] = jnp.asarray(part)
            else:
                flat.setdefault(path, np.empty(shapes[path], part.dtype))[tensor.number] = part
    flat = {path: jnp.asarray(value) for path, value in flat.items()}
    for path in shapes.keys() - flat.keys():
        if path.endswith("bias"):  # which this net cannot leave out alone
            flat[path] = jnp.zeros(shapes[path])
    return unflatten_dict(flat, sep="/")


def _names(
    architecture: Architecture, found: weights.Weights, wanted: Mapping[str, Tensor]
) -> dict[str, str]:
    """Map the names of the table to those in the file."""
    bare = not any(name.startswith(architecture.prefix) for name in found.shapes)
    there = {architecture.map_name(name, bare): name for name in found.shapes}
    for copy, original in architecture.copies.items():
        # Either of two tied tensors may be stored.
        if original in wanted and original not in there and copy in there:
            there[original] = there.pop(copy)
    return there


def _check_copies(
    architecture: Architecture,
    found: weights.Weights,
    there: Mapping[str, str],
    wanted: Mapping[str, Tensor],
) -> None:
    """Refuse a separate head in a checkpoint whose config says that it is tied."""
    for copy, original in architecture.copies.items():
        if copy in there and original in wanted:
            one, two = found.read([there[copy], there[original]])
            if not np.array_equal(one, two):
                raise UserError(
                    f"{copy} in {found.folder} differs from {original}, although "
                    "tie_word_embeddings says that they are one: set it to false"
                )


@functools.lru_cache(maxsize=4)
def _shapes(net: Transformer, rows: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the parameters of a net with separate layers, by path."""
    module = TokenNet(dataclasses.replace(net, scan_layers=False), rows)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32)))[
        "params"
    ]
    return {path: leaf.shape for path, leaf in flatten_dict(shapes, sep="/").items()}


def choose_architecture(net: Transformer, kind: str | None) -> Architecture:
    """Choose the architecture of that kind, or the first that can express the net.

    Raises:
      UserError: none can, and the message says why not.
    """
    known = {architecture.kind: architecture for architecture in ARCHITECTURES}
    if kind is not None and kind not in known:
        raise unknown_name("architecture", kind, known)
    chosen: Sequence[Architecture] = ARCHITECTURES if kind is None else (known[kind],)
    ways = [(architecture, architecture.list_obstacles(net)) for architecture in chosen]
    nearest, lines = min(ways, key=lambda way: len(way[1]))  # the first of equals
    if lines:
        raise UserError(
            f"no architecture of Hugging Face's fits this model; nearest is {nearest.kind}, but "
            f"{'; '.join(lines)}"
        )
    return nearest


def _tensors(
    architecture: Architecture, model: Pretrained, options: Options
) -> dict[str, np.ndarray]:
    """Return the tensors of a model file, by name."""
    net = architecture.net(options)  # which may have more biases than the model
    params = unstack_layers(model.params) if model.net.scan_layers else model.params
    flat, shapes = flatten_dict(dict(params), sep="/"), _shapes(net, model.vocabulary)
    made, dtype = {}, flat["embedding"].dtype
    for tensor in architecture.tensors(net, options):
        found = [flat[p] if p in flat else np.zeros(shapes[p], np.float32) for p in tensor.ours]
        if tensor.number is not None:
            found = [array[tensor.number] for array in found]
        parts = [np.asarray(array, np.float32) for array in found]
        made[tensor.theirs] = tensor.join(parts).astype(dtype)
    if not net.tied:  # transformers requires all of them, even unused ones
        made |= {
            copy: made[original]
            for copy, original in architecture.copies.items()
            if original in made
        } | made
    return made


def _dump_json(values: Mapping[str, Json]) -> str:
    return json.dumps(values, indent=2) + "\n"
