"""A graph that grows by the operators that ATen's are made of."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...dtypes import code_of
from ...errors import UnsupportedError
from ...graph import Array, Dim, Node, TensorType
from ..onnx.context import Context
from .calls import Ref, Sym

__all__ = ["Emitter", "Size"]

Size = int | Sym
MAX_FILLED = 1 << 26
"""Elements of all constants together, and outputs of all nodes, that a program makes of sizes alone."""
_ORDER = "buifc"


class Emitter(Context):
    """The graph, and what the definitions of ATen's operators ask it.

    Attributes
    ----------
    where, op
        How messages name the present call, and ATen's name of its operator.
    stem
        What the values of the present call are called.
    zeros
        Values that are nothing but zeros.
    filled
        Elements of the constants that were made of a size alone.
    """

    def __init__(self, taken: Sequence[str]) -> None:
        super().__init__(taken)
        self.where = self.op = self.stem = ""
        self.zeros: set[str] = set()
        self.filled = 0
        self.sizes: dict[str, str] = {}
        """Value of a size -> how the program writes it."""
        self._stated: dict[str, TensorType] = {}

    def state(self, name: str, found: TensorType | None) -> None:
        """Note the type of a value as the program says it."""
        if found is not None:
            self._stated[name] = found

    def type(self, name: str) -> TensorType | None:
        if name in self._stated:
            return self._stated[name]
        return super().type(name)

    def refuse(self, message: str, got: object = "") -> UnsupportedError:
        """What to raise for arguments that this version does not support."""
        return UnsupportedError(message, where=self.where, got=str(got))

    def fill(self, sizes: Sequence[int]) -> None:
        """Refuse to make what a file asks for without holding it, if all of that together is large.

        Raises
        ------
        UnsupportedError
            It is.
        """
        self.filled += math.prod(max(s, 1) for s in sizes)
        if self.filled > MAX_FILLED:
            raise self.refuse(f"constants of more than {MAX_FILLED} elements", list(sizes))

    # ---- nodes

    def node(self, op: str, *inputs: Any, **attributes: Any) -> Ref:
        """Add a node of one output. Inputs that are no values become constants; None is an absent one."""
        return self.nodes_of(op, 1, *inputs, **attributes)[0]

    def nodes_of(self, op: str, count: int, *inputs: Any, **attributes: Any) -> list[Ref]:
        """Add a node of several outputs."""
        names = ["" if i is None else self.value(i) for i in inputs]
        while names and not names[-1]:
            names.pop()
        outputs = [Ref(self.fresh(f"{self.stem}/{op}")) for _ in range(count)]
        self.nodes.append(Node(op, names, list(outputs), attributes, name=outputs[0]))
        return outputs

    def value(self, given: Any, dtype: Any = None) -> str:
        """The name of a value: an array or a number becomes a constant."""
        if isinstance(given, Ref):
            return given
        return self.add_constant(f"{self.stem}/constant", np.asarray(given, dtype))

    def rename(self, first: int, old: str, new: str) -> Ref:
        """Give a value that came with the nodes since `first` another name."""
        for n in self.nodes[first:]:
            n.inputs = [new if i == old else i for i in n.inputs]
            n.outputs = [new if o == old else o for o in n.outputs]
        if old in self._types:
            self._types[new] = self._types.pop(old)
        if old in self.sizes:
            self.sizes[new] = self.sizes.pop(old)
        if old in self.zeros:
            self.zeros.add(new)
        return Sym(new) if isinstance(old, Sym) else Ref(new)

    # ---- what is known

    def array(self, value: Any) -> Array:
        """The array that a value must be: a parameter or another constant."""
        found = self.constant(value) if isinstance(value, Ref) else None
        if found is None:
            raise self.refuse("a parameter that is not a constant", value)
        return found

    def rank_of(self, value: Any) -> int:
        """The rank of a value, which must be known."""
        rank = self.rank(value)
        if rank is None:
            raise self.refuse("the rank of a value is not known", value)
        return rank

    def shape_of(self, value: Any) -> tuple[Dim, ...]:
        """What is known of the shape."""
        found = self.type(value)
        return (None,) * self.rank_of(value) if found is None or found.shape is None else found.shape

    def size_of(self, value: Any, axis: int) -> int:
        """The size of an axis, which must be known."""
        size = self.shape_of(value)[axis]
        if not isinstance(size, int):
            raise self.refuse(f"the size of axis {axis} of {value!r} is not known")
        return size

    def dtype_of(self, value: Any) -> np.dtype[Any]:
        """The element type of a value; numbers have those of Python."""
        if isinstance(value, Sym) or (isinstance(value, int) and not isinstance(value, bool)):
            return np.dtype(np.int64)
        if not isinstance(value, Ref):
            return np.dtype(np.bool_ if isinstance(value, bool) else np.float32)
        found = self.dtype(value)
        if found is None:
            raise self.refuse("the type of a value is not known", value)
        return found

    def axis(self, value: Any, axis: int) -> int:
        """An axis counted from 0."""
        return axis % max(self.rank_of(value), 1)

    # ---- types

    def cast(self, value: Any, dtype: np.dtype[Any]) -> Any:
        """A value of another element type; itself where that is its own."""
        if not isinstance(value, Ref):
            return Ref(self.value(value, dtype))
        if self.dtype_of(value) == dtype and not isinstance(value, Sym):
            return value
        return self.node("Cast", value, to=code_of(dtype))

    def floating(self, value: Any) -> Any:
        """A value in floating point: integers and bools become float32."""
        return value if self.dtype_of(value).kind in "fcV" else self.cast(value, np.dtype(np.float32))

    def promoted(self, *values: Any) -> list[Any]:
        """Values of one element type, by PyTorch's rules.

        A number, or a tensor without axes, counts only where its kind is above that of all tensors with axes.
        """

        def group(v: Any) -> int:
            return 2 if not isinstance(v, Ref) or isinstance(v, Sym) else int(not self.rank(v))

        found: np.dtype[Any] | None = None
        for k in range(3):
            kinds = [self.dtype_of(v) for v in values if group(v) == k]
            if kinds:
                kind = functools.reduce(_joined, kinds)
                if found is None or _above(kind, found):
                    found = kind
        assert found is not None
        return [self.cast(v, found) for v in values]

    # ---- sizes

    def sizes_of(self, sizes: Sequence[Size]) -> Ref:
        """A vector of sizes."""
        if all(isinstance(s, int) for s in sizes):
            return Ref(self.value(np.array(sizes, np.int64)))
        parts = [np.array([s], np.int64) if isinstance(s, int) else self.vector(s) for s in sizes]
        return self.node("Concat", *parts, axis=0) if len(parts) > 1 else Ref(self.value(parts[0]))

    def vector(self, size: Size) -> Ref:
        """One size as a vector."""
        if isinstance(size, Sym):
            return self.node("Unsqueeze", size, np.array([0], np.int64))
        return Ref(self.value(np.array([size], np.int64)))

    def size(self, value: Any, axis: int) -> Size:
        """The size of an axis, as a number where it is known."""
        axis = self.axis(value, axis)
        known = self.shape_of(value)[axis]
        if isinstance(known, int):
            return known
        part = self.node("Shape", value, start=axis, end=axis + 1)
        made = Sym(self.node("Squeeze", part, np.array([0], np.int64)))
        if isinstance(known, str):
            self.sizes[made] = known
        return made

    def reshape(self, value: Any, sizes: Sequence[Size]) -> Ref:
        """Another shape; sizes that are not known stay what they are, or are what is left over."""
        shape = self.shape_of(value)
        target: list[Size] = list(sizes)
        for k, size in enumerate(target):
            same = isinstance(size, Sym) and k < len(shape) and self.sizes.get(size) == shape[k]
            if same and isinstance(shape[k], str):
                target[k] = 0
        unknown = [k for k, size in enumerate(target) if isinstance(size, Sym)]
        if len(unknown) == 1 and -1 not in target:
            target[unknown[0]] = -1
        zero_is_a_size = any(s == 0 for s in sizes if isinstance(s, int))
        if zero_is_a_size:
            return self.node("Reshape", value, self.sizes_of(sizes), allowzero=1)
        return self.node("Reshape", value, self.sizes_of(target))


def _above(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Whether the kind of a type is above that of another: bool, integers, floating point, complex."""
    return _rank(one) > _rank(other)


def _rank(dtype: np.dtype[Any]) -> int:
    kind = "f" if dtype.kind == "V" else "i" if dtype.kind == "u" else dtype.kind
    return _ORDER.index(kind)


def _joined(one: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    """The type of a result of two tensors."""
    if one == other or _above(one, other):
        return one
    if _above(other, one):
        return other
    if "V" in (one.kind, other.kind):  # bfloat16 with another
        return max(one, other, key=lambda d: d.itemsize) if one.itemsize != other.itemsize else np.dtype(np.float32)
    if one.kind == "f" and {one.itemsize, other.itemsize} == {2, 4}:
        return np.dtype(np.float32)
    return np.promote_types(one, other)
