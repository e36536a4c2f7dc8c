"""The build check that keeps one ISA's code out of the others (csrc/check_symbols.cmake)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "csrc" / "check_symbols.cmake"
MISSING = [tool for tool in ("g++", "cmake", "nm") if shutil.which(tool) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)}")

HEADER = """
inline int shared_helper(int x) { return x * x + 1; }
template <class T> T twice(T x) { return x + x; }
"""


def check(folder: Path, sources: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Compile one object per ISA from its source and run the check on them."""
    arguments = []
    for isa, source in sources.items():
        cpp, obj, listing = (folder / f"{isa}{end}" for end in (".cpp", ".o", ".txt"))
        cpp.write_text(source)
        subprocess.run(["g++", "-std=c++20", "-O0", "-fPIC", "-c", cpp, "-o", obj], check=True)
        listing.write_text(f"{obj}\n")
        arguments.append(f"-DDIR_{isa}={listing}")
    names = ";".join(sources)
    command = ["cmake", "-DNM=nm", f"-DISAS={names}", *arguments, "-P", str(SCRIPT)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def kernel(isa: str, body: str, before: str = "") -> str:
    return f"{before}\nnamespace forwardpass::{isa} {{\n{body}\n}}\n"


def test_two_isas_that_share_an_inline_function_fail(tmp_path: Path) -> None:
    sources = {isa: kernel(isa, "int f(int x) { return shared_helper(x); }", HEADER) for isa in ("one", "two")}
    result = check(tmp_path, sources)
    assert result.returncode != 0
    assert "shared_helper(int)" in result.stderr
    assert "one and two" in " ".join(result.stderr.split())


def test_an_instantiation_of_the_stl_in_one_isa_fails(tmp_path: Path) -> None:
    body = "int f(int x, int y) { return std::max(x, y); }"
    result = check(tmp_path, {"one": kernel("one", "int f();"), "two": kernel("two", body, "#include <algorithm>")})
    assert result.returncode != 0
    assert "std::max<int>" in result.stderr
    assert "outside forwardpass::two" in " ".join(result.stderr.split())


def test_a_name_that_only_mentions_the_namespace_fails(tmp_path: Path) -> None:
    # Demangled "forwardpass::one::Vec twice<forwardpass::one::Vec>(...)", and yet no member of the namespace.
    body = "struct Vec { int v; Vec operator+(Vec o) { return {v + o.v}; } };\nVec f(Vec x) { return twice(x); }"
    result = check(tmp_path, {"one": kernel("one", body, HEADER)})
    assert result.returncode != 0
    assert "outside forwardpass::one" in " ".join(result.stderr.split())


def test_weak_symbols_inside_the_isas_namespace_pass(tmp_path: Path) -> None:
    body = """
    inline int helper(int x) { static int calls = x; return x + ++calls; }
    template <int kRows> int tile(int x) { return x * kRows; }
    struct Base { virtual ~Base() = default; virtual int go(int x) const { return x; } };
    int f(int x) { return helper(x) + tile<3>(x) + Base().go(x); }
    """
    result = check(tmp_path, {isa: kernel(isa, body) for isa in ("one", "two")})
    assert result.returncode == 0, result.stderr


def test_internal_symbols_outside_the_namespace_pass(tmp_path: Path) -> None:
    before = "static int internal(int x) { return x; }"
    body = "int f(int x) { return internal(x); }"
    result = check(tmp_path, {isa: kernel(isa, body, before) for isa in ("one", "two")})
    assert result.returncode == 0, result.stderr


def test_an_empty_list_fails(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("")
    command = ["cmake", "-DNM=nm", "-DISAS=one", f"-DDIR_one={tmp_path / 'one.txt'}", "-P", str(SCRIPT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "lists no objects" in " ".join(result.stderr.split())
