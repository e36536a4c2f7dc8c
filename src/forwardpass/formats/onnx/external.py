"""External data: files beside the model, opened only inside of its folder, and mapped rather than read."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from ...errors import FileError
from ...graph import Array
from ..files import opened

__all__ = ["Folder"]


class Folder:
    """The folder of a model.

    Parameters
    ----------
    path
        None for a model that comes from memory: then there is no external data.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._mapped: dict[str, Array] = {}

    def read(self, entries: Mapping[str, str], size: int, where: str) -> Array:
        """The bytes of a tensor, read-only.

        Parameters
        ----------
        entries
            What the tensor says: location, offset, length.
        size
            Bytes that the tensor must have.

        Raises
        ------
        FileError
            A location outside of the folder, an offset or a length that does not fit, or no such file.
        """
        location = entries.get("location", "")
        offset, length = _number(entries, "offset", 0, where), _number(entries, "length", size, where)
        if length != size:
            expected, got = f"a length of {size} bytes", str(length)
            raise FileError("the external data has the wrong size", where=where, expected=expected, got=got)
        data = self._data(location, where)
        if offset + size > data.nbytes:
            raise FileError(
                "the external data reaches beyond its file",
                where=where,
                expected=f"at most {data.nbytes} bytes, the size of {location!r}",
                got=f"offset {offset} + {size} bytes",
            )
        return data[offset : offset + size]

    def _data(self, location: str, where: str) -> Array:
        if location not in self._mapped:
            self._mapped[location] = _mapped(self._resolved(location, where), location, where)
        return self._mapped[location]

    def _resolved(self, location: str, where: str) -> str:
        if self._path is None:
            hint = "load the model by its path"
            raise FileError("the weights are in another file", where=where, got=location, hint=hint)
        parts = location.replace("\\", "/").split("/")
        drive = os.path.splitdrive(location)[0] or (len(location) > 1 and location[1] == ":")
        if not location or "\0" in location or parts[0] == "" or ".." in parts or drive:
            expected = "a relative path inside of the model's folder"
            raise FileError("unsafe location of external data", where=where, expected=expected, got=repr(location))
        folder = os.path.realpath(self._path)
        found = os.path.realpath(os.path.join(folder, *parts))
        if os.path.commonpath([folder, found]) != folder:
            raise FileError(
                "a link leads out of the model's folder",
                where=where,
                expected="external data inside of it",
                got=repr(location),
                hint="copy the data beside the model",
            )
        return found


def _number(entries: Mapping[str, str], key: str, default: int, where: str) -> int:
    text = entries.get(key, "")
    if not text:
        return default
    if len(text) > 19 or not (text.isascii() and text.isdigit()):
        expected = "a number of bytes"
        raise FileError(f"the {key} of external data is wrong", where=where, expected=expected, got=repr(text[:40]))
    return int(text)


def _mapped(path: str, location: str, where: str) -> Array:
    # No link, lest one appears between the check of the path and this.
    with opened(path, f"{where}: external data {location!r}", links=False) as (file, size):
        return np.asarray(np.memmap(file, np.uint8, "r")) if size else np.empty(0, np.uint8)
