"""Text in messages: what is not UTF-8 comes from protobuf as bytes."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import FileError

__all__ = ["text_of", "texts_of"]


def text_of(value: str | bytes) -> str:
    """A name or other text.

    Raises
    ------
    FileError
        It is not UTF-8.
    """
    if isinstance(value, str):
        return value
    raise FileError("a name is not UTF-8", got=repr(value[:40]))


def texts_of(values: Iterable[str | bytes]) -> list[str]:
    """Several texts; raises as `text_of`."""
    return [text_of(v) for v in values]
