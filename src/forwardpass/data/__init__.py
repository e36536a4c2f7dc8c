"""What ships inside the package: two trained digit classifiers and the held-out images to judge them by.

`docs/examples/train_digits.py` makes all three files; each model's metadata names the source of the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError

if TYPE_CHECKING:
    from ..graph import Array

__all__ = ["digits", "path"]

_FOLDER = Path(__file__).resolve().parent


def path(name: str) -> Path:
    """The file `name` (`digits_cnn.npz`, `digits_mlp.npz`, `digits_test.npz`).

    Raises
    ------
    FileError
        No such file in this installation, listing those there are.
    """
    file = _FOLDER / name
    if not file.is_file():
        there = ", ".join(sorted(p.name for p in _FOLDER.glob("*.npz"))) or "none"
        raise FileError("not among the embedded files", where=name, expected=f"one of {there}")
    return file


def digits() -> tuple[Array, Array]:
    """The held-out digits: images uint8 [N, 8, 8] with values 0 to 16 (ink), and labels uint8 [N]."""
    import numpy as np

    with np.load(path("digits_test.npz"), allow_pickle=False) as archive:
        return archive["images"], archive["labels"]
