"""RNN, GRU and LSTM natively: against the definition in float64, and bit for bit whatever surrounds a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planned import plan_of, run

from forwardpass import _native
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops import evaluate
from forwardpass.plan import Declined
from tolerance import network_of

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
NAMES = ("x", "w", "r", "b", "lengths", "h", "c", "p")
CONSTANTS = {"w", "r", "b", "p"}
ACTIVATIONS = ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Softplus")
PARAMETERS = {"LeakyRelu": 1, "HardSigmoid": 2, "Elu": 1}

Arrays = dict[str, "np.ndarray[Any, Any]"]


def draw(
    op: str,
    steps: int,
    batch: int,
    width: int,
    hidden: int,
    *,
    directions: int = 1,
    layout: int = 0,
    lengths: list[int] | None = None,
    absent: str = "",
    seed: int = 0,
) -> Arrays:
    """All inputs of a layer but those that `absent` names."""
    rng = np.random.default_rng(seed)

    def make(*shape: int, scale: float = 1.0) -> np.ndarray[Any, Any]:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    gates = GATES[op]
    state = (batch, directions, hidden) if layout else (directions, batch, hidden)
    arrays = {
        "x": make(*((batch, steps) if layout else (steps, batch)), width),
        "w": make(directions, gates * hidden, width, scale=0.7 / max(width, 1) ** 0.5),
        "r": make(directions, gates * hidden, hidden, scale=0.7 / hidden**0.5),
        "b": make(directions, 2 * gates * hidden, scale=0.3),
        "h": make(*state),
    }
    if lengths is not None:
        arrays["lengths"] = np.array(lengths, np.int32)
    if op == "LSTM":
        arrays |= {"c": make(*state), "p": make(directions, 3 * hidden, scale=0.5)}
    return {k: v for k, v in arrays.items() if k not in absent}


def graph_of(op: str, arrays: Arrays, *, outputs: tuple[int, ...] = (), **attributes: Any) -> tuple[Graph, Arrays]:
    """A graph of one layer with its weights, and the inputs of a call."""
    count = 3 if op == "LSTM" else 2
    wanted = outputs or tuple(range(count))
    names = [k if k in arrays else "" for k in NAMES[: 8 if op == "LSTM" else 6]]
    made = [f"out{k}" if k in wanted else "" for k in range(count)]
    node = Node(op, names, made, attributes, "", "tested")
    constants = {k: v for k, v in arrays.items() if k in CONSTANTS}
    inputs = {k: v for k, v in arrays.items() if k not in CONSTANTS}
    graph = Graph({k: TensorType.of(v) for k, v in inputs.items()}, [o for o in made if o], [node], constants)
    graph.verify()
    return graph, inputs


def native(op: str, arrays: Arrays, isa: str, threads: int = 1, **attributes: Any) -> list[np.ndarray[Any, Any]]:
    graph, inputs = graph_of(op, arrays, **attributes)
    return list(run(graph, inputs, isa, threads).values())


def check(op: str, arrays: Arrays, **attributes: Any) -> list[np.ndarray[Any, Any]]:
    """Every ISA against the definition in float64, but where Relus grow out of float32, and each other; the outputs."""
    graph, inputs = graph_of(op, arrays, **attributes)
    want = evaluate(graph, inputs, dtype=np.float64)
    close = network_of(want.values()) if all(np.abs(v).max(initial=0) < 1e30 for v in want.values()) else {}
    got = {isa: run(graph, inputs, isa) for isa in _native.available_isas()}
    for isa, outputs in got.items():
        for name, value in outputs.items():
            assert value.shape == want[name].shape
            if close:
                np.testing.assert_allclose(value, want[name], **close, err_msg=f"{isa} {name}")
            assert value.tobytes() == got["scalar"][name].tobytes(), f"{isa} {name} differs from scalar"
    return list(got["scalar"].values())


@st.composite
def layers(found: st.DrawFn) -> tuple[str, Arrays, dict[str, Any]]:
    op = found(st.sampled_from(sorted(GATES)))
    direction = found(st.sampled_from(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    layout = found(st.integers(0, 1))
    steps, batch = found(st.integers(0, 6)), found(st.integers(0, 5))
    width, hidden = found(st.integers(0, 20)), found(st.integers(1, 20))
    attributes: dict[str, Any] = {"direction": direction, "layout": layout, "hidden_size": hidden}
    if found(st.booleans()):
        attributes["clip"] = found(st.sampled_from([0.0, 0.25, 2.0]))
    if op == "GRU":
        attributes["linear_before_reset"] = found(st.integers(0, 1))
    if op == "LSTM":
        attributes["input_forget"] = found(st.integers(0, 1))
    if found(st.booleans()):
        count = FUNCTIONS[op] * directions
        used = found(st.lists(st.sampled_from(ACTIVATIONS), min_size=count, max_size=count))
        attributes["activations"] = used
        value = st.sampled_from([0.125, 0.5, 0.75])
        for key, least in (("activation_alpha", 1), ("activation_beta", 2)):
            n = sum(PARAMETERS.get(name, 0) >= least for name in used)
            attributes[key] = found(st.none() | st.lists(value, min_size=n, max_size=n))
    lengths = found(st.none() | st.lists(st.integers(-1, steps + 1), min_size=batch, max_size=batch))
    absent = found(st.sampled_from(["", "b", "h", "c", "p", "bp", "hc", "bhcp"]))
    seed = found(st.integers(0, 99))
    arrays = draw(
        op, steps, batch, width, hidden,
        directions=directions, layout=layout, lengths=lengths, absent=absent, seed=seed,
    )  # fmt: skip
    return op, arrays, {k: v for k, v in attributes.items() if v is not None}


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(layers())
def test_any_layer(layer: tuple[str, Arrays, dict[str, Any]]) -> None:
    op, arrays, attributes = layer
    check(op, arrays, **attributes)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("hidden", [1, 4, 7, 15, 16, 17, 31, 33, 64, 130, 300])
def test_sizes(op: str, hidden: int) -> None:
    check(op, draw(op, 3, 4, 19, hidden))
    if op == "GRU":
        check(op, draw(op, 3, 4, 19, hidden), linear_before_reset=1)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("batch", [1, 2, 13, 14, 15, 29, 70])
def test_batches(op: str, batch: int) -> None:
    lengths = [k % 4 for k in range(batch)]
    check(op, draw(op, 3, batch, 6, 24, directions=2, lengths=lengths), direction="bidirectional")


@pytest.mark.parametrize("op", GATES)
def test_sequence_of_many_steps(op: str) -> None:
    arrays = draw(op, 200, 2, 5, 20)
    check(op, arrays)
    steps = [len(plan_of(g, {k: v.shape for k, v in i.items()}, "scalar").steps)
             for g, i in (graph_of(op, arrays), graph_of(op, draw(op, 2, 2, 5, 20)))]  # fmt: skip
    assert steps[0] == steps[1], "the plan grows with the sequence"


VARIANTS = [
    ("RNN", {}),
    ("GRU", {}),
    ("GRU", {"linear_before_reset": 1}),
    ("LSTM", {}),
    ("LSTM", {"input_forget": 1, "clip": 0.5}),
]
DIRECTIONS = ["forward", "reverse", "bidirectional"]


@pytest.mark.parametrize(("op", "attributes"), VARIANTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_row_alone_and_in_a_padded_batch(op: str, attributes: dict[str, Any], direction: str, isa: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    lengths = [5, 9, 1, 0, 7, 9, 3]
    arrays = draw(op, 9, 7, 11, 37, directions=directions, lengths=lengths)
    for row, length in enumerate(lengths):
        arrays["x"][length:, row] = np.inf if row % 2 else np.nan  # nothing may read the padding
    whole = native(op, arrays, isa, direction=direction, **attributes)
    for row, length in enumerate(lengths):
        one = {k: v[:, row : row + 1] if k in ("x", "h", "c") else v for k, v in arrays.items() if k != "lengths"}
        one["x"] = one["x"][:length]
        alone = native(op, one, isa, direction=direction, **attributes)
        assert whole[0][:length, :, row].tobytes() == alone[0][:, :, 0].tobytes(), f"row {row}"
        assert not whole[0][length:, :, row].any(), f"row {row}: its padding is not zero"
        for state, own in zip(whole[1:], alone[1:]):
            assert state[:, row].tobytes() == own[:, 0].tobytes(), f"row {row}"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("hidden", [32, 96])
@pytest.mark.parametrize("batch", [1, 7, 17, 40])
def test_usual_lstm(batch: int, hidden: int, direction: str) -> None:
    """Without peepholes, in whole panels: products and gates in registers, for groups of rows."""
    lengths = [(5 * k + 3) % 6 for k in range(batch)]
    directions = 2 if direction == "bidirectional" else 1
    arrays = draw("LSTM", 5, batch, 9, hidden, directions=directions, lengths=lengths, absent="p")
    whole = check("LSTM", arrays, direction=direction)
    for row in range(0, batch, 6):
        one = {k: v[:, row : row + 1] if k in ("x", "h", "c") else v for k, v in arrays.items()}
        one["lengths"] = arrays["lengths"][row : row + 1]
        alone = native("LSTM", one, "scalar", direction=direction)
        for got, want in zip(alone, whole):
            assert np.ascontiguousarray(want[..., row : row + 1, :]).tobytes() == got.tobytes(), f"row {row}"


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
@pytest.mark.parametrize("hidden", [5, 32])
def test_all_gates_far_from_zero(op: str, hidden: int) -> None:
    """Each gate and the candidate at 0, -80 and 80, with all of the others: no two exponentials make an infinity."""
    inputs = np.array(np.meshgrid(*[[-80.0, 0.0, 80.0]] * GATES[op], indexing="ij"), np.float32)
    arrays = draw(op, 2, 3 ** GATES[op], GATES[op], hidden, absent="bp")
    arrays["x"][:] = inputs.reshape(GATES[op], -1).T
    arrays["w"][0] = np.eye(GATES[op]).repeat(hidden, axis=0)  # a gate's product is its number of the input
    check(op, arrays, **({"linear_before_reset": 1} if op == "GRU" else {}))


@pytest.mark.parametrize(("op", "attributes"), VARIANTS)
@pytest.mark.parametrize("hidden", [5, 32])
def test_denormal_states_are_zero(op: str, attributes: dict[str, Any], hidden: int, isa: str) -> None:
    arrays = draw(op, 3, 2, 4, hidden, absent="p")
    zero, tiny = ({**arrays, "h": np.full_like(arrays["h"], v)} for v in (0, 1e-40))
    if op == "LSTM":
        zero["c"], tiny["c"] = (np.full_like(arrays["c"], v) for v in (0, 1e-40))
    for got, want in zip(native(op, tiny, isa, **attributes), native(op, zero, isa, **attributes)):
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize(("op", "attributes"), VARIANTS[:-1])
@pytest.mark.parametrize("hidden", [5, 32])
def test_silence_decays_to_zero(op: str, attributes: dict[str, Any], hidden: int, isa: str) -> None:
    """States that halve at each step do not stay among the denormal numbers, where every step would be slow."""
    arrays = draw(op, 12, 1, 4, hidden, absent="bp")
    for name in ("x", "w", "r"):
        arrays[name] = np.zeros_like(arrays[name])
    if op == "RNN":
        arrays["r"][0] = np.eye(hidden) / 2
    for name in ("h", "c"):
        if name in arrays:
            arrays[name] = np.full_like(arrays[name], 1e-36)
    y, *states = native(op, arrays, isa, **attributes)
    assert y[0].any()
    assert not any(state.any() for state in states)
    assert not ((y != 0) & (np.abs(y) < np.finfo(np.float32).tiny)).any()


@pytest.mark.parametrize(("op", "attributes"), VARIANTS)
def test_both_directions_are_two_layers(op: str, attributes: dict[str, Any], isa: str) -> None:
    arrays = draw(op, 6, 3, 10, 21, directions=2, lengths=[6, 2, 4])
    both = native(op, arrays, isa, direction="bidirectional", **attributes)
    for d, direction in enumerate(("forward", "reverse")):
        one = {k: v if k in ("x", "lengths") else v[d : d + 1] for k, v in arrays.items()}
        alone = native(op, one, isa, direction=direction, **attributes)
        assert both[0][:, d].tobytes() == alone[0][:, 0].tobytes()
        for state, own in zip(both[1:], alone[1:]):
            assert state[d].tobytes() == own[0].tobytes()


@pytest.mark.parametrize(("op", "attributes"), VARIANTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_batch_first(op: str, attributes: dict[str, Any], direction: str, isa: str) -> None:
    arrays = draw(op, 5, 3, 8, 18, directions=2 if direction == "bidirectional" else 1, lengths=[2, 5, 4])
    want = native(op, arrays, isa, direction=direction, **attributes)
    turned = {k: v.swapaxes(0, 1).copy() if k in ("x", "h", "c") else v for k, v in arrays.items()}
    got = native(op, turned, isa, direction=direction, layout=1, **attributes)
    assert got[0].tobytes() == want[0].transpose(2, 0, 1, 3).tobytes()
    for state, expected in zip(got[1:], want[1:]):
        assert state.tobytes() == expected.swapaxes(0, 1).tobytes()


@pytest.mark.threads
@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize(("op", "attributes"), VARIANTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_number_of_threads(op: str, attributes: dict[str, Any], direction: str, isa: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    arrays = draw(op, 6, 5, 9, 35, directions=directions, lengths=[6, 3, 0, 5, 1])
    want = native(op, arrays, isa, direction=direction, **attributes)
    graph, inputs = graph_of(op, arrays, direction=direction, **attributes)
    for threads in (2, 3, 8):
        (step,) = (s for s in plan_of(graph, {k: v.shape for k, v in inputs.items()}, isa, threads).steps
                   if s.kernel == f"{op.lower()}_f32")  # fmt: skip
        assert step.threads == min(threads, 5 * directions)
        got = native(op, arrays, isa, threads, direction=direction, **attributes)
        for a, b in zip(got, want):
            assert a.tobytes() == b.tobytes(), f"{threads} threads differ from one"


@pytest.mark.parametrize("op", GATES)
def test_single_outputs(op: str, isa: str) -> None:
    arrays = draw(op, 4, 2, 6, 10, directions=2)
    want = native(op, arrays, isa, direction="bidirectional")
    for k in range(len(want)):
        (got,) = native(op, arrays, isa, direction="bidirectional", outputs=(k,))
        assert got.tobytes() == want[k].tobytes()


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize(("steps", "batch", "width"), [(0, 3, 4), (3, 0, 4), (3, 2, 0), (0, 0, 0)])
def test_nothing(op: str, steps: int, batch: int, width: int) -> None:
    arrays = draw(op, steps, batch, width, 5)
    outputs = check(op, arrays)
    assert outputs[0].shape == (steps, 1, batch, 5)
    if steps == 0:
        assert outputs[1].tobytes() == arrays["h"].tobytes()


@pytest.mark.parametrize(("op", "attributes"), VARIANTS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_special_value_stays_in_its_row(op: str, attributes: dict[str, Any], value: float, isa: str) -> None:
    arrays = draw(op, 4, 3, 6, 18)
    clean = native(op, arrays, isa, **attributes)
    arrays["x"][1, 1, 2] = value
    got = native(op, arrays, isa, **attributes)
    for a, b in zip(got, clean):
        assert a[..., [0, 2], :].tobytes() == b[..., [0, 2], :].tobytes()
    assert got[0][0, 0, 1].tobytes() == clean[0][0, 0, 1].tobytes(), "a step before it changes"
    if np.isnan(value):
        assert np.isnan(got[0][1:, 0, 1]).all(), "the NaN is lost"


@pytest.mark.parametrize(("op", "attributes"), VARIANTS)
@pytest.mark.parametrize("hidden", [5, 16, 19])
def test_range_writes_its_rows_only(op: str, attributes: dict[str, Any], hidden: int, isa: str) -> None:
    directions, batch, steps = 2, 3, 4
    arrays = draw(op, steps, batch, 6, hidden, directions=directions, lengths=[4, 0, 3])
    graph, inputs = graph_of(op, arrays, direction="bidirectional", **attributes)
    first, kernel = plan_of(graph, {k: v.shape for k, v in inputs.items()}, isa).steps[:2]
    products = np.empty((steps, batch, directions * GATES[op] * hidden), np.float32)
    _native.run_kernel(isa, first.kernel, first.params, [arrays["x"]], products, 0, first.units)
    operands = [products, *(arrays.get(k) for k in ("lengths", "h", "c"))]
    p, untouched = kernel.params, np.float32(-7777.0)
    work = np.full(kernel.output.size + 64, untouched)
    rows = directions * batch
    for row in range(rows):
        _native.run_kernel(isa, kernel.kernel, p, operands, work, row, row + 1)
        written = np.zeros(work.size, bool)
        for start, count in ((0, hidden), (p["c"], hidden), (p["gates"], GATES[op] * hidden)):
            written[start : start + (row + 1) * count] = True
        for t in range(steps):
            start = p["y"] + t * rows * hidden
            written[start : start + (row + 1) * hidden] = True
        assert (work[~written] == untouched).all(), f"row {row} writes elsewhere"
    assert (work[p["y"] : -64] != untouched).all()


def test_directions_with_other_activations() -> None:
    for op, names in (
        ("RNN", ["Relu", "Softsign"]),
        ("GRU", ["Sigmoid", "Tanh", "HardSigmoid", "Relu"]),
        ("LSTM", ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Softsign", "Elu"]),
    ):
        for layout in (0, 1):
            arrays = draw(op, 5, 3, 7, 9, directions=2, layout=layout, lengths=[5, 2, 0])
            check(op, arrays, direction="bidirectional", activations=names, layout=layout)


@pytest.mark.parametrize("op", GATES)
def test_layers_of_one_graph_keep_their_weights_apart(op: str, isa: str) -> None:
    # The second layer has the W and R of the first, but another bias and, for GRU, another form.
    arrays = draw(op, 3, 2, 6, 6)
    extra = {"linear_before_reset": 1} if op == "GRU" else {"direction": "reverse"}
    names = ["x", "w", "r"]
    axis = np.array([1], np.int64)
    graph = Graph(
        {"x": TensorType.of(arrays["x"])},
        ["a", "b"],
        [
            Node(op, [*names, "b0"], ["y"], {}),
            Node("Squeeze", ["y", "axis"], ["a"], {}),
            Node(op, ["a", "w", "r", "b1"], ["z"], extra),
            Node("Squeeze", ["z", "axis"], ["b"], {}),
        ],
        {"w": arrays["w"], "r": arrays["r"], "b0": arrays["b"], "b1": -arrays["b"], "axis": axis},
    )
    inputs = {"x": arrays["x"]}
    want = evaluate(graph, inputs, dtype=np.float64)
    for name, value in run(graph, inputs, isa).items():
        np.testing.assert_allclose(value, want[name], **network_of(want.values()))


def declines(op: str, arrays: Arrays, graph: Graph | None = None, **attributes: Any) -> str:
    made, inputs = graph_of(op, arrays, **attributes) if graph is None else (graph, arrays)
    with pytest.raises(Declined) as caught:
        run(made, inputs, "scalar")
    return str(caught.value)


def test_what_has_no_kernel() -> None:
    arrays = draw("RNN", 3, 2, 4, 5, lengths=[3, 1])
    for name in ("Affine", "ScaledTanh", "ThresholdedRelu"):
        assert name.lower() in declines("RNN", arrays, activations=[name])
    assert "int32" in declines("RNN", arrays | {"lengths": np.array([3, 1])})
    doubles = {k: v if k == "lengths" else v.astype(np.float64) for k, v in arrays.items()}
    assert "float64" in declines("RNN", doubles)
    for name in ("w", "r", "b"):
        graph, inputs = graph_of("RNN", arrays)
        graph.inputs[name] = TensorType.of(graph.constants.pop(name))
        assert f"input {name.upper()} is not a constant" in declines("RNN", inputs | {name: arrays[name]}, graph)
