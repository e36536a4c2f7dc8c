"""Calls that somebody else waits for: `Model.submit` and `Model.arun`."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .config import default_threads

__all__ = ["result_within", "submit"]

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def submit(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
    """Call on a thread of the process's pool, which starts at the first use, with as many threads as a model has by
    default: more calls at once would only take each other's processors. They sleep while there is nothing to do."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(default_threads()[0], thread_name_prefix="forwardpass")
        return _pool.submit(call, *args, **kwargs)


def _after_fork() -> None:
    """The child has no threads of the pool, and must not wait for a lock that one of them held."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def result_within(result: Awaitable[Any], timeout: float | None) -> Any:
    """The result, awaited; what has not begun when the time is over is cancelled.

    Raises
    ------
    TimeoutError
        It was not there within `timeout` seconds.
    """
    try:
        return await asyncio.wait_for(result, timeout)
    except asyncio.TimeoutError as error:  # until Python 3.10 another class than the built-in one
        raise TimeoutError(f"no result within {timeout} s") from error
