"""Recurrent layers, in one direction and both, and layers that are applied to every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...builder.cells import CELL_ACTIVATIONS, GATES, Cell, outputs_of, recur, states_of
from ..archive import excerpt
from .activations import named
from .call import Call, flatten
from .config import Layer
from .kinds import Flow, layer

_CELLS = {
    "LSTM": "lstm",
    "GRU": "gru",
    "SimpleRNN": "rnn",
    "LSTMCell": "lstm",
    "GRUCell": "gru",
    "SimpleRNNCell": "rnn",
}
_STATES = {"lstm": 2, "gru": 1, "rnn": 1}


def _cell_weights(found: Layer) -> list[str]:
    return ["kernel", "recurrent_kernel", *["bias"] * found.flag("use_bias", True)]


def _layer_weights(found: Layer) -> list[str]:
    return [f"cell/{name}" for name in _cell_weights(found)]


def _activation(c: Call, found: Layer, key: str, default: str) -> str:
    name = named(found, found.config.get(key, default))
    if name == "hard_sigmoid" and c.version < 3:
        return "hard_sigmoid_keras2"
    if not isinstance(name, str) or name not in CELL_ACTIVATIONS:
        expected = ", ".join(k for k in CELL_ACTIVATIONS if k != "hard_sigmoid_keras2")
        raise found.unsupported(f"this {key} of a recurrent layer is not read", expected=expected, got=excerpt(name))
    return name


def _cell(c: Call, found: Layer, prefix: str, width: int) -> Cell:
    """The cell of a layer, with its weights."""
    kind = _CELLS[found.kind]
    units = found.integer("units")
    wide = GATES[kind] * units
    weights = {
        "kernel": c.weight(f"{prefix}kernel", [width, wide]),
        "recurrent_kernel": c.weight(f"{prefix}recurrent_kernel", [units, wide]),
    }
    after = False
    if found.flag("use_bias", True):
        bias = c.unit.weights[f"{prefix}bias"]
        # Files from before the argument existed have the other form.
        after = kind == "gru" and found.flag("reset_after", bias.ndim == 2)
        weights["bias"] = c.weight(f"{prefix}bias", [2, wide] if after else [wide])
    elif kind == "gru":
        after = found.flag("reset_after", c.version > 1)
    activations = [_activation(c, found, "activation", "tanh")]
    if kind != "rnn":
        activations.insert(0, _activation(c, found, "recurrent_activation", "sigmoid"))
    return Cell(kind, units, activations, weights, after)


def _reversed(c: Call, x: str) -> str:
    return c.cut(x, 1, -1, None, -1)


class _Steps:
    """Sequences whose known steps come first: recurrent operators skip only what is at the end."""

    def __init__(self, c: Call, mask: str) -> None:
        self.c, self.mask = c, mask
        known = c.cast(mask, np.int64)
        self.counts = c.node("CumSum", [known, c.constant("time_axis", np.array(1, np.int64))])
        total = c.node("ReduceSum", [known, c.ints([1], "axes")], keepdims=0)
        self.lengths = c.cast(total, np.int32)
        # Known steps sort by their place, the others after them.
        length = c.node("Shape", [mask], start=1, end=2)
        zero, one = c.constant("zero", np.array(0, np.int64)), c.constant("one", np.array(1, np.int64))
        places = c.node("Range", [zero, c.node("Squeeze", [length, c.ints([0], "axes")]), one])
        keys = c.node("Where", [mask, places, c.node("Add", [places, length])])
        _, order = c.nodes("TopK", [keys, length], 2, axis=1, largest=0, sorted=1)
        self.order = c.node("Unsqueeze", [order, c.ints([-1], "axes")])

    def packed(self, x: str) -> str:
        """[N, time, size] with the known steps first."""
        return self.c.node("GatherND", [x, self.order], batch_dims=1)

    def unpacked(self, y: str, state: str, zeros: bool) -> str:
        """The outputs in their places; at an unknown step that of the step before, or zeros.

        Before the first known step that is the state at the beginning: zeros where it is "".
        """
        c = self.c
        if state:
            y = c.node("Concat", [c.node("Unsqueeze", [state, c.ints([1], "axes")]), y], axis=1)
        else:
            y = c.node("Pad", [y, c.ints([0, 1, 0, 0, 0, 0], "pads")], mode="constant")
        index = c.node("Unsqueeze", [self.counts, c.ints([-1], "axes")])
        y = c.node("GatherND", [y, index], batch_dims=1)
        if not zeros:
            return y
        return c.node("Mul", [y, c.node("Unsqueeze", [c.cast(self.mask, np.float32), c.ints([-1], "axes")])])


def _run(
    c: Call,
    found: Layer,
    cell: Cell,
    flow: Flow,
    initial: Sequence[str],
    *,
    backwards: bool,
    zeros: bool,
    stem: str = "",
) -> tuple[str, list[str]]:
    """All outputs in the order of the run, and the last states."""
    if found.flag("stateful", False):
        hint = "the state would go on from call to call; save the model with stateful=False"
        raise found.unsupported("stateful layers are not read", hint=hint)
    if initial and len(initial) != _STATES[cell.kind]:
        raise found.error("initial_state", f"{_STATES[cell.kind]} tensors", len(initial))
    if flow.mask is None:
        made = recur(c, cell, flow.value, reverse=backwards, initial=initial, stem=stem)
        y = outputs_of(c, made)
        return (_reversed(c, y) if backwards else y), states_of(c, made)
    x, mask = flow.value, flow.mask
    if backwards:
        x, mask = _reversed(c, x), _reversed(c, mask)
    steps = _Steps(c, mask)
    made = recur(c, cell, steps.packed(x), lengths=steps.lengths, initial=initial, stem=stem)
    return steps.unpacked(outputs_of(c, made), initial[0] if initial else "", zeros), states_of(c, made)


def _initial(c: Call) -> tuple[Flow, list[str]]:
    """The sequences, and the states to begin with: more tensors, or a keyword."""
    states = [f.value for f in [*c.flows[1:], *flatten(c.keyword("initial_state"))]]
    if not c.flows:
        raise c.layer.error("inputs", "a tensor", 0)
    flow = c.flows[0]
    if c.rank(flow.value) != 3:
        raise c.layer.error("input", "three dimensions", c.rank(flow.value))
    return flow, states


def _results(found: Layer, y: str, states: Sequence[str], mask: str | None) -> list[Flow]:
    sequences = found.flag("return_sequences", False)
    first = Flow(y, mask) if sequences else Flow(states[0])
    return [first, *(Flow(s) for s in states)] if found.flag("return_state", False) else [first]


@layer("LSTM", "GRU", "SimpleRNN", weights=_layer_weights)
def recurrent(c: Call) -> list[Flow]:
    flow, initial = _initial(c)
    cell = _cell(c, c.layer, "cell/", c.size(flow.value, -1))
    backwards, zeros = c.layer.flag("go_backwards", False), c.layer.flag("zero_output_for_mask", False)
    y, states = _run(c, c.layer, cell, flow, initial, backwards=backwards, zeros=zeros)
    return _results(c.layer, y, states, flow.mask)


# ---- cells in RNN


def _stacked(found: Layer) -> list[tuple[str, Layer]]:
    """Place and arguments of the cells of a layer RNN."""
    cell = found.child("cell")
    if cell.kind != "StackedRNNCells":
        return [("cell", cell)]
    inner = cell.config.get("cells")
    cells = [Layer.of(entry, found.where) for entry in inner] if isinstance(inner, list) else []
    from .weights import place_names

    return [(f"cell/cells/{place}", k) for place, k in zip(place_names([k.real for k in cells]), cells)]


def _rnn_weights(found: Layer) -> list[str]:
    cells = _stacked(found)
    for _, cell in cells:
        if cell.kind not in _CELLS:
            expected = "LSTMCell, GRUCell or SimpleRNNCell"
            raise cell.unsupported("a cell that is not read", expected=expected, got=cell.kind)
    return [f"{place}/{name}" for place, cell in cells for name in _cell_weights(cell)]


@layer("RNN", weights=_rnn_weights)
def rnn(c: Call) -> list[Flow]:
    flow, initial = _initial(c)
    backwards, zeros = c.layer.flag("go_backwards", False), c.layer.flag("zero_output_for_mask", False)
    cells = _stacked(c.layer)
    if len(cells) != 1 and (initial or flow.mask is not None or c.layer.flag("return_state", False)):
        raise c.unsupported("stacked cells with masks or states are not read")
    y: str = flow.value
    states: list[str] = []
    for k, (place, found) in enumerate(cells):
        cell = _cell(c, found, f"{place}/", c.size(y, -1))
        turned = backwards and k == 0
        y, states = _run(
            c,
            c.layer,
            cell,
            Flow(y, flow.mask),
            initial,
            backwards=turned,
            zeros=zeros,
            stem=f"cell_{k}_" * (len(cells) > 1),
        )
    return _results(c.layer, y, states, flow.mask)


# ---- wrappers


def _directions(found: Layer) -> Mapping[str, Layer]:
    forward = found.child("layer")
    if found.config.get("backward_layer") is not None:
        backward = found.child("backward_layer")
    else:
        config = {**forward.config, "go_backwards": not forward.flag("go_backwards", False)}
        backward = Layer(forward.kind, forward.real, f"{forward.name}_backward", config, where=forward.where)
    for direction in (forward, backward):
        if direction.kind not in ("LSTM", "GRU", "SimpleRNN"):
            raise found.unsupported("a layer in two directions that is not read", got=direction.kind)
    return {"forward_layer": forward, "backward_layer": backward}


@layer("Bidirectional", children=_directions)
def bidirectional(c: Call) -> list[Flow]:
    flow, initial = _initial(c)
    half = len(initial) // 2
    made, states = [], []
    for part, given in (("forward_layer", initial[:half]), ("backward_layer", initial[half:])):
        unit = c.unit.children[part]
        inner = Call(c.emitter, unit, [flow], {}, c.version, c.run)
        cell = _cell(inner, unit.layer, "cell/", c.size(flow.value, -1))
        backwards = unit.layer.flag("go_backwards", False)
        y, last = _run(inner, unit.layer, cell, flow, given, backwards=backwards, zeros=True)
        if not unit.layer.flag("return_sequences", False):
            y = last[0]
        elif part == "backward_layer":
            y = _reversed(inner, y)
        made.append(y)
        states += last
    outer = c.unit.children["forward_layer"].layer
    mask = flow.mask if outer.flag("return_sequences", False) else None
    results = [Flow(y, mask) for y in _both(c, made)]
    return [*results, *(Flow(s) for s in states)] if outer.flag("return_state", False) else results


def _both(c: Call, made: Sequence[str]) -> list[str]:
    how = c.layer.config.get("merge_mode", "concat")
    if how is None:
        return list(made)
    if c.layer.choice("merge_mode", ("concat", "sum", "ave", "mul"), "concat") == "concat":
        return [c.node("Concat", made, axis=-1)]
    y = c.node("Mul" if how == "mul" else "Add", made)
    return [c.node("Mul", [y, c.number(0.5, "half")]) if how == "ave" else y]


@layer("TimeDistributed", children=lambda found: {"layer": found.child("layer")})
def time_distributed(c: Call) -> Flow:
    """The layer on all steps at once, as if each were a sample."""
    flow = c.only()
    rank = c.rank(flow.value)
    if rank < 3:
        raise c.layer.error("input", "three dimensions or more", rank)
    inner = [c.size(flow.value, k) for k in range(2, rank)]
    flat = c.reshape(flow.value, [-1, *inner])
    (result, *more) = c.part("layer", Flow(flat))
    if more:
        raise c.unsupported("a layer with several results is not read")
    y = result.value
    sizes = [c.size(y, k) for k in range(1, c.rank(y))]
    length = c.shape(flow.value)[1]
    if isinstance(length, int):
        return Flow(c.reshape(y, [-1, length, *sizes]), flow.mask)
    front = c.node("Shape", [flow.value], start=0, end=2)
    shape = c.node("Concat", [front, c.ints(sizes, "sizes")], axis=0) if sizes else front
    # The second Reshape changes nothing, but says which sizes are known.
    return Flow(c.reshape(c.node("Reshape", [y, shape]), [0, 0, *sizes]), flow.mask)
