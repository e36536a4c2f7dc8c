"""Products on matrix tiles, and normalisations between them, that hand their result on split: they make the next
product's operand, and no step of its own reads the result again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..ops import Tensor
from ..ops.split_cost import BLOCK

if TYPE_CHECKING:
    from ..memory import Buffer
    from .planner import Step

__all__ = ["INSTEAD", "WORDS", "split_in_epilogues"]

WORDS = BLOCK // 2
"""Pairs of bfloat16 numbers of a block."""
INSTEAD, _BESIDE = 1, 2
"""Of float32 results, for `makes` of brgemm_split_f32."""
_BESIDE_TERMS = 1
"""Most terms that it pays to write beside the result: with more, a step of its own is as fast."""


def split_in_epilogues(steps: Sequence[Step]) -> list[Step]:
    """The steps of a plan, where `brgemm_split_f32` and `normalize_f32` steps make the operands that `split_f32` steps
    would make of their results. The results of products themselves are left out where nobody else reads them; what is
    split twice is split once."""
    if all(s.kernel != "split_f32" for s in steps):
        return list(steps)
    written = Counter(s.output.buffer for s in steps)
    left: list[Step | None] = list(steps)
    seen: dict[Buffer, list[tuple[Any, int, Tensor]]] = {}
    for k, s in enumerate(steps):
        # An operand that is made in parts, one after another in the same memory, is not there as a whole; one with
        # factors is no split result, and one of pixels none that a product makes.
        other = s.kernel == "split_f32" and (len(s.inputs) > 1 or s.params["pixels"])
        if s.kernel != "split_f32" or written[s.output.buffer] > 1 or other:
            continue
        x = s.inputs[0]
        assert x is not None
        # Compared, not hashed: the sizes may be tracked.
        key = (x.offset, x.shape, x.strides, s.params)
        found = seen.setdefault(x.buffer, [])
        begin, made = next(((at, t) for other, at, t in found if other == key), (0, None))
        if made is not None and not _written(steps[begin + 1 : k], x.buffer):
            _read_instead(steps[k + 1 :], s.output, made)
            left[k] = None
            continue
        found[:] = [(key, k, s.output), *(f for f in found if f[0] != key)]
        at = _producer(steps, k)
        if at is None:
            continue
        if steps[at].kernel == "normalize_f32":
            left[k] = None if _make_of_rows(steps[at], s) else s
        elif _make(steps[at], s, alone=_only_reader(steps, at, k)):
            left[k] = _border(s)
    kept = [s for s in left if s is not None]
    read = {t.buffer for s in kept for t in s.inputs if t is not None}
    # Borders of results that are left out.
    return [s for s in kept if s.kernel != "halo_f32" or s.output.buffer.kind != "arena" or s.output.buffer in read]


def _written(steps: Sequence[Step], buffer: Buffer) -> bool:
    return any(s.output.buffer is buffer and s.kernel != "halo_f32" for s in steps)


def _read_instead(steps: Sequence[Step], old: Tensor, new: Tensor) -> None:
    for s in steps:
        s.inputs = [new if t is not None and t.buffer is old.buffer else t for t in s.inputs]


def _producer(steps: Sequence[Step], k: int) -> int | None:
    """The step whose whole result step `k` splits, if it can do so itself."""
    x, params = steps[k].inputs[0], steps[k].params
    assert x is not None
    for at in range(k - 1, -1, -1):
        s = steps[at]
        if s.output.buffer is x.buffer and s.kernel != "halo_f32":
            if s.kernel == "normalize_f32":
                return at
            # The shapes last: to compare tracked ones is a condition.
            if s.kernel != "brgemm_split_f32" or s.params["terms"] != params["terms"]:
                return None
            same = (s.output.offset, s.output.shape, s.output.strides) == (x.offset, x.shape, x.strides)
            return at if same else None
    return None


def _only_reader(steps: Sequence[Step], at: int, k: int) -> bool:
    """Whether nobody but step `k` reads the result of step `at`, or a concatenation that it is a part of."""
    buffer = steps[at].output.buffer
    others = (s for j, s in enumerate(steps[at + 1 :], at + 1) if j != k)
    return buffer.kind == "arena" and not any(t is not None and t.buffer is buffer for s in others for t in s.inputs)


def _make(product: Step, split: Step, *, alone: bool) -> bool:
    """Let a product make what the step `split` would, where that pays."""
    whole = product.params["n_steps"] <= product.params["chunk_steps"]
    makes = INSTEAD if alone and whole else _BESIDE
    if product.params["makes"] or (makes == _BESIDE and split.params["terms"] > _BESIDE_TERMS):
        return False
    p, made = split.params, split.output
    pixel = p["terms"] * WORDS
    width = p["pad_left"] + p["w"] + p["pad_right"]
    block = (p["pad_top"] + p["h"] + p["pad_bottom"]) * width * pixel
    first = made.offset + (p["pad_top"] * width + p["pad_left"]) * pixel
    target = Tensor(made.buffer, made.shape, made.strides, first)
    fields: dict[str, Any] = {
        "makes": makes,
        "made_batch": -(-p["c"] // BLOCK) * block, "made_block": block, "made_row": width * pixel,
    }  # fmt: skip
    product.params = {**product.params, **fields}
    if makes == INSTEAD:
        product.output = target
    else:
        product.inputs = [*product.inputs, target]
    if product.params["split_n"]:
        product.grain = 2
    return True


def _make_of_rows(rows: Step, split: Step) -> bool:
    """Let a normalisation make what the step `split` would beside its result, where that is so simple."""
    p, n, x, y = split.params, rows.params, split.inputs[0], rows.output
    assert x is not None
    if p["terms"] > _BESIDE_TERMS or n["blocks"] != 1 or len(rows.inputs) > 3 or _has_border(split):
        return False
    same = n["inner"] == p["c"] and x.offset == y.offset and x.contiguous and y.contiguous and x.size == y.size
    if p["c"] % BLOCK or not same:
        return False
    image = p["h"] * p["w"]
    block = image * WORDS
    rows.params = {**n, "image": image, "made_batch": p["c"] // BLOCK * block, "made_block": block}
    rows.inputs = [*rows.inputs, split.output]
    return True


def _has_border(split: Step) -> bool:
    return any(split.params[f"pad_{side}"] for side in ("top", "left", "bottom", "right"))


def _border(split: Step) -> Step | None:
    """What is left of a step that splits: zeros around the images, if there are any."""
    p = split.params
    if not _has_border(split):
        return None
    split.params, split.inputs, split.flops = {**p, "border_only": 1}, [], 0
    return split
