"""A model's graph without its weights: in place of large constants stand zeros that take no memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileError
from ..formats import load_graph
from ..formats.files import mapped

if TYPE_CHECKING:
    import onnx

    from ..graph import Array, Graph

__all__ = ["read_weightless"]

_KEEP = 4096
"""Bytes up to which a constant is read: shapes, axes and bounds are that small, and shape rules need their values."""
_GRAPH, _INITIALIZER = 7, 5
"""Fields of ModelProto and GraphProto."""
_EXTERNAL = 1
"""TensorProto.DataLocation."""
_DATA = frozenset({4, 5, 6, 7, 9, 10, 11})
"""The fields of a TensorProto that hold values."""


def read_weightless(path: Path) -> tuple[Graph | None, list[str]]:
    """The graph of a model file, and the nodes whose operators do not exist.

    Returns
    -------
    Graph or None
        None where operators are missing that the graph cannot be built without.
    list of str
        A line for each node of a missing operator.

    Raises
    ------
    FileError, GraphError, UnsupportedError
        As `load_graph`, but for missing operators.
    """
    if path.suffix.lower() == ".onnx":
        return _onnx(path)
    # The arrays of a .npz are memory maps, which nobody reads before their checksums are asked for.
    return load_graph(path, verify=False), []


def _onnx(path: Path) -> tuple[Graph | None, list[str]]:
    from ..formats.onnx import _check_head, _metadata
    from ..formats.onnx.build import Builder
    from ..formats.onnx.external import Folder
    from ..formats.onnx.functions import check_calls, parse_functions
    from ..formats.onnx.opsets import versions_of
    from ..formats.onnx.parse import parse_graph
    from ..formats.onnx.proto import parse

    model = parse(_stripped(path), str(path))
    _check_head(model)
    versions = versions_of(model.opset_import, "opset_import") if model.opset_import else {"": 1}
    tensors = _stand_ins(Folder(str(path.parent)))
    functions = parse_functions(model.functions, tensors, "functions")
    source = parse_graph(model.graph, tensors, "graph", body=False)
    check_calls(functions, source.operations, "functions")
    builder = Builder(functions)
    graph = builder.model(source, versions, _metadata(model))
    return (None if builder.unsupported else graph), builder.unsupported


def _stand_ins(folder: Any) -> Any:
    import numpy as np

    from ..formats.onnx.tensors import Tensors, dtype_of

    class StandIns(Tensors):
        """Gives zeros, of one element's memory, for tensors whose data is elsewhere or was left out."""

        def array(self, tensor: onnx.TensorProto, where: str) -> Array:
            fields = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
            given = tensor.HasField("raw_data") or any(len(getattr(tensor, f)) for f in fields)
            dtype = dtype_of(tensor.data_type, where)
            # Negative numbers of one byte may be stored as ten: what was left out is larger than a sixteenth.
            most = _KEEP if tensor.data_location == _EXTERNAL else _KEEP // 16
            if math.prod(tensor.dims) * dtype.itemsize <= most or (given and tensor.data_location != _EXTERNAL):
                return super().array(tensor, where)
            return np.broadcast_to(np.zeros((), dtype), tuple(tensor.dims))

    return StandIns(folder)


# ---- the file, without the bytes of its large initializers


def _stripped(path: Path) -> bytes:
    """The message without the values of large initializers, whose pages are never touched."""
    try:
        with mapped(path) as data, memoryview(data) as view:
            return b"".join(_model(view))
    except IndexError:
        raise FileError("not an ONNX model", where=str(path), expected="a protobuf message") from None


def _model(view: memoryview) -> Iterator[bytes]:
    for number, start, begin, end in _fields(view, 0, len(view)):
        if number == _GRAPH:
            yield _message(number, b"".join(_graph(view, begin, end)))
        else:
            yield bytes(view[start:end])


def _graph(view: memoryview, begin: int, end: int) -> Iterator[bytes]:
    for number, start, inner, stop in _fields(view, begin, end):
        if number == _INITIALIZER and stop - inner > _KEEP:
            kept = (bytes(view[s:e]) for n, s, _, e in _fields(view, inner, stop) if n not in _DATA)
            yield _message(number, b"".join(kept))
        else:
            yield bytes(view[start:stop])


def _message(number: int, content: bytes) -> bytes:
    length, size = b"", len(content)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def _fields(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Per field of a message: its number, where its key begins, and where its content begins and ends."""
    while at < end:
        start = at
        key, at = _varint(view, at)
        kind = key & 7
        if kind == 2:
            size, at = _varint(view, at)
        elif kind == 0:
            size = _varint(view, at)[1] - at
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise IndexError("a group, or damaged")
        if at + size > end:
            raise IndexError("beyond the end")
        yield key >> 3, start, at, at + size
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("too long a number")
