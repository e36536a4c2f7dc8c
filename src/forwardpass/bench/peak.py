"""The ceilings of one core of this machine: FMA rate per ISA, and read bandwidth of caches and memory.

Compiles `peak.cpp` into a temporary folder with $CXX or the system's compiler, and loads it. Nothing is kept: a
ceiling belongs to the run that it is compared with.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["LEVELS", "Loops", "Peak", "human"]

SOURCE = Path(__file__).with_name("peak.cpp")
VECTOR_ISAS = ("avx512", "avx2", "scalar")
"""Best first."""
LEVELS = ("L1", "L2", "L3", "memory")


class Loops:
    """The library made of `peak.cpp`, loaded."""

    def __init__(self, path: str | Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.peak_fma_burst.restype = ctypes.c_double

    def available(self, isa: str) -> bool:
        """Whether the ISA can be measured here."""
        return bool(self._library.peak_available(isa.encode()))

    def fma(self, isa: str, milliseconds: float, repeats: int) -> list[float]:
        """GFLOP/s of the FMA loop, run so long and so often."""
        return self._rates(self._library.peak_fma, isa, (), milliseconds, repeats)

    def fma_burst(self, isa: str, flops: float) -> float:
        """GFLOP/s of the FMA loop, run once for so many operations: at the clock that what ran before has left."""
        return float(self._library.peak_fma_burst(isa.encode(), ctypes.c_double(flops)))

    def read(self, isa: str, nbytes: int, milliseconds: float, repeats: int) -> list[float]:
        """GB/s of reading so many bytes over and over."""
        return self._rates(self._library.peak_read, isa, (ctypes.c_size_t(nbytes),), milliseconds, repeats)

    def _rates(self, function: Any, isa: str, more: tuple[Any, ...], milliseconds: float, repeats: int) -> list[float]:
        rates = (ctypes.c_double * repeats)()
        count = function(isa.encode(), *more, ctypes.c_double(milliseconds), repeats, rates)
        if count < 0:
            raise RuntimeError(f"{isa} cannot be measured here" if count == -1 else "no memory to read")
        return rates[:count]


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
    def library(self) -> Path:
        """The file that `Loops` loads."""
        compiler = os.environ.get("CXX") or next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
        if compiler is None:
            raise RuntimeError("no C++ compiler to measure the ceilings with: set CXX, or use --no-peak")
        self._folder = tempfile.TemporaryDirectory(prefix="forwardpass-peak-")  # lives as long as this object
        library = Path(self._folder.name, "peak.so")
        command = [*compiler.split(), "-std=c++20", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
        return library

    def close(self) -> None:
        """Remove what was compiled; what has been measured stays."""
        if "library" in self.__dict__:
            self._folder.cleanup()

    @cached_property
    def _loops(self) -> Loops:
        return Loops(self.library)

    @cached_property
    def isas(self) -> list[str]:
        """The ISAs that this machine has, best first."""
        return [i for i in VECTOR_ISAS if self._loops.available(i)]

    def _measure(self, again: bool, measure: Callable[..., list[float]], *arguments: object) -> dict[str, float]:
        """Median and best of all that was measured so far."""
        seen = self._seen.setdefault((measure.__name__, *arguments), [])
        if again or not seen:
            seen += measure(*arguments, self.milliseconds, self.repeats)
        return {"median": statistics.median(seen), "best": max(seen)}

    def fma(self, isa: str, again: bool = False) -> dict[str, float]:
        """FMA rate in GFLOP/s (an FMA counts two): median and best of the repeats.

        `again` adds repeats: on a machine that is not idle, the best of several moments is nearer to the truth.
        """
        return self._measure(again, self._loops.fma, isa)

    def read(self, nbytes: int, isa: str = "", again: bool = False) -> dict[str, float]:
        """Bandwidth in GB/s of reading `nbytes` over and over, with the loads of `isa`: median and best.

        Streams of loads: one, or eight next to each other, whichever is faster here.
        """
        return self._measure(again, self._loops.read, isa or self.isas[0], nbytes)

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
