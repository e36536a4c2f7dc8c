"""Steps whose work can be cut at rows of an image: which rows of their inputs some rows of their output need."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ..memory import Buffer
from ..ops import Tensor
from ..ops.activations import ACTIVATIONS
from ..ops.lower_linear import PRODUCTS, sum_length, tile_rows
from ..ops.registry import Lowering
from ..records import record
from .planner import Step

__all__ = ["Read", "RowStep", "cut_at_rows", "goes_by_rows", "row_step"]

_POOLS = frozenset({"max_pool_f32", "average_pool_f32"})
_BINARY = frozenset({"add_f32", "sub_f32", "mul_f32", "div_f32", "min_f32", "max_f32", "pow_f32", "prelu_f32"})


@record(slots=True, eq=False)
class Read:
    """The rows of an input that row y of the output needs: `reach` rows from `first` + y * `stride` on, but none below
    `low` nor from `high` on. They count through the image's border: its uppermost row is row 0."""

    first: int
    stride: int
    reach: int
    low: int
    high: int

    def begin(self, row: int) -> int:
        """The first row that `row` and those below it need."""
        return max(self.low, self.first + row * self.stride)

    def end(self, row: int) -> int:
        """Behind the last row that those above `row` need, of which there is at least one."""
        return min(self.high, self.first + (row - 1) * self.stride + self.reach)


@record(slots=True, eq=False)
class RowStep:
    """A step that computes images row by row.

    Attributes
    ----------
    index
        Of the step in the plan.
    images, height
        Of the output.
    units
        Of the kernel's range, per row.
    border
        Rows of the border above the output.
    reads
        Per input; None for what is no image, or has the same rows for all.
    images_read
        The others, with the buffers that they are in.
    """

    step: Step
    index: int
    images: int
    height: int
    units: int
    border: int
    reads: list[Read | None]
    images_read: list[tuple[Buffer, Read]]


def goes_by_rows(step: Step) -> bool:
    """Whether a step may be one by rows, as far as its kernel says."""
    return len(step.output.shape) == 4 and step.kernel in _kernels()


@lru_cache(maxsize=1)
def _kernels() -> frozenset[str]:
    return frozenset({"depthwise_f32", "stem_f32", *_POOLS, *PRODUCTS, *_elementwise()})


def row_step(step: Step, index: int) -> RowStep | None:
    """The step by rows; None where it does not go by rows. It is not changed before `cut_at_rows`."""
    out = step.output
    if not goes_by_rows(step) or 0 in out.shape or out.buffer.itemsize != 4:
        return None
    reads = _reads(step)
    if reads is None:
        return None
    images, height, width, channels = out.shape
    if step.kernel in PRODUCTS:
        units = 0  # the tiles of a row are not known yet
    else:
        units = 1 if step.units == images * height else width * channels
    images_read = [(t.buffer, read) for t, read in zip(step.inputs, reads) if t is not None and read is not None]
    return RowStep(step, index, images, height, units, _border(out), reads, images_read)


def _reads(step: Step) -> list[Read | None] | None:
    p, out = step.params, step.output
    x = step.inputs[0] if step.inputs else None
    if x is None or len(x.shape) != 4 or x.shape[0] != out.shape[0]:
        return None
    if step.kernel == "depthwise_f32":
        return [_window(x, p["stride_h"], (p["kh"] - 1) * p["dilation_h"] + 1)]
    if step.kernel in _POOLS:
        top = _border(x)
        reach = (p["kh"] - 1) * p["dilation_h"] + 1
        return [Read(top - p["pad_top"], p["stride_h"], reach, top, top + x.shape[1])]
    if step.kernel == "stem_f32":
        top, rows = _border(x), 1 + p["pooled"]
        reach = p["kh"] + p["pooled"] * p["stride_h"]
        return [Read(top - p["pad_top"], rows * p["stride_h"], reach, top, top + x.shape[1])]
    if step.kernel in PRODUCTS:
        if step.node.qualified != "nhwc.Conv" or p["split_n"] or x.strides[1] == 0:
            return None
        stride = (step.node.attributes.get("strides") or (1, 1))[0]
        last = int(p["entries"][-1, 0]) if len(p["entries"]) else 0
        residual = step.inputs[1]
        reads = [_window(x, stride, last // x.strides[1] + 1), None if residual is None else _same(residual)]
        return [*reads, *(None for _ in step.inputs[2:])]
    if step.kernel in _elementwise() and step.units == out.size:
        return [_same(t) if t is not None and _is_like(t, out) else None for t in step.inputs]
    return None


def _is_like(t: Tensor, out: Tensor) -> bool:
    # Of tuples of other lengths the items are compared too, and to compare tracked sizes is a condition.
    return len(t.shape) == len(out.shape) and t.shape == out.shape


@lru_cache(maxsize=1)
def _elementwise() -> frozenset[str]:
    rows = {f"{a.row}_f32" for a in ACTIVATIONS.values()}
    return frozenset({"copy_f32", "scale_shift_f32", *_BINARY, *rows})


def _border(t: Tensor) -> int:
    """Rows of the border above the image, or above what a window starts with."""
    return t.offset // t.strides[1] if t.strides[1] else 0


def _window(x: Tensor, stride: int, reach: int) -> Read:
    return Read(_border(x), stride, reach, 0, 1 << 62)


def _same(t: Tensor) -> Read:
    return Read(_border(t), 1, 1, 0, 1 << 62)


def cut_at_rows(members: Sequence[RowStep], ctx: Lowering) -> None:
    """Let no tile of a product cross the end of a row. What is computed stays the same."""
    for m in members:
        if m.step.kernel in PRODUCTS:
            _cut_product(m, ctx)


def _cut_product(member: RowStep, ctx: Lowering) -> None:
    step = member.step
    x, residual, out = step.inputs[0], step.inputs[1], step.output
    assert x is not None
    batch, height, width, _ = out.shape
    sh, sw = step.node.attributes.get("strides") or (1, 1)
    r = (0, 0, 0) if residual is None else residual.strides
    p = step.params
    tile_m = tile_rows(ctx, width, p["k"], p["n"], sum_length(p["k"]), p["a_col"])
    p.update(
        batch=batch, oh=height, ow=width, tile_m=tile_m,
        a_batch=x.strides[0], a_row=x.strides[1] * sh, a_col=x.strides[2] * sw,
        c_batch=out.strides[0], c_row=out.strides[1], c_col=out.strides[2],
        r_batch=r[0], r_row=r[1], r_col=r[2],
    )  # fmt: skip
    member.units = -(-width // tile_m)
    step.units = batch * height * member.units
