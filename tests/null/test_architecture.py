"""The layout of the sources: what imports what, and that no folder and no list disagree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from forwardpass.passes import PIPELINE, Pass

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "forwardpass"
KERNELS = ROOT / "csrc" / "kernels"
NATIVE = {"_native", "_call"}

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "records", "tabular", "text", "tracked"}),
    frozenset({"dtypes"}),
    frozenset({"graph"}),
    frozenset({"memory", "ops"}),
    frozenset({"formats", "passes", "builder", "data"}),
    frozenset(
        {
            "_native",
            "_call",
            "cache",
            "config",
            "inputs",
            "pickling",
            "plan",
            "prepared",
            "result",
            "sources",
        }
    ),
    frozenset({"around", "run"}),
)
"""Modules and packages, lowest first. One imports from its own layer and from those below; what is not listed is
above all of them."""

MACHINERY = {
    "affine",
    "attention_operands",
    "float_attributes",
    "image_rows",
    "log",
    "permuted",
    "rewrite",
    "sink_transposes",
    "sizes",
    "view",
    "widen_half",
}
"""Modules of passes/ that are no pass of their own."""

SOURCES = {".cmake", ".cpp", ".def", ".h", ".hpp", ".pxd", ".py", ".pyi", ".pyx"}
LONGEST = 400


def _name(path: Path) -> str:
    """The dotted name of a module inside the package, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__")


MODULES = {_name(p): p for p in sorted(PACKAGE.rglob("*.py"))}


def _layer(module: str) -> int:
    top = module.partition(".")[0]
    return next((k for k, names in enumerate(LAYERS) if top in names), len(LAYERS))


def _imports(tree: ast.AST, *, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run with the module; with `lazy` also those inside of functions, for types alone never."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield from _imports(other, lazy=lazy)
        elif lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _imports(node, lazy=lazy)


def _targets(module: str, *, lazy: bool) -> set[str]:
    """The modules of the package that a module imports."""
    path = MODULES[module]
    parents = module.split(".") if module else []
    if path.name != "__init__.py":
        parents = parents[:-1]
    found: set[str] = set()
    for node in _imports(ast.parse(path.read_text("utf-8")), lazy=lazy):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
            found.update(n.removeprefix("forwardpass").lstrip(".") for n in names if n.split(".")[0] == "forwardpass")
            continue
        if node.level:
            base = parents[: len(parents) - node.level + 1] + (node.module.split(".") if node.module else [])
        elif (node.module or "").split(".")[0] == "forwardpass":
            base = (node.module or "").split(".")[1:]
        else:
            continue
        for alias in node.names:
            full = ".".join([*base, alias.name])
            found.add(full if full in MODULES or full in NATIVE else ".".join(base))
    return found - {""}


def test_the_scanner_sees_imports() -> None:
    assert {"rewrite", "view"} <= {t.partition(".")[2] for t in _targets("passes.fold_pad", lazy=False)}
    assert {"errors", "graph"} <= _targets("passes", lazy=False)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    if module:
        # What a function imports when it is called may be above: a builder makes models.
        lazy = module.partition(".")[0] in ("graph", "ops", "passes", "formats")
        above = {t for t in _targets(module, lazy=lazy) if _layer(t) > _layer(module)}
        assert not above, f"{module} imports what comes after it"


@pytest.mark.parametrize("package", ["errors", "graph", "ops", "passes", "formats", "builder"])
def test_what_comes_before_the_plan_needs_no_native_module(package: str) -> None:
    """The scan of the folder; that tests/null runs without the compiled modules shows the rest."""
    for module in MODULES:
        if module.partition(".")[0] == package:
            assert not NATIVE & _targets(module, lazy=package != "builder"), module


def _with_native() -> set[str]:
    """The modules that cannot be imported without the compiled ones."""
    found = set(NATIVE)
    while True:
        more = {m for m in MODULES if m and m not in found and _targets(m, lazy=False) & found}
        if not more:
            return found
        found |= more


def test_the_tests_of_this_folder_import_no_native_module() -> None:
    """For `.ci/run`, which runs without the compiled modules only those that might import them another way."""
    native = _with_native()
    assert {"plan", "run"} <= native
    shared = [p for p in ROOT.glob("tests/*.py") if p.name != "conftest.py"]
    for path in (*ROOT.glob("tests/null/*.py"), *ROOT.glob("tests/onnx_graphs/*.py"), *shared):
        for node in _imports(ast.parse(path.read_text("utf-8")), lazy=True):
            base = (getattr(node, "module", None) or "").removeprefix("forwardpass").lstrip(".")
            if isinstance(node, ast.Import):
                names = {a.name.removeprefix("forwardpass.") for a in node.names if a.name.startswith("forwardpass.")}
            elif (node.module or "").split(".")[0] == "forwardpass":
                names = {base, *(f"{base}.{a.name}".lstrip(".") for a in node.names)}
            else:
                continue
            assert not names & native, f"{path.name}: {names & native}"


def test_formats_and_passes_do_not_know_each_other() -> None:
    for one, other in (("formats", "passes"), ("passes", "formats")):
        for module in MODULES:
            if module.partition(".")[0] == one:
                assert other not in {t.partition(".")[0] for t in _targets(module, lazy=True)}, module


def test_imports_have_no_cycle() -> None:
    edges = {m: {t for t in _targets(m, lazy=False) if t in MODULES and t != m} for m in MODULES if m}
    # A package's __init__ imports its modules; that those name their package is no cycle of theirs.
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a cycle: {' -> '.join((*path[path.index(module) :], module))}"
        if module not in done:
            for target in sorted(edges.get(module, ())):
                visit(target, (*path, module))
            done.add(module)

    for module in edges:
        visit(module, ())


def test_every_rewrite_is_in_the_pipeline() -> None:
    files = {p.stem for p in (PACKAGE / "passes").glob("*.py")} - {"__init__"}
    assert files >= MACHINERY
    for name in sorted(files):
        module = import_module(f"forwardpass.passes.{name}")
        passes = [v for v in vars(module).values() if isinstance(v, Pass)]
        assert bool(passes) != (name in MACHINERY), name
        assert all(p in PIPELINE for p in passes), name
        if passes:
            assert module.PASS.name == name


def test_every_isa_has_its_three_files() -> None:
    folders = [p for p in (ROOT / "csrc" / "isa").iterdir() if p.is_dir()]
    assert {"scalar", "avx2", "avx512", "amx"} <= {p.name for p in folders}
    for folder in folders:
        assert {"vec.hpp", "tuning.hpp", "isa.cmake"} <= {p.name for p in folder.iterdir()}, folder.name


def test_intrinsics_are_in_the_folders_of_isas_alone() -> None:
    for path in (p for p in KERNELS.iterdir() if p.suffix in SOURCES):
        assert not re.search(r"\b_mm\d*_|immintrin|__builtin_ia32", path.read_text("utf-8")), path.name


def test_every_kernel_is_defined() -> None:
    """Every row of kernels.def stands in a kernel source; those made from unary.def are made there by UNARY."""
    text = "\n".join(p.read_text("utf-8") for p in KERNELS.glob("*.cpp") if p.name != "table.cpp")
    code = re.sub(r"//.*", "", text)
    rows = re.findall(r"^KERNEL\((\w+),", (KERNELS / "kernels.def").read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 20
    # A family may be made by a macro that adds the suffix.
    missing = [r for r in rows if not re.search(rf"\b{r}\b|\(\s*{r.removesuffix('_f32')}\s*,", code)]
    assert not missing
    assert '#include "unary.def"' in code


def _sources() -> list[Path]:
    found = [ROOT / "CMakeLists.txt"]
    for folder in ("src", "csrc", "tests", "bench", "docs"):
        found += [p for p in (ROOT / folder).rglob("*") if p.suffix in SOURCES and "__pycache__" not in p.parts]
    return found


def test_no_file_is_too_long() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in _sources()}
    assert len(lengths) > 100
    assert {k: n for k, n in lengths.items() if n > LONGEST} == {}
