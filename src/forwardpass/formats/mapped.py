"""A regular file as a read-only memory map."""

from __future__ import annotations

import mmap
import os
import stat

from ..errors import FileError

__all__ = ["mapped"]


def mapped(path: str | os.PathLike[str]) -> memoryview:
    """The bytes of a file.

    Raises
    ------
    FileError
        It cannot be opened, is no regular file, or is empty.
    """
    where = os.fsdecode(path)
    try:
        # Opening a pipe would wait for its writer.
        if not stat.S_ISREG(os.stat(where).st_mode):
            raise FileError("not a regular file", where=where)
        with open(where, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise FileError("the file is empty", where=where)
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or str(e)
        raise FileError(f"cannot open the file ({reason})", where=where) from e
