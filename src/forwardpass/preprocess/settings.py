"""What is done to a picture before a network sees it."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InputError, suggest
from ..records import record

if TYPE_CHECKING:
    from ..graph import Graph

__all__ = ["MODES", "Preprocessing"]

MODES: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "unit": {"scale": 1 / 255},
    "tf": {"scale": 1 / 127.5, "mean": 1.0},
    "torch": {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "caffe": {"mean": (103.939, 116.779, 123.68), "channels": "BGR"},
}
"""Name -> settings. "tf", "torch" and "caffe" are the modes of `keras.applications.imagenet_utils.preprocess_input`,
"unit" is 0 to 1, "none" leaves 0 to 255."""

_FITS = ("stretch", "crop", "pad")
_INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
_LARGEST = 1 << 16


@record(frozen=True, slots=True)
class Preprocessing:
    """What is done to a picture: y = (resized * scale - mean) / std.

    Attributes
    ----------
    size
        Height and width of the result; None leaves them.
    fit
        "stretch": the aspect ratio is not kept. "crop": the shorter side is resized and the middle cut out. "pad": the
        longer side fits, and black is left beside the shorter one.
    shorter
        For "crop": what the shorter side is resized to before the middle is cut out, such as 256 for 224. By default
        no more is cut than the aspect ratio asks for.
    interpolation
        "bilinear", "bicubic" or "nearest".
    antialias
        Whether a picture that shrinks is smoothed, as Pillow and torchvision do; `tf.image.resize` does not.
    scale, mean, std
        Numbers; mean and std may be one per channel, in the order of `channels`.
    channels
        The order of three channels that the network takes: "RGB" or "BGR".

    Raises
    ------
    InputError
        A setting that makes no sense.
    """

    size: tuple[int, int] | None = None
    fit: str = "stretch"
    shorter: int | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: str = "RGB"

    @classmethod
    def of(cls, mode: str = "none", **settings: Any) -> Preprocessing:
        """The settings of a mode, and others, which come before those.

        Raises
        ------
        InputError
            An unknown mode or setting, or a setting that makes no sense.
        """
        if mode not in MODES:
            hint = suggest(str(mode), MODES)
            raise InputError(
                "unknown mode", where="mode", expected=f"one of {', '.join(MODES)}", got=repr(mode), hint=hint
            )
        known = tuple(cls.__annotations__)
        for name in settings:
            if name not in known:
                hint = suggest(name, known)
                raise InputError(
                    "unknown setting", where="preprocessing", expected=", ".join(known), got=name, hint=hint
                )
        return cls(**_checked({**MODES[mode], **settings}))

    def graph(self, layout: str = "NHWC", channels: int = 3) -> Graph:
        """The settings as a graph of their own, from `image`, uint8 [N, H, W, channels], to `pixels`, float32.

        Parameters
        ----------
        layout
            Of the result: "NHWC" or "NCHW".
        """
        from .prefix import prefix

        return prefix(self, layout, channels)


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    found = dict(given)
    for name, allowed in (("fit", _FITS), ("interpolation", _INTERPOLATIONS), ("channels", ("RGB", "BGR"))):
        if name in found and found[name] not in allowed:
            raise InputError(
                f"wrong {name}", where="preprocessing", expected=" or ".join(allowed), got=repr(found[name])
            )
    if found.get("size") is not None:
        size = found["size"]
        found["size"] = _sizes((size, size) if isinstance(size, int) else size)
    if found.get("shorter") is not None:
        (found["shorter"],) = _sizes((found["shorter"],), 1)
        if found.get("fit") != "crop":
            raise InputError("only a picture that is cropped has it", where="shorter", expected="fit='crop'")
        if found.get("size") is not None and found["shorter"] < max(found["size"]):
            expected = f"at least {max(found['size'])}, the size"
            raise InputError("less than is cut out", where="shorter", expected=expected, got=str(found["shorter"]))
    for name in ("mean", "std"):
        if name in found:
            found[name] = _numbers(name, found[name])
    if "scale" in found:
        (found["scale"],) = _numbers("scale", found["scale"])
    if not all(found.get("std", (1.0,))):
        raise InputError("no number can be divided by it", where="std", got="0")
    return found


def _sizes(value: Any, count: int = 2) -> tuple[int, ...]:
    try:
        found = tuple(operator.index(d) for d in value)
    except TypeError:
        found = ()
    if len(found) != count or not all(1 <= d <= _LARGEST for d in found):
        expected = f"height and width, 1 to {_LARGEST}" if count == 2 else f"1 to {_LARGEST}"
        raise InputError("wrong size", where="size" if count == 2 else "shorter", expected=expected, got=repr(value))
    return found


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    try:
        found = tuple(float(v) for v in (value if hasattr(value, "__len__") else (value,)))
    except (TypeError, ValueError):
        found = ()
    if not found or not all(map(math.isfinite, found)) or (name == "scale" and len(found) != 1):
        expected = "a number" if name == "scale" else "a number, or one per channel"
        raise InputError(f"wrong {name}", where=name, expected=expected, got=repr(value))
    return found
