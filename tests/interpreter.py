"""The kernels of csrc/kernels/params.def in NumPy: what every parameter block means, one element at a time.

It runs what lowerings emit without the compiled module. Operands lie in memory with gaps and an offset,
everything else in that memory is NaN, and every read and write is checked to be inside the operand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.graph import Node, TensorType
from forwardpass.ops import ACTIVATIONS, Tensor, activate

KERNELS = Path(__file__).parents[1] / "csrc" / "kernels"


def parameter_blocks() -> dict[str, list[tuple[str, str]]]:
    """Parameter block -> (kind, name) of its fields, read from params.def."""
    text = re.sub(r"//[^\n]*", "", "".join(p.read_text() for p in sorted(KERNELS.glob("params*.def"))))
    blocks = re.findall(r"PARAMS_BEGIN\((\w+)\)(.*?)PARAMS_END\(\1\)", text, re.S)
    return {name: re.findall(r"(I64|F32|DIMS|PTR)\((\w+)\)", body) for name, body in blocks}


def unary_rows() -> list[str]:
    """The names of unary.def, in order."""
    text = re.sub(r"//[^\n]*", "", (KERNELS / "unary.def").read_text())
    return re.findall(r"UNARY\((\w+),", text)


def kernel_blocks() -> dict[str, str]:
    """Kernel -> its parameter block, read from kernels.def and unary.def."""
    text = re.sub(r"//[^\n]*", "", (KERNELS / "kernels.def").read_text())
    found = {k: v for k, v in re.findall(r"KERNEL\((\w+), (\w+)\)", text) if k != "name"}
    return {**found, **{f"{row}_f32": "UnaryParams" for row in unary_rows()}}


@dataclass(eq=False)
class Memory:
    """The memory of one value. `own` marks its elements."""

    data: np.ndarray
    own: np.ndarray
    itemsize: int = 4


def place(shape: Sequence[int], gap: int) -> Tensor:
    """A value of that shape whose outer dimensions have gaps of `gap` elements, surrounded by NaN."""
    strides, step = [], 1
    for position, size in enumerate(reversed(shape)):
        strides.append(step)
        step = step * max(size, 1) + (gap if position < len(shape) - 1 else 0)
    strides.reverse()
    data = np.full(step + 2 * gap, np.nan, np.float32)
    tensor = Tensor(Memory(data, np.zeros(data.shape, bool)), tuple(shape), tuple(strides), gap)
    for index in np.ndindex(*shape):
        tensor.buffer.own[address(tensor, index)] = True
    return tensor


def address(tensor: Tensor, index: Sequence[int]) -> int:
    return tensor.offset + sum(i * s for i, s in zip(index, tensor.strides))


def fill(tensor: Tensor, values: np.ndarray) -> None:
    for index in np.ndindex(*tensor.shape):
        tensor.buffer.data[address(tensor, index)] = values[index]


def read(tensor: Tensor) -> np.ndarray:
    found = np.empty(tensor.shape, np.float32)
    for index in np.ndindex(*tensor.shape):
        found[index] = tensor.buffer.data[address(tensor, index)]
    return found


def _get(tensor: Tensor, offset: int) -> np.float32:
    place_ = tensor.offset + offset
    assert 0 <= place_ < len(tensor.buffer.data), "read outside of the memory"
    assert tensor.buffer.own[place_], "read outside of the value"
    return tensor.buffer.data[place_]


def _put(tensor: Tensor, offset: int, value: Any) -> None:
    place_ = tensor.offset + offset
    assert 0 <= place_ < len(tensor.buffer.data), "write outside of the memory"
    assert tensor.buffer.own[place_], "write outside of the value"
    tensor.buffer.data[place_] = value


def _indices(p: dict[str, Any], rank: str = "rank", shape: str = "shape") -> Iterator[tuple[int, ...]]:
    assert 1 <= p[rank] <= 6
    assert len(p[shape]) == 6
    return product(*(range(d) for d in p[shape][: p[rank]]))


def _dot(index: Sequence[int], strides: Sequence[int]) -> int:
    assert len(strides) == 6
    return sum(i * s for i, s in zip(index, strides))


_BINARY: dict[str, Callable[..., Any]] = {
    "add_f32": np.add,
    "sub_f32": np.subtract,
    "mul_f32": np.multiply,
    "div_f32": np.divide,
    "pow_f32": np.power,
    "min_f32": np.minimum,
    "max_f32": np.maximum,
    "prelu_f32": lambda x, slope: x * slope if x < 0 else x,
}
_REDUCE: dict[str, Callable[..., Any]] = {
    "reduce_sum_f32": np.sum,
    "reduce_mean_f32": np.mean,
    "reduce_max_f32": lambda v: np.max(v, initial=-np.inf),
    "reduce_min_f32": lambda v: np.min(v, initial=np.inf),
    "reduce_prod_f32": np.prod,
    "reduce_l1_f32": lambda v: np.sum(np.abs(v)),
    "reduce_sum_square_f32": lambda v: np.sum(np.square(v)),
}


def _unary(kernel: str, p: dict[str, Any], ins: Sequence[Tensor], out: Tensor) -> int:
    name = next(k for k, a in ACTIVATIONS.items() if f"{a.row}_f32" == kernel)
    count = 0
    for index in _indices(p):
        x = np.asarray(_get(ins[0], _dot(index, p["in_stride"])), np.float32)
        _put(out, _dot(index, p["out_stride"]), activate(name, x, p["alpha"], p["beta"]))
        count += 1
    return count


def _binary(kernel: str, p: dict[str, Any], ins: Sequence[Tensor], out: Tensor) -> int:
    count = 0
    for index in _indices(p):
        a, b = _get(ins[0], _dot(index, p["a_stride"])), _get(ins[1], _dot(index, p["b_stride"]))
        _put(out, _dot(index, p["out_stride"]), _BINARY[kernel](a, b))
        count += 1
    return count


def _activated(p: dict[str, Any], y: Any) -> Any:
    name = next((k for k, a in ACTIVATIONS.items() if a.row == p["activation"]), "")
    return activate(name, np.asarray(y, np.float32), p["alpha"], p["beta"])


def _scale_shift(kernel: str, p: dict[str, Any], ins: Sequence[Tensor], out: Tensor) -> int:
    count = 0
    for index in _indices(p):
        scale, shift = (_get(t, _dot(index, p[name])) for t, name in zip(ins[1:], ("scale_stride", "shift_stride")))
        y = _get(ins[0], _dot(index, p["in_stride"])) * scale + shift
        _put(out, _dot(index, p["out_stride"]), _activated(p, y))
        count += 1
    return count


def _softmax(kernel: str, p: dict[str, Any], ins: Sequence[Tensor], out: Tensor) -> int:
    count = 0
    for index in _indices(p):
        start = _dot(index, p["in_stride"])
        row = np.array([_get(ins[0], start + k * p["in_axis"]) for k in range(p["length"])], np.float32)
        z = row - row.max(initial=-np.inf)
        y = np.exp(z) / np.exp(z).sum() if kernel == "softmax_f32" else z - np.log(np.exp(z).sum())
        for k in range(p["length"]):
            _put(out, _dot(index, p["out_stride"]) + k * p["out_axis"], y[k])
        count += 1
    return count


def _reduce(kernel: str, p: dict[str, Any], ins: Sequence[Tensor], out: Tensor) -> int:
    count = 0
    for kept in _indices(p, "kept_rank", "kept"):
        start = _dot(kept, p["kept_stride"])
        inner = _indices(p, "reduced_rank", "reduced")
        values = [_get(ins[0], start + _dot(i, p["reduced_stride"])) for i in inner]
        _put(out, _dot(kept, p["out_stride"]), _REDUCE[kernel](np.array(values, np.float32)))
        count += 1
    return count


def _copy(kernel: str, p: dict[str, Any], ins: Sequence[Tensor], out: Tensor) -> int:
    count = 0
    for index in _indices(p):
        _put(out, _dot(index, p["out_stride"]), _get(ins[0], _dot(index, p["in_stride"])))
        count += 1
    return count


def _pad(kernel: str, p: dict[str, Any], ins: Sequence[Tensor], out: Tensor) -> int:
    sizes = p["shape"][: p["rank"]]
    assert p["index"].dtype == np.int64
    assert len(p["index"]) == sum(sizes)
    tables = np.split(p["index"], np.cumsum(sizes)[:-1])
    count = 0
    for index in _indices(p):
        source = [int(table[i]) for table, i in zip(tables, index)]
        value = p["value"] if -1 in source else _get(ins[0], _dot(source, p["in_stride"]))
        _put(out, _dot(index, p["out_stride"]), value)
        count += 1
    return count


def _pool(kernel: str, p: dict[str, Any], ins: Sequence[Tensor], out: Tensor) -> int:
    taps = list(product(range(p["kh"]), range(p["kw"])))
    for n, oh, ow, c in product(*(range(p[k]) for k in ("batch", "oh", "ow", "c"))):
        top, left = oh * p["stride_h"] - p["pad_top"], ow * p["stride_w"] - p["pad_left"]
        values, counted = [], 0
        for i, j in taps:
            h, w = top + i * p["dilation_h"], left + j * p["dilation_w"]
            if 0 <= h < p["ih"] and 0 <= w < p["iw"]:
                values.append(_get(ins[0], n * p["in_batch"] + h * p["in_row"] + w * p["in_col"] + c))
            padded = -p["pad_top"] <= h < p["ih"] + p["pad_bottom"] and -p["pad_left"] <= w < p["iw"] + p["pad_right"]
            counted += padded
        if kernel == "max_pool_f32":
            y = np.max(np.array(values, np.float32), initial=-np.inf)
        else:
            y = np.sum(np.array(values, np.float32)) / (counted if p["count_include_pad"] else len(values))
        _put(out, n * p["out_batch"] + oh * p["out_row"] + ow * p["out_col"] + c, y)
    return p["batch"] * p["oh"]


RUN: dict[str, Callable[[str, dict[str, Any], Sequence[Any], Tensor], int]] = {
    "UnaryParams": _unary,
    "BinaryParams": _binary,
    "ScaleShiftParams": _scale_shift,
    "SoftmaxParams": _softmax,
    "ReduceParams": _reduce,
    "CopyParams": _copy,
    "PadParams": _pad,
    "PoolParams": _pool,
}
KERNEL_BLOCKS = kernel_blocks()
BLOCKS = parameter_blocks()


@dataclass(eq=False)
class Context:
    """The `Lowering` of one node: runs every step at once."""

    node: Node
    attributes: dict[str, Any]
    types: list[TensorType | None]
    inputs: list[Tensor | None]
    constants: list[np.ndarray | None]
    out: Tensor
    panel: int = 16
    tile_panels: tuple[int, ...] = (8, 5, 3, 3, 2, 2)
    terms: int = 0
    approximate: bool = False
    half_weights: bool = False
    threads: int = 1
    kernels: list[str] = field(default_factory=list)
    runs: bool = True
    made: dict[Any, np.ndarray] = field(default_factory=dict)

    def declared(self, index: int) -> TensorType | None:
        return None

    def input(self, index: int) -> Tensor | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def constant(self, index: int) -> np.ndarray | None:
        return self.constants[index] if index < len(self.constants) else None

    @property
    def outputs(self) -> list[TensorType]:
        return [TensorType(np.dtype(np.float32), self.out.shape)]

    def output(self, index: int = 0) -> Tensor:
        assert index == 0
        return self.out

    def has_output(self, index: int) -> bool:
        return index == 0

    def tensor(self, array: np.ndarray, shape: tuple[int, ...] | None = None) -> Tensor:
        assert array.dtype == np.float32 or not self.runs
        made = place(array.shape, 0)
        fill(made, array)
        return made

    def temporary(self, shape: tuple[int, ...], dtype: np.dtype[Any] | None = None) -> Tensor:
        return place(shape, 0)

    def packed(self, key: tuple[Any, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        hash(key)
        return self.made.setdefault(key, make())

    def step(
        self,
        kernel: str,
        params: dict[str, Any],
        inputs: Sequence[Tensor | None],
        output: Tensor,
        *,
        units: int,
        grain: int = 1,
        flops: int = 0,
    ) -> None:
        block = KERNEL_BLOCKS[kernel]
        self.kernels.append(kernel)
        if not self.runs:
            return
        assert params.keys() == {name for _, name in BLOCKS[block]}, f"{kernel}: fields of {block}"
        for kind, name in BLOCKS[block]:
            value = params[name]
            wanted = {"I64": int, "F32": float, "DIMS": tuple, "PTR": np.ndarray}[kind]
            if name == "activation":
                assert value is None or value in unary_rows()
                continue
            assert isinstance(value, wanted), f"{kernel}: {name} is {type(value).__name__}"
            assert kind != "DIMS" or all(type(v) is int for v in value)
        assert grain >= 1
        assert flops >= 0
        with np.errstate(all="ignore"):
            assert RUN[block](kernel, params, inputs, output) == units, f"{kernel}: units"
