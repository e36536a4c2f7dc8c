"""Many Python threads in one model, forks, nested use, and the team's limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import networks
from forwardpass import Model

pytestmark = pytest.mark.usefixtures("every_step_split")


@pytest.mark.threads
@pytest.mark.parametrize("threads", [1, 2])
def test_many_python_threads(threads: int) -> None:
    network = networks.build("cifar cnn")
    model = Model(network, threads=threads)
    batches = [networks.sample(network, rows, seed=rows) for rows in (1, 2, 3)]
    want = [model(x) for x in batches]
    start = threading.Barrier(6)

    def work(k: int) -> bool:
        start.wait()
        return all(np.array_equal(model(batches[(k + i) % 3]), want[(k + i) % 3]) for i in range(40))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


@pytest.mark.threads
def test_two_models_with_teams() -> None:
    networks_ = [networks.build("cifar cnn"), networks.build("mlp 784-512-512-10")]
    models = [Model(n, threads=t) for n, t in zip(networks_, (2, 3))]
    inputs = [networks.sample(n, 4) for n in networks_]
    want = [m(x) for m, x in zip(models, inputs)]

    def work(k: int) -> bool:
        return all(np.array_equal(models[k % 2](inputs[k % 2]), want[k % 2]) for _ in range(40))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def _child_runs(model: Model, x: np.ndarray, want: np.ndarray) -> int:
    """Fork; the child runs the model and a new one. Returns the child's exit code."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        ok = np.array_equal(model(x), want) and np.array_equal(Model(model.graph, threads=3)(x), want)
        os._exit(0 if ok else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of forks of threaded processes
def test_fork_after_a_run() -> None:
    network = networks.build("cifar cnn")
    model = Model(network, threads=2)
    x = networks.sample(network, 4)
    want = model(x)
    for _ in range(10):
        assert _child_runs(model, x, want) == 0
        assert np.array_equal(model(x), want), "the parent still runs"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_while_another_thread_runs() -> None:
    network = networks.build("cifar cnn")
    model = Model(network, threads=2)
    x = networks.sample(network, 4)
    want = model(x)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            model(x)

    other = threading.Thread(target=work)
    other.start()
    try:
        for _ in range(10):
            assert _child_runs(model, x, want) == 0
    finally:
        done.set()
        other.join()


@pytest.mark.parametrize("threads", ["1", "4"])
def test_exit_while_a_daemon_thread_runs(threads: str) -> None:
    code = f"""
        import sys, threading
        sys.path[:0] = {sys.path[:]!r}
        import networks
        from forwardpass import Model
        from forwardpass.plan import partition
        partition._STEP_US = partition._PROGRAM_US = partition._PART = 0.0
        network = networks.build("cifar cnn")
        model, x = Model(network, threads={threads}), networks.sample(network, 2)
        def work():
            while True:
                model(x)
        threading.Thread(target=work, daemon=True).start()
        for _ in range(10):
            model(x)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_openmp_that_gives_fewer_threads() -> None:
    """The model runs on the caller then, with the same result, and does not ask again at every call."""
    code = f"""
        import os, sys, numpy as np
        sys.path[:0] = {sys.path[:]!r}
        import networks
        from forwardpass import Model
        from forwardpass.plan import partition
        network = networks.build("cifar cnn")
        x = networks.sample(network, 2)
        want = Model(network, threads=1)(x)
        partition._STEP_US = partition._PROGRAM_US = partition._PART = 0.0
        model = Model(network, threads=3)
        assert np.array_equal(model(x), want)
        newest = max(map(int, os.listdir("/proc/self/task")))
        for _ in range(20):
            assert np.array_equal(model(x), want)
        assert max(map(int, os.listdir("/proc/self/task"))) == newest, "threads were started again"
        assert np.array_equal(Model(network, threads=2)(x), want)
    """
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
