"""Every rewrite on its pattern: it fires, the result is the same, and where it cannot it says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import Maker, checked, ops, reasons

from forwardpass.errors import ConfigError, GraphError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import ACTIVATIONS
from forwardpass.passes import PIPELINE, Log, Pass, Patch, View, optimize, rule
from forwardpass.passes.rewrite import run


def _identities() -> dict[str, Any]:
    return {
        "Identity": lambda m, x: m("Identity", x),
        "Dropout": lambda m, x: m("Dropout", x, m.const(0.5)),
        "Cast": lambda m, x: m("Cast", x, to=11),
        "Transpose": lambda m, x: m("Transpose", x, perm=[0, 1, 2, 3]),
        "two Transposes": lambda m, x: m.last(m.first(x)),
        "three Transposes": lambda m, x: m("Transpose", m.first(m.first(x)), perm=[0, 3, 1, 2]),
        "Reshape": lambda m, x: m("Reshape", x, m.ints(0, 3, 4, 5)),
        "two Reshapes": lambda m, x: m("Reshape", m("Reshape", x, m.ints(0, 20, 3)), m.ints(0, 3, 4, 5)),
        "Squeeze": lambda m, x: m("Squeeze", m("Unsqueeze", x, m.ints(2)), m.ints(2)),
        "Pad": lambda m, x: m("Pad", x, m.ints(*[0] * 8)),
        "Concat": lambda m, x: m("Concat", x, axis=1),
        "Expand": lambda m, x: m("Expand", x, m.ints(1, 3, 4, 5)),
        "Add": lambda m, x: m("Add", m.const(np.zeros((3, 1, 1))), x),
        "Mul": lambda m, x: m("Mul", x, m.const(1.0)),
        "Div": lambda m, x: m("Div", x, m.const(np.ones(5))),
    }


@pytest.mark.parametrize("name", _identities())
def test_what_changes_nothing_is_dropped(name: str) -> None:
    make = _identities()[name]
    m = Maker()
    made, _ = checked(m.graph(m("Abs", make(m, m("Neg", m.input("x", "N", 3, 4, 5))), out="y")))
    assert ops(made) == ["Neg", "Abs"]
    assert made.nodes[-1].outputs == ["y"]


@pytest.mark.parametrize("name", _identities())
def test_the_name_of_an_output_survives(name: str) -> None:
    make = _identities()[name]
    m = Maker()
    y = make(m, m("Neg", m.input("x", "N", 3, 4, 5)))
    made, _ = checked(m.graph(y))
    assert ops(made) == ["Neg"]
    # From an input straight to an output there is nothing that could take the name.
    m = Maker()
    made, log = checked(m.graph(make(m, m.input("x", "N", 3, 4, 5))))
    assert ops(made) == ["Identity"]
    assert "no result of a node" in reasons(log, "drop_identity") or name not in ("Identity", "Dropout")


def test_what_changes_the_shape_or_dtype_stays() -> None:
    m = Maker()
    x = m.input("x", "N", 1)
    outputs = [
        m("Add", x, m.const(np.zeros(4))),
        m("Cast", x, to=1),
        m("Sub", m.const(0.0), x),
        m("Expand", x, m.ints(1, 2)),
        m("Concat", x, x, axis=1),
        m("Pad", x, m.ints(0, 0, 0, 1)),
    ]
    assert ops(checked(m.graph(*outputs))[0]) == ["Add", "Cast", "Sub", "Expand", "Concat", "Pad"]


def test_both_of_two_outputs_survive() -> None:
    m = Maker()
    a = m("Neg", m.input("x", "N", 3), out="a")
    made, log = checked(m.graph(a, m("Identity", a, out="b")))
    assert ops(made) == ["Neg", "Identity"]
    assert "value 'b' is a graph output, and 'a' is a graph output" in reasons(log, "drop_identity")


def test_views_merge() -> None:
    m = Maker()
    x = m.input("x", "N", 4, 6)
    y = m("Flatten", m("Reshape", m("Unsqueeze", x, m.ints(1)), m.ints(0, 3, 8)), axis=1)
    made, _ = checked(m.graph(m("Neg", y)))
    assert ops(made) == ["Reshape", "Neg"]


def test_sizes_of_the_call_stay_in_their_places() -> None:
    m = Maker()
    x = m.input("x", "A", "B", 4, 3)
    made, _ = checked(m.graph(m("Reshape", m("Reshape", x, m.ints(0, 0, 12)), m.ints(0, 0, 2, 6))))
    assert ops(made) == ["Reshape"]
    assert [v.tolist() for v in made.constants.values()] == [[0, 0, 2, 6]]


def test_transposes_merge() -> None:
    m = Maker()
    x = m.input("x", "N", 3, 5)
    made, _ = checked(m.graph(m("Transpose", m("Transpose", x, perm=[1, 2, 0]), perm=[0, 2, 1])))
    assert [n.attributes for n in made.nodes] == [{"perm": [1, 0, 2]}]


def test_equal_transposes_are_shared() -> None:
    m = Maker()
    x = m.input("x", "N", 2, 3)
    made, _ = checked(m.graph(*(m(op, m("Transpose", x, perm=[0, 2, 1])) for op in ("Neg", "Exp"))))
    assert sorted(ops(made)) == ["Exp", "Neg", "Transpose"]


def test_a_transpose_of_ones_becomes_a_view() -> None:
    m = Maker()
    x = m.input("x", "N", 8, 8, 1)
    made, log = checked(m.graph(m.first(x), m("Transpose", m.input("u", "A", "B", 1), perm=[2, 0, 1])))
    assert ops(made) == ["Reshape", "Transpose"]
    assert "cannot be written as that of a Reshape" in reasons(log, "transposes_as_views")


_COMPOSED: dict[str, Any] = {
    "Swish": lambda m, x: m("Mul", x, m("Sigmoid", x)),
    "Swish with alpha": lambda m, x: m("Mul", m("Sigmoid", m("Mul", m.const(1.702), x)), x),
    "HardSwish": lambda m, x: m("Mul", m("HardSigmoid", x, alpha=1 / 6, beta=0.5), x),
    "HardSwish of Clip": lambda m, x: m(
        "Div",
        m("Mul", x, m("Clip", m("Add", x, m.const(3.0)), m.const(0.0), m.const(6.0))),
        m.const(6.0),
    ),
    "Mish": lambda m, x: m("Mul", x, m("Tanh", m("Softplus", x))),
    "Gelu": lambda m, x: m(
        "Mul",
        m("Mul", x, m("Add", m("Erf", m("Div", x, m.const(np.sqrt(2.0)))), m.const(1.0))),
        m.const(0.5),
    ),
    "Gelu halved first": lambda m, x: m(
        "Mul",
        m("Mul", m.const(0.5), x),
        m("Add", m.const(1.0), m("Erf", m("Mul", x, m.const(np.sqrt(0.5))))),
    ),
    "Gelu of tanh": lambda m, x: m(
        "Mul",
        m("Mul", m.const(0.5), x),
        m("Add", m("Tanh", m("Mul", _cubic(m, x), m.const(np.sqrt(2 / np.pi)))), m.const(1.0)),
    ),
    "Gelu of tanh of products": lambda m, x: m(
        "Mul",
        m("Mul", x, m("Add", m.const(1.0), m("Tanh", m("Mul", m.const(np.sqrt(2 / np.pi)), _products(m, x))))),
        m.const(0.5),
    ),
    "Gelu of tanh, fast": lambda m, x: m(
        "Mul", m("Mul", m.const(0.5), x), m("Add", m.const(1.0), m("Tanh", _outside(m, x)))
    ),
}


def _products(m: Maker, x: str) -> str:
    """As torch.onnx writes it."""
    return m("Add", x, m("Mul", m.const(0.044715), m("Mul", x, m("Mul", x, x))))


def _outside(m: Maker, x: str) -> str:
    """As Hugging Face's gelu_fast has it."""
    square = m("Mul", m("Mul", x, m.const(0.044715)), x)
    return m("Mul", m("Mul", x, m.const(np.sqrt(2 / np.pi))), m("Add", m.const(1.0), square))


def _cubic(m: Maker, x: str) -> str:
    return m("Add", x, m("Mul", m("Pow", x, m.const(3.0)), m.const(0.044715)))


@pytest.mark.parametrize("name", _COMPOSED)
def test_written_out_activations_become_one(name: str) -> None:
    m = Maker()
    made, _ = checked(m.graph(_COMPOSED[name](m, m.input("x", "N", 7))))
    assert ops(made) == [name.split()[0]]


@pytest.mark.parametrize(
    "make",
    [
        lambda m, x: m("Mul", x, m("Sigmoid", m("Neg", x))),
        lambda m, x: m("Mul", x, m("HardSigmoid", x)),
        lambda m, x: m("Div", x, m("Sigmoid", x)),
        lambda m, x: m("Mul", m("Mul", x, m.const(2.0)), m("Sigmoid", x)),
        lambda m, x: m("Mul", x, m("Add", m("Erf", x), m.const(1.0))),
        lambda m, x: m("Mul", x, m("Clip", m("Add", x, m.const(3.0)), m.const(0.0), m.const(6.0))),
    ],
)
def test_near_misses_of_activations_stay(make: Any) -> None:
    m = Maker()
    made, log = checked(m.graph(make(m, m.input("x", "N", 7))))
    assert not log.fired("compose_activation")
    assert ops(made)[-1] in ("Mul", "Div")


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("shape", [None, (5,), (1, 5), (), (1,)])
@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.5, 2.0)])
def test_gemm_becomes_linear(transposed: int, shape: tuple[int, ...] | None, factors: tuple[float, float]) -> None:
    m = Maker()
    w = m.const((5, 7) if transposed else (7, 5))
    c = [] if shape is None else [m.const(np.asarray(m.rng.normal(size=shape)))]
    y = m("Gemm", m.input("x", "N", 7), w, *c, transB=transposed, alpha=factors[0], beta=factors[1])
    assert ops(checked(m.graph(y))[0]) == ["fused.Linear"]


def test_gemm_takes_a_full_c_as_residual_and_b_of_the_caller() -> None:
    m = Maker()
    y = m("Gemm", m.input("x", "N", 7), m.input("w", 7, 5), m.input("c", "N", 5))
    made, _ = checked(m.graph(y))
    assert [str(n.inputs) for n in made.nodes] == ["['x', 'w', '', 'c']"]


@pytest.mark.parametrize(
    ("attributes", "shape", "reason"),
    [
        ({"transA": 1}, (7, 4), "transA"),
        ({"transB": 1}, (4, 7), "no constant that transB could go into"),
        ({"alpha": 2.0}, (4, 7), "no constant that alpha could go into"),
    ],
)
def test_gemm_declines(attributes: dict[str, Any], shape: tuple[int, int], reason: str) -> None:
    m = Maker()
    b = m.input("b", 5, 7) if attributes.get("transB") else m.input("b", 7, 5)
    made, log = checked(m.graph(m("Gemm", m.input("x", *shape), b, **attributes)))
    assert ops(made) == ["Gemm"]
    assert reason in reasons(log, "to_linear")


def test_gemm_declines_a_c_per_row() -> None:
    m = Maker()
    made, log = checked(m.graph(m("Gemm", m.input("x", 4, 7), m.const((7, 5)), m.const((4, 1)))))
    assert ops(made) == ["Gemm"]
    assert "neither a constant row nor" in reasons(log, "to_linear")


def test_matmul_becomes_linear_with_weights_alone() -> None:
    m = Maker()
    x = m.input("x", "N", 3, 7)
    y = m("MatMul", x, m.const((7, 5)))
    made, _ = checked(m.graph(y, m("MatMul", x, m.input("w", 7, 5)), m("MatMul", x, m.const((2, 7, 5)))), batches=(2,))
    assert ops(made) == ["fused.Linear", "MatMul", "MatMul"]


def test_integers_are_left_alone() -> None:
    m = Maker(dtype=np.int64)
    made, log = checked(m.graph(m("Relu", m("MatMul", m.input("x", "N", 3), m.ints(1, 2, 3)))))
    assert ops(made) == ["MatMul", "Relu"]
    assert not log.fired()


def test_the_same_decline_is_told_once() -> None:
    m = Maker()
    x = m.input("x", "N", 4)
    _, log = checked(m.graph(m("Relu", m("MatMul", x, m.const((4, 4)), out="a")), "a"))
    told = [str(e) for e in log.declined()]
    assert told == ["- node 'v1' (Relu): value 'a' is a graph output"]
    assert str(log) == (
        "to_linear\n  + node 'a' (MatMul): became fused.Linear\n"
        "fuse_activation\n  - node 'v1' (Relu): value 'a' is a graph output"
    )


def test_stop_after() -> None:
    m = Maker()
    graph = m.graph(m("Identity", m("Gemm", m.input("x", "N", 4), m.const((4, 4)))))
    assert ops(optimize(graph, stop_after="drop_identity")[0]) == ["Gemm"]
    with pytest.raises(ConfigError, match=r"unknown pass.*fold_constants"):
        optimize(graph, stop_after="nothing")


def test_passes_have_names_of_their_own() -> None:
    assert len({p.name for p in PIPELINE}) == len(PIPELINE)


def test_a_pass_that_never_ends_is_stopped() -> None:
    @rule("Neg")
    def again(view: View, node: Node) -> Patch:
        made = Node("Neg", list(node.inputs), list(node.outputs))
        return Patch("again", [node], [made])

    view, log = View(Graph({"x": TensorType(np.dtype(float), (2,))}, ["y"], [Node("Neg", ["x"], ["y"])])), Log()
    run(view, Pass("endless", (again,)), log)
    assert "too many rewrites" in reasons(log, "endless")


def test_a_wrong_rewrite_is_found() -> None:
    @rule("Neg")
    def wrong(view: View, node: Node) -> Patch:
        return Patch("wrong", [node], [Node("Transpose", list(node.inputs), list(node.outputs))])

    graph = Graph({"x": TensorType(np.dtype(float), (2, 3))}, ["y"], [Node("Neg", ["x"], ["y"])])
    with pytest.raises(GraphError, match=r"pass wrong has changed value 'y'.*\[2, 3\].*\[3, 2\]"):
        run(View(graph), Pass("wrong", (wrong,)), Log(), check=True)


@pytest.mark.parametrize("name", [k for k, v in ACTIVATIONS.items() if v.op != "Clip"])
def test_activations_are_fused(name: str) -> None:
    row = ACTIVATIONS[name]
    attributes = {**dict.fromkeys(row.parameters, 0.75), **row.fixed}
    m = Maker()
    made, _ = checked(m.graph(m(row.op, m("MatMul", m.input("x", "N", 4), m.const((4, 3))), **attributes)))
    assert ops(made) == ["fused.Linear"]
    assert made.nodes[0].attributes["activation"] == name


def test_clip_is_fused_where_its_bounds_are_constant() -> None:
    m = Maker()
    y = m("MatMul", m.input("x", "N", 4), m.const((4, 3)))
    made, _ = checked(m.graph(m("Clip", y, "", m.const(0.25))))
    assert made.nodes[0].attributes["beta"] == 0.25
    m.nodes.clear()
    y = m("MatMul", "x", "c0")
    _, log = checked(m.graph(m("Clip", y, m.input("low"))))
    assert "its bounds are not constant" in reasons(log, "fuse_activation")


def test_activations_of_shared_values_stay() -> None:
    m = Maker()
    y = m("MatMul", m.input("x", "N", 4), m.const((4, 3)), out="y")
    made, log = checked(m.graph(m("Relu", y), m("Exp", y)))
    assert ops(made) == ["fused.Linear", "Relu", "Exp"]
    assert reasons(log, "fuse_activation").count("value 'y' is used by 2 nodes") == 2


def test_an_activation_after_another_stays() -> None:
    m = Maker()
    y = m("MatMul", m.input("x", "N", 4), m.const((4, 3)), out="y")
    made, log = checked(m.graph(m("Tanh", m("Relu", y))))
    assert ops(made) == ["fused.Linear", "Tanh"]
    assert "has the activation Relu already" in reasons(log, "fuse_activation")
