"""What runs a preparation: Daft in this process, or on a Ray cluster."""

from __future__ import annotations

import logging
import os
import sys

from genjax.errors import UserError
from genjax.serial.stored import CONFIG_MODULE

NATIVE = "native"
MORSEL = 2048  # records that are worked on together
FILE, ROW_GROUP = (
    32 * 2**20,
    8 * 2**20,
)  # bytes of what a stage writes, and of what is held in memory before that


def begin(engine: str) -> None:
    """Let Daft work by ``engine``: "native", "ray" for one on this machine, or a cluster's address.

    Raises:
      UserError: no such cluster, Ray is not installed, or this process has started with another
        engine.
    """
    kind = NATIVE if engine == NATIVE else "ray"
    os.environ.setdefault("DO_NOT_TRACK", "true")  # Daft would tell its makers how it is used
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    os.environ["DAFT_RUNNER"] = kind
    import daft

    logging.getLogger("daft_local_execution").setLevel(
        logging.CRITICAL
    )  # the exception says what fails
    if kind == "ray":
        _connect(engine)
    # By default eight groups of files are read ahead, however few the cores, and half a gigabyte
    # waits to be written.
    daft.set_execution_config(
        scantask_max_parallel=os.cpu_count() or 1,
        default_morsel_size=MORSEL,
        parquet_target_filesize=FILE,
        parquet_target_row_group_size=ROW_GROUP,
    )
    daft.get_or_create_runner()
    if daft.get_or_infer_runner_type() != kind:
        raise UserError(
            f"this process works with another engine than {engine!r} already: start a new one"
        )


def _connect(engine: str) -> None:
    if engine != "ray" and ":" not in engine:
        raise UserError(
            "an engine is 'native', 'ray' or a cluster's address like ray://HOST:10001, not "
            f"{engine!r}"
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
    if (
        CONFIG_MODULE in sys.modules
    ):  # stages that a config defines itself; workers cannot import a config
        ray.cloudpickle.register_pickle_by_value(sys.modules[CONFIG_MODULE])
