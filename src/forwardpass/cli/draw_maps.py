"""Feature maps as a picture. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from ..graph import Array

__all__ = ["draw"]

_KINDS = (".png", ".svg", ".pdf")
_INCHES = 1.3
"""Of a map."""


def draw(path: Path, title: str, maps: Sequence[Array]) -> None:
    """Draw maps [H, W] in a grid, each in its own range from dark to bright; one of a single value is grey.

    Raises
    ------
    InputError
        A file of a kind that is not drawn.
    UnsupportedError
        matplotlib is not installed.
    """
    if path.suffix.lower() not in _KINDS:
        raise InputError("unknown kind of file", where="--output", expected=" or ".join(_KINDS), got=str(path))
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        hint = "pip install forwardpass[plot]"
        raise UnsupportedError("drawing needs matplotlib", where="--output", hint=hint) from None
    height, width = maps[0].shape
    columns = min(len(maps), max(1, round(math.sqrt(len(maps) * 1.5 * height / max(width, 1)))))
    rows = -(-len(maps) // columns)
    tall = _INCHES * min(max(height / width, 0.2), 5)
    figure = Figure(figsize=(max(columns * _INCHES, 4), rows * (tall + 0.22) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    for k, plane in enumerate(maps):
        axes = figure.add_subplot(rows, columns, k + 1)
        flat = plane.min() == plane.max()
        axes.imshow(plane, cmap="gray" if flat else "viridis", interpolation="nearest", **_range(flat))
        axes.set_title(str(k), fontsize=7, pad=2)
        axes.set_axis_off()
    figure.savefig(path, dpi=120)


def _range(flat: bool) -> dict[str, Any]:
    return {"vmin": -1e30, "vmax": 1e30} if flat else {}
