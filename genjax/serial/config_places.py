"""Find the files of configs, without what they import."""

from __future__ import annotations

from pathlib import Path

from genjax import checks
from genjax.errors import UserError, unknown_name


def configs_folder() -> Path:
    """Return the folder of configs: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(name: str) -> Path:
    """Find a config file by its path, or by its bare name under ``configs/``."""
    checks.check_path(name, "CONFIG")
    path = Path(name)
    if path.is_file():
        return path
    if path.exists():
        raise UserError(f"{name!r} must be a config file, and it is not a file", name)
    known = list_configs()
    if path.suffix == ".py" or len(path.parts) != 1:
        hint = f"; did you mean {path.stem!r}?" if path.stem in known else ""
        raise UserError(f"no config file at {name!r}{hint}", name)
    if name not in known:
        raise unknown_name("config", name, known)
    return known[name]


def list_configs() -> dict[str, Path]:
    """List the files under ``configs/`` by bare name."""
    return {path.stem: path for path in sorted(configs_folder().glob("*/*.py"))}
