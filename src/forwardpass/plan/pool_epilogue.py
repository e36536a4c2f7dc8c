"""Convolutions whose epilogue pools their result by 2 x 2, so that nobody writes the result and reads it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..ops import Tensor
from ..ops.lower_stem import runs
from ..ops.lower_winograd import Scheme, blocks
from ..ops.registry import Lowering

if TYPE_CHECKING:
    from .planner import Step

__all__ = ["pool_in_epilogues"]

_ACTIVATIONS = (None, "relu", "clip")
"""Those that the kernels apply in registers, before they pool."""
_WINDOW = {
    "kh": 2, "kw": 2, "stride_h": 2, "stride_w": 2, "dilation_h": 1, "dilation_w": 1, "pad_top": 0, "pad_left": 0,
}  # fmt: skip


def pool_in_epilogues(steps: Sequence[Step], ctx: Lowering) -> list[Step]:
    """The steps of a plan, where `stem_f32` and `winograd_f32` steps pool what a `max_pool_f32` step of 2 x 2 would,
    if nobody else reads it. Rows and columns that no window has are not computed."""
    made: list[Step] = []
    for k, s in enumerate(steps):
        before = made[-1] if made else None
        if before is not None and _pools(before, s) and _alone(steps, k, before):
            _FUSED[before.kernel](before, s.output, ctx)
        else:
            made.append(s)
    return made


def _pools(product: Step, pool: Step) -> bool:
    """Whether a step pools the whole result of the one before it, and that one could."""
    if product.kernel not in _FUSED or pool.kernel != "max_pool_f32" or product.params["pooled"]:
        return False
    x, out, p = pool.inputs[0], product.output, pool.params
    if x is None or x.buffer is not out.buffer or product.params["activation"] not in _ACTIVATIONS:
        return False
    # Compared one by one: the sizes may be tracked.
    same = (x.offset, x.shape, x.strides) == (out.offset, out.shape, out.strides)
    whole = p["oh"] == p["ih"] // 2 and p["ow"] == p["iw"] // 2
    return same and whole and pool.output.size > 0 and all(p[name] == value for name, value in _WINDOW.items())


def _alone(steps: Sequence[Step], k: int, product: Step) -> bool:
    """Whether nobody but step `k` touches the result of `product`."""
    buffer = product.output.buffer
    if buffer.kind != "arena":
        return False
    others = (t for s in steps if s is not product and s is not steps[k] for t in [*s.inputs, s.output])
    return all(t is None or t.buffer is not buffer for t in others)


def _stem(step: Step, out: Tensor, ctx: Lowering) -> None:
    batch, height, width, n = out.shape
    p = step.params
    channels = p["planes"] * p["depth"]
    fields = runs(ctx, (p["kh"], p["kw"], channels, n), p["stride_w"], p["planes"] == 1, width, pooled=1)
    _replace(step, out, oh=height, ow=width, **fields)
    step.units, step.flops = batch * height, 2 * 4 * out.size * p["k"]


def _winograd(step: Step, out: Tensor, ctx: Lowering) -> None:
    batch, height, width, n = out.shape
    p = step.params
    way = Scheme(p["rows"], p["cols"], int(p["entries"][0, 1]))
    tiles = batch * -(-2 * height // way.rows) * -(-2 * width // way.cols)
    fields, workspace, step.units = blocks(ctx, tiles, way, p["c"], n, p["slice"])
    _replace(step, out, oh=2 * height, ow=2 * width, pooled=1, **fields)
    step.inputs[2].buffer.size = workspace  # type: ignore[union-attr]
    step.flops = 2 * tiles * way.taps * p["c"] * n


def _replace(step: Step, out: Tensor, **fields: Any) -> None:
    step.output = out
    strides = dict(zip(("out_batch", "out_row", "out_col"), out.strides))
    step.params = {**step.params, **strides, **fields}


_FUSED = {"stem_f32": _stem, "winograd_f32": _winograd}
