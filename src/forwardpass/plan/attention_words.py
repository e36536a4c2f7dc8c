"""Attention on matrix tiles between products on them: queries, keys, values and results live as operands of bfloat16
numbers, which products and attention make for each other, and never as float32 numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..memory import Buffer
from ..ops import Tensor
from ..ops.split_cost import BLOCK, ROWS
from .planner import Planner, Step
from .split_epilogue import INSTEAD, WORDS

__all__ = ["words_in_attention"]

_MOST_KEYS = 256
"""With which attention has its results at once."""

Fields = dict[str, Any]


def words_in_attention(steps: Sequence[Step], ctx: Planner) -> list[Step]:
    """The steps of a plan, where attention with products of one term reads and writes operands. No bit depends on it:
    the same numbers are rounded, once."""
    if ctx.terms != 1 or all(s.kernel != "attention_bf16" for s in steps):
        return list(steps)
    readers: dict[Buffer, list[tuple[Step, int]]] = {}
    for s in steps:
        for index, t in enumerate(s.inputs):
            if t is not None:
                readers.setdefault(t.buffer, []).append((s, index))
    written = Counter(s.output.buffer for s in steps)
    dropped: list[Step] = []
    for s in steps:
        buffer = s.output.buffer
        if buffer.kind != "arena" or written[buffer] > 1:
            continue
        if s.kernel == "brgemm_split_f32":
            _make_heads(s, readers.get(buffer, []), ctx)
        elif s.kernel == "attention_bf16":
            dropped += _make_operand(s, readers.get(buffer, []), written)
    return [s for s in steps if all(s is not other for other in dropped)]


def _make_heads(product: Step, readers: Sequence[tuple[Step, int]], ctx: Planner) -> None:
    """Let a product make an operand, if attention alone reads its result."""
    p, out = product.params, product.output
    if p["makes"] or p["n_steps"] > p["chunk_steps"] or product.products is None or not readers:
        return
    if any(s.kernel not in ("attention_bf16", "pack_heads_bf16") or index for s, index in readers):
        return
    batch, height, width, n = out.shape
    rows, blocks = height * width, -(-n // BLOCK)
    fields = []
    for s, _ in readers:
        found = _places(s, out, rows)
        if found is None:
            return
        fields.append(found)
    words = batch * blocks * rows * WORDS + ROWS * WORDS  # a tile reads whole, behind the last row
    memory = ctx.storage.temporary((words,), f"{out.buffer.name}.half").buffer
    made = {"made_batch": blocks * rows * WORDS, "made_block": rows * WORDS, "made_row": width * WORDS}
    product.params = {**p, "makes": INSTEAD, **made}
    product.output = Tensor(memory, (words,), (1,), 0)
    if p["split_n"]:
        product.grain = 2
    for (s, _), (offset, strides) in zip(readers, fields):
        s.params = {**s.params, **strides}
        s.inputs = [Tensor(memory, (words,), (1,), offset), *s.inputs[1:]]


def _places(s: Step, out: Tensor, rows: int) -> tuple[int, Fields] | None:
    """Where a reader's heads begin in the operand of `rows` rows made of `out`, and its strides there."""
    x, batch, n = s.inputs[0], out.shape[0], out.shape[3]
    assert x is not None
    size, column = x.shape[3], x.offset - out.offset
    if len(x.shape) != 4 or size % BLOCK or not 0 <= column < n or column % BLOCK:
        return None
    line, group = x.strides[2], x.strides[1]
    if x.strides[3] != 1 or line != n or group % BLOCK:
        return None
    block = rows * WORDS
    if x.strides[0] == out.strides[0]:
        image = -(-n // BLOCK) * block
    elif batch == 1 and x.strides[0] % n == 0:
        image = x.strides[0] // n * WORDS
    else:
        return None
    offset, head = column // BLOCK * block, group // BLOCK * block
    if s.kernel == "attention_bf16":
        return offset, {"q_block": block, "q_batch": image, "q_head": head, "q_row": WORDS}
    along = {"in_n": WORDS} if s.params["in_k"] == 1 else {"in_k": WORDS}
    return offset, {"in_block": block, "in_batch": image, "in_group": head, **along}


def _make_operand(attention: Step, readers: Sequence[tuple[Step, int]], written: Counter[Buffer]) -> list[Step]:
    """Let attention make an operand, if a step that splits its whole result alone reads that: the step that goes."""
    if len(readers) != 1 or readers[0][0].kernel != "split_f32":
        return []
    split, p, out = readers[0][0], readers[0][0].params, attention.output
    x = split.inputs[0]
    assert x is not None
    batch, heads, queries, value = out.shape
    n, plain = heads * value, len(split.inputs) == 1 and not p["pixels"] and written[split.output.buffer] == 1
    borders = any(p[f"pad_{side}"] for side in ("top", "left", "bottom", "right"))
    if not plain or borders or value % BLOCK or x.offset != out.offset or attention.params["keys"] > _MOST_KEYS:
        return []
    if p["c"] != n or out.strides[1:] != (value, n, 1) or x.size != out.size or p["batch"] not in (1, batch):
        return []
    if out.strides[0] != queries * n or not x.contiguous:
        return []
    block = p["h"] * p["w"] * WORDS
    image = n // BLOCK * block if p["batch"] == batch else queries * WORDS
    places = {"out_block": block, "out_batch": image, "out_head": value // BLOCK * block, "out_row": WORDS}
    attention.params = {**attention.params, **places}
    attention.output = split.output
    return [split]
