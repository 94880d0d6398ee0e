"""Tells the allocator of the process how to treat the memory of steps."""

from __future__ import annotations

import ctypes
import sys


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next step.

    By default it maps blocks above 32 MB again each time and returns the end of its heap: a page
    fault for every 4 KB of temporaries, a quarter of the step time of a small Transformer.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        trim_threshold, mmap_threshold = -1, -3  # from glibc's malloc.h
        set_option(mmap_threshold, 2**30)
        set_option(trim_threshold, 2**31 - 1)
