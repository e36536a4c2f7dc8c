"""Native GroupQueryAttention: new keys and values put behind those of the past, then the attention kernel."""

from __future__ import annotations

import math

import numpy as np

from ...graph import Array
from .. import shapes
from ..lower import copy_step, dtype_reason, given, scalar, transposed, window_of
from ..lower_attention import Lengths, attend, heads_of
from ..lower_norms import normalize_last
from ..lower_rotary import Positions, rotary_step
from ..lower_typed import cast_step, dense_operand, index_operand, pair_step
from ..registry import FLOAT, Lowering, Tensor

__all__ = ["lower_group_query"]

_LONG = np.dtype(np.int64)


def lower_group_query(ctx: Lowering) -> str | None:
    """GroupQueryAttention."""
    reason = _declined(ctx)
    if reason:
        return reason
    last = index_operand(ctx, index=5)
    if isinstance(last, str):
        return last
    node = _Node(ctx, *last)
    q, k, v = node.operands()
    a = ctx.attributes
    if shapes.at(ctx.types, 14) is not None:
        (q, reason), (k, failed) = (_normalized(ctx, x, weight) for x, weight in ((q, 14), (k, 15)))
        if reason or failed:
            return reason or failed
    if a["do_rotary"] and shapes.at(ctx.types, 7) is not None:
        positions = node.positions()
        if isinstance(positions, str):
            return positions
        (q, reason), (k, failed) = (_turned(ctx, x, positions) for x in (q, k))
        if reason or failed:
            return reason or failed
    keys, reason = node.present(3, k, 1)
    values, failed = node.present(4, v, 2)
    if reason or failed:
        return reason or failed
    window = a["local_window_size"]
    return attend(
        ctx, q, keys, values, heads_of(ctx.output(), q.shape[1]),
        scale=float(a["scale"]) if a["scale"] else 1 / math.sqrt(q.shape[3]),
        mask=ctx.input(10), softcap=a["softcap"],
        left=window - 1 if a["causal"] and window > 0 else -1, right=0 if a["causal"] else -1,
        lengths=node.lengths, sinks=_sinks(ctx),
    )  # fmt: skip


def _declined(ctx: Lowering) -> str | None:
    if ctx.constant(6) is None:
        return "total_sequence_length is known in a call alone"
    if shapes.at(ctx.types, 11) is not None and ctx.constant(11) is None:
        return "head_sink is not a constant"
    if 0 in ctx.outputs[0].sizes:
        return "an input is empty"
    if ctx.has_output(3):
        return "the scores are wanted"
    return dtype_reason(ctx, 0, 1, 2, 3, 4, 7, 8, 10, 11, 14, 15)


def _sinks(ctx: Lowering) -> Array | None:
    """The score of every head that no key has."""
    given = ctx.constant(11)
    heads = ctx.attributes["num_heads"]
    if given is not None:
        return ctx.packed(("head sinks", ctx.node.inputs[11]), lambda: np.array(given.ravel(), np.float32))
    if ctx.attributes["smooth_softmax"] != 1:
        return None
    return ctx.packed(("head sinks", heads), lambda: np.zeros(heads, np.float32))


def _normalized(ctx: Lowering, x: Tensor, weight: int) -> tuple[Tensor, str | None]:
    """Heads [batch, heads, length, size] whose root mean square is 1, times an input."""
    order, reason = (0, 2, 1, 3), None
    rows = transposed(x, order)
    y = ctx.temporary(rows.shape)
    if not rows.contiguous:  # parts of a packed input
        reason, rows = copy_step(ctx, rows, y), y
    epsilon = ctx.attributes["qk_norm_epsilon"]
    failed = normalize_last(ctx, rows, y, 3, scale=weight, centred=False, epsilon=epsilon)
    return transposed(y, order), reason or failed


def _turned(ctx: Lowering, x: Tensor, positions: Positions) -> tuple[Tensor, str | None]:
    """Heads with the rotary embedding of their positions."""
    y = ctx.temporary(x.shape)
    interleaved = bool(ctx.attributes["rotary_interleaved"])
    return y, rotary_step(ctx, x, y, (given(ctx, 7), given(ctx, 8)), positions, interleaved=interleaved)


class _Node:
    """One node. `last` has the place of the last key of every sequence, in integers of so many bytes."""

    def __init__(self, ctx: Lowering, last: Tensor, nbytes: int) -> None:
        self.ctx, self.last, self.nbytes = ctx, last, nbytes
        total = ctx.constant(6)
        assert total is not None
        self.total = int(total.ravel()[0])
        self.batch, self.length = ctx.outputs[0].sizes[:2]
        # A first prompt has nothing before it, even where its sequences are shorter than the padded batch.
        self.prompt = self.length == self.total
        least = 1 if self.prompt else self.length
        self.lengths = Lengths(last, nbytes, more=1, least=least, from_end=not self.prompt)
        self._starts: Tensor | None = None

    def operands(self) -> list[Tensor]:
        """Q, K and V as [batch, heads, length, size]."""
        ctx = self.ctx
        heads, groups = ctx.attributes["num_heads"], ctx.attributes["kv_num_heads"]
        query = given(ctx)
        if shapes.at(ctx.types, 1) is not None:
            return [heads_of(query, heads), *(heads_of(given(ctx, k), groups) for k in (1, 2))]
        packed = heads_of(query, heads + 2 * groups)
        parts = ((0, heads), (heads, groups), (heads + groups, groups))
        return [window_of(packed, (0, at, 0, 0), (self.batch, n, *packed.shape[2:])) for at, n in parts]

    def positions(self) -> Positions | str:
        """Of the new queries and keys; or why they cannot be read."""
        if shapes.at(self.ctx.types, 9) is None:
            if self.prompt:
                return Positions(step=1)
            return Positions(place=1 - self.length, step=1, tensor=self.last, nbytes=self.nbytes, tensor_batch=1)
        found = index_operand(self.ctx, index=9)
        if isinstance(found, str):
            return found
        tensor, nbytes = found
        if self.prompt:  # of those given, the first one counts
            return Positions(step=1, tensor=tensor, nbytes=nbytes)
        batch_step = self.length if tensor.shape[0] > 1 else 0
        return Positions(tensor=tensor, nbytes=nbytes, tensor_batch=batch_step, tensor_step=1)

    def present(self, index: int, new: Tensor, output: int) -> tuple[Tensor, str | None]:
        """The keys or values [batch, groups, total, size] of the past (input `index`) and then the new ones of every
        sequence; they are in output `output`, with its room, where that is wanted."""
        ctx, past = self.ctx, self.ctx.input(index)
        if past is None and self.prompt and not ctx.has_output(output):
            return new, None
        batch, groups, _, size = new.shape
        before = 0 if past is None else past.shape[2]
        room = max(self.total, before)
        made = ctx.output(output) if ctx.has_output(output) else ctx.temporary((batch, groups, room, size))
        reason = None if past is None else copy_step(ctx, past, window_of(made, (0,) * 4, past.shape))
        # Where every sequence is as long, the new ones fill what the past does not.
        start = self.length if self.prompt and past is None else before
        if start < room and not reason:
            rest = window_of(made, (0, 0, start, 0), (batch, groups, room - start, size))
            reason = copy_step(ctx, scalar(ctx, 0.0), rest)
        if self.prompt:
            failed = copy_step(ctx, new, window_of(made, (0,) * 4, new.shape))
        else:
            failed = self._scatter(new, made)
        return window_of(made, (0,) * 4, (batch, groups, self.total, size)), reason or failed

    def _scatter(self, new: Tensor, made: Tensor) -> str | None:
        """Put the new keys or values of each sequence behind its own past."""
        ctx = self.ctx
        batch, groups, room, size = made.shape
        dense, reason = dense_operand(ctx, new, FLOAT)
        if self._starts is None:
            self._starts, failed = self._start_of_new()
            reason = reason or failed
        params = {"outer": groups, "size": room, "length": self.length, "block": 4 * size, "circular": 0}
        ctx.step("tensor_scatter_any", params, [dense, self._starts], made, units=batch * groups, flops=new.size)
        return reason

    def _start_of_new(self) -> tuple[Tensor, str | None]:
        """How many keys every sequence has before the new ones, as int64."""
        ctx, wide = self.ctx, self.last
        reason = None
        if self.nbytes == 4:
            wide = ctx.temporary(self.last.shape, _LONG)
            reason = cast_step(ctx, self.last, wide, "int32", "int64")
        more = ctx.tensor(np.array(1 - self.length, _LONG))
        starts = ctx.temporary(wide.shape, _LONG)
        return starts, reason or pair_step(ctx, "add_int", "int64", wide, more, starts)
