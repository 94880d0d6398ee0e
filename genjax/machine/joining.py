"""Join the other processes of a run, and say whom this one waits for."""

from __future__ import annotations

import os
import sys
import threading

import jax

from genjax.errors import UserError
from genjax.machine import peers

PATIENCE = 15.0  # seconds of silence while other processes are missing


def join(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Join the other processes, unless this one has; the arguments are those of ``Devices``.

    Raises:
      UserError: they did not find each other.
    """
    if jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    peers.Watch()
    waiting = threading.Timer(PATIENCE, _log_waiting, (coordinator, processes, process_id))
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(coordinator, processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes did not find each other: {error}") from error
    finally:
        waiting.cancel()


def _log_waiting(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    address = coordinator or os.environ.get(
        "JAX_COORDINATOR_ADDRESS", "the address that the cluster gives"
    )
    if processes is None or process_id is None:
        whom = "for the other processes of the cluster"
    elif process_id == 0:
        whom = f"as process 0 of {processes} for the other {processes - 1}"
    else:
        whom = f"as process {process_id} of {processes} for process 0 and all others"
    print(
        f"waiting at {address} {whom}: each starts with the same command",
        file=sys.stderr,
        flush=True,
    )
