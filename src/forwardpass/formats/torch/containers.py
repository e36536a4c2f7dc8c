"""The two containers of PyTorch's files: a zip archive, or pickles that the storages follow."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import FileError
from ...graph import Array
from ..archive import Archive, excerpt
from .objects import KNOWN, Storage, Tensor, storage_of
from .pickles import Unpickler

__all__ = ["Container", "Entries", "LegacyFile", "ZipFile", "is_script", "root_of", "unpickler"]

MAX_PICKLE_BYTES = 64 << 20
MAX_REPEATED_BYTES = 64 << 20
"""Bytes that tensors whose elements share memory among themselves may take when they are written out."""

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class Container:
    """A file of weights.

    Attributes
    ----------
    value
        What was saved: dicts, lists, numbers, text, and `Tensor`s.
    """

    value: Any

    def __init__(self, where: str) -> None:
        self.where = where
        self._storages: dict[tuple[str, str], Array] = {}
        self._repeated = 0

    def bytes_of(self, storage: Storage) -> memoryview:
        """The data of a storage, of just its size."""
        raise NotImplementedError

    def swapped(self) -> bool:
        """Whether the data is of the other byte order than this machine's."""
        return sys.byteorder == "big"

    def array(self, tensor: Tensor, name: str) -> Array:
        """A tensor as a read-only array: a view of the file where that can be.

        Raises
        ------
        FileError
            Its data is missing or damaged.
        """
        where = f"{self.where}: {excerpt(name)}"
        if 0 in tensor.shape:
            array: Array = np.zeros(tensor.shape, tensor.dtype)
        else:
            flat = self._elements(tensor, where)
            first = tensor.storage.start + tensor.offset
            if tensor.size > tensor.storage.count:
                self._repeated += tensor.size * tensor.dtype.itemsize
                if self._repeated > MAX_REPEATED_BYTES:
                    expected = f"at most {MAX_REPEATED_BYTES} bytes of repeated elements"
                    raise FileError("the tensor is larger than its storage", where=where, expected=expected)
            steps = [s * tensor.dtype.itemsize for s in tensor.strides]
            array = np.lib.stride_tricks.as_strided(flat[first:], tensor.shape, steps, writeable=False)
        array.flags.writeable = False
        return array

    def _elements(self, tensor: Tensor, where: str) -> Array:
        key = (tensor.storage.key, str(tensor.dtype))
        if key not in self._storages:
            data = self.bytes_of(tensor.storage)
            carrier = tensor.dtype if tensor.dtype.names is None else tensor.dtype[0]
            data = data[: len(data) // carrier.itemsize * carrier.itemsize]
            flat = np.frombuffer(data, carrier)
            if self.swapped():
                flat = flat.byteswap()
            flat = np.require(flat, carrier, ["C", "A"])
            if carrier.kind == "b" and flat.size and flat.view(np.uint8).max() > 1:
                raise FileError("bool data other than 0 and 1", where=where)
            self._storages[key] = flat.view(tensor.dtype)
        return self._storages[key]


class Entries(Container):
    """Storages that are entries of a zip archive.

    Parameters
    ----------
    root
        What the names of the file's own entries begin with.
    folder
        Where below that the storages are.
    """

    def __init__(self, archive: Archive, root: str, folder: str) -> None:
        super().__init__(archive.path)
        self._archive, self._root, self._folder = archive, root, folder
        order = f"{root}byteorder"
        mark = bytes(archive.data(order)) if order in archive.members else b"little"
        if mark not in (b"little", b"big"):
            raise FileError("unknown byte order", where=archive.path, expected="little or big", got=excerpt(mark))
        self._order = mark.decode()

    def swapped(self) -> bool:
        return self._order != sys.byteorder

    def bytes_of(self, storage: Storage) -> memoryview:
        entry = f"{self._root}{self._folder}{storage.key}"
        if entry not in self._archive.members:
            raise FileError("the data of a storage is missing", where=self.where, expected=excerpt(entry))
        size = self._archive.members[entry].size
        if size != storage.nbytes:
            where = f"{self.where}: {excerpt(entry)}"
            expected = f"{storage.nbytes} bytes"
            raise FileError("the storage has the wrong size", where=where, expected=expected, got=str(size))
        return self._archive.data(entry)


class ZipFile(Entries):
    """What `torch.save` writes since version 1.6: `NAME/data.pkl`, and one entry for each storage."""

    def __init__(self, path: str) -> None:
        archive = Archive(path)
        root = root_of(archive)
        if root is None:
            raise FileError("not a PyTorch file", where=path, expected="an entry data.pkl")
        if is_script(archive, root):
            hint = "forwardpass.load(path, inputs=...) reads the program with its weights"
            raise FileError("a TorchScript archive, not weights alone", where=path, hint=hint)
        super().__init__(archive, root, "data/")
        entry = f"{root}data.pkl"
        self.value = unpickler(archive.data(entry), f"{path}: {excerpt(entry)}").load()


def root_of(archive: Archive) -> str | None:
    """What the names of a file's entries begin with, None where it has not one pickle."""
    found = [m for m in archive.members if m.endswith("data.pkl") and m.count("/") <= 1]
    return found[0].removesuffix("data.pkl") if len(found) == 1 else None


def is_script(archive: Archive, root: str) -> bool:
    """Whether the file is a TorchScript archive."""
    return f"{root}constants.pkl" in archive.members


class LegacyFile(Container):
    """What older versions write: five pickles, then the storages, each after its number of elements.

    The elements are little-endian whatever the machine was.
    """

    def __init__(self, path: str, data: memoryview) -> None:
        super().__init__(path)
        self._data = data
        seen: dict[str, Storage] = {}
        pickle = unpickler(data, path, seen)
        if pickle.load() != _MAGIC or pickle.load() != _PROTOCOL:
            raise FileError("not a PyTorch file", where=path, expected="the mark of a legacy file")
        pickle.load()  # sizes of C's types, which say nothing about the data
        self.value = pickle.load()
        keys = pickle.load()
        if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys):
            raise FileError("the list of storages is damaged", where=path)
        self._places = self._located(pickle.at, keys, seen)

    def _located(self, at: int, keys: list[str], seen: dict[str, Storage]) -> dict[str, tuple[int, int]]:
        places: dict[str, tuple[int, int]] = {}
        for key in keys:
            if key not in seen or key in places:
                raise FileError("a storage that no tensor has, or that is there twice", where=self.where, got=repr(key))
            storage = seen[key]
            count = int.from_bytes(self._data[at : at + 8], "little", signed=True)
            end = at + 8 + storage.nbytes
            # Bytes of any type are counted in elements of the tensor that was saved first.
            if (storage.dtype is not None and count != storage.total) or end > len(self._data):
                where = f"{self.where}: storage {excerpt(key)}"
                expected = f"{storage.total} elements"
                left = len(self._data) - at
                raise FileError("cut short or damaged", where=where, expected=expected, got=f"{count} in {left} bytes")
            places[key] = at + 8, end
            at = end
        return places

    def bytes_of(self, storage: Storage) -> memoryview:
        if storage.key not in self._places:
            raise FileError("the data of a storage is missing", where=self.where, expected=excerpt(storage.key))
        begin, end = self._places[storage.key]
        if end - begin != storage.nbytes:
            expected, got = f"{storage.nbytes} bytes", str(end - begin)
            raise FileError("the storage has the wrong size", where=self.where, expected=expected, got=got)
        return self._data[begin:end]


def unpickler(
    data: memoryview,
    where: str,
    seen: dict[str, Storage] | None = None,
    kind: type[Unpickler] = Unpickler,
    known: Mapping[str, Any] = KNOWN,
) -> Unpickler:
    """What reads the pickles of a file: names out of `known`, and storages as references alone."""
    if seen is None and len(data) > MAX_PICKLE_BYTES:
        expected = f"<= {MAX_PICKLE_BYTES} bytes"
        raise FileError("the pickle is too long", where=where, expected=expected, got=str(len(data)))

    def persistent(reference: Any) -> Storage:
        storage = storage_of(pickle, reference)
        first = storage if seen is None else seen.setdefault(storage.key, storage)
        if (first.nbytes, first.dtype) != (storage.nbytes, storage.dtype):
            raise pickle.error("two sizes of one storage", expected=str(first.nbytes), got=str(storage.nbytes))
        return storage

    pickle = kind(data, where, known, persistent)
    return pickle
