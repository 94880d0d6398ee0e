"""Slow work is done in threads, so that it does not delay other requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
LARGE = 2_000  # longest input in characters that is processed without a thread


async def in_thread(size: int, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Call a function, in a thread if its input of ``size`` characters is large."""
    if size <= LARGE:
        return function(*args, **options)
    return await asyncio.to_thread(function, *args, **options)
