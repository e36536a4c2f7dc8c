"""Other shapes of the same elements, parts, copies, and values made of nothing but a size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....graph import Array, Dim
from ..calls import Ref, Sym
from ..emitter import Emitter
from ._table import aten

_FAR = (1 << 63) - 1
_FLOAT, _WHOLE = np.dtype(np.float32), np.dtype(np.int64)


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


def _product(sizes: Sequence[Dim]) -> int:
    """The product of sizes, -1 where one is not known."""
    known = [d for d in sizes if isinstance(d, int)]
    return math.prod(known) if len(known) == len(sizes) else -1


@aten("view", "reshape", "_unsafe_view", "_reshape_alias", "view_copy")
def view(e: Emitter, self: Any, size: Any = None, shape: Any = None, stride: Any = None, dtype: Any = None) -> Ref:
    sizes = size if size is not None else shape
    if sizes is None:
        raise e.refuse("a view of other bits")
    return e.reshape(self, sizes)


@aten("flatten")
def flatten(e: Emitter, self: Any, start_dim: int = 0, end_dim: int = -1) -> Ref:
    rank = e.rank_of(self)
    if rank == 0:
        return e.reshape(self, [1])
    begin, end = e.axis(self, start_dim), e.axis(self, end_dim)
    if begin == 1 and end == rank - 1:
        return e.node("Flatten", self, axis=1)
    known = e.shape_of(self)
    middle = known[begin : end + 1]
    merged = _product(middle)
    head = [e.size(self, k) for k in range(begin)]
    return e.reshape(self, [*head, merged, *(e.size(self, k) for k in range(end + 1, rank))])


@aten("unflatten")
def unflatten(e: Emitter, self: Any, dim: int, sizes: list[Any]) -> Ref:
    axis = e.axis(self, dim)
    rank = e.rank_of(self)
    head, tail = [e.size(self, k) for k in range(axis)], [e.size(self, k) for k in range(axis + 1, rank)]
    return e.reshape(self, [*head, *sizes, *tail])


@aten("permute", "permute_copy")
def permute(e: Emitter, self: Any, dims: list[int]) -> Ref:
    return e.node("Transpose", self, perm=[e.axis(self, d) for d in dims])


@aten("transpose", "swapaxes")
def transpose(e: Emitter, self: Any, dim0: int, dim1: int) -> Ref:
    order = list(range(e.rank_of(self)))
    if not order:
        return e.node("Identity", self)
    a, b = e.axis(self, dim0), e.axis(self, dim1)
    order[a], order[b] = order[b], order[a]
    return e.node("Transpose", self, perm=order)


@aten("t", "numpy_T")
def t(e: Emitter, self: Any) -> Ref:
    return e.node("Transpose", self, perm=list(range(e.rank_of(self)))[::-1])


@aten("mT")
def transpose_of_matrices(e: Emitter, self: Any) -> Ref:
    return transpose(e, self, -2, -1)


@aten("movedim")
def movedim(e: Emitter, self: Any, source: Any, destination: Any) -> Ref:
    sources = [e.axis(self, d) for d in (source if isinstance(source, list) else [source])]
    targets = [e.axis(self, d) for d in (destination if isinstance(destination, list) else [destination])]
    order = [k for k in range(e.rank_of(self)) if k not in sources]
    for target, axis in sorted(zip(targets, sources)):
        order.insert(target, axis)
    return e.node("Transpose", self, perm=order)


@aten("unsqueeze", "unsqueeze_copy")
def unsqueeze(e: Emitter, self: Any, dim: int) -> Ref:
    return e.node("Unsqueeze", self, _ints(dim % (e.rank_of(self) + 1)))


@aten("squeeze", "squeeze_copy")
def squeeze(e: Emitter, self: Any, dim: Any = None) -> Ref:
    shape = e.shape_of(self)
    asked = range(len(shape)) if dim is None else dim if isinstance(dim, (list, tuple)) else [dim]
    axes = [a for a in (e.axis(self, d) for d in asked) if len(shape) and shape[a] == 1]
    if not axes:
        return e.node("Identity", self)
    return e.node("Squeeze", self, _ints(*axes))


@aten("expand", "expand_copy")
def expand(e: Emitter, self: Any, size: list[Any], implicit: bool = False) -> Ref:
    shape = e.shape_of(self)
    new = len(size) - len(shape)
    # An Expand by one keeps a size.
    target = [1 if s == -1 or (k >= new and s == shape[k - new]) else s for k, s in enumerate(size)]
    return e.node("Expand", self, e.sizes_of(target))


@aten("expand_as")
def expand_as(e: Emitter, self: Any, other: Any) -> Ref:
    return e.node("Expand", self, e.node("Shape", other))


@aten("repeat", "tile")
def repeat(e: Emitter, self: Any, repeats: Any = None, dims: Any = None) -> Ref:
    times = list(repeats if repeats is not None else dims)
    rank = e.rank_of(self)
    times = [1] * (rank - len(times)) + times
    x = self
    if len(times) > rank:
        x = e.node("Unsqueeze", x, _ints(*range(len(times) - rank)))
    return e.node("Tile", x, e.sizes_of(times))


@aten("repeat_interleave.self_int")
def repeat_interleave(e: Emitter, self: Any, repeats: int, dim: int | None = None, output_size: Any = None) -> Ref:
    if dim is None:
        raise e.refuse("repeat_interleave without an axis")
    axis = e.axis(self, dim)
    e.fill([e.size_of(self, axis), repeats])
    places = np.repeat(np.arange(e.size_of(self, axis)), repeats)
    return e.node("Gather", self, places, axis=axis)


@aten("cat", "concat", "concatenate")
def cat(e: Emitter, tensors: list[Any], dim: int = 0) -> Ref:
    full = [x for x in tensors if e.shape_of(x) != (0,)]  # empty vectors join anything
    return e.node("Concat", *e.promoted(*full), axis=e.axis(full[0], dim))


@aten("stack")
def stack(e: Emitter, tensors: list[Any], dim: int = 0) -> Ref:
    axis = dim % (e.rank_of(tensors[0]) + 1)
    return e.node("Concat", *(e.node("Unsqueeze", x, _ints(axis)) for x in e.promoted(*tensors)), axis=axis)


def _split(e: Emitter, x: Any, sizes: list[int], axis: int) -> list[Ref]:
    return e.nodes_of("Split", len(sizes), x, _ints(*sizes), axis=axis)


@aten("split", "split_copy", "unsafe_split")
def split(e: Emitter, self: Any, split_size: Any, dim: int = 0) -> list[Ref]:
    axis = e.axis(self, dim)
    if isinstance(split_size, list):
        return _split(e, self, split_size, axis)
    total = e.size_of(self, axis)
    e.fill([total // max(split_size, 1)])
    return _split(e, self, [min(split_size, total - k) for k in range(0, total, split_size)], axis)


@aten("split_with_sizes", "split_with_sizes_copy")
def split_with_sizes(e: Emitter, self: Any, split_sizes: list[int], dim: int = 0) -> list[Ref]:
    return _split(e, self, split_sizes, e.axis(self, dim))


@aten("chunk", "unsafe_chunk")
def chunk(e: Emitter, self: Any, chunks: int, dim: int = 0) -> list[Ref]:
    return split(e, self, -(-e.size_of(self, dim) // chunks), dim)


@aten("unbind")
def unbind(e: Emitter, self: Any, dim: int = 0) -> list[Ref]:
    axis = e.axis(self, dim)
    e.fill([e.size_of(self, axis)])
    parts = _split(e, self, [1] * e.size_of(self, axis), axis)
    return [e.node("Squeeze", p, _ints(axis)) for p in parts]


@aten("slice", "slice_copy")
def slice_(e: Emitter, self: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Ref:
    begin, stop = 0 if start is None else start, _FAR if end is None else end
    if begin == 0 and stop == _FAR and step == 1:
        return e.node("Identity", self)
    return e.node("Slice", self, e.vector(begin), e.vector(stop), _ints(e.axis(self, dim)), _ints(step))


@aten("narrow")
def narrow(e: Emitter, self: Any, dim: int, start: int, length: int) -> Ref:
    return slice_(e, self, dim, start, start + length)


@aten("select", "select_copy")
def select(e: Emitter, self: Any, dim: int, index: Any) -> Ref:
    return e.node("Gather", self, index if isinstance(index, Ref) else np.int64(index), axis=e.axis(self, dim))


@aten("index_select")
def index_select(e: Emitter, self: Any, dim: int, index: Any) -> Ref:
    return e.node("Gather", self, index, axis=e.axis(self, dim))


@aten("gather")
def gather(e: Emitter, self: Any, dim: int, index: Any, sparse_grad: bool = False) -> Ref:
    return e.node("GatherElements", self, index, axis=e.axis(self, dim))


@aten("index")
def index(e: Emitter, self: Any, indices: list[Any]) -> Ref:
    given = [(k, i) for k, i in enumerate(indices) if i is not None]
    if any(e.dtype_of(i).kind == "b" for _, i in given):
        raise e.refuse("a choice by a mask, whose size is not known before")
    if len(given) == 1:
        axis, chosen = given[0]
        return e.node("Gather", self, chosen, axis=axis)
    axes = [k for k, _ in given]
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise e.refuse("indices on axes that are not neighbours", axes)
    rank, first = e.rank_of(self), axes[0]
    widest = max(e.rank_of(i) for _, i in given)
    x = self
    if first:
        x = e.node("Transpose", x, perm=[*axes, *(k for k in range(rank) if k not in axes)])
    whole = [e.node("Unsqueeze", e.cast(i, _WHOLE), _ints(-1)) for _, i in given]
    shape = whole[0]
    for other in whole[1:]:  # the shape that all are broadcast to
        shape = e.node("Add", shape, other)
    place = e.node("Concat", *(e.node("Expand", i, e.node("Shape", shape)) for i in whole), axis=-1)
    y = e.node("GatherND", x, place)
    if first:
        kept = rank - len(axes)
        order = [*range(widest, widest + first), *range(widest), *range(widest + first, widest + kept)]
        y = e.node("Transpose", y, perm=order)
    return y


@aten("flip")
def flip(e: Emitter, self: Any, dims: list[int]) -> Ref:
    axes = [e.axis(self, d) for d in dims]
    count = len(axes)
    return e.node("Slice", self, _ints(*[-1] * count), _ints(*[-_FAR] * count), _ints(*axes), _ints(*[-1] * count))


@aten("roll")
def roll(e: Emitter, self: Any, shifts: Any, dims: Any = ()) -> Ref:
    shifts, dims = ([v] if isinstance(v, int) else list(v) for v in (shifts, dims))
    if not dims:
        raise e.refuse("roll without axes")
    x = self
    for shift, dim in zip(shifts, dims):
        axis = e.axis(x, dim)
        cut = -shift % e.size_of(x, axis)
        if cut:
            x = e.node("Concat", slice_(e, x, axis, cut), slice_(e, x, axis, 0, cut), axis=axis)
    return x if isinstance(x, Ref) and x != self else e.node("Identity", self)


@aten("tril", "triu")
def tril(e: Emitter, self: Any, diagonal: int = 0) -> Ref:
    return e.node("Trilu", self, np.int64(diagonal), upper=int(e.op == "triu"))


@aten(
    *("contiguous", "clone", "detach", "detach_", "alias", "lift_fresh_copy", "lift_fresh", "positive"),
    *("_assert_tensor_metadata", "requires_grad_", "alias_copy"),
)
def identity(e: Emitter, self: Any = None, **ignored: Any) -> Any:
    return None if self is None else e.node("Identity", self)


@aten("to", "_to_copy", "type_as", "_autocast_to_full_precision")
def to(e: Emitter, self: Any, dtype: Any = None, other: Any = None, **ignored: Any) -> Ref:
    if isinstance(other, Ref):
        dtype = e.dtype_of(other)
    made = self if dtype is None else e.cast(self, dtype)
    return made if made != self else e.node("Identity", self)


# ---- made of a size


def _filled(e: Emitter, sizes: Any, value: Any, dtype: Any) -> Ref:
    dtype = e.dtype_of(value) if dtype is None else dtype
    if all(isinstance(s, int) for s in sizes):
        e.fill(sizes)
        made = Ref(e.add_constant(f"{e.stem}/constant", np.full(sizes, value, dtype)))
    else:
        made = e.node("ConstantOfShape", e.sizes_of(sizes), value=np.array([value], dtype))
    if not value:
        e.zeros.add(made)
    return made


@aten("full", "new_full")
def full(e: Emitter, size: Any, fill_value: Any, dtype: Any = None, self: Any = None, **ignored: Any) -> Ref:
    kind = e.dtype_of(self) if dtype is None and self is not None else dtype
    return _filled(e, size, fill_value, kind)


@aten("zeros", "new_zeros", "empty", "ones", "new_ones")
def zeros(e: Emitter, size: Any, dtype: Any = None, self: Any = None, **ignored: Any) -> Ref:
    kind = dtype or (_FLOAT if self is None else e.dtype_of(self))
    return _filled(e, size, 1 if "ones" in e.op else 0, kind)


@aten("full_like", "zeros_like", "ones_like")
def full_like(e: Emitter, self: Any, fill_value: Any = None, dtype: Any = None, **ignored: Any) -> Ref:
    value = fill_value if fill_value is not None else 1 if e.op == "ones_like" else 0
    sizes = [e.size(self, k) for k in range(e.rank_of(self))]
    return _filled(e, sizes, value, dtype or e.dtype_of(self))


@aten("eye")
def eye(e: Emitter, n: int, m: int | None = None, dtype: Any = None, **ignored: Any) -> Ref:
    e.fill([n, n if m is None else m])
    return Ref(e.add_constant(f"{e.stem}/constant", np.eye(n, m, dtype=dtype or _FLOAT)))


@aten("scalar_tensor")
def scalar_tensor(e: Emitter, s: Any, dtype: Any = None, **ignored: Any) -> Ref:
    return Ref(e.cast(s, dtype or e.dtype_of(s)))


@aten("arange")
def arange(e: Emitter, end: Any, start: Any = 0, step: Any = 1, dtype: Any = None, **ignored: Any) -> Ref:
    values = (start, end, step)
    kind = dtype or (_FLOAT if any(isinstance(v, float) for v in values) else _WHOLE)
    if not any(isinstance(v, Sym) for v in values):
        e.fill([int(abs(end - start) / abs(step or 1))])
        return Ref(e.add_constant(f"{e.stem}/constant", np.arange(start, end, step).astype(kind)))
    return Ref(e.cast(e.node("Range", *(e.cast(v, _WHOLE) for v in values)), kind))


# ---- sizes, which Python calculates with


@aten("sym_size", "size.int")
def sym_size(e: Emitter, self: Any, dim: int) -> Any:
    return e.size(self, dim)


@aten("size")
def size_list(e: Emitter, self: Any) -> list[Any]:
    return [e.size(self, k) for k in range(e.rank_of(self))]


@aten("sym_numel", "numel")
def sym_numel(e: Emitter, self: Any) -> Any:
    known = _product(e.shape_of(self))
    return known if known >= 0 else Sym(e.node("Size", self))
