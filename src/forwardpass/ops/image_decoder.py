"""ImageDecoder: the pixels of an image file, decoded by Pillow where that is installed."""

from __future__ import annotations

import io

import numpy as np

from ..errors import UnsupportedError
from ..graph import Array, TensorType
from . import shapes
from .registry import Attributes, Constants, Types, operator

_PIXELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}
_FORMATS = ("BMP", "JPEG", "JPEG2000", "TIFF", "PNG", "WEBP", "PPM")


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    stream = shapes.required(types, 0, "encoded_stream", "u")
    shapes.rank_of(stream, "encoded_stream", 1, 1)
    channels = _PIXELS[shapes.choice(attributes, "pixel_format", tuple(_PIXELS))]
    return [shapes.tensor(np.dtype(np.uint8), (None, None, channels))]


def _decode(attributes: Attributes, stream: Array) -> Array:
    try:
        from PIL import Image
    except ImportError:
        raise UnsupportedError("images are decoded by the package Pillow", hint="pip install pillow") from None
    chosen = attributes["pixel_format"]
    try:
        with Image.open(io.BytesIO(stream.tobytes()), formats=_FORMATS) as image:
            pixels = np.array(image.convert("L" if chosen == "Grayscale" else "RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        # By the standard, what cannot be decoded is an image without pixels.
        return np.zeros((0, 0, _PIXELS[chosen]), np.uint8)
    if chosen == "BGR":
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], _PIXELS[chosen]))


operator("ImageDecoder", infer=_infer, reference=_decode, attributes={"pixel_format": "RGB"})
