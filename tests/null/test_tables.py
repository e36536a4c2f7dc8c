"""The tables of the two languages, and the folders and registries, name the same things."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import forwardpass.ops as ops
from forwardpass.ops import ACTIVATIONS, FAMILIES, load_all, registry
from forwardpass.ops.catalog import CATALOG
from forwardpass.ops.lower import MAX_RANK
from interpreter import kernel_blocks, parameter_blocks, unary_rows

ROOT = Path(__file__).parents[2]


def test_activations_are_the_rows_of_unary_def() -> None:
    assert unary_rows() == [a.row for a in ACTIVATIONS.values()]


def test_activations_belong_to_operators() -> None:
    for name, activation in ACTIVATIONS.items():
        operator = registry["", activation.op]
        assert operator.elementwise, name
        if name != "Clip":
            assert activation.fixed.keys() | activation.parameters.keys() <= operator.attributes.keys(), name
        assert len(activation.parameters) <= 2, name


def test_every_module_that_registers_is_in_a_list() -> None:
    assert ops.__file__ is not None
    folder = Path(ops.__file__).parent
    found = {".".join(p.relative_to(folder).with_suffix("").parts) for p in folder.rglob("*.py")} - {"__init__"}
    modules = {name: import_module(f"forwardpass.ops.{name.removesuffix('.__init__')}") for name in found}
    registering = {name for name, m in modules.items() if vars(m).get("operator") is ops.operator}
    listed = {m.__name__.rpartition(".")[2] for m in FAMILIES} | {module for module, _, _ in CATALOG}
    assert registering - {"registry"} == listed


def test_the_catalog_names_what_its_modules_register() -> None:
    load_all()
    homes = {(domain, name): module for module, domain, names in CATALOG for name in names.split()}
    for module, _, _ in CATALOG:
        before = {key for key, home in homes.items() if home == module}
        defined = {k for k, o in registry.items() if o.reference.__module__.endswith(f"ops.{module}")}
        assert defined <= before, module
    assert homes.keys() <= registry.keys()


def test_every_operator_has_cases() -> None:
    for operator in registry.values():
        # The others are judged by ONNX's own node tests.
        assert len(operator.cases) >= 3 or operator.lower is None, operator.name
        names = [c.name or str(k) for k, c in enumerate(operator.cases)]
        assert len(set(names)) == len(names), operator.name


def test_every_kernel_has_a_parameter_block() -> None:
    assert set(kernel_blocks().values()) == set(parameter_blocks())


def test_the_largest_rank_is_that_of_the_kernels() -> None:
    text = (ROOT / "csrc" / "core" / "kernel.hpp").read_text()
    assert f"kMaxRank = {MAX_RANK};" in text


def test_operators_do_not_import_what_comes_after_them() -> None:
    assert ops.__file__ is not None
    later = ("passes", "formats", "plan", "run", "_native", "_call", "builder", "cli")
    for path in Path(ops.__file__).parent.glob("*.py"):
        text = path.read_text()
        for module in later:
            assert f"from ..{module} " not in text, path.name
            assert f"from .. import {module}" not in text, path.name
            assert f"forwardpass.{module}" not in text, path.name
