"""Older opsets: every operator whose meaning changed, through the importer and the definitions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from old_arithmetic import ARITHMETIC, DATA
from old_networks import EXPERIMENTAL, IMAGES, ML, NORMALIZATION, RECURRENT
from old_nodes import Old
from onnx_nodes import by_definition, by_onnxruntime, imported, node_model, same

from forwardpass.errors import GraphError, UnsupportedError
from forwardpass.graph import Node
from forwardpass.ops import evaluate
from tolerance import EXACT, ONNX_FLOAT32

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")

BODIES = ("Scan",)
"""Tested below."""
CASES = [*ARITHMETIC, *DATA, *IMAGES, *NORMALIZATION, *RECURRENT, *EXPERIMENTAL, *ML]
PARAMETERS = [pytest.param(c, v, id=f"{c.op}-{v}-{k}") for k, c in enumerate(CASES) for v in c.versions]


def wanted(case: Old, version: int, attributes: Mapping[str, Any]) -> list[Any]:
    if case.want is None:
        return by_onnxruntime(node_model(case.op, version, case.inputs, attributes, **case.options), case.inputs)
    found = case.want(*case.inputs)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("known", ["shape", "rank", "dtype"])
@pytest.mark.parametrize(("case", "version"), PARAMETERS)
def test_an_old_node_keeps_its_meaning(case: Old, version: int, known: str) -> None:
    model = node_model(case.op, version, case.inputs, case.attributes, known=known, **case.options)
    for got, want in zip(by_definition(model, case.inputs), wanted(case, version, case.attributes), strict=True):
        same(got, want, ONNX_FLOAT32)


@pytest.mark.parametrize(("case", "version"), PARAMETERS)
def test_what_an_old_node_becomes_is_of_the_newest_opset(case: Old, version: int) -> None:
    graph = imported(node_model(case.op, version, case.inputs, case.attributes, **case.options))
    for node in graph.nodes:
        schema = onnx.defs.get_schema(node.op, 28 if not node.domain else 5, node.domain)
        assert not schema.deprecated
        assert node.attributes.keys() <= schema.attributes.keys() | {"captures"}
        assert {k for k, a in schema.attributes.items() if a.required} <= node.attributes.keys()
        assert schema.min_input <= len(node.inputs) <= schema.max_input
        single = [p.option == onnx.defs.OpSchema.FormalParameterOption.Single for p in schema.inputs]
        assert all(i for i, needed in zip(node.inputs, single) if needed)
        assert schema.min_output <= len(node.outputs) <= schema.max_output


# ---- the table of rules against that of the versions

# Versions in which the text changed what a node means while its attributes and inputs stayed as they were.
SAME_FORM = {
    ("PRelu", 7): "the slope is broadcast as NumPy does",
    ("Dropout", 10): "the mask is of bools",
    ("GroupNormalization", 21): "scale and bias are per channel",
    ("RoiAlign", 16): "the default of the new attribute is not what was meant before",
    ("ConvTranspose", 11): "output_shape is of the spatial dimensions alone",
    ("Resize", 13): "absent inputs may be left out, and a coordinate mode is gone",
    ("Resize", 19): "an empty tensor no longer stands for an absent input",
    ("MeanVarianceNormalization", 9): "an experiment had the name before",
    ("Split", 18): "the number of outputs has to be said",
    ("GRU", 3): "a default was misspelt",
}


def histories() -> dict[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain in ("", "ai.onnx.ml"):
            found.setdefault((schema.domain, schema.name), []).append(schema)
    return {k: sorted(v, key=lambda s: s.since_version) for k, v in found.items()}


def default_of(attribute: Any) -> Any:
    value = attribute.default_value
    return onnx.helper.get_attribute_value(value) if value.type else None


def changed(old: Any, new: Any) -> list[str]:
    """What a node of the old version can say that a node of the new one cannot, or says otherwise."""
    found = []
    for name, a in old.attributes.items():
        b = new.attributes.get(name)
        if b is None or b.type != a.type:
            found.append(f"attribute {name} is gone")
        elif default_of(a) != default_of(b) or (b.required and not a.required):
            found.append(f"attribute {name} has another default")
    found += [
        f"attribute {k} must be given" for k, b in new.attributes.items() if b.required and k not in old.attributes
    ]
    option = onnx.defs.OpSchema.FormalParameterOption
    for k, p in enumerate(old.inputs):
        if k >= len(new.inputs) or (p.option == option.Variadic) != (new.inputs[k].option == option.Variadic):
            found.append(f"input {p.name} is gone")
        elif p.option == option.Optional and new.inputs[k].option == option.Single:
            found.append(f"input {p.name} must be given")
    found += [f"input {p.name} is new" for p in new.inputs[len(old.inputs) :] if p.option == option.Single]
    if len(new.outputs) < len(old.outputs):
        found.append("outputs are gone")
    return found


@pytest.mark.parametrize("key", sorted(histories()), ids=lambda k: k[1])
def test_every_change_of_a_form_has_a_rule(key: tuple[str, str]) -> None:
    from forwardpass.formats.onnx.upgrade import UPGRADES
    from forwardpass.formats.onnx.upgrade_parts import ALWAYS

    domain, name = key
    schemas = histories()[key]
    rules = [version for version, _ in UPGRADES[domain].get(name, ())]
    for old, new in itertools.pairwise(schemas):
        if new.deprecated and domain:
            continue  # the tree ensembles stay
        differences = changed(old, new)
        assert not differences or new.since_version in rules, (new.since_version, differences)
    for version in rules:
        if version == ALWAYS:
            assert schemas[-1].deprecated
            continue
        assert version in {s.since_version for s in schemas}
        assert (name, version) in SAME_FORM or any(
            changed(old, new) for old, new in itertools.pairwise(schemas) if new.since_version == version
        )


def test_every_rule_has_a_case() -> None:
    from forwardpass.formats.onnx.upgrade import UPGRADES

    for domain, table in UPGRADES.items():
        for op, rules in table.items():
            versions = [v for c in CASES if (c.op, c.options["domain"]) == (op, domain) for v in c.versions]
            steps = [0, *(version for version, _ in rules)]
            for low, high in itertools.pairwise(steps):
                assert any(low <= v < high for v in versions) or op in BODIES, (op, low, high)


def test_rules_ascend() -> None:
    from forwardpass.formats.onnx.upgrade import UPGRADES

    for table in UPGRADES.values():
        for op, rules in table.items():
            assert [v for v, _ in rules] == sorted({v for v, _ in rules}), op


# ---- bodies


def body_of(*formal: str) -> Any:
    """state', sum = state + x, (state + x) * w; w is a value of the graph around."""
    h = onnx.helper
    nodes = [h.make_node("Add", [formal[0], formal[1]], ["next"]), h.make_node("Mul", ["next", "w"], ["seen"])]
    infos = [h.make_tensor_value_info(n, 1, [3]) for n in (*formal, "next", "seen")]
    return h.make_graph(nodes, "body", infos[:2], infos[2:])


def scan_model(lengths: bool, **attributes: Any) -> Any:
    h = onnx.helper
    inputs = [h.make_tensor_value_info(n, 1, s) for n, s in (("s", [2, 3]), ("x", [2, 5, 3]), ("w", [3]))]
    if lengths:
        inputs.append(h.make_tensor_value_info("n", 7, [2]))
    read = ["n" if lengths else "", "s", "x"]
    node = h.make_node("Scan", read, ["last", "all"], body=body_of("state", "item"), num_scan_inputs=1, **attributes)
    outputs = [onnx.ValueInfoProto(name=n) for n in ("last", "all")]
    return h.make_model(
        h.make_graph([node], "scan", inputs, outputs), opset_imports=[h.make_opsetid("", 8)], ir_version=8
    )


@pytest.mark.parametrize("directions", [None, [0], [1]])
@pytest.mark.parametrize("lengths", [None, [5, 5], [2, 4], [0, 1]])
def test_scan_had_a_batch_axis(lengths: list[int] | None, directions: list[int] | None) -> None:
    rng = np.random.default_rng(1)
    s, x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 3), (2, 5, 3), (3,)))
    feeds = {"s": s, "x": x, "w": w} | ({"n": np.array(lengths)} if lengths else {})
    model = scan_model(bool(lengths), **({"directions": directions} if directions else {}))
    got = evaluate(imported(model), feeds)
    for row, count in enumerate(lengths or [5, 5]):
        items = x[row, :count][:: -1 if directions == [1] else 1]
        states = s[row] + np.cumsum(items, 0)
        same(got["last"][row], states[-1] if count else s[row], ONNX_FLOAT32)
        same(got["all"][row, :count], states * w, ONNX_FLOAT32)
    assert got["all"].shape == (2, 5, 3)


def test_nodes_of_bodies_are_upgraded_too() -> None:
    h = onnx.helper
    then = h.make_graph([h.make_node("Clip", ["x"], ["a"], max=0.5)], "then", [], [onnx.ValueInfoProto(name="a")])
    other = h.make_graph([h.make_node("Squeeze", ["x"], ["b"], axes=[0])], "else", [], [onnx.ValueInfoProto(name="b")])
    node = h.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    inputs = [h.make_tensor_value_info("c", 9, []), h.make_tensor_value_info("x", 1, [1, 3])]
    graph = h.make_graph([node], "if", inputs, [onnx.ValueInfoProto(name="y")])
    graph_ = imported(h.make_model(graph, opset_imports=[h.make_opsetid("", 7)], ir_version=8))
    x = np.array([[-1, 0.25, 2]], np.float32)
    same(evaluate(graph_, {"c": np.array(True), "x": x})["y"], np.minimum(x, np.float32(0.5)), EXACT)
    same(evaluate(graph_, {"c": np.array(False), "x": x})["y"], x[0], EXACT)


# ---- what has no newest form, and nodes that no version allows

X = np.ones((1, 1, 2, 2), np.float32)
REFUSED = {
    "norm": (UnsupportedError, "GlobalLpPool", 1, [X], {"p": 1.5}),
    "type name": (GraphError, "Cast", 1, [X], {"to": "FLOAT31"}),
    "output shape": (GraphError, "ConvTranspose", 1, [X, X], {"output_shape": [4, 4, 4]}),
    "border": (GraphError, "Crop", 1, [X], {"border": [1, 2]}),
    "no slope": (GraphError, "PRelu", 1, [X], {}),
    "no scales": (GraphError, "Resize", 10, [X], {}),
    "words for numbers": (GraphError, "Slice", 1, [X], {"starts": ["a"], "ends": ["b"]}),
    "coordinate mode": (
        UnsupportedError,
        "Resize",
        11,
        [X, np.zeros(0, np.float32), np.ones(4, np.float32)],
        {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "mode": "linear"},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_node_without_a_newest_form_is_refused(name: str) -> None:
    kind, op, version, inputs, attributes = REFUSED[name]
    with pytest.raises(kind, match="the node"):
        imported(node_model(op, version, inputs, attributes))


def test_a_node_is_not_changed_in_place() -> None:
    from forwardpass.formats.onnx.context import Context
    from forwardpass.formats.onnx.upgrade import upgrade

    node = Node("Clip", ["x"], ["y"], {"min": 0.0})
    made = upgrade(node, 6, Context(["x", "y"]))
    assert (node.inputs, node.attributes) == (["x"], {"min": 0.0})
    assert [n.op for n in made] == ["CastLike", "Clip"]


def test_a_node_of_the_newest_opset_stays() -> None:
    from forwardpass.formats.onnx.context import Context
    from forwardpass.formats.onnx.upgrade import upgrade

    node = Node("Clip", ["x", "low"], ["y"])
    assert [str(n) for n in upgrade(node, 28, Context(["x", "y", "low"]))] == [str(node)]
