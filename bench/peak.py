"""The ceilings of one core of this machine: FMA rate per ISA, and read bandwidth of caches and memory.

    python bench/peak.py [--quick] [--json FILE] [--footprint BYTES ...]

Compiles `peak.cpp` into a temporary folder with $CXX or the system's compiler, and runs it. Nothing is kept: a
ceiling belongs to the run that it is compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("peak.cpp")
VECTOR_ISAS = ("avx512", "avx2", "scalar")
"""Best first."""
LEVELS = ("L1", "L2", "L3", "memory")


class Peak:
    """Measures on demand, and keeps what it measured.

    Parameters
    ----------
    repeats
        Measurements per figure.
    milliseconds
        Length of one.

    Raises
    ------
    RuntimeError
        There is no C++ compiler, or it fails.
    """

    def __init__(self, repeats: int = 15, milliseconds: float = 10.0) -> None:
        self.repeats, self.milliseconds = repeats, milliseconds
        self._seen: dict[tuple[object, ...], list[float]] = {}

    @cached_property
    def _program(self) -> tuple[Path, Any]:
        compiler = os.environ.get("CXX") or next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
        if compiler is None:
            raise RuntimeError("no C++ compiler: set CXX, or use --no-peak")
        folder = tempfile.TemporaryDirectory(prefix="forwardpass-peak-")
        program = Path(folder.name, "peak")
        command = [*compiler.split(), "-std=c++20", "-O2", str(SOURCE), "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
        return program, folder  # the folder lives as long as this object

    def _run(self, *arguments: object) -> list[str]:
        command = [str(self._program[0]), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    @cached_property
    def isas(self) -> list[str]:
        """The ISAs that this machine has, best first."""
        found = self._run("isas")
        return [i for i in VECTOR_ISAS if i in found]

    def _measure(self, again: bool, command: str, isa: str, *arguments: object) -> dict[str, float]:
        """Median and best of all that was measured so far."""
        key = (command, isa, *arguments)
        seen = self._seen.setdefault(key, [])
        if again or not seen:
            seen += [float(v) for v in self._run(*key, self.milliseconds, self.repeats)]
        return {"median": statistics.median(seen), "best": max(seen)}

    def fma(self, isa: str, again: bool = False) -> dict[str, float]:
        """FMA rate in GFLOP/s (an FMA counts two): median and best of the repeats.

        `again` adds repeats: on a machine that is not idle, the best of several moments is nearer to the truth.
        """
        return self._measure(again, "fma", isa)

    def read(self, nbytes: int, isa: str = "", again: bool = False) -> dict[str, float]:
        """Bandwidth in GB/s of reading `nbytes` over and over, with the loads of `isa`: median and best.

        Streams of loads: one, or eight next to each other, whichever is faster here.
        """
        return self._measure(again, "read", isa or self.isas[0], nbytes)

    @cached_property
    def levels(self) -> dict[str, dict[str, int]]:
        """Cache level -> its size, and the bytes that stand for it: well inside it, and well outside the one below."""
        l1, l2, l3 = _cache_sizes()
        memory = min(2 * l3 if l3 else 1 << 28, 1 << 30, _available_memory() // 4)
        levels = {"L1": (l1, l1 // 2), "L2": (l2, l2 // 2), "L3": (l3, min(max(4 * l2, 1 << 20), l3 // 2))}
        found = {name: {"size": size, "footprint": bytes_} for name, (size, bytes_) in levels.items() if size}
        return {**found, "memory": {"size": 0, "footprint": memory}}

    def level_of(self, nbytes: int) -> str:
        """The cache level that holds so many bytes."""
        return next((k for k, v in self.levels.items() if nbytes <= v["size"]), "memory")

    def _isas_for(self, level: str) -> list[str]:
        """Memory is as slow with any loads, and long to read."""
        return self.isas[:1] if level == "memory" else self.isas

    def to_dict(self) -> dict[str, Any]:
        """Everything, measured where it has not been."""
        return {
            "unit": {"fma": "GFLOP/s", "read": "GB/s"},
            "repeats": self.repeats,
            "fma": {isa: self.fma(isa) for isa in self.isas},
            "read": {
                level: {**v, **{isa: self.read(v["footprint"], isa) for isa in self._isas_for(level)}}
                for level, v in self.levels.items()
            },
        }


def _cache_sizes() -> tuple[int, int, int]:
    """Bytes of L1 data, L2 and L3 as sysfs tells them of CPU 0; of an ordinary core where it does not."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = ((index / f).read_text().strip() for f in ("type", "level", "size"))
        if kind != "Instruction":
            unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(size[-1])
            sizes[int(level)] = int(size[:-1]) * unit if unit else int(size)
    return (sizes.get(1, 32 << 10), sizes.get(2, 1 << 20), sizes.get(3, 0)) if sizes else (32 << 10, 1 << 20, 16 << 20)


def _available_memory() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(v for v in lines if v.startswith("MemAvailable")).split()[1])
    except (OSError, StopIteration):
        return 1 << 30


def human(nbytes: int) -> str:
    """`24 KiB`, `2.55 MiB`."""
    value, unit = float(nbytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.3g} {unit}"


def table(found: dict[str, Any]) -> list[str]:
    """The figures as lines of text."""
    lines = [f"{'FMA, float32':<26}{'median':>10}{'best':>10}  GFLOP/s"]
    for isa, v in found["fma"].items():
        lines.append(f"  {isa:<24}{v['median']:>10.1f}{v['best']:>10.1f}")
    lines += ["", f"{'read':<26}{'median':>10}{'best':>10}  GB/s"]
    for level, values in found["read"].items():
        label = f"{level} ({human(values['footprint'])})" if level in LEVELS else level
        for isa in [i for i in found["fma"] if i in values]:
            v = values[isa]
            lines.append(f"  {label:<17}{isa:<7}{v['median']:>10.1f}{v['best']:>10.1f}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the FMA rate and the read bandwidth of one core.")
    parser.add_argument("--quick", action="store_true", help="a fraction of a second per figure is enough")
    parser.add_argument("--footprint", type=int, nargs="*", default=[], help="measure reading so many bytes, too")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, '-' for stdout instead of the table")
    args = parser.parse_args()
    peak = Peak(*(5, 2.0) if args.quick else ())
    try:
        found = peak.to_dict()
        for nbytes in args.footprint:
            found["read"][human(nbytes)] = {
                "footprint": nbytes, **{isa: peak.read(nbytes, isa) for isa in peak.isas},
            }  # fmt: skip
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    if args.json != "-":
        print("\n".join(table(found)))
    if args.json:
        text = json.dumps(found, indent=1)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
