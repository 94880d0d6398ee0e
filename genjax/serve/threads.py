"""Work that would hold up other requests, done beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
LARGE = 2_000  # characters whose tokens are found quickly enough


async def in_thread(size: int, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """What a function gives that takes long for an input of this ``size``."""
    if size <= LARGE:
        return function(*args, **options)
    return await asyncio.to_thread(function, *args, **options)
