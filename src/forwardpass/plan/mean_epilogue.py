"""Convolutions that write the mean of each row of their result beside it: the mean of an image is then that of its
rows, and nobody reads the image again for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..ops import Tensor
from ..ops.lower import collapse, dims
from ..ops.registry import Lowering

if TYPE_CHECKING:
    from .planner import Step

__all__ = ["is_mean_of", "mean_in_epilogues"]

_KERNELS = frozenset({"depthwise_f32"})


def mean_in_epilogues(steps: Sequence[Step], ctx: Lowering) -> list[Step]:
    """The steps of a plan, where `depthwise_f32` steps write the means of their rows for `reduce_mean_f32` steps that
    would read their whole results."""
    for k, s in enumerate(steps):
        if s.kernel == "reduce_mean_f32":
            at = _producer(steps, k)
            if at is not None:
                _take(steps[at], s, ctx)
    return list(steps)


def _producer(steps: Sequence[Step], k: int) -> int | None:
    """The step that makes images whose pixels step `k` takes the mean of, if it can write those of their rows."""
    x = steps[k].inputs[0]
    assert x is not None
    for at in range(k - 1, -1, -1):
        s = steps[at]
        if s.output.buffer is x.buffer and s.kernel != "halo_f32":
            return at if s.kernel in _KERNELS and len(s.inputs) == 1 and is_mean_of(s.output, steps[k]) else None
    return None


def is_mean_of(out: Tensor, mean: Step) -> bool:
    """Whether a `reduce_mean_f32` step takes the means of images [N, H, W, C] over all of their pixels, and of nothing
    else."""
    x, y, p = mean.inputs[0], mean.output, mean.params
    assert x is not None
    if (x.offset, x.shape, x.strides) != (out.offset, out.shape, out.strides) or len(out.shape) != 4 or not out.size:
        return False
    pixels = collapse(out.shape[1:3], out.strides[1:3])
    rank = p["reduced_rank"]
    same = pixels == (p["reduced"][:rank], [p["reduced_stride"][:rank]])
    return same and (y.shape[0], y.shape[-1], y.size) == (out.shape[0], out.shape[3], out.shape[0] * out.shape[3])


def _take(product: Step, mean: Step, ctx: Lowering) -> None:
    images, height, _, channels = product.output.shape
    rows = ctx.temporary((images, height, channels))
    product.inputs = [*product.inputs, rows]
    mean.inputs = [rows]
    mean.params = {
        "kept_rank": 2, "kept": dims((images, channels)), "kept_stride": dims((height * channels, 1)),
        "out_stride": dims((mean.output.strides[0], mean.output.strides[-1])),
        "reduced_rank": 1, "reduced": dims((height,)), "reduced_stride": dims((channels,)),
    }  # fmt: skip
    mean.flops = rows.size
