"""Find the checkpoints of a run directory without Orbax, and which of them are incomplete."""

from __future__ import annotations

import re

from etils import epath

from genjax.errors import UserError
from genjax.machine.patience import retry

UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint that Orbax is still writing
PARTS = ("state/_METADATA", "state/manifest.ocdbt", "progress/metadata", "checksums/metadata")


def newest_step(run_dir: epath.Path) -> int | None:
    """Return the step of the newest complete checkpoint of a run directory; None if there is
    none.
    """
    found = find_steps(run_dir)
    return max((step for step, missing in found.items() if missing is None), default=None)


def find_steps(run_dir: epath.Path) -> dict[int, str | None]:
    """Return the steps of all checkpoints in a run directory, each with the part that it lacks, or
    None.

    Other entries, such as ``60.bak`` or what a killed process was writing, are ignored.

    Raises:
      UserError: the directory cannot be read.
    """
    folder = epath.Path(run_dir) / "checkpoints"

    def look() -> dict[int, str | None]:
        if not folder.exists():
            return {}
        if not folder.is_dir():
            raise UserError(
                f"{folder} is a file, not a folder of checkpoints: move it away", field=str(folder)
            )
        named = [path for path in folder.iterdir() if re.fullmatch(r"0|[1-9][0-9]*", path.name)]
        return {int(path.name): _lacks(path) for path in named}

    return retry(look, str(folder))


def _lacks(checkpoint: epath.Path) -> str | None:
    if not checkpoint.is_dir():
        return "it is a file"
    return next((f"it lacks {part}" for part in PARTS if not (checkpoint / part).is_file()), None)
