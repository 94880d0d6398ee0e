"""Export a trained run for others: as safetensors, a compiled sampling function, or a Hugging Face
model.
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
from genjax.interop import chat_templates, huggingface, peft, weights
from genjax.interop.huggingface import Pretrained
from genjax.interop.peft_config import CONFIG
from genjax.machine import disk
from genjax.nets.transformer.transformer import Transformer
from genjax.posttrain.continued import BASE
from genjax.posttrain.lora import LoRA
from genjax.runs.example import EXAMPLE, dump_tokenizers, write_example
from genjax.runs.run import Run
from genjax.samplers.options import encode_options, number_labels
from genjax.serial.json_text import Json
from genjax.serial.neighbours import FOLDER, read_copies
from genjax.trees import named_leaves

Form = Literal["safetensors", "jax", "huggingface", "peft"]
PLATFORMS = ("cpu", "cuda", "tpu")
FUNCTION = "sample.jax"
MADE_WITH = (
    "sample.json"  # beside it: the version of JAX, the date, and the command that makes it again
)
# Files that describe the weights of a run.
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
    """Write a run as files for others; return their paths.

    - "safetensors": the arrays that samples depend on (averaged parameters if there are any), under
      flat names such as "params/encoder/Dense_0/kernel", with config and codec.
    - "jax": these, and the sampling function if the family has one. ``jax.export.deserialize``
      reads it without genjax, on any platform it could be lowered for, and with later versions of
      JAX for six months (version and date are in ``sample.json``). ``call(weights, key)`` takes the
      result of safetensors' ``load_file`` and a key of ``jax.random.PRNGKey``, and returns the
      samples of ``genjax sample`` with that seed. The function of a conditional model also takes
      its inputs: prompts or sources as tokens int32, padded with -1, labels int32, or pictures;
      their shapes are in ``sample.json``. Tokenizers and ``example.py`` are beside it.
    - "huggingface": a folder for ``transformers``, for models of tokens that it knows.
    - "peft": the adapters of a LoRA run alone, for the package ``peft`` on the base model's
      "huggingface" export.

    Args:
      run: the run.
      to: form of the export.
      out: folder; None for export/FORM in the run directory.
      num: number of samples that the function draws; up to 256 they equal ``genjax sample``'s.
      options: options of the sampler; None for the family's own.

    Raises:
      UserError: the run cannot be exported in this form; the message says why.
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
    if to == "peft":
        return _write_adapters(run, folder)
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


def _write_adapters(run: Run, folder: Path) -> list[Path]:
    family = run.experiment.family
    if not isinstance(family, LoRA):
        raise UserError(
            f"family must be LoRA for peft, got {type(family).__name__}: its adapters are exported",
            "family",
        )
    net = export_pretrained(run).net
    adapters = family.adapters
    mine = peft.LowRank(
        adapters.rank, adapters.alpha, adapters.targets, run.state.for_eval().params
    )
    peft.save(mine, folder, net, run.state.frozen[BASE]["params"])
    return [folder / CONFIG, folder / peft.WEIGHTS]


def _describe_function(run: Run, inputs: Mapping[str, Any]) -> dict[str, Json]:
    """Describe an exported function: JAX version and date, as later versions of JAX open it for six
    months, and its inputs.
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
    """Return the model of a run in the form of ``interop``, with averaged parameters if there are
    any.

    Raises:
      UserError: it is not a Transformer over tokens, it reads a source, or it masks with a token
        that its codec does not have.
    """
    family, params = run.family, run.model().state.params
    if not isinstance(family, Autoregressive | MaskedLM):
        raise UserError(
            f"family must be a model of tokens for Hugging Face, got {type(family).__name__}",
            "family",
        )
    if not isinstance(family.net, Transformer):
        raise UserError(
            f"net must be a Transformer for Hugging Face, got {type(family.net).__name__}", "net"
        )
    if "encoder" in params:
        raise UserError("a model that reads a source cannot be exported to Hugging Face")
    codec: Component = run.codec
    template = chat_templates.to_jinja(codec) if isinstance(codec, ChatCodec) else None
    codec = get_inner_codec(codec)
    if isinstance(family, MaskedLM) and get_mask(codec) is None:
        raise UserError(
            "mask_token must be set in training: this model masks with a token that its tokenizer "
            "lacks",
            "mask_token",
        )
    return Pretrained(family.net, params, codec, template=template)


def sampling_state(run: Run) -> State:
    """Return the state for sampling, without the arrays of other runs that sampling does not
    need.
    """
    state = run.model().state
    return state if wrap_family(run.family).runs else state.replace(frozen=None)


def flat(state: State) -> dict[str, jax.Array]:
    """Return all arrays that samples depend on, by flat name."""
    tree = {"params": state.params, "variables": state.variables, "frozen": state.frozen}
    return dict(named_leaves(tree))


def describe_inputs(run: Run, num: int, options: Component = None) -> dict[str, Any]:
    """Return shape and dtype of the further inputs of the function of ``sampling``, by name; {} for
    most families.
    """
    family: Component = run.family
    if not isinstance(family, TakesInputs):
        return {}
    found = family.describe_inputs(sampling_state(run), _encode(run, options))
    return {
        name: jax.ShapeDtypeStruct((num, *shape), dtype) for name, (shape, dtype) in found.items()
    }


def _encode(run: Run, options: Component) -> Any:
    """Return the encoded options of a sampler.

    Raises:
      UserError: the family cannot sample.
    """
    require_samples(run.family)
    options = run.family.sampler if options is None else options
    options = number_labels(options, run.spec.class_names, run.spec.classes)
    return encode_options(options, run.codec)


def sampling(run: Run, num: int, options: Component = None) -> Callable[..., jax.Array]:
    """Return a function that draws ``num`` samples from weights (see ``flat``), key data uint32 [2]
    and the inputs of ``describe_inputs``.

    Raises:
      UserError: the family cannot sample.
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
    """Export the function of ``sampling`` for all platforms that it can be lowered for.

    Args:
      sample: function to export.
      arrays: weights.
      inputs: shapes and dtypes of its further inputs, see ``describe_inputs``.

    Raises:
      UserError: it cannot be lowered for any platform.
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
        # Some platforms lack an operation or a kernel.
        able = [platform for platform in PLATFORMS if _lowers(lowered, platform)]
        if not able:
            raise UserError(
                f"the sampling function cannot be lowered for any platform: {error}"
            ) from None
        return lowered(*able)


def _lowers(lowered: Callable[[str], Any], platform: str) -> bool:
    try:
        lowered(platform)
    except (NotImplementedError, ValueError):
        return False
    return True
