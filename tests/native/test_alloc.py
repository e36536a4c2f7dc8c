"""`run_into` on one thread: no memory is allocated and the operating system is not called, once it has run.

Each test runs a process of its own: one counts every call of malloc and its kin, Python's objects included; one gives
up its right to make system calls.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forwardpass import _native

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")

COUNTER = """
#include <stddef.h>

static unsigned long long calls;
unsigned long long allocations(void) { return calls; }

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t n) { ++calls; return __libc_malloc(n); }
void* calloc(size_t n, size_t size) { ++calls; return __libc_calloc(n, size); }
void* realloc(void* p, size_t n) { ++calls; return __libc_realloc(p, n); }
void* memalign(size_t a, size_t n) { ++calls; return __libc_memalign(a, n); }
void* aligned_alloc(size_t a, size_t n) { ++calls; return __libc_memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) { ++calls; *p = __libc_memalign(a, n); return *p ? 0 : 12; }
"""

MODELS = """
import itertools, os
import numpy as np
import networks
from forwardpass import Model

def prepare(name, rows, calls):
    network = networks.build(name)
    model = Model(network, threads=1)
    x = networks.sample(network, rows)
    y = model(x)
    return model, x, y, dict.fromkeys(model.inputs, x), dict.fromkeys(model.outputs, y), calls

def work(model, x, y, inputs, outputs, calls):
    for _ in itertools.repeat(None, calls):
        model.run_into(inputs, outputs)
        model.run_into(x, y)

cases = [prepare("mlp 8-5-1", 1, 10_000), prepare("mlp 8-5-1", 3, 10_000), prepare("cifar cnn", 1, 20)]
cases += [prepare("branches", 2, 200)]
for case in cases:
    work(*case[:-1], 2)
"""

ALLOCATIONS = """
import ctypes
count = ctypes.CDLL(None).allocations
count.restype = ctypes.c_ulonglong

def allocations(function, *arguments):
    before = count()
    function(*arguments)
    return count() - before

def call(model, x, calls):
    for _ in itertools.repeat(None, calls):
        model(x)

for model, x, *rest, calls in cases:
    for _ in range(3):  # the interpreter itself settles; what is left of its own cancels in the difference
        into = allocations(work, model, x, *rest, calls) - allocations(work, model, x, *rest, 1)
        called = allocations(call, model, x, 11) - allocations(call, model, x, 1)
    print(into, called)
"""

# PR_SET_SECCOMP with SECCOMP_MODE_STRICT: any system call but read, write and the thread's exit kills the process.
SYSTEM_CALLS = """
import ctypes, sys
prctl = ctypes.CDLL(None).prctl
if prctl(22, 1, 0, 0, 0) != 0:
    os.write(1, b"refused")
    os._exit(0)
for case in cases:
    work(*case)
if sys.argv[1] == "call":
    os.getppid()
os.write(1, b"ran")
os.read(0, 1)
"""


def script(body: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"import sys\nsys.path[:0] = {sys.path!r}\n{MODELS}{body}", *arguments]


@pytest.mark.skipif(_native.sanitize != "", reason="a sanitizer has an allocator of its own")
def test_nothing_is_allocated(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, library = tmp_path / "count.c", tmp_path / "count.so"
    source.write_text(COUNTER)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"}
    done = subprocess.run(
        script(ALLOCATIONS), env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(lines) == 4
    for by_run_into, by_call in lines:
        assert by_run_into == 0
        assert by_call >= 10, "the counter sees the array that a call makes"


def system_calls(kind: str) -> tuple[str, int]:
    """What the process wrote, and how it ended."""
    # One thread: the kernel kills the thread that made the call, and NumPy's others would keep the process.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        script(SYSTEM_CALLS, kind), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    with process, process.stdin, process.stdout:
        said = process.stdout.read(3).decode()
        if said == "ran":
            process.kill()  # it cannot end itself any more
        elif said == "ref":
            pytest.skip("this kernel has no seccomp")
    return said, process.returncode


def test_no_system_call_is_made() -> None:
    assert system_calls("none")[0] == "ran"
    said, status = system_calls("call")
    assert (said, status) == ("", -signal.SIGKILL), "one that is made kills the process"


FAULTS = """
import resource
import sys
import numpy as np
from forwardpass import Graph, Model, Node, TensorType

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

n = int(sys.argv[1])
size = TensorType(np.dtype("float32"), (n,))
# Two values that are alive at the same time, and no output that shares their memory.
nodes = [Node("Exp", ["x"], ["a"]), Node("Sin", ["a"], ["b"]), Node("Mul", ["a", "b"], ["c"])]
nodes += [Node("ReduceSum", ["c"], ["y"])]
model = Model(Graph({"x": size}, ["y"], nodes), threads=1)
x, y = np.ones(n, np.float32), np.ones(1, np.float32)
plan = model.plan()
assert plan.arena_bytes >= 4 * n, plan.arena_bytes
program = plan.program  # with its arena
small = Model(Graph({"x": TensorType(np.dtype("float32"), (8,))}, ["y"], nodes), threads=1)
small.run_into({"x": x[:8]}, {"y": y})  # all code is in memory now
before = faults()
model.run_into({"x": x}, {"y": y})
print(faults() - before)
"""


@pytest.mark.parametrize("nbytes", [1 << 20, 3 << 20, 9 << 20])
def test_the_first_run_finds_its_pages(nbytes: int) -> None:
    command = [sys.executable, "-c", FAULTS, str(nbytes // 4)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64  # of 256 pages and more
