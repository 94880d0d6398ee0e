"""Check the alerts of a store in the background, without disturbing those who answer."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence

from genjax.errors import UserError
from genjax.store.index.encoders import Encoder, WordLlama
from genjax.store.monitoring.alerts import Checked, check_alerts
from genjax.store.store import Store

LOW = 10  # priority of the thread, as of ``nice``
log = logging.getLogger(__name__)


@functools.cache
def open_default_encoder() -> Encoder | None:
    """Return the encoder that is used by default, or None if its package is missing."""
    try:
        return WordLlama()
    except UserError:
        return None


@contextlib.contextmanager
def keep_watching(
    store: Store,
    every: float,
    count_waiting: Callable[[], int],
    report: Callable[[Sequence[Checked] | None], None],
) -> Iterator[None]:
    """Check the alerts of a store in a thread of low priority, until the block ends.

    Args:
      store: the store.
      every: seconds between checks; the first comes at once.
      count_waiting: counts the exchanges that wait for the store.
      report: is given what each check found; None if it failed.
    """
    ended = threading.Event()

    def run() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW)
        while True:
            try:
                report(check_alerts(store, count_waiting(), open_default_encoder))
            except Exception as error:  # such as a store that is away: the next check tries again
                log.warning("alerts were not checked: %s", error)
                report(None)
            if ended.wait(every):
                return

    thread = threading.Thread(target=run, name="alerts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
