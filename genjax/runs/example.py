"""Write tokenizers and a short Python example beside an exported function, so that a colleague can
call it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from genjax.checks import Component
from genjax.data.sources.pairs import PairCodec
from genjax.data.text.wrapped import AroundText
from genjax.errors import UserError
from genjax.families.autoregressive.request import encode_source
from genjax.families.masked_lm import GAP, Filling
from genjax.interop.tokenizers import FILE, dump_alone
from genjax.runs.run import Run

EXAMPLE, SOURCE_FILE = "example.py", f"source_{FILE}"
IMPORTS = """from pathlib import Path

import numpy as np
from jax import export, random
from safetensors.numpy import load_file
"""
TRIED = ("The", "a")  # prompts to try if the run has none


def dump_tokenizers(run: Run) -> dict[str, str]:
    """Return the tokenizer files of a run by name, for its inputs and outputs; none for a codec
    without such a file.
    """
    codec: Component = run.codec
    try:
        if isinstance(codec, PairCodec):
            target = dump_alone(codec.target)
            return {FILE: target, SOURCE_FILE: dump_alone(codec.source, ended=True)}
        text = codec.text if isinstance(codec, AroundText) else codec
        return {FILE: dump_alone(text)}
    except UserError:
        return {}


def write_example(
    run: Run, num: int, inputs: Mapping[str, Any], tokenizers: Mapping[str, str], options: Any
) -> str:
    """Return the text of a script that calls the exported function in its folder.

    Args:
      run: the run.
      num: number of samples that it draws.
      inputs: inputs of the function, see ``export.describe_inputs``.
      tokenizers: tokenizer files beside it.
      options: encoded options of the sampler.
    """
    lines = ['draw = export.deserialize((folder / "sample.jax").read_bytes()).call']
    weights, key = 'load_file(folder / "model.safetensors")', "random.PRNGKey(0)"
    name = next(iter(inputs), "")
    shape: tuple[int, ...] = inputs[name].shape if name else ()
    if name in ("prompt", "source"):
        width = shape[1]
        lines.append(f"ids = {_write_ids(run, name, tokenizers, options)}")
        fill = f"((0, 0), (0, {width} - len(ids)))"
        lines.append(
            f"{name} = np.pad(np.tile(np.int32(ids), ({num}, 1)), {fill}, constant_values=-1)"
        )
    elif name == "label":
        names = run.spec.class_names
        told = f"  # {', '.join(f'{i}: {n}' for i, n in enumerate(names))}" if names else ""
        lines.append(f"label = np.full({num}, 0, np.int32){told}")
    elif name == "image":
        lines.append(f"image = np.zeros({shape}, np.float32)  # pixels from -1 to 1")
    given = f", {name}" if name else ""
    lines.append(f"samples = np.asarray(draw({weights}, {key}{given}))")
    if run.spec.vocabulary is None:
        lines.append("print(samples.shape, samples.min(), samples.max())")
    elif FILE in tokenizers:
        decode = f'Tokenizer.from_file(str(folder / "{FILE}")).decode'
        lines.append(f"print({decode}(samples[0][samples[0] >= 0]))")
    else:
        lines.append("print(samples[0])")
    text = "\n".join(lines) + "\n"
    more = "from tokenizers import Tokenizer\n" if "Tokenizer" in text else ""
    return f"{IMPORTS}{more}\nfolder = Path(__file__).parent\n{text}"


def describe_use(folder: Path) -> str:
    """Return the example of an export for printing."""
    text = (folder / EXAMPLE).read_text(encoding="utf-8")
    return text.replace("Path(__file__).parent", f'Path("{folder}")')


def _write_ids(run: Run, name: str, tokenizers: Mapping[str, str], options: Any) -> str:
    """Return a Python expression for the tokens of a prompt or a source, using the tokenizer file
    if it agrees with the run.
    """
    codec: Component = run.codec
    if isinstance(options, Filling):
        text = options.prompt or f"{TRIED[0]} {GAP}"
        tokens = options.tokens or options.with_prompts((text,)).encode(codec, {}).tokens
        return f"{list(tokens)}  # {text!r}"
    decoding = options.decoding
    file = SOURCE_FILE if name == "source" else FILE
    texts = [decoding.source] if name == "source" else [decoding.prompt, *TRIED]
    for text in filter(None, texts):
        try:
            ids = (
                encode_source(codec, text)
                if name == "source"
                else decoding.with_prompts((text,)).encode(codec, {}).prompts[0]
            )
        except UserError:  # the run does not know the word
            continue
        if file not in tokenizers:
            return repr(list(ids))
        if tuple(Tokenizer.from_str(tokenizers[file]).encode(text).ids) == ids:
            return f'Tokenizer.from_file(str(folder / "{file}")).encode({text!r}).ids'
        return f"{list(ids)}  # {text!r}"
    return repr(list(options.source if name == "source" else options.prompts[0]))
