"""Bytes to a ModelProto. The one module that imports the package onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import FileError, UnsupportedError
from ..files import opened

if TYPE_CHECKING:
    import onnx

__all__ = ["parse", "read_file"]

_MAX_BYTES = (1 << 31) - 1
"""What a protobuf message can hold."""


def parse(data: bytes, where: str) -> onnx.ModelProto:
    """The message.

    Raises
    ------
    UnsupportedError
        The package onnx is not installed.
    FileError
        The bytes are no ONNX model.
    """
    try:
        import onnx
    except ImportError:
        raise UnsupportedError(
            "reading ONNX models needs the package onnx", where=where, hint="pip install forwardpass[onnx]"
        ) from None
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf has its own, which depend on its implementation
        raise FileError("not an ONNX model", where=where, expected="a protobuf message", got=_reason(error)) from None
    return model


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:100] if str(error) else type(error).__name__


def read_file(path: str) -> bytes:
    """The bytes of a model file.

    Raises
    ------
    FileError
        It cannot be read, or is larger than a message can be.
    """
    with opened(path) as (file, size):
        if size > _MAX_BYTES:
            raise FileError(
                "the file is too large for a protobuf message",
                where=path,
                expected=f"at most {_MAX_BYTES} bytes",
                got=str(size),
                hint="larger models keep their weights in external data",
            )
        return file.read()
