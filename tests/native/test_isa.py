"""Which ISA runs: the best one, a forced one, and what is said when that is not possible."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forwardpass import _native

CSRC = Path(__file__).parents[2] / "csrc"

REPORT = """
import json
from forwardpass import _native
print(json.dumps({"isa": _native.select_isa(), "threads": _native.environment_threads()}))
"""

LOAD = """
import forwardpass as fp
from forwardpass import data
try:
    fp.load(data.path("digits_mlp.npz"))
except fp.ConfigError as error:
    print(error.where, error)
"""


def output(code: str, **env: str) -> str:
    """What a new process with these variables prints."""
    clean = {k: v for k, v in os.environ.items() if k not in ("FORWARDPASS_ISA", "FORWARDPASS_NUM_THREADS")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clean | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def report(setting: str, **env: str) -> Any:
    """What a new process finds for "isa" or "threads": the value and the fields of the error."""
    return json.loads(output(REPORT, **env))[setting]


def test_isas_are_listed_by_rank_and_scalar_always_runs() -> None:
    isas = _native.isas()
    assert [isa["rank"] for isa in isas] == sorted((isa["rank"] for isa in isas), reverse=True)
    assert isas[-1]["name"] == "scalar"
    assert isas[-1]["available"]
    assert _native.available_isas() == [isa["name"] for isa in isas if isa["available"]]
    for isa in isas:
        assert isa["available"] == (isa["why_not"] == "")


def test_every_folder_for_this_processor_is_built() -> None:
    folders = {file.parent.name for file in (CSRC / "isa").glob("*/isa.cmake")}
    built = {isa["name"] for isa in _native.isas()}
    assert built <= folders
    if os.uname().machine == "x86_64":
        assert {"scalar", "avx2", "avx512", "amx"} <= built


def test_available_isas_are_those_that_the_kernel_lists() -> None:
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    if "sse2" not in flags:
        pytest.skip("no x86 flags in /proc/cpuinfo")
    needs = {
        "avx2": {"avx2", "fma", "f16c"},
        "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"},
        "amx": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "amx_tile", "amx_bf16"},
    }
    for name, required in needs.items():
        assert (name in _native.available_isas()) == (required <= flags)


def test_without_a_wish_the_best_available_one_runs() -> None:
    best = _native.available_isas()[0]
    assert report("isa") == [best, None]
    assert report("isa", FORWARDPASS_ISA="") == [best, None]


def test_tiles_are_used_where_they_are_available() -> None:
    if "amx" in _native.available_isas():
        assert _native.available_isas()[:2] == ["amx", "avx512"]


def test_a_forced_isa_is_the_one_that_runs(isa: str) -> None:
    assert report("isa", FORWARDPASS_ISA=isa) == [isa, None]
    assert _native.select_isa(isa) == (isa, None)


@pytest.mark.parametrize("name", ["avx1024", "AVX2", "avx2 ", "scalar,avx2"])
def test_an_unknown_isa_is_an_error_that_lists_the_available_ones(name: str) -> None:
    isa, error = report("isa", FORWARDPASS_ISA=name)
    assert isa is None
    assert error["message"] == "unknown ISA"
    assert error["where"] == "FORWARDPASS_ISA"
    assert error["expected"] == "one of " + ", ".join(_native.available_isas())
    assert error["got"] == f"'{name}'"
    for other in _native.isas():
        if not other["available"]:
            assert f"{other['name']} is not available here ({other['why_not']})" in error["hint"]


@pytest.mark.parametrize(("name", "value"), [("FORWARDPASS_ISA", "avx1024"), ("FORWARDPASS_NUM_THREADS", "none")])
def test_a_bad_setting_is_a_config_error_of_load(name: str, value: str) -> None:
    text = output(LOAD, **{name: value})
    assert text.startswith(name)
    assert f"'{value}'" in text


DISPATCH = r"""
#include <cstdio>

#include "core/table.hpp"

// Tables that must not be asked for: their code would not run on this CPU.
#define FAKE(name, body)                           \
  namespace forwardpass::name {                    \
  const KernelTable& table() noexcept {            \
    body;                                          \
    static KernelTable t{#name, 0, 0, {}, {}};     \
    return t;                                      \
  }                                                \
  }
FAKE(scalar, )
FAKE(base, )
FAKE(ghost, __builtin_trap())

using namespace forwardpass;

void words(const char* feature, std::uint32_t CpuidWords::*word, int bit, std::uint64_t xcr0) {
  CpuidWords w;
  w.*word = 1u << bit;
  w.xcr0 = xcr0;
  const char* reason = missing_reason(feature, w);
  std::printf("%s %llu: %s\n", feature, static_cast<unsigned long long>(xcr0), reason ? reason : "usable");
}

int main() {
  for (const char* name : {"", "scalar", "ghost", "none"}) {
    const Selection s = select_isa(name, "somewhere");
    if (s.isa) std::printf("[%s] %s %s\n", name, s.isa->name, s.isa->table->isa);
    const ConfigProblem& p = s.problem;
    if (!p) continue;
    std::printf("[%s] %s: %s; ", name, p.where.c_str(), p.message.c_str());
    std::printf("%s; %s (%s)\n", p.expected.c_str(), p.got.c_str(), p.hint.c_str());
  }
  std::printf("%d\n", find_table("ghost") == nullptr);
  words("avx2", &CpuidWords::leaf7_ebx, 5, 0x7);
  words("avx2", &CpuidWords::leaf7_ebx, 5, 0x3);
  words("avx2", &CpuidWords::leaf7_ebx, 6, 0x7);
  words("avx512f", &CpuidWords::leaf7_ebx, 16, 0xe7);
  words("avx512f", &CpuidWords::leaf7_ebx, 16, 0x7);
  words("amx_tile", &CpuidWords::leaf7_edx, 24, 0x600e7);
  words("amx_tile", &CpuidWords::leaf7_edx, 24, 0x200e7);
  const int last = kKernelCount - 1;
  std::printf("%d %d\n", kernel_index(kernel_names()[last]) == last, kernel_index("nothing"));
}
"""

DISPATCHED = """\
[] base base
[scalar] scalar scalar
[ghost] somewhere: ISA that is not available here; one of base, scalar; 'ghost' ({out})
[none] somewhere: unknown ISA; one of base, scalar; 'none' ({out})
1
avx2 7: usable
avx2 3: registers not saved by the operating system
avx2 7: not in the CPU
avx512f 231: usable
avx512f 7: registers not saved by the operating system
amx_tile 393447: usable
amx_tile 131303: registers not saved by the operating system
1 -1
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")
def test_an_isa_that_this_machine_lacks_is_never_entered_and_says_why(tmp_path: Path) -> None:
    # core/table.cpp with ISAs that no machine has, since the real ones may all be available here.
    isas = 'ISA(scalar, 0, "")\nISA(base, 5, "")\nISA(ghost, 99, "psychic  telepathic")\n'
    (tmp_path / "isas.inc").write_text(isas)
    (tmp_path / "main.cpp").write_text(DISPATCH)
    sources = [tmp_path / "main.cpp", *(CSRC / "core" / f"{name}.cpp" for name in ("cpu", "table"))]
    program = tmp_path / "dispatch"
    command = ["g++", "-std=c++20", f"-I{tmp_path}", f"-I{CSRC}", *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    out = "ghost is not available here (psychic, telepathic: not a feature that is known)"
    assert done.stdout == DISPATCHED.format(out=out)


@pytest.mark.parametrize("value", ["0", "-1", "+2", "1025", "two", "2.0", " 2", "2 ", "0x2", "99999999999999999999"])
def test_a_number_of_threads_that_is_none_is_an_error(value: str) -> None:
    threads, error = report("threads", FORWARDPASS_NUM_THREADS=value)
    assert threads == 0
    assert error["where"] == "FORWARDPASS_NUM_THREADS"
    assert error["expected"] == "an integer from 1 to 1024"
    assert error["got"] == f"'{value}'"


@pytest.mark.parametrize(("value", "threads"), [("", 0), ("1", 1), ("007", 7), ("1024", 1024)])
def test_a_number_of_threads(value: str, threads: int) -> None:
    assert report("threads", FORWARDPASS_NUM_THREADS=value) == [threads, None]
