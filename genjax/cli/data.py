"""``genjax data``: turn raw files into training sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from genjax import checks
from genjax.cli.parsing import parse
from genjax.config_files import build_config
from genjax.data.sources.prepared import FOLDER
from genjax.errors import UserError, unknown_name
from genjax.prepare import engine
from genjax.prepare.card import CARD
from genjax.prepare.preparation import Preparation
from genjax.prepare.run import prepare


@checks.frozen
class PrepareOptions:
    """Prepare a training set.

    Attributes:
      preparation: fields of the config.
      out: folder to write to; prepared/NAME by default.
      engine: "native" for this process, "ray" for Ray on this machine, or a cluster's address,
        ray://HOST:10001.
      tiny: the config's small form, for a first look.
    """

    preparation: Annotated[Preparation, tyro.conf.arg(name="")]
    out: str | None = None
    engine: str = engine.NATIVE
    tiny: bool = False


def data_command(target: str, arguments: Sequence[str]) -> None:
    """Run ``genjax data prepare CONFIG``."""
    if target != "prepare":
        raise unknown_name("command of data", target, ("prepare",))
    config, *rest = arguments
    found, path = build_config(config, "--tiny" in rest)
    if not isinstance(found, Preparation):
        raise UserError(f"get_config of {path} returned {type(found).__name__}, not a Preparation")
    options = parse(PrepareOptions(found), f"data prepare {config}", rest)
    name = f"{path.stem}_tiny" if options.tiny else path.stem
    out = Path(options.out or Path(FOLDER) / name)
    manifest = prepare(options.preparation, name, out, options.engine)
    print(f"card      {out / CARD}\nmanifest  {manifest}")
