"""Picture files to arrays, and what kind of picture an input takes."""

from __future__ import annotations

import io
import math
import os
from typing import TYPE_CHECKING, Any

from ..errors import FileError, InputError, UnsupportedError
from ..records import record

if TYPE_CHECKING:
    from ..graph import Array, Dim, TensorType

__all__ = ["CHANNELS_TO_MODE", "Picture", "decode", "opened", "picture_of"]

CHANNELS_TO_MODE = {1: "L", 3: "RGB", 4: "RGBA"}


@record(frozen=True, slots=True)
class Picture:
    """What an input takes: height and width (None where the picture decides), channels, and the layout "NHWC", "NCHW"
    or "flat"."""

    height: int | None
    width: int | None
    channels: int
    layout: str


def picture_of(where: str, wanted: TensorType) -> Picture:
    """What kind of picture an input of that type takes.

    Raises
    ------
    InputError
        Its shape is not that of pictures.
    """
    shape = wanted.shape or ()
    if len(shape) == 4 and not wanted.container:
        h, w, c = shape[1:]
        layout = "NHWC"
        if c not in CHANNELS_TO_MODE and h in CHANNELS_TO_MODE:
            h, w, c, layout = w, c, h, "NCHW"
        if isinstance(c, int) and c in CHANNELS_TO_MODE:
            return Picture(_size(h), _size(w), c, layout)
    elif len(shape) == 2 and isinstance(shape[1], int):
        side = math.isqrt(shape[1])
        if side * side == shape[1]:
            return Picture(side, side, 1, "flat")
    raise InputError(
        "this input does not take an image",
        where=f"input {where}",
        expected="[N, H, W, C] or [N, C, H, W] with 1, 3 or 4 channels, or [N, side * side]",
        got=str(wanted),
    )


def _size(dim: Dim) -> int | None:
    return dim if isinstance(dim, int) else None


def opened(source: Any, mode: str) -> Any:
    """A picture as Pillow's `Image` of a mode.

    Raises
    ------
    FileError
        No such file, or not a picture that Pillow can decode.
    UnsupportedError
        Pillow is not installed.
    """
    path = isinstance(source, (str, os.PathLike))
    where = os.fsdecode(source) if path else "picture"
    try:
        from PIL import Image
    except ImportError:
        raise UnsupportedError(
            "reading images needs Pillow", where=where, hint="pip install 'forwardpass[cli]'"
        ) from None
    try:
        with Image.open(source if path else io.BytesIO(source)) as image:
            return image.convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise FileError(f"not a readable image: {problem}", where=where) from None


def decode(source: str | os.PathLike[str] | bytes, channels: int = 3) -> Array:
    """The pixels of a picture file. Needs Pillow.

    Parameters
    ----------
    source
        A path, or the bytes of a file.
    channels
        1 for grey, 3 for RGB, 4 for RGBA.

    Returns
    -------
    ndarray of uint8 [height, width, channels]

    Raises
    ------
    FileError
        No such file, or not a picture that Pillow can decode.
    InputError
        Another number of channels.
    UnsupportedError
        Pillow is not installed.
    """
    import numpy as np

    if channels not in CHANNELS_TO_MODE:
        raise InputError("wrong number of channels", where="channels", expected="1, 3 or 4", got=repr(channels))
    image = opened(source, CHANNELS_TO_MODE[channels])
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)
