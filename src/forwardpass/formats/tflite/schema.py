"""What a `.tflite` file holds, as records: tensors, operators, inputs and outputs.

Numbers of fields, operators and types are those of TensorFlow's `lite/schema/schema.fbs`, version 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import FileError, UnsupportedError
from ...graph import Array, Dim
from ...records import record
from ..archive import excerpt
from .flat import Buffer, Table

__all__ = ["Operator", "Parsed", "Tensor", "parse"]

_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM
MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS
SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND
TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT
LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL
LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS
SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG
ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
BATCH_MATMUL PLACEHOLDER CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND
HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS
RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT
"""
_OPERATORS = _NAMES.split()
"""Names by the number that stands for each."""
_CUSTOM = _OPERATORS.index("CUSTOM")

_TYPES: dict[int, Any] = {
    0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 6: np.bool_, 7: np.int16, 9: np.int8,
    10: np.float64, 12: np.uint64, 15: np.uint32, 16: np.uint16,
}  # fmt: skip
"""Number -> element type."""
_OTHER_TYPES = {5: "text", 8: "complex64", 11: "complex128", 13: "resource", 14: "variant", 17: "int4", 18: "bfloat16"}
_MAX_RANK = 32


@record(slots=True, eq=False)
class Tensor:
    """A value.

    Attributes
    ----------
    shape
        None stands for a size that a call decides, or for the whole shape.
    data
        Of a constant.
    scales, zeros
        Real value = scale * (stored value - zero), one for all or one for each place along `axis`; empty where the
        stored value is the real one.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...] | None
    data: Array | None
    scales: Array
    zeros: Array
    axis: int

    @property
    def quantized(self) -> bool:
        return self.scales.size > 0 and self.dtype.kind in "iu"

    def same_scale(self, other: Tensor) -> bool:
        """Whether both stand for real values in the same way."""
        same = np.array_equal(self.scales, other.scales) and np.array_equal(self.zeros, other.zeros)
        return same and self.dtype == other.dtype


@record(slots=True, eq=False)
class Operator:
    """A node: indices of tensors, -1 where an optional one is absent, and the table of its options."""

    kind: str
    inputs: list[int]
    outputs: list[int]
    options: Table | None


@record(slots=True, eq=False)
class Parsed:
    """The first graph of a file; `inputs` and `outputs` are tensor -> name."""

    tensors: list[Tensor]
    operators: list[Operator]
    inputs: dict[int, str]
    outputs: dict[int, str]
    description: str


def parse(data: Any, where: str) -> Parsed:
    """Read all tables of a file.

    Raises
    ------
    FileError
        It is damaged.
    UnsupportedError
        Its version, or a type of elements, is not read.
    """
    buffer = Buffer(data, where)
    if bytes(buffer.data[4:8]) != b"TFL3":
        raise FileError("not a LiteRT model", where=where, expected="the mark TFL3", got=repr(bytes(buffer.data[4:8])))
    root = buffer.root()
    version = root.number(0, "I")
    if version != 3:
        raise UnsupportedError("this version of the format is not read", where=where, expected="3", got=str(version))
    graphs = root.tables(2)
    if not graphs:
        raise FileError("the model has no graph", where=where)
    graph, blocks = graphs[0], root.tables(4)
    tensors = [_tensor(t, k, blocks, buffer) for k, t in enumerate(graph.tables(0))]
    kinds = [_kind(code) for code in root.tables(1)]
    operators = [_operator(o, kinds, len(tensors), buffer) for o in graph.tables(3)]
    ends = [graph.integers(field) for field in (1, 2)]
    for listed in ends:
        _check_indices(listed, 0, len(tensors), buffer)
    given, found = _names(root)
    inputs = {i: given.get(i) or tensors[i].name for i in ends[0]}
    outputs = {o: found.get(o) or tensors[o].name for o in ends[1]}
    return Parsed(tensors, operators, inputs, outputs, root.text(3))


def _check_indices(indices: list[int], least: int, count: int, buffer: Buffer) -> None:
    wrong = [i for i in indices if not least <= i < count]
    if wrong:
        raise FileError("no such tensor", where=buffer.where, expected=f"{least} to {count - 1}", got=str(wrong[0]))


def _kind(code: Table) -> str:
    # Small numbers are in the first field too, which is a byte.
    number = max(code.number(0, "b"), code.integer(3))
    if number == _CUSTOM:
        return f"custom {excerpt(code.text(1), 60)}"
    return _OPERATORS[number] if 0 <= number < len(_OPERATORS) else f"operator {number}"


def _operator(table: Table, kinds: list[str], count: int, buffer: Buffer) -> Operator:
    index = table.number(0, "I")
    if index >= len(kinds):
        raise FileError("no such operator code", where=buffer.where, expected=f"below {len(kinds)}", got=str(index))
    found = Operator(kinds[index], table.integers(1), table.integers(2), table.table(4))
    _check_indices(found.inputs, -1, count, buffer)
    _check_indices(found.outputs, 0, count, buffer)
    return found


def _tensor(table: Table, index: int, blocks: list[Table], buffer: Buffer) -> Tensor:
    name = excerpt(table.text(3)) or f"tensor_{index}"
    where = f"{buffer.where}: tensor {name!r}"
    code = table.number(1, "b")
    if code not in _TYPES:
        raise UnsupportedError("this type of elements is not read", where=where, got=_OTHER_TYPES.get(code, str(code)))
    dtype = np.dtype(_TYPES[code])
    sizes, signature = table.integers(0), table.integers(7)
    if len(sizes) > _MAX_RANK or (signature and len(signature) != len(sizes)):
        raise FileError("the shape is wrong", where=where, expected=f"at most {_MAX_RANK} sizes", got=str(sizes[:40]))
    quantization = table.table(4)
    scales, zeros, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if quantization is not None:
        scales, zeros = quantization.array(2, np.float32), quantization.array(3, np.int64)
        axis = quantization.integer(6)
        zeros = zeros if zeros.size else np.zeros(scales.size, np.int64)
        _check_scales(scales, zeros, axis, sizes, where)
    block = table.number(2, "I")
    if block >= len(blocks):
        raise FileError("no such buffer", where=where, expected=f"below {len(blocks)}", got=str(block))
    data = _data(blocks[block], dtype, sizes, buffer, where)
    shape = tuple(None if s < 0 else s for s in signature or sizes)
    return Tensor(name, dtype, shape, data, scales, zeros, axis)


def _check_scales(scales: Array, zeros: Array, axis: int, sizes: list[int], where: str) -> None:
    if scales.size > 1 and not (0 <= axis < len(sizes) and sizes[axis] == scales.size):
        expected = "one, or one for each place along an axis"
        raise FileError("the scales do not fit", where=where, expected=expected, got=str(scales.size))
    if scales.size and (scales.size != zeros.size or not (np.isfinite(scales) & (scales > 0)).all()):
        raise FileError("the scales are wrong", where=where, expected="positive numbers, each with a zero point")


def _data(block: Table, dtype: np.dtype[Any], sizes: list[int], buffer: Buffer, where: str) -> Array | None:
    raw = block.array(0, np.uint8)
    start, count = block.number(1, "Q"), block.number(2, "Q")
    if start > 1:  # of a file above 2 GiB: behind the tables
        if start + count > len(buffer.data):
            raise FileError("the data does not lie in the file", where=where, got=f"{count} bytes at {start}")
        raw = np.frombuffer(buffer.data, np.uint8, count, start)
    if not raw.size:
        return np.zeros(sizes, dtype) if 0 in sizes and min(sizes) == 0 else None
    expected = dtype.itemsize
    for size in sizes:
        expected *= size
    if any(s < 0 for s in sizes) or expected != raw.nbytes:
        raise FileError("the data is of another size", where=where, expected=f"{expected} bytes", got=f"{raw.nbytes}")
    return np.frombuffer(raw.data, dtype.newbyteorder("<")).reshape(sizes)


def _names(root: Table) -> tuple[dict[int, str], dict[int, str]]:
    """The names that the first signature gives to inputs and outputs of the first graph."""
    for signature in root.tables(7):
        if signature.number(4, "I") == 0:
            return tuple({m.number(1, "I"): m.text(0) for m in signature.tables(f)} for f in (0, 1))  # type: ignore[return-value]
    return {}, {}
