"""HDF5 files, read through h5py and trusted in nothing: the one module that imports it.

Only what lies in the file itself is read: hard links, contiguous or chunked data, the compression that the library
brings along. Links to other places, virtual datasets, external storage and filters that would be loaded as plug-ins
are refused, and no array may claim more data than its stored bytes can justify.
"""

from __future__ import annotations

import io
import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from struct import Struct
from typing import Any

import numpy as np

from ...errors import Error, FileError, UnsupportedError
from ...graph import Array
from ..archive import excerpt

__all__ = ["MAX_DEPTH", "MAX_NAMES", "Group", "opened"]

MAX_NAMES = 100_000
"""Most entries of a group, and most texts of an attribute."""
MAX_DEPTH = 64
"""How deeply groups may lie in each other."""
MAX_TEXT = 64 << 20
"""Most bytes of an attribute."""
MAX_RANK = 32
MAX_RATIO = 1100
"""Deflate cannot reach more than 1032:1, so a dataset that claims more is a lie."""
INFLATED_BASE, INFLATED_PER_BYTE = 64 << 20, 8
"""All arrays together may hold at most base + per_byte * (size of the file) bytes."""

_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
_HEAP, _HEAP_SIZE, _HEAP_ENTRY = b"GCOL\1\0\0\0", Struct("<Q"), Struct("<HH4xQ")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextmanager
def _guarded(where: str) -> Iterator[None]:
    """Turn whatever h5py raises on a damaged file into one kind of error."""
    try:
        yield
    except Error:
        raise
    except Exception as error:  # h5py has no base class: OSError, KeyError, RuntimeError, ValueError, TypeError, ...
        reason = excerpt(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise FileError("damaged HDF5 data", where=where, got=reason) from error


class _Limit:
    """How many bytes of arrays may still be read."""

    def __init__(self, size: int) -> None:
        self.total = self.left = INFLATED_BASE + INFLATED_PER_BYTE * size

    def take(self, count: int, where: str) -> None:
        self.left -= count
        if self.left < 0:
            expected = f"at most {self.total} bytes in all"
            raise FileError("the arrays are suspiciously large", where=where, expected=expected)


class Group:
    """One group of an open file.

    Attributes
    ----------
    where
        What messages call it: the file and the path inside.
    """

    def __init__(self, h5py: Any, group: Any, where: str, limit: _Limit, depth: int = 0) -> None:
        self._h5py, self._group, self.where, self._limit, self._depth = h5py, group, where, limit, depth

    def names(self) -> list[str]:
        """Names of what lies in the group, in the order of the file."""
        with _guarded(self.where):
            count = len(self._group)
            if count > MAX_NAMES:
                raise FileError("too many entries", where=self.where, expected=f"at most {MAX_NAMES}", got=str(count))
            return [str(name) for name in self._group]

    def _get(self, name: str) -> Any:
        """The object with this name, or None. Raises FileError where the name is a link out of the tree."""
        where = f"{self.where}/{excerpt(name)}"
        with _guarded(where):
            link = self._group.get(name, getlink=True)
            if link is None:
                return None
            if not isinstance(link, self._h5py.HardLink):
                kind = type(link).__name__
                raise FileError("a link that is not followed", where=where, expected="data in the file", got=kind)
            return self._group[name]

    def group(self, path: str) -> Group | None:
        """The group at a path of names with slashes, or None where there is none."""
        here = self
        for name in _parts(path, self.where):
            found = here._get(name)
            if found is None or not isinstance(found, self._h5py.Group):
                return None
            if here._depth >= MAX_DEPTH:
                raise FileError("groups are nested too deeply", where=here.where, expected=f"at most {MAX_DEPTH}")
            here = Group(self._h5py, found, f"{here.where}/{excerpt(name)}", self._limit, here._depth + 1)
        return here

    def array(self, path: str) -> Array | None:
        """The dataset at a path as an array of numbers in native byte order, or None where there is none.

        Raises
        ------
        FileError
            It is damaged, not stored in the file, or larger than its bytes allow.
        """
        *parents, name = _parts(path, self.where)
        home = self.group("/".join(parents)) if parents else self
        found = home._get(name) if home is not None else None
        if found is None or not isinstance(found, self._h5py.Dataset):
            return None
        where = f"{self.where}/{excerpt(path)}"
        with _guarded(where):
            self._check(found, where)
            array = np.empty(found.shape, found.dtype)
            if array.size:
                found.read_direct(array) if array.ndim else array.__setitem__((), found[()])
            return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def _check(self, dataset: Any, where: str) -> None:
        shape, dtype = dataset.shape, dataset.dtype
        if shape is None or len(shape) > MAX_RANK:
            raise FileError(
                "not an array", where=where, got="an empty dataset" if shape is None else f"{len(shape)} axes"
            )
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise FileError("not an array of numbers", where=where, got=excerpt(dtype))
        if dataset.is_virtual:
            raise FileError("a virtual dataset", where=where, expected="data in the file")
        if dataset.external:
            raise FileError("external storage", where=where, expected="data in the file")
        created = dataset.id.get_create_plist()
        for k in range(created.get_nfilters()):
            code = created.get_filter(k)[0]
            if code not in _FILTERS:
                expected = f"one of {', '.join(_FILTERS.values())}"
                raise FileError("unknown compression", where=where, expected=expected, got=f"filter {code}")
        size = math.prod(shape) * dtype.itemsize
        stored = dataset.id.get_storage_size()
        # A dataset may be declared without data; the library would make up its values.
        most = stored if dataset.chunks is None else MAX_RATIO * stored
        if size > most:
            raise FileError("the data is missing", where=where, expected=f"{size} bytes", got=f"{stored} stored")
        if dataset.chunks is not None:
            self._limit.take(math.prod(dataset.chunks) * dtype.itemsize, where)
        self._limit.take(size, where)

    def text(self, name: str) -> str | None:
        """An attribute that is a text, or None where there is none."""
        found = self.texts(name)
        if found is None:
            return None
        if len(found) != 1:
            raise FileError(f"attribute {name!r} is wrong", where=self.where, expected="one text", got=f"{len(found)}")
        return found[0]

    def texts(self, name: str) -> list[str] | None:
        """An attribute that is a list of texts, or None. Long lists are stored in parts: name0, name1, ..."""
        whole = self._attribute(name)
        if whole is not None:
            return whole
        parts: list[str] = []
        k = 0
        while (part := self._attribute(f"{name}{k}")) is not None and len(parts) <= MAX_NAMES:
            parts += part
            k += 1
        return parts if k else None

    def _attribute(self, name: str) -> list[str] | None:
        where = f"{self.where}: attribute {name!r}"
        with _guarded(where):
            attributes = self._group.attrs
            if name not in attributes:
                return None
            stored = attributes.get_id(name)
            count = math.prod(stored.shape or ())
            if count == 0:
                return []
            if count > MAX_NAMES or count * stored.dtype.itemsize > MAX_TEXT:
                raise FileError("the attribute is too large", where=where)
            value = attributes[name]
            if isinstance(value, self._h5py.Empty):
                return []
            items = value.ravel().tolist() if isinstance(value, np.ndarray) else [value]
            texts = [i.decode("utf-8") if isinstance(i, bytes) else i for i in items]
            if not all(isinstance(t, str) for t in texts):
                raise FileError("not text", where=where, got=excerpt(repr(value)))
            if sum(map(len, texts)) > MAX_TEXT:
                raise FileError("the attribute is too large", where=where)
            return texts


def _parts(path: str, where: str) -> list[str]:
    parts = [p for p in path.split("/") if p]
    if "." in parts or ".." in parts or not parts:
        raise FileError("not a path inside the file", where=where, got=excerpt(repr(path)))
    return parts


def _check_heaps(data: bytes | mmap.mmap, where: str) -> None:
    """Walk the heaps that hold texts, as the library does, which goes on for ever where an entry has no length."""
    start = data.find(_HEAP)
    while start >= 0:
        (size,) = _HEAP_SIZE.unpack_from(data[start + len(_HEAP) : start + 16].ljust(8, b"\0"))
        at, end = start + 16, min(start + size, len(data))
        while at + _HEAP_ENTRY.size <= end:
            index, _, length = _HEAP_ENTRY.unpack_from(data, at)
            step = length if index == 0 else _HEAP_ENTRY.size + -(-length // 8) * 8
            if step < _HEAP_ENTRY.size:
                raise FileError("damaged HDF5 data", where=where, got=f"an entry without length at byte {at}")
            at += step
        start = data.find(_HEAP, start + 1)


@contextmanager
def opened(source: str | bytes, where: str) -> Iterator[Group]:
    """The root group of a file, or of the bytes of one.

    Raises
    ------
    UnsupportedError
        The package h5py is not installed.
    FileError
        It is no HDF5 file, or damaged.
    """
    try:
        h5py = import_module("h5py")
    except ImportError:
        hint = "pip install 'forwardpass[keras]'"
        raise UnsupportedError("reading HDF5 needs the package h5py", where=where, hint=hint) from None
    # An open file has no folder, so nothing could be found beside it.
    stream: Any = open(source, "rb") if isinstance(source, str) else io.BytesIO(source)  # noqa: SIM115
    with stream:
        if stream.read(len(_SIGNATURE)) != _SIGNATURE:
            raise FileError("not an HDF5 file", where=where, expected="the signature of HDF5 at its start")
        stream.seek(0)
        if isinstance(source, str):
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                size = len(data)
                _check_heaps(data, where)
        else:
            size = len(source)
            _check_heaps(source, where)
        with _guarded(where):
            file = h5py.File(stream, "r")
        try:
            yield Group(h5py, file, where, _Limit(size))
        finally:
            with _guarded(where):
                file.close()
