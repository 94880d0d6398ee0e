"""Write samples of a run as a synthetic data set, with their origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from genjax.checks import Component
from genjax.config_files import to_json
from genjax.data.chat.template import before_end
from genjax.data.codecs import ImageCodec
from genjax.data.pictures import png_bytes
from genjax.data.sources.prepared import FOLDER
from genjax.errors import UserError
from genjax.evaluation.images.reward_of_images import requested_labels
from genjax.prepare import synthetic
from genjax.runs import lineage
from genjax.runs.run import Run


def write_dataset(
    run: Run,
    samples: np.ndarray,
    name: str,
    seed: int,
    options: Component = None,
    best_of: int = 1,
    out: str | Path | None = None,
) -> Path:
    """Write samples in the form of ``genjax data prepare``; return the path of the manifest.

    Args:
      run: run that drew the samples.
      samples: texts or images in model space, from ``run.sample``.
      name: name of the set.
      seed: seed of the samples.
      options: options of the sampler; None for the family's own.
      best_of: number of draws that each sample is the best of.
      out: folder to write; None for prepared/NAME.

    Raises:
      UserError: the samples are neither texts nor images, or all empty, or the folder exists.
    """
    options = run.family.sampler if options is None else options
    generator = lineage.read_record(run.run_dir, run.step) | {
        "run": run.run_dir.name,
        "seed": seed,
        "drawn": len(samples),
        "best_of": best_of,
        "sampler": to_json(options),
    }
    folder = Path(FOLDER) / name if out is None else Path(out).expanduser()
    return synthetic.write(folder, name, _columns(run, samples, options), generator)


def _columns(run: Run, samples: np.ndarray, options: Component) -> dict[str, list[Any]]:
    """Return the column ``text``, or ``image`` and, for a class-conditional model, ``label``."""
    codec: Component = run.codec
    if run.spec.vocabulary is not None:
        texts = [codec.decode(before_end(codec, row)) for row in np.asarray(samples)]
        if all(isinstance(text, str) for text in texts):
            return {"text": texts}
    if not isinstance(codec, ImageCodec):
        raise UserError(
            f"as_dataset: {run.run_dir} draws neither texts nor images: there is no data set for "
            "its samples",
            "as_dataset",
        )
    columns = {"image": [png_bytes(image) for image in codec.decode(samples)]}
    labels = requested_labels(run.family, run.spec, options, len(samples))
    if labels is None:
        return columns
    names = run.spec.class_names or tuple(map(str, range(run.spec.classes or 0)))
    return columns | {"label": [names[label] for label in labels]}
