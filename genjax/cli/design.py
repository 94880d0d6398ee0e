"""``genjax design``: search the latent space of a run, and write a sheet of designs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax import checks
from genjax.checks import MAX_SEED
from genjax.cli.parsing import parse
from genjax.data.codecs import ImageCodec
from genjax.data.images.given import read_pixels
from genjax.design.search import Search
from genjax.design.sheet import write_sheet
from genjax.design.space import Space, interpolate, measure_excess, open_space
from genjax.errors import UserError
from genjax.families.image_rewards import ImageReward, score_images
from genjax.runs.lineage import record_samples
from genjax.runs.rewards import RunReward, load_reward
from genjax.runs.run import Run, load

KNOWN = "genjax.data.design.measures"  # whose functions a brief may name without their module


@checks.frozen
class DesignOptions:
    """Search designs in the latent space of a VAE.

    Attributes:
      brief: Python function "module:function" of images [N, H, W, C] in [-1, 1] and labels, which
        are None, that returns a score for each; or the name of one in genjax.data.design.measures.
      search: method of the search.
      between: two pictures; instead of a search, ``search.num`` designs from one to the other.
      seed: random seed.
      out: file to write, a PNG with a CSV beside it; samples/STEP_design_seed_SEED in the run
        directory by default.
      best: use the best checkpoint instead of the newest.
    """

    brief: str = "bright_symmetrical_sleeveless"
    search: Search = Search()
    between: tuple[str, ...] = ()
    seed: int = 0
    out: str | None = None
    best: bool = False

    def __post_init__(self) -> None:
        checks.between(self, 0, MAX_SEED, "seed")
        if self.between and (len(self.between) != 2 or self.search.num < 2):
            raise UserError(
                f"between must be two pictures, and search.num at least 2, got "
                f"{len(self.between)} pictures and {self.search.num}",
                "between",
            )


def design_command(target: str, arguments: Sequence[str]) -> None:
    """Run ``genjax design RUN_DIR``."""
    options = parse(DesignOptions(), f"design {target}", arguments)
    run = load(target, best=options.best)
    space, brief = open_space(run), load_brief(options.brief)
    if options.between:
        latents = interpolate_pictures(space, run.codec, options.between, options.search.num)
        images = space.decode(latents)
        columns = {"score": score_images(brief, images, None)}
        title = f"from {Path(options.between[0]).name} to {Path(options.between[1]).name}"
    else:
        found = options.search(space, brief, options.seed)
        latents, images, columns = found.latents, found.images, {"score": found.scores}
        drawn = score_images(brief, space.decode(space.draw(options.seed, 256)), None)
        print(f"draws     mean {drawn.mean():.4f}, best of 256 {drawn.max():.4f}")
        print(
            f"designs   mean {found.scores.mean():.4f}, best {found.scores.max():.4f}, "
            f"{found.evaluations:,} images scored"
        )
        title = f"{options.brief}, {options.search.method}"
    columns["distance"] = np.asarray(measure_excess(latents)) + 0.0
    print(_write(run, images, columns, title, options))


def load_brief(name: str) -> ImageReward:
    """Load a brief by the name of its function, with its module unless it is one of genjax's.

    Raises:
      UserError: the function does not exist.
    """
    found = load_reward(name if ":" in name else f"{KNOWN}:{name}")
    if isinstance(found, RunReward):
        raise UserError(f"brief must be a function of images, got the run {name}", "brief")
    return found


def interpolate_pictures(space: Space, codec: Any, paths: Sequence[str], count: int) -> np.ndarray:
    """Return latents [count, Z] from one picture to another.

    Raises:
      UserError: a picture cannot be read, or has another size than the run's images.
    """
    assert isinstance(codec, ImageCodec), "open_space takes images alone"
    pixels = [read_pixels(path, "between", codec, codec.channels) for path in paths]
    start, end = space.encode(codec.encode(np.stack(pixels)))
    return interpolate(start, end, count)


def _write(
    run: Run, images: np.ndarray, columns: dict[str, np.ndarray], title: str, options: DesignOptions
) -> Path:
    name = f"{run.step:08d}_design_seed_{options.seed}"
    out = Path(options.out).expanduser() if options.out else Path(run.run_dir) / "samples" / name
    stem = out.with_suffix("") if out.suffix in (".png", ".csv") else out
    stem.parent.mkdir(parents=True, exist_ok=True)
    codec: Any = run.codec
    search = dataclasses.asdict(options.search) | {"brief": options.brief}
    return record_samples(
        run.run_dir,
        run.step,
        options.seed,
        stem,
        lambda: write_sheet(images, columns, codec, title, stem),
        None if options.between else {"search": search},
    )
