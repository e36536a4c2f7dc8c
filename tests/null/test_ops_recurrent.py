"""RNN, GRU and LSTM: against onnxruntime, and against what they are for one sequence, direction or layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from forwardpass.dtypes import BFLOAT16, decode, encode
from forwardpass.errors import GraphError
from forwardpass.graph import Node, TensorType
from forwardpass.ops import evaluate_node, infer_node
from tolerance import EXACT, NETWORK_FLOAT64, network_of

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
NAMES = (
    "Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu",
    "Softsign", "Softplus",
)  # fmt: skip
ALPHAS = {"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"}
BETAS = {"Affine", "ScaledTanh", "HardSigmoid"}
HIDDEN, WIDTH = 5, 4

Arrays = list["np.ndarray | None"]


def draw(
    op: str,
    rng: np.random.Generator,
    directions: int = 1,
    *,
    seq: int = 4,
    batch: int = 3,
    lengths: Any = None,
    optional: bool = True,
    dtype: Any = np.float32,
) -> Arrays:
    """Inputs, with the optional ones or without."""

    def make(*shape: int) -> np.ndarray:
        return (0.6 * rng.standard_normal(shape)).astype(dtype)

    gates = GATES[op]
    found: Arrays = [make(seq, batch, WIDTH), make(directions, gates * HIDDEN, WIDTH)]
    found.append(make(directions, gates * HIDDEN, HIDDEN))
    found.append(make(directions, 2 * gates * HIDDEN) if optional else None)
    found.append(None if lengths is None else np.asarray(lengths, np.int32))
    found.append(make(directions, batch, HIDDEN) if optional else None)
    if op == "LSTM":
        found += [make(directions, batch, HIDDEN), make(directions, 3 * HIDDEN)] if optional else [None, None]
    return found


def node_of(op: str, arrays: Arrays, **attributes: Any) -> Node:
    names = [f"in{k}" if a is not None else "" for k, a in enumerate(arrays)]
    outputs = ["y", "y_h", "y_c"] if op == "LSTM" else ["y", "y_h"]
    return Node(op, names, outputs, {"hidden_size": HIDDEN, **attributes})


def run(op: str, arrays: Arrays, **attributes: Any) -> list[Any]:
    return evaluate_node(node_of(op, arrays, **attributes), arrays)


def _onnxruntime(op: str, arrays: Arrays, **attributes: Any) -> list[Any]:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    helper = onnx.helper
    node = node_of(op, arrays, **attributes)

    def declare(name: str, dtype: Any, shape: Any) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    given_ = {k: a for k, a in zip(node.inputs, arrays) if a is not None}
    made = helper.make_node(op, node.inputs, node.outputs, **node.attributes)
    graph = helper.make_graph(
        [made],
        "tested",
        [declare(k, a.dtype, a.shape) for k, a in given_.items()],
        [declare(k, np.float32, None) for k in node.outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, given_))


def _close(found: list[Any], expected: list[Any], limits: dict[str, float]) -> None:
    assert len(found) == len(expected)
    for y, z in zip(found, expected):
        assert y.shape == z.shape
        assert y.dtype == z.dtype
        np.testing.assert_allclose(y, z, **limits)


@st.composite
def _settings(draw_: Any) -> tuple[str, int, dict[str, Any]]:
    op = draw_(st.sampled_from(sorted(GATES)))
    direction = draw_(st.sampled_from(("forward", "reverse", "bidirectional")))
    directions = 1 + (direction == "bidirectional")
    attributes: dict[str, Any] = {"direction": direction}
    count = directions * FUNCTIONS[op]
    if draw_(st.booleans()):
        names = draw_(st.lists(st.sampled_from(NAMES), min_size=count, max_size=count))
        attributes["activations"] = names
        number = st.sampled_from((0.125, 0.25, 0.375, 0.5))
        for key, takes in (("activation_alpha", ALPHAS), ("activation_beta", BETAS)):
            # Every one: onnxruntime takes 0 where the text has the default of the operator of that name.
            wanted = sum(n in takes for n in names)
            if wanted:
                attributes[key] = draw_(st.lists(number, min_size=wanted, max_size=wanted))
    if draw_(st.booleans()):
        # No value that is an alpha too: onnxruntime has no ThresholdedRelu at its threshold.
        attributes["clip"] = draw_(st.sampled_from((0.3, 0.7)))
    if op == "GRU":
        attributes["linear_before_reset"] = draw_(st.integers(0, 1))
    if op == "LSTM":
        attributes["input_forget"] = draw_(st.integers(0, 1))
    return op, directions, attributes


@given(_settings(), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 999))
def test_any_setting_agrees_with_onnxruntime(
    settings: tuple[str, int, dict[str, Any]], seq: int, batch: int, ragged: bool, optional: bool, seed: int
) -> None:
    op, directions, attributes = settings
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, seq + 1, batch) if ragged else None
    arrays = draw(op, rng, directions, seq=seq, batch=batch, lengths=lengths, optional=optional)
    found = run(op, arrays, **attributes)
    expected = _onnxruntime(op, arrays, **attributes)
    # Functions without bounds can grow by powers, and every rounding with them.
    assume(all(np.abs(e).max(initial=0) < 100 for e in expected))
    _close(found, expected, network_of(expected))


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_each_sequence_of_a_batch_is_run_to_its_own_length(op: str, direction: str, rng: np.random.Generator) -> None:
    directions = 1 + (direction == "bidirectional")
    lengths = [4, 1, 0, 2]
    arrays = draw(op, rng, directions, batch=4, lengths=lengths, dtype=np.float64)
    y, *final = run(op, arrays, direction=direction)
    for k, length in enumerate(lengths):
        alone = [a if a is None else a[:length, k : k + 1] if i == 0 else a for i, a in enumerate(arrays)]
        alone[4] = None
        alone[5:7] = [a if a is None else a[:, k : k + 1] for a in alone[5:7]]
        y_alone, *final_alone = run(op, alone, direction=direction)
        np.testing.assert_allclose(y[:length, :, k : k + 1], y_alone, **NETWORK_FLOAT64)
        np.testing.assert_array_equal(y[length:, :, k], 0)
        for f, g in zip(final, final_alone):
            np.testing.assert_allclose(f[:, k : k + 1], g, **NETWORK_FLOAT64)


@pytest.mark.parametrize("op", GATES)
def test_two_directions_are_one_and_the_other(op: str, rng: np.random.Generator) -> None:
    arrays = draw(op, rng, 2, lengths=[3, 4, 1], dtype=np.float64)
    both = run(op, arrays, direction="bidirectional")
    for d, direction in enumerate(("forward", "reverse")):
        one = [a if a is None or k in (0, 4) else a[d : d + 1] for k, a in enumerate(arrays)]
        y, *final = run(op, one, direction=direction)
        np.testing.assert_allclose(both[0][:, d : d + 1], y, **NETWORK_FLOAT64)
        for f, g in zip(both[1:], final):
            np.testing.assert_allclose(f[d : d + 1], g, **NETWORK_FLOAT64)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("directions", [1, 2])
def test_batch_first_moves_axes_and_nothing_else(op: str, directions: int, rng: np.random.Generator) -> None:
    direction = "bidirectional" if directions == 2 else "reverse"
    arrays = draw(op, rng, directions, lengths=[3, 4, 1])
    moved = [a if a is None or k not in (0, 5, 6) else a.swapaxes(0, 1) for k, a in enumerate(arrays)]
    y, *final = run(op, arrays, direction=direction)
    found = run(op, moved, direction=direction, layout=1)
    _close(found, [y.transpose(2, 0, 1, 3), *(f.swapaxes(0, 1) for f in final)], EXACT)
    types = [None if a is None else TensorType.of(a) for a in moved]
    inferred = infer_node(node_of(op, moved, direction=direction, layout=1), types)
    assert inferred == [TensorType.of(f) for f in found]


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_halves_are_rounded_once(op: str, half: str, rng: np.random.Generator) -> None:
    def narrowed(a: np.ndarray) -> np.ndarray:
        return a.astype(np.float16) if half == "float16" else encode(a, BFLOAT16)

    arrays = draw(op, rng)
    given_ = [a if a is None else narrowed(a) for a in arrays]
    wide = [a if a is None else decode(a).astype(np.float32) for a in given_]
    expected = [narrowed(e) for e in run(op, wide)]
    for y, z in zip(run(op, given_), expected):
        np.testing.assert_array_equal(y, z)


def test_parameters_go_to_the_functions_that_have_them(rng: np.random.Generator) -> None:
    arrays = draw("LSTM", rng, dtype=np.float64)
    x, w, r, b, _, h, c, p = (a if a is None else a[0] for a in arrays)
    i, o, f, g = np.split(x @ w.T + h @ r.T + b[: 4 * HIDDEN] + b[4 * HIDDEN :], 4, axis=1)
    pi, po, pf = np.split(p, 3)

    def hard(v: np.ndarray) -> np.ndarray:
        return np.clip(0.25 * v + 0.375, 0, 1)

    def leaky(v: np.ndarray) -> np.ndarray:
        return np.where(v >= 0, v, 0.01 * v)

    c1 = hard(f + pf * c) * c + hard(i + pi * c) * np.tanh(g)
    h1 = hard(o + po * c1) * leaky(c1)
    activations = {"activations": ["HardSigmoid", "tanh", "LeakyRelu"], "activation_alpha": [0.25]}
    found = run("LSTM", [arrays[0][:1], *arrays[1:]], **activations, activation_beta=[0.375])
    _close(found, [h1[None, None], h1[None], c1[None]], NETWORK_FLOAT64)


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, (4, 3), "input X has the wrong rank"),
        (0, (4, 3, 9), "input W"),
        (1, (1, 7, WIDTH), "input W"),
        (2, (2, 4 * HIDDEN, HIDDEN), "input R"),
        (2, (1, 4 * HIDDEN, 3), "hidden sizes"),
        (3, (1, 3), "input B"),
        (4, (7,), "sequence_lens"),
        (5, (1, 7, HIDDEN), "initial_h"),
        (6, (1, 3, 9), "initial_c"),
        (7, (1, 9), "input P"),
    ],
)
def test_wrong_shapes_are_errors(index: int, shape: tuple[int, ...], message: str, rng: np.random.Generator) -> None:
    arrays = draw("LSTM", rng, lengths=[1, 2, 3])
    dtype = np.int32 if index == 4 else np.float32
    arrays[index] = np.zeros(shape, dtype)
    with pytest.raises(GraphError, match=message):
        run("LSTM", arrays)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"direction": "sideways"}, "direction"),
        ({"activations": ["Tanh"]}, "3 names"),
        ({"activations": ["Tanh", "Tanh", "Sine"]}, "names of activations"),
        ({"activation_alpha": ["a"]}, "activation_alpha"),
        ({"clip": -1.0}, "clip"),
        ({"layout": 2}, "layout"),
        ({"hidden_size": 9}, "hidden sizes"),
    ],
)
def test_wrong_attributes_are_errors(attributes: dict[str, Any], message: str, rng: np.random.Generator) -> None:
    with pytest.raises(GraphError, match=message):
        run("LSTM", draw("LSTM", rng), **attributes)


def test_no_steps_leave_the_states(rng: np.random.Generator) -> None:
    arrays = draw("LSTM", rng, seq=0)
    y, h, c = run("LSTM", arrays)
    assert y.shape == (0, 1, 3, HIDDEN)
    np.testing.assert_array_equal(h, arrays[5])
    np.testing.assert_array_equal(c, arrays[6])
