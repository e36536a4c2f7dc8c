"""Caches of keys and values that attention moves on while it reads them, instead of copies that it reads again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..memory import Buffer
from ..ops import Tensor
from ..ops.lower import transposed
from ..tracked import call, total

if TYPE_CHECKING:
    from .planner import Step

__all__ = ["copy_in_attention"]

_FAR_BYTES = 64 << 20
"""Of a plan's operands: what it writes is in no cache any more when the next call reads it."""
_HEADS_INSIDE = (0, 2, 1, 3)


def copy_in_attention(steps: Sequence[Step]) -> list[Step]:
    """The steps of a plan, where `attention_f32` steps read a cache in the caller's memory and write it in front of the
    new keys and values, in place of `copy_f32` steps."""
    left: list[Step | None] = list(steps)
    readers = [(k, s) for k, s in enumerate(steps) if s.kernel == "attention_f32" and _reads_all(s)]
    touching = _touching(steps) if readers else {}
    nbytes: int | None = None
    for k, s in readers if touching else ():
        copies = [_copy(left, touching.get(t.buffer, ()), k, t) for t in s.inputs[1:3] if t is not None]
        found = [(at, past) for c in copies if c is not None for at, past in [c]]
        if len(found) < 2 or found[0][0] == found[1][0] or not _appends(s, [past for _, past in found]):
            continue
        nbytes = total(x.nbytes for x in steps) if nbytes is None else nbytes
        _take(s, [past for _, past in found], nbytes)
        for at, _ in found:
            left[at] = None
    return [s for s in left if s is not None]


def _touching(steps: Sequence[Step]) -> dict[Buffer, list[int]]:
    """Buffer that something is copied to -> the places of the steps that read or copy to it."""
    found: dict[Buffer, list[int]] = {s.output.buffer: [] for s in steps if _copies(s)}
    for at, s in enumerate(steps if found else ()):
        read = {t.buffer for t in s.inputs if t is not None}
        for buffer in read | {s.output.buffer} if _copies(s) else read:
            if buffer in found:
                found[buffer].append(at)
    return found


def _copies(s: Step) -> bool:
    return s.kernel == "copy_f32" and len(s.output.shape) == 4


def _reads_all(s: Step) -> bool:
    """Whether a step reads keys and values where they lie, one sequence's for each of its own, and each of them."""
    q, k, v, _, lengths = s.inputs
    assert q is not None
    assert k is not None
    assert v is not None
    return bool(s.params["k_row"]) and lengths is None and k.shape[0] == q.shape[0] == v.shape[0]


def _copy(steps: Sequence[Step | None], touching: Sequence[int], end: int, whole: Tensor) -> tuple[int, Tensor] | None:
    """The step that copies an input of the graph to the front of a tensor [batch, heads, length, size] which nobody
    reads before step `end`, and that input. The steps at `touching` read the tensor's buffer or copy to it."""
    for at in reversed(touching[: bisect_left(touching, end)]):
        s = steps[at]
        if s is None:
            continue
        if any(t is not None and t.buffer is whole.buffer for t in s.inputs):
            return None
        past = s.inputs[0]
        assert past is not None
        for order in ((0, 1, 2, 3), _HEADS_INSIDE):
            front, source = transposed(s.output, order), transposed(past, order)
            if source.buffer.kind == "input" and source.strides[3] == 1 and _is_front(front, whole):
                return at, source
    return None


def _is_front(part: Tensor, whole: Tensor) -> bool:
    same = part.offset == whole.offset and part.strides == whole.strides
    return bool(same and part.shape[:2] == whole.shape[:2] and part.shape[3] == whole.shape[3])


def _appends(s: Step, pasts: Sequence[Tensor]) -> bool:
    """Whether every query sees all of the past, which is then read: as much of keys as of values."""
    p, (k, v) = s.params, pasts
    return bool(k.shape[2] == v.shape[2] and p["left"] >= p["keys"] and p["place"] + p["right"] >= k.shape[2] - 1)


def _take(s: Step, pasts: Sequence[Tensor], nbytes: int) -> None:
    s.inputs = [*s.inputs, *pasts]
    fields = {"past": pasts[0].shape[2], "streams": call(_is_far, nbytes)}
    for letter, t in zip("kv", pasts):
        fields.update((f"past_{letter}_{name}", stride) for name, stride in zip(("batch", "group", "row"), t.strides))
    s.params = {**s.params, **fields}


def _is_far(nbytes: int) -> int:
    return int(nbytes > _FAR_BYTES)
