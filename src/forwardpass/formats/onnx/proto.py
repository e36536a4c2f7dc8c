"""Bytes to a ModelProto. The one module that imports the package onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import FileError, UnsupportedError
from ..files import opened

if TYPE_CHECKING:
    from types import ModuleType

    from onnx import ModelProto

__all__ = ["MAX_BYTES", "package", "parse", "read_file"]

MAX_BYTES = (1 << 31) - 1
"""What a protobuf message can hold."""


def package(purpose: str, where: str = "") -> ModuleType:
    """The package onnx.

    Parameters
    ----------
    purpose
        What needs it, for the message.

    Raises
    ------
    UnsupportedError
        It is not installed.
    """
    try:
        import onnx
    except ImportError:
        hint = "pip install 'forwardpass[onnx]'"
        raise UnsupportedError(f"{purpose} needs the package onnx", where=where, hint=hint) from None
    return onnx


def parse(data: bytes, where: str) -> ModelProto:
    """The message.

    Raises
    ------
    UnsupportedError
        The package onnx is not installed.
    FileError
        The bytes are no ONNX model.
    """
    onnx = package("reading ONNX models", where)
    try:
        model: ModelProto = onnx.ModelProto.FromString(data)
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
        if size > MAX_BYTES:
            raise FileError(
                "the file is too large for a protobuf message",
                where=path,
                expected=f"at most {MAX_BYTES} bytes",
                got=str(size),
                hint="larger models keep their weights in external data",
            )
        return file.read()
