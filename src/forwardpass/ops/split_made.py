"""What makes operands of products on matrix tiles on its way, so that nobody has to split for them."""

from __future__ import annotations

from .registry import Lowering, Tensor

__all__ = ["BETWEEN", "is_made"]

BETWEEN = {f"{name}_f32": f"{name}_bf16" for name in ("depthwise", "max_pool", "average_pool")}
"""Kernels of float32 images -> those of what products of one term read and write."""


def is_made(ctx: Lowering, x: Tensor) -> bool:
    """Whether other steps make the operand on their way: products, or what is between two of them. Of one term, since
    that is all they write then."""
    buffer = x.buffer
    for s in reversed(ctx.steps if ctx.terms == 1 else ()):
        if s.output.buffer is buffer and s.kernel != "halo_f32":
            if s.kernel not in BETWEEN:
                return bool(s.kernel == "brgemm_split_f32")
            buffer = s.inputs[0].buffer
    return False
