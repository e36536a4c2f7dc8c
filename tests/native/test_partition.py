"""Which steps are shared among threads, and how the threads find processors."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from test_linear_split import layer

from forwardpass import Model
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops.lower_linear import cut_of


def dense(*widths: int) -> Graph:
    """Linear layers, one after another."""
    rng = np.random.default_rng(0)
    pairs = list(itertools.pairwise(widths))
    weights = {f"w{k}": rng.standard_normal(pair, dtype=np.float32) for k, pair in enumerate(pairs)}
    names = ["x", *(f"h{k}" for k in range(1, len(pairs))), "y"]
    nodes = [Node("MatMul", [names[k], f"w{k}"], [names[k + 1]], {}, "", f"n{k}") for k in range(len(pairs))]
    return Graph({"x": TensorType(np.dtype(np.float32), ("n", widths[0]))}, ["y"], nodes, weights)


def parts(graph: Graph, *shape: int) -> list[int]:
    """Threads of two that have work, step by step."""
    plan = Model(graph, threads=2, precision="portable").plan({"x": shape})
    return [s.threads for s in plan.steps]


def run_apart(code: str) -> None:
    """In a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_small_programs_take_one_thread() -> None:
    assert parts(dense(8, 5, 1), 1, 8) == [1, 1]
    assert parts(dense(16, 64, 32, 1), 64, 16) == [1, 1, 1]


def test_weights_of_a_single_row_are_shared() -> None:
    """But for those of a panel, which has eight columns or more."""
    assert parts(dense(784, 512, 512, 8), 1, 784) == [2, 2, 1]


def test_narrow_products_are_shared_too() -> None:
    """One column takes as long as sixteen, and its rows lie where the layers before have been."""
    assert parts(dense(16, 64, 32, 1), 1024, 16) == [2, 2, 2]


def test_few_tiles_of_rows_are_shared_by_rows() -> None:
    """Unless one thread had more of them, or the weights that each thread reads are many."""
    assert cut_of(4, 10, 2) == (0, 4)
    assert cut_of(5, 10, 2) == (1, 10)
    assert cut_of(4, 32, 2) == (1, 32)


def test_what_only_moves_numbers_is_shared() -> None:
    """As long as there are enough of them: it has no operations, and takes its time all the same."""
    kind = TensorType(np.dtype(np.float32), ("n", "m"))
    nodes = [Node("Add", ["x", "x"], ["h"], {}, "", "n0"), Node("Transpose", ["h"], ["y"], {"perm": [1, 0]}, "", "n1")]
    graph = Graph({"x": kind}, ["y"], nodes, {})
    assert parts(graph, 512, 768) == [2, 2]
    assert parts(graph, 16, 16) == [1, 1]


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_a_small_recurrent_layer_of_one_row_takes_one_thread(op: str) -> None:
    """Threads could share its products, and would then wait for longer than that saves."""
    assert set(parts(layer(op, 32, 64, 64), 32, 1, 64)) == {1}
    assert max(parts(layer(op, 32, 64, 128), 32, 16, 64)) == 2


def test_a_large_recurrent_layer_of_one_row_is_shared() -> None:
    assert max(parts(layer("LSTM", 32, 64, 128), 32, 1, 64)) == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_members_keep_apart() -> None:
    """Threads that begin on one processor are on two after some calls, and the caller may run where it could before."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor")
    code = f"""
        import os, sys, time
        sys.path[:0] = {sys.path[:]!r}
        import numpy as np
        from test_partition import dense
        from forwardpass import Model
        every = os.sched_getaffinity(0)
        one = min(every)
        model = Model(dense(784, 512, 512, 10), threads=2)
        x = np.ones((64, 784), np.float32)
        before = set(os.listdir("/proc/self/task"))
        os.sched_setaffinity(0, {{one}})
        model(x)
        [worker] = [int(t) for t in set(os.listdir("/proc/self/task")) - before if open(f"/proc/self/task/{{t}}/stat")
                    .read().split()[2] in "RS" and os.sched_getaffinity(int(t)) == {{one}}][-1:]
        os.sched_setaffinity(worker, every)  # it is on the caller's processor, and may be on others
        end = time.monotonic() + 60  # on a busy machine it comes back, and tries again a second later
        while one in os.sched_getaffinity(worker) and time.monotonic() < end:
            model(x)
        assert os.sched_getaffinity(0) == {{one}}
        assert os.sched_getaffinity(worker) < every, os.sched_getaffinity(worker)
        os.sched_setaffinity(worker, {{one}})  # as somebody may want it: then there is no other place
        for _ in range(20):
            model(x)
        assert os.sched_getaffinity(worker) == {{one}}
    """
    run_apart(code)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")
def test_threads_on_one_processor_leave_a_row_to_one() -> None:
    """One that waits for too long does the rest of a call, and after some such calls all of the next ones. Otherwise
    the other one would be put on the processor and taken from it again at every time step."""
    code = f"""
        import os, sys
        from pathlib import Path
        sys.path[:0] = {sys.path[:]!r}
        import numpy as np
        from test_linear_split import layer
        from forwardpass import Model
        os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
        graph = layer("LSTM", 40, 64, 128)
        x = np.random.default_rng(0).standard_normal((40, 1, 64), np.float32)
        want = Model(graph, threads=1)(x)
        before = set(os.listdir("/proc/self/task"))
        model = Model(graph, threads=2)
        calls = 500
        for _ in range(calls):
            np.testing.assert_array_equal(model(x), want)
        workers = set(os.listdir("/proc/self/task")) - before
        changes = [line for t in workers for line in Path("/proc/self/task", t, "status").read_text().splitlines()
                   if "ctxt_switches" in line]
        assert 0 < sum(int(line.split()[1]) for line in changes) < calls, changes
    """
    run_apart(code)
