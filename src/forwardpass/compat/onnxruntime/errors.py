# ruff: noqa: N818 - the names that they have there
"""onnxruntime's errors. Each also is the error of forwardpass that it stands for, with that one's fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import ConfigError, Error, FileError, GraphError, InputError, UnsupportedError

__all__ = [
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoSuchFile",
    "NotImplemented",
    "RuntimeException",
    "translate",
    "translated",
]


class Fail(Error):
    """Whatever has no error of its own."""


class RuntimeException(Error):
    """A run that failed."""


class InvalidArgument(InputError):
    """An input, output or option that does not fit."""


class InvalidGraph(GraphError):
    """A model that is not valid."""


class InvalidProtobuf(FileError):
    """A file that is no model."""


class NoSuchFile(FileError):
    """There is no such file."""


class NotImplemented(UnsupportedError):  # noqa: A001 - its name there
    """A valid model that is not supported."""


_KINDS: tuple[tuple[type[Error], type[Error]], ...] = (
    (InputError, InvalidArgument),
    (ConfigError, InvalidArgument),
    (GraphError, InvalidGraph),
    (FileError, InvalidProtobuf),
    (UnsupportedError, NotImplemented),
    (Error, Fail),
)


def translate(error: Error) -> Error:
    """An error of forwardpass as one of onnxruntime."""
    if type(error).__module__ == __name__:
        return error  # it is one
    kind = next(new for old, new in _KINDS if isinstance(error, old))
    fields = {k: getattr(error, k) for k in ("where", "expected", "got", "hint")}
    return kind(error.message, **fields)


@contextmanager
def translated() -> Iterator[None]:
    """Raises errors of forwardpass as those of onnxruntime."""
    try:
        yield
    except Error as error:
        raise translate(error) from error
