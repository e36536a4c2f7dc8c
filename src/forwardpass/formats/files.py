"""Regular files: opened without a wait for whoever writes into a pipe, as a memory map, their first bytes, and their
names in errors."""

from __future__ import annotations

import mmap
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO
from weakref import WeakSet

import numpy as np

from ..errors import Error, FileError, suggest
from ..graph import Array

__all__ = ["fetch", "file_of", "first_bytes", "forget", "mapped", "naming", "opened"]

_POPULATE_READ = 22
"""MADV_POPULATE_READ of Linux, which the standard library does not name."""


_LARGE = 1 << 18
"""Bytes from which it is worth a system call to let go of an array."""
_maps: WeakSet[mmap.mmap] = WeakSet()
"""Of `mapped`: others' maps may hold what is on no disk."""


@contextmanager
def opened(path: str | os.PathLike[str], where: str = "", *, links: bool = True) -> Iterator[tuple[BinaryIO, int]]:
    """An open file and its size.

    Parameters
    ----------
    where
        What messages call it: the path, if not given.
    links
        Whether `path` may be a symbolic link.

    Raises
    ------
    FileError
        It cannot be opened or read, or is no regular file.
    """
    where = where or os.fsdecode(path)
    more = getattr(os, "O_NONBLOCK", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | more)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise FileError("not a regular file", where=where)

    try:
        with open(path, "rb", opener=opener) as file:
            yield file, os.fstat(file.fileno()).st_size
    except (OSError, ValueError) as error:
        message = f"cannot open the file ({getattr(error, 'strerror', None) or error})"
        raise FileError(message, where=where, hint=_near(path, error)) from error


def _near(path: str | os.PathLike[str], error: Exception) -> str:
    """A hint at a file of nearly that name, where there is none of it."""
    folder, name = os.path.split(os.fsdecode(path))
    if not isinstance(error, FileNotFoundError):
        return ""
    with suppress(OSError):
        return suggest(name, os.listdir(folder or "."))
    return ""


def mapped(path: str | os.PathLike[str]) -> mmap.mmap:
    """The bytes of a file, which stay on disk until they are read.

    Raises
    ------
    FileError
        It cannot be opened, is no regular file, or is empty.
    """
    with opened(path) as (file, size):
        if not size:
            raise FileError("the file is empty", where=os.fsdecode(path))
        made = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _maps.add(made)
        return made


def fetch(data: mmap.mmap, start: int, size: int) -> None:
    """Have the system map a part that will be read soon: a fault for every few pages of it takes five times as long.

    Nothing happens, and nothing is lost but that, where the system cannot do it.
    """
    if sys.platform == "linux":
        first = start - start % mmap.PAGESIZE
        with suppress(OSError):  # Linux before 5.14, or a disk that cannot be read, as whoever reads will find
            data.madvise(_POPULATE_READ, first, start + size - first)


def forget(value: Any, *, whole_file: bool = False) -> bool:
    """Have the system take back the pages of a large array of a file that is `mapped`: they count as the process's, who
    would hold its weights twice when they are packed. They stay readable, and in the system's cache of the file.

    Parameters
    ----------
    whole_file
        And all other pages of that file.

    Returns
    -------
    bool
        Whether it is such an array.
    """
    data = file_of(value)
    if data is None or not hasattr(mmap, "MADV_DONTNEED"):
        return False
    first, end = (0, len(data)) if whole_file else _pages(value, data)
    with suppress(OSError):
        data.madvise(mmap.MADV_DONTNEED, first, end - first)
    return True


def file_of(value: Any) -> mmap.mmap | None:
    """The file that is `mapped` of a large array; None for others."""
    if not isinstance(value, np.ndarray) or value.nbytes < _LARGE or not value.size:
        return None
    base: Any = value
    while isinstance(base, np.ndarray):
        base = base.base
    data = base.obj if isinstance(base, memoryview) else base
    return data if isinstance(data, mmap.mmap) and data in _maps else None


def _pages(value: Array, data: mmap.mmap) -> tuple[int, int]:
    """First and last byte of the whole pages of an array of a file."""
    low = value.__array_interface__["data"][0] - np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    spans = [(size - 1) * step for size, step in zip(value.shape, value.strides)]
    first = low + sum(s for s in spans if s < 0)
    end = low + sum(s for s in spans if s > 0) + value.itemsize
    first, end = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    return first, max(first, end)


def first_bytes(path: str | os.PathLike[str], count: int) -> bytes:
    """The bytes that a file begins with, at most so many.

    Raises
    ------
    FileError
        It cannot be opened or read, or is no regular file.
    """
    with opened(path) as (file, _):
        return file.read(count)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Errors from inside say which file they are about, before the place that they name."""
    try:
        yield
    except Error as error:
        if error.where.startswith(path):
            raise
        where = f"{path}: {error.where}" if error.where else path
        raise type(error)(
            error.message, where=where, expected=error.expected, got=error.got, hint=error.hint
        ) from error
