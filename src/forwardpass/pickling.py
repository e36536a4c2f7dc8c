"""Models in pickles: with all that they are made of, or as the path and the hash of their file."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, FileError, suggest
from .formats import load_graph, npz

if TYPE_CHECKING:
    from .run import Model

__all__ = ["WAYS", "check", "reduce"]

WAYS = ("bytes", "path")


def check(way: str, file: str) -> str:
    """The way, if a model of this file ("" for none) can be pickled so.

    Raises
    ------
    ConfigError
        It does not exist, or needs a file.
    """
    if way not in WAYS:
        hint = suggest(str(way), WAYS)
        raise ConfigError("unknown way", where="pickle_by", expected=" or ".join(WAYS), got=repr(way), hint=hint)
    if way == "path" and not file:
        hint = "save it, and load it from there"
        raise ConfigError("the model is from no file", where="pickle_by", expected="a loaded model", hint=hint)
    return way


def reduce(model: Model, way: str, file: str, settings: tuple[Any, ...]) -> Any:
    """`Model.__reduce__`."""
    if way == "path":
        return _from_path, (file, _hash(file), *settings)
    return _from_bytes, (npz.to_bytes(model.graph), *settings)


def _from_bytes(data: bytes, threads: int | None, precision: str, isa: str) -> Model:
    from .run import Model

    return Model(npz.from_bytes(data), threads=threads, precision=precision, isa=isa)


def _from_path(file: str, digest: str, threads: int | None, precision: str, isa: str) -> Model:
    from .run import Model

    if _hash(file) != digest:
        raise FileError("not the file that was pickled", where=file, expected=f"SHA-256 {digest}", got=_hash(file))
    model = Model(load_graph(file), threads=threads, precision=precision, isa=isa)
    model._file = file
    model.pickle_by = "path"
    return model


def _hash(file: str) -> str:
    try:
        found = os.stat(file)
    except OSError as error:
        hint = 'models with pickle_by = "bytes" need no file'
        got = error.strerror or str(error)
        raise FileError("the file of the pickled model cannot be read", where=file, got=got, hint=hint) from None
    return _digest(file, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=16)
def _digest(file: str, size: int, modified: int) -> str:
    """SHA-256 of a file; read once while its size and its time stay."""
    import hashlib

    found = hashlib.sha256()
    with open(file, "rb") as f:
        while block := f.read(1 << 20):
            found.update(block)
    return found.hexdigest()
