"""Factors and shifts of channels, with what activates them, in the steps that split the images for matrix tiles: each
number passes through registers there anyway, so nobody writes the scaled image and reads it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..ops import Tensor

if TYPE_CHECKING:
    from ..memory import Buffer
    from .planner import Step

__all__ = ["scale_in_prologues"]

_ACTIVATIONS = (None, "relu", "clip")
"""Those that the kernel has."""


def scale_in_prologues(steps: Sequence[Step]) -> list[Step]:
    """The steps of a plan, without `mul_f32` and `scale_shift_f32` steps by channels whose result only `split_f32`
    steps read: these do it."""
    left: list[Step | None] = list(steps)
    for k, s in enumerate(steps):
        if s.kernel not in ("mul_f32", "scale_shift_f32") or not _by_channel(s):
            continue
        readers = _readers(steps, k) or []
        sources = [_sources(s, r) for r in readers]
        if not sources or any(not x for x in sources):
            continue
        for r, x in zip(readers, sources):
            r.inputs = list(x)
            strides = dict(zip(("in_batch", "in_row", "in_col"), x[0].strides))
            r.params = {**r.params, **strides, **_fields(s)}
            r.flops += s.flops // max(s.output.size, 1) * x[0].size
        left[k] = None
    return [s for s in left if s is not None]


def _fields(s: Step) -> dict[str, Any]:
    """What the parameters of a step that splits are to say of step `s`."""
    scale = s.inputs[1]
    assert scale is not None
    if s.kernel == "mul_f32":
        return {"factor_batch": 0 if scale.shape[0] == 1 else scale.strides[0]}
    return {name: s.params[name] for name in ("activation", "alpha", "beta")}


def _by_channel(s: Step) -> bool:
    """Whether a step scales an image by a number for each of its channels, or of those of each image, and shifts it by
    one for each of them, and may do so later."""
    x, *vectors = s.inputs
    out = s.output
    assert x is not None
    if len(out.shape) != 4 or x.shape != out.shape or x.strides[3] != 1 or out.buffer.kind != "arena":
        return False
    images, _, _, channels = out.shape
    for t in vectors:
        if t is None or t.shape[-1:] != (channels,) or t.strides[-1] != 1:
            return False
        factors = s.kernel == "mul_f32" and len(t.shape) == 4 and t.shape[1:3] == (1, 1)
        if t.size != channels and not (factors and t.shape[0] == images):
            return False
    return s.kernel == "mul_f32" or s.params["activation"] in _ACTIVATIONS


def _readers(steps: Sequence[Step], k: int) -> list[Step] | None:
    """The steps that split the result of step `k`; None where others touch it, or its input changes before."""
    s = steps[k]
    x = s.inputs[0]
    assert x is not None
    found: list[Step] = []
    changed = False
    for after in steps[k + 1 :]:
        reads = [t for t in after.inputs if t is not None and t.buffer is s.output.buffer]
        if reads:
            if after.kernel != "split_f32" or len(after.inputs) > 1 or after.params["pixels"] or changed:
                return None
            found.append(after)
        writes = after.output.buffer
        if writes is s.output.buffer and after.kernel != "halo_f32":
            return None
        changed |= writes is x.buffer
    return None if _shared(steps[:k], s.output.buffer) and x.buffer is not s.output.buffer else found


def _shared(steps: Sequence[Step], buffer: Buffer) -> bool:
    """Whether earlier steps already wrote into a buffer, of which a result then is a part."""
    return any(s.output.buffer is buffer and s.kernel != "halo_f32" for s in steps)


def _sources(s: Step, reader: Step) -> list[Tensor]:
    """The inputs of a step for what a reader takes of its result; none where that is no box of rows."""
    x, *vectors = s.inputs
    out, seen = s.output, reader.inputs[0]
    assert x is not None
    assert seen is not None
    if seen.strides != out.strides or seen.shape[2:] != out.shape[2:]:
        return []
    behind = seen.offset - out.offset
    image, row = behind // out.strides[0], behind % out.strides[0] // out.strides[1]
    if behind < 0 or behind % out.strides[0] % out.strides[1]:
        return []
    found = [Tensor(x.buffer, seen.shape, x.strides, x.offset + image * x.strides[0] + row * x.strides[1])]
    for t in vectors:
        assert t is not None
        step = t.strides[0] if len(t.shape) == 4 and t.shape[0] != 1 else 0
        found.append(Tensor(t.buffer, t.shape, t.strides, t.offset + image * step))
    return found
