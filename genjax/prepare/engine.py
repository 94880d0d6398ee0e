"""Choose what runs a preparation: Daft in this process, or on a Ray cluster."""

from __future__ import annotations

import logging
import os
import sys

from genjax.errors import UserError
from genjax.serial.stored import CONFIG_MODULE

NATIVE = "native"
MORSEL = 2048  # records processed together
# Bytes of a file that a stage writes, and of the records held in memory before that.
FILE, ROW_GROUP = (
    32 * 2**20,
    8 * 2**20,
)


def begin(engine: str) -> None:
    """Start Daft with ``engine``: "native", "ray" on this machine, or the address of a cluster.

    Raises:
      UserError: the cluster does not exist, Ray is not installed, or this process already uses
        another engine.
    """
    kind = NATIVE if engine == NATIVE else "ray"
    os.environ.setdefault("DO_NOT_TRACK", "true")  # turns off Daft's telemetry
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    os.environ["DAFT_RUNNER"] = kind
    import daft

    # The exception already says what fails.
    logging.getLogger("daft_local_execution").setLevel(logging.CRITICAL)
    if kind == "ray":
        _connect(engine)
    # By default Daft reads eight groups of files ahead, even on few cores, and holds half a
    # gigabyte before writing.
    daft.set_execution_config(
        scantask_max_parallel=os.cpu_count() or 1,
        default_morsel_size=MORSEL,
        parquet_target_filesize=FILE,
        parquet_target_row_group_size=ROW_GROUP,
    )
    daft.get_or_create_runner()
    if daft.get_or_infer_runner_type() != kind:
        raise UserError(
            f"this process already uses another engine than {engine!r}: start a new process"
        )


def _connect(engine: str) -> None:
    if engine != "ray" and ":" not in engine:
        raise UserError(
            "engine must be 'native', 'ray' or the address of a cluster such as ray://HOST:10001, "
            f"got {engine!r}",
            "runner",
        )
    try:
        import ray
    except ImportError:
        raise UserError("the engine needs Ray: pip install 'genjax-train[cluster]'") from None
    if not ray.is_initialized():
        try:
            ray.init(
                None if engine == "ray" else engine,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"there is no Ray cluster at {engine}: {str(error).splitlines()[0]}"
            ) from error
    if CONFIG_MODULE in sys.modules:
        # Workers cannot import a config, which may define stages: send them its module by value.
        ray.cloudpickle.register_pickle_by_value(sys.modules[CONFIG_MODULE])
