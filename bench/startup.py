"""What a program pays before its first result: imports, loading, the first call, and the size on disk.

    python bench/startup.py [--repeats 30] [--wheel FILE | --build] [--json FILE]

Every time is taken in a fresh process with warm file and bytecode caches, as of an installed package; the kinds of
process take turns. The embedded digits CNN is the model. Before it is loaded, the garbage of the imports is collected:
a collection of what they left takes half a millisecond, and would or would not fall into the load by chance. One that
the load itself brings about counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HIDDEN = {"__pycache__", ".mypy_cache", ".ruff_cache"}
"""Folders that tools leave in a checkout."""

IMPORTS = """
import time
a = time.perf_counter()
import numpy
b = time.perf_counter()
import forwardpass
c = time.perf_counter()
import forwardpass.run
d = time.perf_counter()
print(b - a, c - b, d - b)
"""

FIRST = """
import gc
import time
import numpy as np
import forwardpass as fp
{before}
file = {file!r}
x = np.full((1, 8, 8, 1), 8, np.float32)
gc.collect()
a = time.perf_counter()
model = fp.load(file, threads=1)
b = time.perf_counter()
y = model(x)
c = time.perf_counter()
z = model(x)
d = time.perf_counter()
assert y.shape == (1, 10) and y.tobytes() == z.tobytes() and abs(y.sum() - 1) < 1e-5
print(b - a, c - b, c - a, d - c)
"""


def milliseconds(script: str, bytecode: str) -> list[float]:
    """The times that a script prints, from a process of its own that keeps its bytecode in a folder.

    Raises
    ------
    RuntimeError
        The script fails.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [float(v) * 1e3 for v in done.stdout.split()]


def measure(repeats: int) -> dict[str, dict[str, float]]:
    """Figure -> median and best, in milliseconds."""
    from forwardpass.data import path

    file = str(path("digits_cnn.npz"))
    scripts = {
        "imports": IMPORTS,
        "lazy": FIRST.format(before="", file=file),
        "loaded": FIRST.format(before="import forwardpass.run", file=file),
    }
    names = {
        "imports": ("import numpy", "import forwardpass, over NumPy's", "import forwardpass.run, over NumPy's"),
        "lazy": (
            "fp.load, with the imports that it makes", "", "load to first result, with those imports", "",
        ),
        "loaded": ("fp.load, modules loaded", "first call", "load to first result, modules loaded", "second call"),
    }  # fmt: skip
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="forwardpass-bytecode-") as bytecode:
        for script in scripts.values():
            milliseconds(script, bytecode)  # compiles the bytecode and warms the file caches
        for _ in range(repeats):
            for kind, script in scripts.items():
                for name, value in zip(names[kind], milliseconds(script, bytecode)):
                    if name:
                        samples.setdefault(name, []).append(value)
    return {k: {"median": statistics.median(v), "best": min(v)} for k, v in samples.items()}


def installed_bytes() -> int:
    """Of the package's files as they are now, without bytecode."""
    spec = importlib.util.find_spec("forwardpass")
    assert spec is not None
    assert spec.submodule_search_locations
    files = [f for folder in spec.submodule_search_locations for f in Path(folder).rglob("*") if f.is_file()]
    return sum(f.stat().st_size for f in files if not HIDDEN.intersection(f.parts))


def build_wheel(folder: str) -> Path:
    """A wheel of this checkout, with the build requirements that the environment has or pip fetches."""
    checkout = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(checkout)]
    subprocess.run(command, check=True)
    return next(Path(folder).glob("*.whl"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Time imports, loading and the first call in fresh processes.")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="tell the size of this wheel, too")
    parser.add_argument("--build", action="store_true", help="build a wheel of this checkout and tell its size")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    times = measure(args.repeats)
    sizes: dict[str, Any] = {"package as it is imported here": installed_bytes()}
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(folder) if args.build else args.wheel
        if wheel:
            sizes[f"wheel {wheel.name}"] = wheel.stat().st_size
    from forwardpass.console import make_console

    console = make_console()
    rows = [[k, f"{v['median']:.2f}", f"{v['best']:.2f}"] for k, v in times.items()]
    console.table(["milliseconds", ">median", ">best"], rows)
    console.line()
    console.table(["size", ">MB"], [[k, f"{v / 1e6:.2f}"] for k, v in sizes.items()])
    if args.json:
        Path(args.json).write_text(json.dumps({"milliseconds": times, "bytes": sizes}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
