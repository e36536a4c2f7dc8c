"""Files that take the place of older ones in one step, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from ..errors import FileError

__all__ = ["replaced"]


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file to write into, which is put in place when the block ends well.

    Parameters
    ----------
    path
        The file. An old one stays as it is until the new one is complete; arrays mapped from it stay valid.

    Raises
    ------
    FileError
        The operating system refuses, or something else than a file is there, such as a device or a pipe; no partial
        file is left.
    """
    try:
        final = os.path.realpath(os.fsdecode(path))
        special = os.path.exists(final) and not os.path.isfile(final)
    except ValueError as e:  # a null character
        raise FileError(f"cannot write the file ({e})", where=os.fsdecode(path)) from e
    if special:
        raise FileError("not a regular file", where=os.fsdecode(path))
    folder, name = os.path.split(final)
    temporary = os.path.join(folder, f".{name[:100]}.{os.urandom(6).hex()}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                if os.path.exists(final):
                    os.chmod(temporary, os.stat(final).st_mode & 0o7777)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, final)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
    except OSError as e:
        raise FileError(f"cannot write the file ({e.strerror or e})", where=os.fsdecode(path)) from e
