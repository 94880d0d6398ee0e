"""A trained run as files that others read: safetensors, a compiled sampling function, Hugging
Face's layout.
"""

from __future__ import annotations

import datetime
import json
import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from genjax import checks
from genjax.checks import Component
from genjax.continued import wrap_family
from genjax.data.chat.template import ChatCodec
from genjax.data.text.codec_parts import get_inner_codec, get_mask
from genjax.data.text.codecs import NOTHING
from genjax.errors import UserError, unknown_name
from genjax.evaluation.judge import SAMPLES
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.masked_lm import MaskedLM
from genjax.family import State, TakesInputs, require_samples, with_inputs
from genjax.interop import chat_templates, huggingface, weights
from genjax.interop.huggingface import Pretrained
from genjax.machine import disk
from genjax.nets.transformer.transformer import Transformer
from genjax.runs.example import EXAMPLE, dump_tokenizers, write_example
from genjax.runs.run import Run
from genjax.samplers.options import encode_options, number_labels
from genjax.serial.json_text import Json
from genjax.serial.neighbours import FOLDER, read_copies
from genjax.trees import named_leaves

Form = Literal["safetensors", "jax", "huggingface"]
PLATFORMS = ("cpu", "cuda", "tpu")
FUNCTION = "sample.jax"
MADE_WITH = (
    "sample.json"  # next to it: the version of JAX, the date, and the command that makes it again
)
# what a run says of its weights
DESCRIBED = (
    "config.json",
    "config.py",
    "codec.json",
    "others.json",
)


def export(
    run: Run,
    to: Form = "jax",
    out: str | Path | None = None,
    num: int = 64,
    options: Component = None,
) -> list[Path]:
    """Write a run as files for others; returns their paths.

    - "safetensors": all that it samples from, averaged parameters where there are any, under flat
      names such as "params/encoder/Dense_0/kernel", and what describes it: its config and its
      codec.
    - "jax": these, and where the family draws samples the function that does.
      ``jax.export.deserialize`` reads it on any platform it could be lowered for, without genjax,
      and with later versions of JAX for six months (the version and the date are in ``sample.json``
      next to it); ``call(weights, key)`` needs what ``load_file`` of safetensors gives and a key of
      ``jax.random.PRNGKey``, and gives the samples of ``genjax sample`` of that seed. The function
      of a model that draws for something takes it as well: prompts or sources in tokens int32,
      filled up with -1, labels int32, or pictures; their shapes are in ``sample.json``, tokenizers
      and ``example.py`` are next to it.
    - "huggingface": a folder that ``transformers`` opens, of models of tokens that it knows.

    Args:
      out: the folder; export/FORM under the run directory by default.
      num: samples that the function draws; no more than 256 are the same as ``genjax sample``'s.
      options: of the sampler; the family's own by default.

    Raises:
      UserError: the run has no such form, with what is in the way.
    """
    if to not in get_args(Form):
        raise unknown_name("form of an export", to, get_args(Form))
    if num < 1:
        raise UserError(f"num must be at least 1, got {num}", "num")
    checks.check_size(4.0 * num * math.prod(run.spec.shape), f"{num:,} samples", "num")
    if out is None and "://" in str(run.run_dir):
        raise UserError(f"{run.run_dir} is a bucket: name a folder here to export to (--out)")
    folder = Path(out).expanduser() if out else Path(run.run_dir) / "export" / to
    if (folder / "checkpoints").exists():
        raise UserError(f"{folder} is a run directory: export to a folder of its own")
    with disk.explain_full_disk("files that were whole before are untouched", folder):
        return _write_export(run, to, folder, num, options)


def _write_export(run: Run, to: Form, folder: Path, num: int, options: Component) -> list[Path]:
    if to == "huggingface":
        huggingface.save(export_pretrained(run), folder)
        return sorted(folder.iterdir())
    folder.mkdir(parents=True, exist_ok=True)
    arrays = flat(sampling_state(run))
    weights.write(
        folder / weights.WHOLE, {name: np.asarray(array) for name, array in arrays.items()}
    )
    written = [folder / weights.WHOLE]
    copied = [f"{FOLDER}/{name}" for name in read_copies(Path(run.run_dir / "config.py"))]
    for name in (*DESCRIBED, *copied):
        if (run.run_dir / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            disk.write(folder / name, (run.run_dir / name).read_bytes())
            written.append(folder / name)
    if to == "jax" and run.family.no_samples is None:
        inputs = describe_inputs(run, num, options)
        function = export_function(sampling(run, num, options), arrays, inputs)
        texts = dump_tokenizers(run) if inputs.keys() & {"prompt", "source"} else {}
        example = write_example(run, num, inputs, texts, _encode(run, options))
        files: dict[str, str | bytes] = {
            FUNCTION: bytes(function.serialize()),
            MADE_WITH: json.dumps(_describe_function(run, inputs), indent=2) + "\n",
            **texts,
            EXAMPLE: example,
        }
        for name, content in files.items():
            disk.write(folder / name, content)
            written.append(folder / name)
    return written


def _describe_function(run: Run, inputs: Mapping[str, Any]) -> dict[str, Json]:
    """What to know of a function by ``jax.export``: later versions of JAX open it for six
    months; and what it takes.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    command = f"python -m genjax export {shlex.quote(str(run.run_dir))} --to jax"
    found: dict[str, Json] = {
        "jax": jax.__version__,
        "date": today.isoformat(),
        "export_again": command,
    }
    if inputs:
        found["inputs"] = {
            name: {"shape": list(one.shape), "dtype": str(one.dtype)}
            | ({"filled_with": NOTHING} if name in ("prompt", "source") else {})
            for name, one in inputs.items()
        }
    if "label" in inputs and run.spec.class_names is not None:
        found["class_names"] = list(run.spec.class_names)
    return found


def export_pretrained(run: Run) -> Pretrained:
    """Return the model of a run as ``interop`` knows models of tokens, with averaged parameters
    where there are any.

    Raises:
      UserError: it is not a Transformer over tokens, or one that reads a source, or it masks with a
        token that its codec does not have.
    """
    family, params = run.family, run.model().state.params
    if not isinstance(family, Autoregressive | MaskedLM):
        raise UserError(
            f"Hugging Face's layout is for models of tokens here, not for {type(family).__name__}"
        )
    if not isinstance(family.net, Transformer):
        raise UserError(
            f"Hugging Face's layout is for Transformers, not for {type(family.net).__name__}"
        )
    if "encoder" in params:
        raise UserError(
            "a model that reads a source has no form among the architectures of Hugging Face's "
            "known here"
        )
    codec: Component = run.codec
    template = chat_templates.to_jinja(codec) if isinstance(codec, ChatCodec) else None
    codec = get_inner_codec(codec)
    if isinstance(family, MaskedLM) and get_mask(codec) is None:
        raise UserError(
            "this model masks with a token that its tokenizer lacks: train it with a mask_token"
        )
    return Pretrained(family.net, params, codec, template=template)


def sampling_state(run: Run) -> State:
    """Return the state that samples are drawn from, without arrays of other runs where drawing
    needs none.
    """
    state = run.model().state
    return state if wrap_family(run.family).runs else state.replace(frozen=None)


def flat(state: State) -> dict[str, jax.Array]:
    """All arrays that samples depend on, by flat name."""
    tree = {"params": state.params, "variables": state.variables, "frozen": state.frozen}
    return dict(named_leaves(tree))


def describe_inputs(run: Run, num: int, options: Component = None) -> dict[str, Any]:
    """What the function of ``sampling`` takes besides weights and key, by name: the shape and the
    dtype of each; nothing of most families.
    """
    family: Component = run.family
    if not isinstance(family, TakesInputs):
        return {}
    found = family.describe_inputs(sampling_state(run), _encode(run, options))
    return {
        name: jax.ShapeDtypeStruct((num, *shape), dtype) for name, (shape, dtype) in found.items()
    }


def _encode(run: Run, options: Component) -> Any:
    """Return the options of a sampler as the model reads them.

    Raises:
      UserError: the family draws no samples.
    """
    require_samples(run.family)
    options = run.family.sampler if options is None else options
    options = number_labels(options, run.spec.class_names, run.spec.classes)
    return encode_options(options, run.codec)


def sampling(run: Run, num: int, options: Component = None) -> Callable[..., jax.Array]:
    """Return a function of weights, see ``flat``, the key data of a seed uint32 [2], and what
    ``describe_inputs`` says, that gives ``num`` samples.

    Raises:
      UserError: the family draws none.
    """
    family, state = run.family, sampling_state(run)
    options = _encode(run, options)
    tree = {"params": state.params, "variables": state.variables, "frozen": state.frozen}
    names, shape = [name for name, _ in named_leaves(tree)], jax.tree.structure(tree)
    step, named = int(state.step), tuple(describe_inputs(run, num, options))

    def sample(weights: Mapping[str, jax.Array], key: jax.Array, *given: jax.Array) -> jax.Array:
        seed = jax.random.wrap_key_data(key)
        drawn = jax.random.fold_in(jax.random.fold_in(seed, SAMPLES), 0)
        whole = jax.tree.unflatten(shape, [weights[name] for name in names])
        at = State(jnp.asarray(step, jnp.int32), opt_state=None, ema=None, key=seed, **whole)
        at = with_inputs(at, dict(zip(named, given, strict=True))) if named else at
        return family.sample(at, drawn, num, options)

    return sample


def export_function(
    sample: Callable[..., jax.Array],
    arrays: Mapping[str, jax.Array],
    inputs: Mapping[str, Any] | None = None,
) -> jax_export.Exported:
    """Return the function of ``sampling`` lowered for all platforms, or those for which it can be.

    Args:
      arrays: the weights.
      inputs: shapes and dtypes of what it takes besides, see ``describe_inputs``.

    Raises:
      UserError: there is none.
    """
    described = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in arrays.items()
    }
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)

    def lowered(*platforms: str) -> jax_export.Exported:
        given = () if inputs is None else inputs.values()
        return jax_export.export(jax.jit(sample), platforms=platforms)(described, key, *given)

    try:
        return lowered(*PLATFORMS)
    except (
        NotImplementedError,
        ValueError,
    ) as error:
        # an operation or a kernel that not every platform has
        able = [platform for platform in PLATFORMS if _lowers(lowered, platform)]
        if not able:
            raise UserError(
                f"the sampling function can be lowered for no platform: {error}"
            ) from None
        return lowered(*able)


def _lowers(lowered: Callable[[str], Any], platform: str) -> bool:
    try:
        lowered(platform)
    except (NotImplementedError, ValueError):
        return False
    return True
