"""RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .activations import sigmoid, softplus
from .lower_recurrent import lower_recurrent
from .registry import Attributes, Case, Constants, Lowering, Types, operator

Function = Callable[[Array], Array]

# Name -> function of (x, alpha, beta), and the defaults of the parameters that it takes.
_FUNCTIONS: dict[str, tuple[Callable[[Array, float, float], Any], tuple[float, ...]]] = {
    "relu": (lambda x, a, b: np.maximum(x, 0), ()),
    "tanh": (lambda x, a, b: np.tanh(x), ()),
    "sigmoid": (lambda x, a, b: sigmoid(x), ()),
    "affine": (lambda x, a, b: a * x + b, (1.0, 0.0)),
    "leakyrelu": (lambda x, a, b: np.where(x >= 0, x, a * x), (0.01,)),
    "thresholdedrelu": (lambda x, a, b: np.where(x >= a, x, 0), (1.0,)),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), (1.0, 1.0)),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), (0.2, 0.5)),
    "elu": (lambda x, a, b: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))), (1.0,)),
    "softsign": (lambda x, a, b: x / (1 + np.abs(x)), ()),
    "softplus": (lambda x, a, b: softplus(x), ()),
}

_DEFAULTS = {"rnn": ("Tanh",), "gru": ("Sigmoid", "Tanh"), "lstm": ("Sigmoid", "Tanh", "Tanh")}
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def _function(name: str, alpha: float, beta: float, clip: float | None) -> Function:
    apply = _FUNCTIONS[name][0]

    def run(x: Array) -> Array:
        bounded = x if clip is None else np.clip(x, x.dtype.type(-clip), x.dtype.type(clip))
        return np.asarray(apply(bounded, alpha, beta), x.dtype)

    return run


def _parameters(attributes: Attributes, names: Sequence[str]) -> list[list[tuple[str, float, float]]]:
    """Name, alpha and beta of the activations of each direction. `names` are the default ones of a direction."""
    needed = len(names) * _DIRECTIONS[attributes["direction"]]
    given = (attributes["activations"] or [*names] * needed)[:needed]
    # Each function takes the next values of the lists for the parameters that it has.
    alphas, betas = list(attributes["activation_alpha"] or ()), list(attributes["activation_beta"] or ())
    made = []
    for name in (n.lower() for n in given):
        defaults = _FUNCTIONS[name][1]
        values = [float(rest.pop(0)) if rest else default for rest, default in zip((alphas, betas), defaults)]
        alpha, beta = (*values, 0.0, 0.0)[:2]
        made.append((name, alpha, beta))
    return [made[k : k + len(names)] for k in range(0, len(made), len(names))]


def _functions(attributes: Attributes, names: Sequence[str]) -> list[list[Function]]:
    """The activations of each direction."""
    clip = None if attributes["clip"] is None else float(attributes["clip"])
    # The sums of gates are clipped. What h of LSTM takes is no such sum, and no engine clips it.
    return [
        [_function(name, alpha, beta, None if k == 2 else clip) for k, (name, alpha, beta) in enumerate(used)]
        for used in _parameters(attributes, names)
    ]


def _check_activations(attributes: Attributes, directions: int, count: int) -> None:
    given = attributes["activations"]
    if given:
        # The default of RNN in the text has one for each of two directions, even where there is but one.
        if len(given) not in (directions * count, 2 * count):
            raise GraphError(
                "attribute 'activations' is wrong", expected=f"{directions * count} names", got=str(list(given))
            )
        for name in given:
            if not isinstance(name, str) or name.lower() not in _FUNCTIONS:
                raise GraphError("attribute 'activations' is wrong", expected="names of activations", got=repr(name))
    for key in ("activation_alpha", "activation_beta"):
        if attributes[key] is not None and not all(isinstance(v, (int, float)) for v in attributes[key]):
            raise GraphError(f"attribute {key!r} is wrong", expected="a list of numbers", got=repr(attributes[key]))
    if attributes["clip"] is not None and shapes.number(attributes, "clip") < 0:
        raise GraphError("attribute 'clip' is negative", got=str(attributes["clip"]))


def _same(found: TensorType | None, name: str, expected: Sequence[Dim]) -> None:
    """Check the shape of an input."""
    if found is None or found.shape is None:
        return
    shapes.rank_of(found, name, len(expected), len(expected))
    for a, b in zip(expected, found.shape):
        shapes.unify(a, b, f"input {name}: the dimensions of {shapes.describe(found.shape)}")


def _scaled(dim: Dim, factor: int) -> Dim:
    return dim * factor if isinstance(dim, int) else None


def _infer(gates: int, functions: int) -> Callable[[Attributes, Types, Constants], list[TensorType]]:
    def infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        x, w, r = (shapes.required(types, k, name, "f") for k, name in enumerate("XWR"))
        dtype = shapes.same_dtype([x, w, r, *(t for k, t in enumerate(types) if k in (3, 5, 6, 7))], "XWR")
        directions = _DIRECTIONS[shapes.choice(attributes, "direction", tuple(_DIRECTIONS))]
        _check_activations(attributes, directions, functions)
        batch_first = shapes.flag(attributes, "layout")
        hidden: Dim = None if attributes["hidden_size"] is None else shapes.integer(attributes, "hidden_size")
        rank3 = (None,) * 3
        for found, name in ((x, "X"), (w, "W"), (r, "R")):
            shapes.rank_of(found, name, 3, 3)
        hidden = shapes.unify(hidden, (r.shape or rank3)[2], "the hidden sizes of attribute and input R")
        seq, batch, width = x.shape or rank3
        if batch_first:
            seq, batch = batch, seq
        _same(w, "W", (directions, _scaled(hidden, gates), width))
        _same(r, "R", (directions, _scaled(hidden, gates), hidden))
        _same(shapes.at(types, 3), "B", (directions, _scaled(hidden, 2 * gates)))
        if shapes.at(types, 4) is not None:
            lengths = shapes.required(types, 4, "sequence_lens", "i")
            _same(lengths, "sequence_lens", (batch,))
        state: tuple[Dim, ...] = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
        for k, name in ((5, "initial_h"), (6, "initial_c")):
            _same(shapes.at(types, k), name, state)
        _same(shapes.at(types, 7), "P", (directions, _scaled(hidden, 3)))
        whole = (batch, seq, directions, hidden) if batch_first else (seq, directions, batch, hidden)
        return [shapes.tensor(dtype, whole), *[shapes.tensor(dtype, state)] * (2 if gates == 4 else 1)]

    return infer


def _order(length: int, lengths: Array, *, reverse: bool) -> Array:
    """Which time step is the t-th of each sequence: [t, batch]. Padding stays in its place."""
    steps = np.arange(length)[:, None]
    return np.where(steps < lengths, lengths - 1 - steps, steps) if reverse else np.broadcast_to(steps, (length, 1))


def _run(
    attributes: Attributes,
    x: Array,
    lengths: Array | None,
    states: Sequence[Array | None],
    hidden: int,
    cells: Sequence[Callable[[Array, list[Array]], list[Array]]],
) -> tuple[Array, ...]:
    """All directions. A cell makes the next states, the output first, from the input of a step and the states."""
    dtype = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
    batch_first = bool(attributes["layout"])
    source = (x.swapaxes(0, 1) if batch_first else x).astype(dtype)
    seq, batch = source.shape[:2]
    sizes = np.full(batch, seq) if lengths is None else np.minimum(np.maximum(lengths, 0), seq)
    y = np.zeros((seq, len(cells), batch, hidden), dtype)
    final = [np.zeros((len(cells), batch, hidden), dtype) for _ in states]
    for d, cell in enumerate(cells):
        order = _order(seq, sizes, reverse=attributes["direction"] == "reverse" or d == 1)
        held = [
            np.zeros((batch, hidden), dtype)
            if s is None
            else np.asarray(s[:, d] if batch_first else s[d]).astype(dtype)
            for s in states
        ]
        rows = np.arange(batch)
        for t in range(seq):
            at = np.broadcast_to(order[t], (batch,))
            live = (t < sizes)[:, None]
            held = [np.where(live, new, old) for new, old in zip(cell(source[at, rows], held), held)]
            y[at, d, rows] = np.where(live, held[0], 0)
        for array, h in zip(final, held):
            array[d] = h
    results = [y.transpose(2, 0, 1, 3), *(f.swapaxes(0, 1) for f in final)] if batch_first else [y, *final]
    return tuple(np.asarray(r, x.dtype) for r in results)


def _wide(array: Array | None, d: int, size: int, like: Array) -> list[Array]:
    """A direction's vectors of `size` elements, in the dtype of the calculation; zeros if absent."""
    if array is None:
        return [np.zeros(size, like.dtype)] * 8
    row = np.asarray(array[d], like.dtype)
    return [row[k : k + size] for k in range(0, len(row), size)]


def _weights(w: Array, r: Array, d: int) -> tuple[Array, Array]:
    """Transposed weights of a direction, in the dtype of the calculation."""
    dtype = np.dtype(np.float32) if w.dtype == np.float16 else w.dtype
    return w[d].T.astype(dtype), r[d].T.astype(dtype)


def _rnn(
    attributes: Attributes,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
) -> tuple[Array, ...]:
    hidden = r.shape[2]

    def cell_of(d: int, f: Function) -> Callable[[Array, list[Array]], list[Array]]:
        wt, rt = _weights(w, r, d)
        wb, rb = _wide(b, d, hidden, wt)[:2]
        return lambda x, held: [f(x @ wt + held[0] @ rt + (wb + rb))]

    cells = [cell_of(d, f) for d, (f,) in enumerate(_functions(attributes, _DEFAULTS["rnn"]))]
    return _run(attributes, x, lengths, [h], hidden, cells)


def _gru(
    attributes: Attributes,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
) -> tuple[Array, ...]:
    hidden = r.shape[2]

    def cell_of(d: int, f: Function, g: Function) -> Callable[[Array, list[Array]], list[Array]]:
        wt, rt = _weights(w, r, d)
        wz, wr, wh, rz, rr, rh = _wide(b, d, hidden, wt)[:6]

        def cell(x: Array, held: list[Array]) -> list[Array]:
            before = held[0]
            given = x @ wt
            gates = given[:, : 2 * hidden] + before @ rt[:, : 2 * hidden]
            z = f(gates[:, :hidden] + (wz + rz))
            reset = f(gates[:, hidden:] + (wr + rr))
            if attributes["linear_before_reset"]:
                new = g(given[:, 2 * hidden :] + reset * (before @ rt[:, 2 * hidden :] + rh) + wh)
            else:
                new = g(given[:, 2 * hidden :] + (reset * before) @ rt[:, 2 * hidden :] + (rh + wh))
            return [(1 - z) * new + z * before]

        return cell

    cells = [cell_of(d, f, g) for d, (f, g) in enumerate(_functions(attributes, _DEFAULTS["gru"]))]
    return _run(attributes, x, lengths, [h], hidden, cells)


Product = Callable[[Array], Array]


def run_lstm(
    attributes: Attributes,
    x: Array,
    hidden: int,
    products: Sequence[tuple[Product, Product]],
    b: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
    c: Array | None = None,
    p: Array | None = None,
) -> tuple[Array, ...]:
    """The definition of LSTM, given per direction the products of an input and of a state with the weights."""
    like = np.zeros(0, np.float32 if x.dtype == np.float16 else x.dtype)

    def cell_of(d: int, f: Function, g: Function, out: Function) -> Callable[[Array, list[Array]], list[Array]]:
        of_input, of_state = products[d]
        bias = _wide(b, d, 4 * hidden, like)
        shift = bias[0] + bias[1]
        pi, po, pf = _wide(p, d, hidden, like)[:3]

        def cell(x: Array, held: list[Array]) -> list[Array]:
            before, memory = held
            sums = of_input(x) + of_state(before) + shift
            i_sum, o_sum, f_sum, c_sum = (sums[:, k * hidden : (k + 1) * hidden] for k in range(4))
            i = f(i_sum + pi * memory)
            forget = 1 - i if attributes["input_forget"] else f(f_sum + pf * memory)
            memory = forget * memory + i * g(c_sum)
            return [f(o_sum + po * memory) * out(memory), memory]

        return cell

    made = _functions(attributes, _DEFAULTS["lstm"])
    cells = [cell_of(d, f, g, out) for d, (f, g, out) in enumerate(made)]
    return _run(attributes, x, lengths, [h, c], hidden, cells)


def _lstm(attributes: Attributes, x: Array, w: Array, r: Array, *others: Array | None) -> tuple[Array, ...]:
    def product(weights: Array) -> Product:
        return lambda rows: np.asarray(rows @ weights)

    pairs = [_weights(w, r, d) for d in range(len(w))]
    return run_lstm(attributes, x, r.shape[2], [(product(wt), product(rt)) for wt, rt in pairs], *others)


def _lower(cell: str) -> Callable[[Lowering], str | None]:
    return lambda ctx: lower_recurrent(ctx, cell, _parameters(ctx.attributes, _DEFAULTS[cell]))


_SHARED = {
    "activation_alpha": None,
    "activation_beta": None,
    "activations": None,
    "clip": None,
    "direction": "forward",
    "hidden_size": None,
    "layout": 0,
}
_LENGTHS = np.array([4, 2, 1], np.int32)


def _shapes(gates: int, directions: int = 1) -> tuple[Any, ...]:
    """X, W, R and B of a case: 4 steps of 3 sequences of 5 features, 6 units."""
    return (4, 3, 5), (directions, gates * 6, 5), (directions, gates * 6, 6), (directions, 2 * gates * 6)


def _cases(gates: int) -> tuple[Case, ...]:
    constant = (1, 2, 3)
    states: tuple[Any, ...] = ((1, 3, 6),) * (2 if gates == 4 else 1)
    pair: tuple[Any, ...] = ((2, 3, 6),) * (2 if gates == 4 else 1)
    both = {"hidden_size": 6, "direction": "bidirectional"}
    return (
        Case(_shapes(gates), {"hidden_size": 6}, "forward", constant),
        Case(_shapes(gates)[:3], {"hidden_size": 6, "direction": "reverse"}, "reverse", (1, 2)),
        Case((*_shapes(gates, 2), None, *pair), both, "both directions", constant),
        Case((*_shapes(gates), _LENGTHS, *states), {"hidden_size": 6}, "lengths", constant),
        Case((*_shapes(gates, 2), _LENGTHS), both, "lengths of both directions", constant),
        Case(_shapes(gates), {"hidden_size": 6, "clip": 0.5}, "clip", constant),
    )


operator(
    "RNN",
    infer=_infer(1, 1),
    reference=_rnn,
    attributes=_SHARED,
    arity=(3, 6),
    lower=_lower("rnn"),
    cases=_cases(1),
    typed=True,
)
operator(
    "GRU",
    infer=_infer(3, 2),
    reference=_gru,
    attributes={**_SHARED, "linear_before_reset": 0},
    arity=(3, 6),
    lower=_lower("gru"),
    typed=True,
    cases=(
        *_cases(3),
        Case(_shapes(3), {"hidden_size": 6, "linear_before_reset": 1}, "linear before reset", (1, 2, 3)),
    ),
)
operator(
    "LSTM",
    infer=_infer(4, 3),
    reference=_lstm,
    attributes={**_SHARED, "input_forget": 0},
    arity=(3, 8),
    lower=_lower("lstm"),
    typed=True,
    cases=(
        *_cases(4),
        Case((*_shapes(4), None, None, None, (1, 18)), {"hidden_size": 6}, "peepholes", (1, 2, 3, 7)),
        Case(_shapes(4), {"hidden_size": 6, "input_forget": 1}, "coupled gates", (1, 2, 3)),
    ),
)
