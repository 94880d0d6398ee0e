"""Join the other processes of a run."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

from genjax.errors import UserError
from genjax.machine import meeting, peers, places

# Packages that must be the same on all processes, as they compile and run one program together.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# Seconds after which a silent process counts as lost, so that the others end within a minute; JAX
# notices at once if its connections break.
SILENT = 40


def join(given: places.Place, seconds: float) -> None:
    """Join the other processes, unless this one has.

    Args:
      given: what is known of the place of this process.
      seconds: time to wait for the others.

    Raises:
      UserError: a process is missing, or runs other versions.
    """
    if jax.distributed.is_initialized():
        return
    place = places.find_place(given, seconds)
    meeting.meet(place, list_versions(), seconds)
    address, processes, number = place.whole
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    peers.Watch()
    try:
        jax.distributed.initialize(
            address,
            processes,
            number,
            local_device_ids=place.devices,
            cluster_detection_method="deactivate",
            heartbeat_timeout_seconds=SILENT,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes did not find each other: {error}") from error


def list_versions() -> Mapping[str, str]:
    """Return the versions of Python, genjax and the packages that all processes must share."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    found["genjax"] = f"{find_version('genjax-train')} with sources {digest_sources()}"
    return found | {name: find_version(name) for name in PACKAGES}


def find_version(package: str) -> str:
    """Return the version of a package, or that it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def digest_sources() -> str:
    """Return a short hash of the source of genjax, which differs between two checkouts."""
    folder, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
