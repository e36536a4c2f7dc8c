"""Regular files, opened without a wait for whoever writes into a pipe."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from ...errors import FileError

__all__ = ["opened"]


@contextmanager
def opened(path: str, where: str, *, links: bool = True) -> Iterator[tuple[BinaryIO, int]]:
    """An open file and its size.

    Parameters
    ----------
    where
        What messages call it.
    links
        Whether `path` may be a symbolic link.

    Raises
    ------
    FileError
        It cannot be opened or read, or is no regular file.
    """
    more = getattr(os, "O_NONBLOCK", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | more)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileError("not a regular file", where=where)
            yield file, status.st_size
    except (OSError, ValueError) as error:
        raise FileError(f"cannot open the file ({getattr(error, 'strerror', None) or error})", where=where) from error
