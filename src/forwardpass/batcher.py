"""`Batcher`: calls that arrive at the same time, run together."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ConfigError, InputError
from .graph import Array
from .inputs import as_array, as_model, bind_arguments, check_shapes
from .records import record

if TYPE_CHECKING:
    from .run import Model

__all__ = ["Batcher"]

_WHOLE = (int, np.integer)
_REAL = (*_WHOLE, float, np.floating)


@record(slots=True, eq=False)
class _Request:
    """A call that waits: its arrays, and who is told."""

    arrays: dict[str, Array]
    rows: int
    kind: tuple[Any, ...]
    future: Future[Any]
    arrived: float


class Batcher:
    """Collects the calls of any number of threads and coroutines into batches, for models that treat rows alone.

    A call has one row or more. Its result has the bits that it would have alone, and an error reaches the one whose
    call it is. Inputs must stay as they are until their call is done. Close it, or use it as a context manager (`with`
    or `async with`).

    Parameters
    ----------
    model
        All inputs and outputs share a free first dimension.
    max_batch
        Rows that run together at most. A call with more runs alone.
    max_delay
        Seconds that the first call of a batch waits for others; 0 takes what came while the batch before it ran.
    max_waiting
        Rows that may wait to be run, by default 8 batches. Whoever comes then waits before the queue: `submit` blocks,
        and `arun` suspends.

    Raises
    ------
    ConfigError
        A number that makes no sense.
    InputError
        No model, or one with an input or an output that is not by rows.

    Examples
    --------
    >>> with fp.Batcher(model, max_batch=32, max_delay=0.002) as batcher:   # doctest: +SKIP
    ...     y = batcher(x)                                                  # from any thread
    """

    def __init__(
        self, model: Model, max_batch: int = 32, max_delay: float = 0.001, *, max_waiting: int | None = None
    ) -> None:
        _check_rows(as_model(model))
        _check_number("max_batch", max_batch, _WHOLE, 1)
        waiting = 8 * max_batch if max_waiting is None else max_waiting
        _check_number("max_waiting", waiting, _WHOLE, 1)
        _check_number("max_delay", max_delay, _REAL, 0)
        self.model, self.max_batch, self.max_delay, self.max_waiting = model, max_batch, max_delay, waiting
        self._closed = False
        self._start()

    def _start(self) -> None:
        """Empty, and without a thread; that one begins with the first call and sleeps while there are none."""
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._queue: deque[_Request] = deque()
        self._rows = 0
        self._doors: deque[Future[None]] = deque()
        self._draining = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="forwardpass-batcher")

    # ---- calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the model: the outputs for these inputs."""
        return self.submit(*args, **kwargs).result()

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future of a call's result. Blocks while too many rows wait.

        Raises
        ------
        InputError
            An input that does not fit.
        RuntimeError
            The batcher is closed.
        """
        request = self._request(args, kwargs)
        while (door := self._admit(request)) is not None:
            door.result()
        return request.future

    async def arun(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """A call that is awaited.

        Raises
        ------
        TimeoutError
            No result after `timeout` seconds; a call that has not begun is dropped then.
        """
        import asyncio

        from .futures import result_within

        request = self._request(args, kwargs)

        async def run() -> Any:
            while (door := self._admit(request)) is not None:
                await asyncio.wrap_future(door)
            return await asyncio.wrap_future(request.future)

        return await result_within(run(), timeout)

    def close(self) -> None:
        """Finish the calls that wait, and take no more. Again is of no effect."""
        if self._process != os.getpid():
            self._start()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Batcher:
        return self

    async def __aexit__(self, *exception: object) -> None:
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, self.close)

    # ---- the queue

    def _request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Request:
        inputs = self.model.inputs
        arrays = {k: as_array(k, v, inputs[k]) for k, v in bind_arguments(args, kwargs, inputs).items()}
        check_shapes({k: a.shape for k, a in arrays.items()}, inputs)
        rows = {len(a) if a.ndim else -1 for a in arrays.values()}
        if len(rows) > 1 or -1 in rows:
            shapes = ", ".join(f"{k}: {list(a.shape)}" for k, a in arrays.items())
            raise InputError("not by rows", where="call", expected="inputs of one length", got=shapes)
        kind = tuple(a.shape[1:] for a in arrays.values())
        return _Request(arrays, rows.pop(), kind, Future(), time.monotonic())

    def _admit(self, request: _Request) -> Future[None] | None:
        """Queue a call, or give what to wait for before the next try."""
        if self._process != os.getpid():  # the child of a fork has neither the thread nor those who wait
            self._start()
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            if self._rows and self._rows + request.rows > self.max_waiting:
                self._doors.append(door := Future[None]())
                return door
            self._queue.append(request)
            self._rows += request.rows
            if not self._draining:
                self._draining = True
                self._pool.submit(self._drain)
            elif self._rows >= self.max_batch:
                self._changed.notify_all()
        return None

    def _drain(self) -> None:
        """Run batches until nobody waits."""
        while batch := self._next():
            self._run(batch)

    def _next(self) -> list[_Request]:
        """The oldest call, and those that can run with it; empty where there is none."""
        with self._changed:
            while self._queue and self._rows < self.max_batch and not self._closed:
                left = self._queue[0].arrived + self.max_delay - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch: list[_Request] = []
            rows = 0
            for request in list(self._queue):
                if request.kind != self._queue[0].kind or (batch and rows + request.rows > self.max_batch):
                    continue
                batch.append(request)
                rows += request.rows
            taken = set(map(id, batch))
            self._queue = deque(r for r in self._queue if id(r) not in taken)
            self._rows -= rows
            self._draining = bool(batch)
            doors, self._doors = self._doors, deque()
        for door in doors:
            if door.set_running_or_notify_cancel():
                door.set_result(None)
        return batch

    def _run(self, batch: list[_Request]) -> None:
        """Run calls together; should that fail, each alone, so that everyone gets an error of their own."""
        batch = [r for r in batch if r.future.set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            parts = self._together(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for request in batch:
                self._alone(request)
            return
        for request, part in zip(batch, parts):
            request.future.set_result(self.model.as_result(part))

    def _alone(self, request: _Request) -> None:
        try:
            request.future.set_result(self.model.as_result(self.model.outputs_for(request.arrays)))
        except Exception as error:
            request.future.set_exception(error)

    def _together(self, batch: Sequence[_Request]) -> list[list[Array]]:
        """The outputs of each call."""
        if len(batch) == 1:
            return [self.model.outputs_for(batch[0].arrays)]
        arrays = {k: np.concatenate([r.arrays[k] for r in batch]) for k in self.model.inputs}
        rows = sum(r.rows for r in batch)
        whole = self.model.outputs_for(arrays)
        for name, y in zip(self.model.outputs, whole):
            if y.shape[:1] != (rows,):
                raise InputError(
                    "the output has no row per row of the inputs", where=f"output {name!r}", expected=f"{rows} rows",
                    got=str(y.shape), hint="call the model instead",
                )  # fmt: skip
        cuts = np.cumsum([r.rows for r in batch])[:-1]
        # Copies, so that nobody keeps the rows of others in memory or writes to them.
        return [[p.copy() for p in parts] for parts in zip(*(np.split(y, cuts) for y in whole))]


def _check_number(name: str, value: Any, kinds: tuple[type[Any], ...], least: int) -> None:
    """Raise ConfigError where a number is not of these types, not finite, or below the least."""
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < float("inf"):
        expected = f"{'an integer' if kinds is _WHOLE else 'a number'} >= {least}"
        raise ConfigError("wrong number", where=name, expected=expected, got=repr(value))


def _check_rows(model: Model) -> None:
    """Raise InputError where an input or an output has no free first dimension, or another one than the first input."""
    rows: str | None = None
    for what, types in (("input", model.inputs), ("output", model.outputs)):
        for name, t in types.items():
            if t.shape is None and not t.container:
                continue  # of unknown rank: the calls will show
            first = t.shape[0] if t.shape else 1
            if t.container or isinstance(first, int) or (first and rows not in (None, first)):
                expected = f"a free first dimension{f' {rows!r}' if rows else ''}"
                hint = "submit() and arun() of the model itself need no batches"
                raise InputError("not by rows", where=f"{what} {name!r}", expected=expected, got=str(t), hint=hint)
            rows = rows or first
    if not model.inputs:
        raise InputError("a model without inputs has no batches", where="model")
