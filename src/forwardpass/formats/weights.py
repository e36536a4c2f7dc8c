"""Files of weights alone, of every format that has them, as name -> array."""

from __future__ import annotations

import os
from importlib import import_module

from ..errors import UnsupportedError
from ..graph import Array
from .files import first_bytes

__all__ = ["WEIGHTS", "read_weights"]

WEIGHTS = {
    ".npz": "npz",
    ".pth": "torch",
    ".pt": "torch",
    ".bin": "torch",
    ".ckpt": "torch",
    ".safetensors": "safetensors",
    ".h5": "keras.flat",
    ".hdf5": "keras.flat",
}
"""Suffix -> the module of this package whose `read_weights` reads it."""


def read_weights(path: str | os.PathLike[str], *, verify: bool = True) -> dict[str, Array]:
    """Read the arrays of a file of weights: NumPy's, PyTorch's, safetensors' or Keras'. No code in it is run.

    Parameters
    ----------
    path
        The file. Its suffix says the format; without a known suffix its first bytes do.
    verify
        Check the checksums, where the format has them.

    Returns
    -------
    dict
        Name -> read-only array, as they are in the file. `set_weights` of a builder network takes them.

    Raises
    ------
    FileError
        The file cannot be read, is damaged or unsafe.
    UnsupportedError
        The format is not read.
    """
    suffix = os.path.splitext(os.fsdecode(path))[1].lower()
    if suffix not in WEIGHTS:
        suffix = _sniff(path)
    found: dict[str, Array] = import_module(f".{WEIGHTS[suffix]}", __package__).read_weights(path, verify=verify)
    return found


def _sniff(path: str | os.PathLike[str]) -> str:
    """The suffix that a file's first bytes deserve."""
    start = first_bytes(path, 300)
    if start[:4] == b"PK\3\4":
        # The first entry of a zip file of PyTorch is its pickle.
        return ".pth" if b"data.pkl" in start else ".npz"
    if start[:4] == b"\x89HDF":
        return ".h5"
    if start[8:9] == b"{":
        return ".safetensors"
    if start[:1] == b"\x80":
        return ".pth"
    raise UnsupportedError(
        "not a file of weights", where=os.fsdecode(path), expected=", ".join(f"*{s}" for s in WEIGHTS)
    )
