"""A picture to the names of its most probable classes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..labels import Classes, class_names, probabilities, top
from .pictures import decode, picture_of

if TYPE_CHECKING:
    from ..graph import Array
    from ..run import Model

__all__ = ["classify"]


def classify(model: Model, image: Any, count: int) -> Classes | list[Classes]:
    """`Model.classify`."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError("wrong number of classes", where="top", expected="a positive integer", got=repr(count))
    if len(model.inputs) != 1:
        raise InputError("a picture alone is not enough", where="classify", expected="one input",
                         got=", ".join(model.inputs))  # fmt: skip
    ((name, wanted),) = model.inputs.items()
    pixels = _pixels(image, model, name)
    rank = len(wanted.shape or ()) or pixels.ndim
    single = pixels.ndim + 1 == rank
    output, scores = next(iter(model.run({name: pixels[np.newaxis] if single else pixels}).items()))
    if not isinstance(scores, np.ndarray) or scores.ndim != 2 or scores.dtype.kind != "f":
        raise InputError("no scores of classes", where=f"output {output!r}", expected="floats [N, classes]",
                         got=str(getattr(scores, "shape", type(scores).__name__)))  # fmt: skip
    shares = probabilities(model.graph, output, scores)
    names = class_names(model.graph.metadata, shares.shape[1])
    found = [Classes((names[k] if names else str(k), float(row[k])) for k in top(row, count)) for row in shares]
    return found[0] if single or len(found) == 1 else found


def _pixels(image: Any, model: Model, name: str) -> Array:
    """The picture as an array; files only for a model that takes pictures of any size."""
    wanted = model.inputs[name]
    if not isinstance(image, (str, bytes, os.PathLike)) and not hasattr(image, "convert"):
        return np.asarray(image)
    kind = picture_of(repr(name), wanted)
    if wanted.dtype != np.uint8 or kind.layout != "NHWC" or kind.height is not None or kind.width is not None:
        raise InputError("the model does not take pictures of any size", where=f"input {name!r}",
                         expected="uint8 [N, H, W, C]", got=str(wanted),
                         hint="model.with_preprocessing(...) gives one that does")  # fmt: skip
    if hasattr(image, "convert"):
        from .pictures import CHANNELS_TO_MODE

        plain = image.convert(CHANNELS_TO_MODE[kind.channels])
        return np.asarray(plain, np.uint8).reshape(plain.height, plain.width, kind.channels)
    return decode(image, kind.channels)
