"""Products whose result takes the place of what they add: memory that has just been read need not be fetched to be
written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..memory import Buffer
from ..ops import Tensor

if TYPE_CHECKING:
    from .depth_first import Chain
    from .planner import Step

__all__ = ["reuse_residuals"]


def reuse_residuals(steps: Sequence[Step], taken: Sequence[Chain]) -> None:
    """Let the result of a step live where its residual does, if nobody reads that afterwards.

    The kernels read a part of the residual before they write the same part of the result, on the same thread. Steps of
    a chain and what they touch stay as they are: their threads share rows.
    """
    adding = [(k, s, residual) for k, s in enumerate(steps) if (residual := _residual(s)) is not None]
    if not adding:
        return
    chained = {id(m.step) for c in taken for m in c.members}
    kept = {t.buffer for s in steps if id(s) in chained for t in _tensors(s)}
    spans: dict[Buffer, tuple[int, int]] = {}
    for k, s in enumerate(steps):
        for t in _tensors(s):
            spans[t.buffer] = spans.get(t.buffer, (k, k))[0], k
    moved: dict[Buffer, Buffer] = {}
    for k, s, residual in adding:
        out = s.output
        if residual.buffer.kind != "arena" or out.buffer.kind != "arena":
            continue
        if spans[residual.buffer][1] != k or spans[out.buffer][0] != k or out.buffer in kept:
            continue
        if _alike(residual, out) and sum(t.buffer is residual.buffer for t in _tensors(s)) == 1:
            moved[out.buffer] = moved.get(residual.buffer, residual.buffer)
    for s in steps if moved else ():
        for t in _tensors(s):
            t.buffer = moved.get(t.buffer, t.buffer)


def _tensors(step: Step) -> list[Tensor]:
    return [t for t in [*step.inputs, step.output] if t is not None]


def _residual(step: Step) -> Tensor | None:
    """What a step adds to its result before it stores it, once and for all."""
    whole = step.kernel == "winograd_f32" or (step.kernel == "brgemm_f32" and step.params["n_chunks"] == 1)
    return step.inputs[1] if whole and len(step.inputs) > 1 else None


def _alike(a: Tensor, b: Tensor) -> bool:
    # Compared one by one: the sizes may be tracked.
    return bool((a.offset, a.shape, a.strides, a.buffer.size) == (b.offset, b.shape, b.strides, b.buffer.size))
