"""Calls that somebody else waits for: futures, coroutines, and batches of calls of many threads."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest
from graphs import Maker
from small_graphs import F32, mlp, two_outputs

import forwardpass as fp
from forwardpass.errors import ConfigError, InputError
from forwardpass.run import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(mlp(), threads=1)


@pytest.fixture
def gate() -> Iterator[tuple[threading.Event, threading.Event]]:
    """(somebody is inside the operator, they may go on)."""
    inside, go = threading.Event(), threading.Event()
    yield inside, go
    go.set()


def gated(gate: tuple[threading.Event, threading.Event], seen: list[int]) -> Model:
    """y = 2 x, which waits for the gate, notes its rows, and refuses negative numbers."""
    inside, go = gate

    @fp.op("tests", "Gated", replace=True)
    def wait_for_it(x: np.ndarray) -> np.ndarray:
        inside.set()
        assert go.wait(60)
        seen.append(len(x))
        if (x < 0).any():
            raise ValueError("negative")
        return x * 2

    m = Maker(dtype=F32)
    return Model(m.graph(m("tests.Gated", m.input("x", "N", 4), out="y")), threads=1)


def rows(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((count, 8), dtype=np.float32)


# ---- futures and coroutines of a model


def test_submit(model: Model, rng: np.random.Generator) -> None:
    given = [rows(k, rng) for k in range(1, 9)]
    futures = [model.submit(x) for x in given] + [model.submit(x=given[0])]
    for x, future in zip([*given, given[0]], futures):
        np.testing.assert_array_equal(future.result(60), model(x))
    with pytest.raises(InputError, match="wrong size of axis 1"):
        model.submit(np.ones((2, 9), np.float32)).result(60)


def test_arun(model: Model, rng: np.random.Generator) -> None:
    given = [rows(k, rng) for k in range(1, 9)]

    async def main() -> list[Any]:
        with pytest.raises(InputError, match="unknown input"):
            await model.arun(z=given[0])
        return await asyncio.gather(*(model.arun(x, timeout=60) for x in given))

    for x, y in zip(given, asyncio.run(main())):
        np.testing.assert_array_equal(y, model(x))


def test_arun_times_out_and_the_loop_goes_on(gate: tuple[threading.Event, threading.Event]) -> None:
    model, x = gated(gate, []), np.ones((1, 4), np.float32)

    async def main() -> None:
        with pytest.raises(TimeoutError, match=r"no result within 0\.05 s"):
            await model.arun(x, timeout=0.05)
        gate[1].set()
        np.testing.assert_array_equal(await model.arun(x, timeout=60), x * 2)

    asyncio.run(main())


# ---- batches


def test_batches_have_the_bits_of_single_calls(model: Model, rng: np.random.Generator) -> None:
    given = [rows(1 + k % 3, rng) for k in range(64)]
    with fp.Batcher(model, max_batch=16, max_delay=0.002) as batcher, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(batcher, given))
    for x, y in zip(given, found):
        assert y.tobytes() == model(x).tobytes()
        assert y.base is None, "a copy of its own"


def test_calls_that_wait_run_together(gate: tuple[threading.Event, threading.Event]) -> None:
    seen: list[int] = []
    model = gated(gate, seen)
    with fp.Batcher(model, max_batch=4, max_delay=0) as batcher:
        first = batcher.submit(np.full((1, 4), 0.0, np.float32))
        assert gate[0].wait(60)  # the first is running, and those behind it pile up
        others = [batcher.submit(np.full((1, 4), float(k), np.float32)) for k in range(1, 7)]
        gate[1].set()
        for k, future in enumerate([first, *others]):
            np.testing.assert_array_equal(future.result(60), np.full((1, 4), 2.0 * k))
    assert seen == [1, 4, 2]


def test_a_call_of_more_rows_than_a_batch_runs_alone(model: Model, rng: np.random.Generator) -> None:
    x = rows(9, rng)
    with fp.Batcher(model, max_batch=4) as batcher:
        np.testing.assert_array_equal(batcher(x), model(x))


def test_only_calls_of_one_shape_run_together(rng: np.random.Generator) -> None:
    m = Maker(dtype=F32)
    model = Model(m.graph(m("Relu", m.input("x", "N", "length"))))
    given = [rng.standard_normal((1, 3 + k % 2), dtype=np.float32) for k in range(20)]
    with fp.Batcher(model, max_batch=8, max_delay=0.05) as batcher:
        for x, future in [(x, batcher.submit(x)) for x in given]:
            np.testing.assert_array_equal(future.result(60), np.maximum(x, 0))


def test_an_error_reaches_its_caller_alone(gate: tuple[threading.Event, threading.Event]) -> None:
    model = gated(gate, [])
    gate[1].set()
    with fp.Batcher(model, max_batch=8, max_delay=0.5) as batcher:
        good, bad = np.ones((1, 4), np.float32), -np.ones((1, 4), np.float32)
        futures = [batcher.submit(x) for x in (good, bad, good, good, good, good, good, bad)]
        with pytest.raises(InputError, match="wrong rank"):
            batcher(np.ones(4, np.float32))
        for k, future in enumerate(futures):
            if k in (1, 7):
                with pytest.raises(Exception, match="negative"):
                    future.result(60)
            else:
                np.testing.assert_array_equal(future.result(60), good * 2)


def test_several_inputs_and_outputs(rng: np.random.Generator) -> None:
    model = Model(two_outputs())
    a, b = (rng.standard_normal((6, 4), dtype=np.float32) for _ in range(2))
    with fp.Batcher(model, max_batch=6, max_delay=1) as batcher:
        futures = [batcher.submit(a[k : k + 1], b=b[k : k + 1]) for k in range(6)]
        for k, y in enumerate(f.result(60) for f in futures):
            np.testing.assert_array_equal(y.sum, (a + b)[k : k + 1])
            np.testing.assert_array_equal(y[1], (a - b)[k : k + 1])
        with pytest.raises(InputError, match="size 'N' is 1 here but 6"):
            batcher(a, b[:1])


def test_a_full_queue_holds_back(gate: tuple[threading.Event, threading.Event]) -> None:
    seen: list[int] = []
    model, x = gated(gate, seen), np.ones((1, 4), np.float32)
    with fp.Batcher(model, max_batch=2, max_delay=0, max_waiting=3) as batcher:
        futures = [batcher.submit(x)]
        assert gate[0].wait(60)
        futures += [batcher.submit(x) for _ in range(3)]  # as many as may wait
        with ThreadPoolExecutor(2) as pool:
            late = [pool.submit(batcher.submit, x) for _ in range(2)]
            assert not wait(late, timeout=0.2).done
            gate[1].set()
            futures += [f.result(60) for f in late]
        for future in futures:
            np.testing.assert_array_equal(future.result(60), x * 2)
    assert sum(seen) == 6


def test_arun_of_a_batcher(gate: tuple[threading.Event, threading.Event]) -> None:
    seen: list[int] = []
    model, x = gated(gate, seen), np.ones((1, 4), np.float32)

    async def main() -> None:
        async with fp.Batcher(model, max_batch=2, max_delay=0, max_waiting=2) as batcher:
            running = batcher.submit(x)
            assert await asyncio.to_thread(gate[0].wait, 60)
            with pytest.raises(TimeoutError):  # queued
                await batcher.arun(x, timeout=0.05)
            waiting = [asyncio.create_task(batcher.arun(x * k)) for k in range(5)]
            await asyncio.sleep(0.05)  # some are before the queue, and the loop goes on
            assert not any(t.done() for t in waiting)
            gate[1].set()
            for k, y in enumerate(await asyncio.gather(*waiting)):
                np.testing.assert_array_equal(y, x * 2 * k)
            np.testing.assert_array_equal(running.result(60), x * 2)

    asyncio.run(main())
    assert sum(seen) == 6, "the call that was given up did not run"


def test_close_finishes_what_waits_and_takes_no_more(model: Model, rng: np.random.Generator) -> None:
    x = rows(1, rng)
    batcher = fp.Batcher(model, max_batch=8, max_delay=60)
    future = batcher.submit(x)
    batcher.close()  # does not wait for the delay
    batcher.close()
    np.testing.assert_array_equal(future.result(0), model(x))
    with pytest.raises(RuntimeError, match="closed"):
        batcher(x)


def test_a_forgotten_batcher_leaves_no_thread(model: Model, rng: np.random.Generator) -> None:
    before = threading.active_count()
    batcher = fp.Batcher(model, max_delay=0)
    batcher(rows(1, rng))
    del batcher
    end = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("max_batch", 0), ("max_batch", 2.5), ("max_batch", True), ("max_batch", "8"), ("max_batch", None),
        ("max_delay", -1), ("max_delay", float("nan")), ("max_delay", float("inf")), ("max_delay", "1"),
        ("max_waiting", 0), ("max_waiting", 2.5),
    ],
)  # fmt: skip
def test_wrong_numbers(model: Model, where: str, value: Any) -> None:
    with pytest.raises(ConfigError) as e:
        fp.Batcher(model, **{where: value})
    assert e.value.where == where
    assert e.value.got == repr(value)


def test_numbers_of_numpy(model: Model, rng: np.random.Generator) -> None:
    x = rows(2, rng)
    with fp.Batcher(model, max_batch=np.int64(4), max_delay=np.float32(0)) as batcher:  # type: ignore[arg-type]
        np.testing.assert_array_equal(batcher(x), model(x))


def test_a_model_that_is_not_by_rows() -> None:
    m = Maker(dtype=F32)
    with pytest.raises(InputError, match="not by rows") as e:
        fp.Batcher(Model(m.graph(m("Relu", m.input("x", 3, 4)))))
    assert e.value.input == "x"
    m = Maker(dtype=F32)
    total = Model(m.graph(m("ReduceSum", m.input("x", "N", 4), keepdims=0, out="total")))
    with pytest.raises(InputError, match="output 'total'"):
        fp.Batcher(total)


# ---- after a fork


def _in_child(model: Model, batcher: fp.Batcher, x: np.ndarray, answer: Any) -> None:
    answer.put((model.submit(x).result(60), batcher(x)))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_both_work_in_a_forked_child(model: Model, rng: np.random.Generator) -> None:
    x = rows(3, rng)
    with fp.Batcher(model) as batcher:
        model.submit(x).result(60)
        batcher(x)  # their threads run now, and the child will have none of them
        context = multiprocessing.get_context("fork")
        answer = context.Queue()
        child = context.Process(target=_in_child, args=(model, batcher, x, answer))
        child.start()
        for y in answer.get(timeout=60):
            np.testing.assert_array_equal(y, model(x))
        child.join(60)
        assert child.exitcode == 0


def test_futures_are_the_standard_ones(model: Model, rng: np.random.Generator) -> None:
    assert isinstance(model.submit(rows(1, rng)), Future)
