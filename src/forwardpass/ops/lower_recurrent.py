"""How RNN, GRU and LSTM become steps: one product of all inputs with W, then one kernel that runs through time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..graph import Array
from .lower import copy_step, dtype_reason, given, transposed, window_of
from .lower_linear import brgemm_units, chunk_length, entries, tile_rows
from .registry import Lowering, Tensor
from .shapes import at

__all__ = ["Activation", "lower_recurrent"]

Activation: TypeAlias = tuple[str, float, float]
"""Lower-case name, alpha, beta."""

_ROWS = {
    "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid", "leakyrelu": "leaky_relu", "hardsigmoid": "hard_sigmoid",
    "elu": "elu", "softsign": "softsign", "softplus": "softplus",
}  # fmt: skip
"""Activation -> its row of unary.def."""
_TILE = 16
"""Rows of a matrix tile."""
_PANEL = 16
"""Columns of it."""
_LEAST_STEPS = 16
"""For which tiles are faster than FMA: a tile of one row takes half as long as one of 16, and FMA a 16th."""
_MOST_PIECES = 32
"""That the steps of a row are cut into."""
_LEAST_WEIGHTS = 3 << 14
"""Of a state, for which 16 steps of a row take longer than a core needs between two tiles."""
_MOST_INPUTS = 256
"""Numbers of a row that `linear_split_f32` splits on the way."""
_LARGEST = 2.0**55
"""Weights below it are safe in sums of terms."""
_LEAST_PART = 25_000
"""Operations of a time step for which a thread shares the hidden units of a row with others: some 0.4 us, and all wait
for each other after each."""
_USUAL = ["sigmoid", "tanh", "tanh"]
"""Activations f, g, h of nearly all networks. A GRU has no h."""
_GATES = {"rnn": 1, "gru": 3, "lstm": 4}
_NAMES = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


def lower_recurrent(ctx: Lowering, cell: str, functions: Sequence[Sequence[Activation]]) -> str | None:
    """All directions of a layer.

    Parameters
    ----------
    cell
        rnn, gru or lstm.
    functions
        Per direction the activations f, g, h.
    """
    reason = _declined(ctx, functions)
    if reason:
        return reason
    layer = _Layer(ctx, cell)
    if len(layer.pieces) == 1:
        layer.multiply(0, layer.steps)
    # Directions whose activations differ take a step each: a kernel has one set of them.
    same = all(list(f) == list(functions[0]) for f in functions)
    for first, count in [(0, len(functions))] if same else [(d, 1) for d in range(len(functions))]:
        reason = layer.run(first, count, functions[first])
        if reason:
            return reason
    return None


def _declined(ctx: Lowering, functions: Sequence[Sequence[Activation]]) -> str | None:
    unknown = [name for used in functions for name, _, _ in used if name not in _ROWS]
    if unknown:
        return f"activation {unknown[0]!r} has no native kernel"
    lengths = at(ctx.types, 4)
    if lengths is not None and lengths.dtype != np.int32:
        return "the lengths are not int32"
    for k in (1, 2, 3, 7):
        if at(ctx.types, k) is not None and ctx.constant(k) is None:
            return f"input {_NAMES[k]} is not a constant"
    return dtype_reason(ctx, 0, 1, 2, 3, 5, 6, 7)


class _Layer:
    """One node, and what its steps have in common."""

    def __init__(self, ctx: Lowering, cell: str) -> None:
        self.ctx, self.cell, self.gates = ctx, cell, _GATES[cell]
        self.batch_first = bool(ctx.attributes["layout"])
        self.x = given(ctx)
        self.steps, self.batch = (self.x.shape[1], self.x.shape[0]) if self.batch_first else self.x.shape[:2]
        self.directions, _, self.hidden = given(ctx, 2).shape
        self.linear = bool(cell == "gru" and ctx.attributes["linear_before_reset"])
        self.width = self.directions * self.gates * self.hidden
        self.on_tiles = self._on_tiles(self.x.shape[2], self.width)
        self.pieces = self._pieces()
        self.products = ctx.temporary((*self.x.shape[:2], self.width))

    def _packed(self, kind: str, index: int, array: Array | None, make: Any) -> Array | None:
        """Something made once of constant input `index`."""
        if array is None:
            return None
        name = self.ctx.node.inputs[index]
        return self.ctx.packed((f"recurrent {kind}", self.cell, self.linear, name), lambda: make(array))

    def _pieces(self) -> list[tuple[int, int]]:
        """(first, count) of the time steps whose products with the input are made together. After more than a tile of
        them at once a core lowers its clock for longer than the steps of a single row take, so these have a tile at a
        time between them where the state is large."""
        whole = [(0, self.steps)]
        if not self.on_tiles or self.batch != 1 or self.ctx.attributes["direction"] != "forward":
            return whole
        if self.ctx.input(4) is not None or self.gates * self.hidden**2 < _LEAST_WEIGHTS:
            return whole
        steps = self._declared_steps()
        length = -(-steps // (_TILE * _MOST_PIECES)) * _TILE
        return [(t, min(length, steps - t)) for t in range(0, steps, length)]

    def _at_steps(self, tensor: Tensor, first: int, count: int) -> Tensor:
        """The part of the inputs or of their products that belongs to so many steps."""
        place, shape = ((0, first), (self.batch, count)) if self.batch_first else ((first, 0), (count, self.batch))
        return window_of(tensor, (*place, 0), (*shape, tensor.shape[2]))

    def multiply(self, first: int, count: int) -> None:
        """The inputs of `count` steps from `first` on times the W of all directions, plus all biases that are simply
        added. All the steps, or those of one row."""
        ctx, k, n = self.ctx, self.x.shape[2], self.width
        rows = count * self.batch
        x, out = (self._at_steps(t, first, count) for t in (self.x, self.products))
        bias = self._packed("bias", 3, ctx.constant(3), self._bias)
        if self.on_tiles:
            params: dict[str, Any] = {
                "terms": ctx.terms, "rows": rows, "k": k, "n": n, "bias": bias,
                "b": self._packed("W tiles", 1, ctx.constant(1),
                                  lambda w: ctx.pack_split(w.transpose(2, 0, 1).reshape(1, k, n))),
            }  # fmt: skip
            ctx.step("linear_split_f32", params, [x], out, units=-(-rows // _TILE), flops=2 * rows * n * k)
            return
        length = chunk_length(k, n)
        tile_m = tile_rows(ctx, rows, k, n, length, k)
        split_n, units = brgemm_units(ctx, [1, 1, rows], tile_m, n)
        table, chunks = entries([(0, k)] if k else [], length)
        params = {
            "batch": 1, "oh": 1, "ow": rows, "groups": 1, "n": n, "k": k, "a_col": k, "c_col": n,
            "n_chunks": len(chunks) - 1, "chunks": chunks, "entries": table,
            "b": self._packed("W", 1, ctx.constant(1), lambda w: ctx.pack_b(w.transpose(2, 0, 1).reshape(1, k, n))),
            "bias": bias, "tile_m": tile_m, "split_n": split_n, "activation": None,
        }  # fmt: skip
        ctx.step("brgemm_f32", params, [x], out, units=units if rows else 0, flops=2 * rows * n * k)

    def _on_tiles(self, k: int, n: int) -> bool:
        """Whether the products with the input are sums on matrix tiles. That depends on the layer and on steps that no
        call decides: a sequence gets the same numbers whatever surrounds it."""
        if self.ctx.terms < 2 or self._declared_steps() < _LEAST_STEPS or not 0 < k <= _MOST_INPUTS or n % _PANEL:
            return False
        largest = self._packed("largest W", 1, self.ctx.constant(1), lambda w: np.abs(w).max(keepdims=True))
        return largest is not None and bool(largest < _LARGEST)

    def _declared_steps(self) -> int:
        """Those that the model itself says; 0 where a call decides."""
        declared = self.ctx.declared(0)
        steps = declared.shape[self.batch_first] if declared is not None and declared.shape else None
        return steps if isinstance(steps, int) else 0

    def _bias(self, b: Array) -> Array:
        of_input, of_state = np.split(b.astype(np.float32), 2, axis=1)
        total = of_input + of_state
        if self.linear:  # the candidate's own is inside the product with the reset gate
            total[:, 2 * self.hidden :] = of_input[:, 2 * self.hidden :]
        return np.ascontiguousarray(total.reshape(-1))

    def _state_bias(self, b: Array) -> Array:
        own = np.zeros((self.directions, 3 * self.hidden), np.float32)
        own[:, 2 * self.hidden :] = b[:, 5 * self.hidden :]
        return own

    def _weights(self, first: int) -> dict[str, Any]:
        """The fields of the product with the states, from direction `first` on."""
        ctx, h = self.ctx, self.hidden
        apart = self.cell == "gru" and not self.linear
        length = chunk_length(h, h if apart else self.gates * h)
        table, chunks = entries([(0, h)] if h else [], length)
        cut = 2 * h if apart else self.gates * h
        r = ctx.constant(2)
        b = self._packed("R", 2, r, lambda r: ctx.pack_b(r[:, :cut].swapaxes(1, 2)))
        candidate = None
        if apart:
            candidate = self._packed("R candidate", 2, r, lambda r: ctx.pack_b(r[:, cut:].swapaxes(1, 2)))
        bias = self._packed("state bias", 3, ctx.constant(3), self._state_bias) if self.linear else None
        peepholes = self._packed("P", 7, ctx.constant(7), lambda p: np.array(p, np.float32, order="C"))
        return {
            "n_chunks": len(chunks) - 1, "chunks": chunks, "entries": table,
            "tile_m": tile_rows(ctx, self.batch, h, cut, length, h),
            **{k: v[first:] if first and v is not None else v
               for k, v in (("b", b), ("b_candidate", candidate), ("bias", bias), ("peepholes", peepholes))},
        }  # fmt: skip

    def run(self, first: int, count: int, functions: Sequence[Activation]) -> str | None:
        """The time steps of `count` directions, and the outputs that they make."""
        ctx, h = self.ctx, self.hidden
        unit = self._shared_unit(count, functions)
        units = count * self.batch
        cell_states = units * h if self.cell == "lstm" else 0
        gates = units * h + cell_states
        size = gates + units * self.gates * h
        keeps_all = ctx.has_output(0)
        work = ctx.temporary((size + (self.steps * units * h if keeps_all else 0),))
        clip = ctx.attributes["clip"]
        backwards = {"forward": 0, "reverse": 1, "bidirectional": 2}[ctx.attributes["direction"]]
        params: dict[str, Any] = {
            "batch": self.batch, "hidden": h, "n_gates": self.gates, "unit": unit,
            "reverse": backwards >> first & (1 << count) - 1,
            "x_time": self.width if self.batch_first else self.batch * self.width,
            "x_row": self.steps * self.width if self.batch_first else self.width, "x_direction": self.gates * h,
            "state_row": self.directions * h if self.batch_first else h,
            "state_direction": h if self.batch_first else self.batch * h,
            "c": cell_states, "gates": gates, "y_time": units * h,
            "input_forget": ctx.attributes.get("input_forget", 0), "clip": math.inf if clip is None else float(clip),
            **self._weights(first),
        }  # fmt: skip
        for letter, (name, alpha, beta) in zip("fgh", functions):
            params.update({f"activation_{letter}": _ROWS[name], f"alpha_{letter}": alpha, f"beta_{letter}": beta})
        states = [self._state(k, first) for k in (5, 6)]
        for start, steps in self.pieces:
            if len(self.pieces) > 1:
                self.multiply(start, steps)
            products = self._at_steps(self.products, start, steps)
            products.offset += first * self.gates * h
            piece = {**params, "steps": steps, "y": size + start * units * h if keeps_all else 0}
            flops = 2 * steps * units * self.gates * h * h
            inputs = [products, ctx.input(4), *states]
            ctx.step(f"{self.cell}_f32", piece, inputs, work, units=-(-h // unit) if unit else units, flops=flops)
            # A next piece goes on from the states where they are.
            states = [Tensor(work.buffer, (1, 1, h), (h, h, 1), work.offset + at) for at in (0, cell_states)]
        state = (1, count, self.batch, h)
        parts = ((0, size, (self.steps, *state[1:])), (1, 0, state), (2, cell_states, state))
        for index, offset, shape in parts:
            reason = self._write(index, work, offset, shape, first)
            if reason:
                return reason
        return None

    def _shared_unit(self, count: int, functions: Sequence[Activation]) -> int:
        """Hidden units of each thread's part of a single row; 0 where each takes rows of its own."""
        ctx = self.ctx
        plain = ctx.attributes["clip"] is None and not ctx.attributes.get("input_forget", 0) and ctx.input(7) is None
        usual = [name for name, _, _ in functions] == _USUAL[: len(functions)] and (self.cell == "lstm" or self.linear)
        one_row = count == 1 and self.batch == 1 and ctx.input(4) is None
        two_vectors = 2 * ctx.panel  # that a kernel takes of a single row at a time
        if not (plain and usual and one_row) or self.hidden % two_vectors:
            return 0
        groups = self.hidden // two_vectors
        parts = min(ctx.threads, groups, 2 * self.gates * self.hidden**2 // _LEAST_PART)
        return -(-groups // parts) * two_vectors if parts > 1 else 0

    def _state(self, index: int, first: int) -> Tensor | None:
        """An initial state, from direction `first` on."""
        tensor = self.ctx.input(index)
        return None if tensor is None else window_of(tensor, self._place(first, 3), tensor.shape)

    def _place(self, first: int, rank: int) -> list[int]:
        """Where direction `first` starts in a tensor of states (rank 3) or of all steps (rank 4)."""
        axis = rank - 2 if self.batch_first else rank - 3
        return [first if k == axis else 0 for k in range(rank)]

    def _write(self, index: int, work: Tensor, offset: int, shape: tuple[int, ...], first: int) -> str | None:
        """Move one output, [steps][directions][batch][hidden] at an offset of the work memory, to its place."""
        if not self.ctx.has_output(index):
            return None
        out = self.ctx.output(index)
        strides = (math.prod(shape[1:]), shape[2] * shape[3], shape[3], 1)
        source = Tensor(work.buffer, shape, strides, work.offset + offset)
        order = (2, 0, 1, 3) if self.batch_first else (0, 1, 2, 3)
        source = transposed(source, order if index == 0 else [k for k in order if k != 0])
        return copy_step(self.ctx, source, window_of(out, self._place(first, len(out.shape)), source.shape))
