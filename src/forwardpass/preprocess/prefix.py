"""Preprocessing as nodes: a graph of its own, or before those of a network."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..dtypes import code_of, is_floating
from ..errors import InputError, suggest
from ..graph import Array, Graph, Node, TensorType
from .pictures import Picture, picture_of
from .settings import Preprocessing

__all__ = ["prefix", "with_preprocessing"]

KEY = "preprocessing"
"""Of the metadata."""
_UINT8, _FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)
_MODES = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}
_RESIZE: dict[str, dict[str, Any]] = {
    # Pillow's arithmetic: its cubic is that of a = -0.5, and what is outside of the picture has no weight.
    "linear": {"exclude_outside": 1, "antialias": 1},
    "cubic": {"exclude_outside": 1, "antialias": 1, "cubic_coeff_a": -0.5},
    "nearest": {"nearest_mode": "round_prefer_ceil"},
}


class _Prefix:
    """The nodes while they are made.

    Parameters
    ----------
    graph
        The graph that they go into; names that it has are not used again.
    value
        The picture, [N, H, W, C].
    result
        The name that the last value is going to have.
    """

    def __init__(self, graph: Graph, value: str, result: str) -> None:
        self.graph, self.value = graph, value
        self.nodes: list[Node] = []
        self._taken = {value, result}

    def emit(self, op: str, *inputs: str, **attributes: Any) -> None:
        """A node that takes the value so far."""
        result = self._fresh(f"preprocess/{op.lower()}")
        self.nodes.append(Node(op, [self.value, *inputs], [result], attributes, "", f"preprocess/{op}"))
        self.value = result

    def constant(self, stem: str, array: Array) -> str:
        name = self._fresh(f"preprocess/{stem}")
        self.graph.constants[name] = array
        return name

    def _fresh(self, stem: str) -> str:
        name, k = self.graph.fresh(stem), 0
        while name in self._taken:  # of these nodes, which the graph does not know yet
            k += 1
            name = self.graph.fresh(f"{stem}_{k}")
        self._taken.add(name)
        return name


def _resize(made: _Prefix, settings: Preprocessing) -> None:
    if settings.size is None:
        return
    mode = _MODES[settings.interpolation]
    attributes = {"mode": mode, "axes": [1, 2], **_RESIZE[mode]}
    if not settings.antialias and mode != "nearest":
        attributes["antialias"] = 0
        if mode == "linear":  # no tool has that without antialias; a border pixel counts for those outside
            attributes["exclude_outside"] = 0
    size = settings.size
    if settings.fit != "stretch":
        attributes["coordinate_transformation_mode"] = "half_pixel_symmetric"
        attributes["keep_aspect_ratio_policy"] = "not_smaller" if settings.fit == "crop" else "not_larger"
        size = (settings.shorter, settings.shorter) if settings.shorter is not None else size
    made.emit("Resize", "", "", made.constant("size", np.array(size, np.int64)), **attributes)
    if mode == "cubic":  # which overshoots
        low, high = (made.constant(n, np.array(v, np.float32)) for n, v in (("black", 0), ("white", 255)))
        made.emit("Clip", low, high)
    if settings.fit != "stretch":
        made.emit("CenterCropPad", made.constant("middle", np.array(settings.size, np.int64)), axes=[1, 2])


def _normalise(made: _Prefix, settings: Preprocessing, channels: int) -> None:
    for name, values in (("mean", settings.mean), ("std", settings.std)):
        if len(values) not in (1, channels):
            got = str(len(values))
            raise InputError("not one per channel", where=name, expected=f"1 or {channels}", got=got)
    if settings.channels == "BGR" and channels == 3:
        made.emit("Gather", made.constant("order", np.array([2, 1, 0], np.int64)), axis=3)
    mean, std = (np.array(v, np.float64) for v in (settings.mean, settings.std))
    if mean.any() or (std != 1).any() or settings.scale != 1:
        # In one product and one sum, each of a number that is rounded once.
        factor = made.constant("factor", np.asarray(settings.scale / std, np.float32))
        made.emit("Mul", factor)
        made.emit("Sub", made.constant("mean", np.asarray(mean / std, np.float32)))


def _append(made: _Prefix, settings: Preprocessing, layout: str, channels: int) -> None:
    made.emit("Cast", to=1)
    _resize(made, settings)
    _normalise(made, settings, channels)
    if layout == "NCHW":
        made.emit("Transpose", perm=[0, 3, 1, 2])


def prefix(settings: Preprocessing, layout: str, channels: int) -> Graph:
    """`Preprocessing.graph`."""
    if layout not in ("NHWC", "NCHW"):
        raise InputError("wrong layout", where="layout", expected="NHWC or NCHW", got=repr(layout))
    graph = Graph({"image": TensorType(_UINT8, ("N", None, None, channels))}, ["pixels"], name="preprocessing")
    made = _Prefix(graph, "image", "pixels")
    _append(made, settings, layout, channels)
    made.nodes[-1].outputs[0] = "pixels"
    graph.nodes = made.nodes
    graph.verify()
    return graph


def with_preprocessing(graph: Graph, settings: Preprocessing, name: str | None = None) -> Graph:
    """A network that takes pictures of any size: uint8 [N, H, W, channels] in the place of one of its inputs.

    Parameters
    ----------
    name
        The input; by default the first one.

    Raises
    ------
    InputError
        No such input, or it takes no pictures; or the settings do not fit it.
    """
    name = next(iter(graph.inputs), "") if name is None else name
    if name not in graph.inputs:
        hint = suggest(name, graph.inputs)
        raise InputError(
            "unknown input", where="input", expected=", ".join(graph.inputs) or "none", got=name, hint=hint
        )
    wanted = graph.inputs[name]
    kind = picture_of(repr(name), wanted)
    _check(kind, wanted, name, graph)
    settings = _sized(settings, kind, name)
    copy = graph.copy()
    image = copy.fresh("image") if name != "image" else copy.fresh("picture")
    rows = wanted.shape[0] if wanted.shape else None
    taken = TensorType(_UINT8, (rows, None, None, kind.channels))
    copy.inputs = dict((image, taken) if key == name else (key, t) for key, t in graph.inputs.items())
    made = _Prefix(copy, image, name)
    _append(made, settings, kind.layout, kind.channels)
    if wanted.dtype != _FLOAT32:
        made.emit("Cast", to=code_of(wanted.dtype))
    made.nodes[-1].outputs[0] = name
    copy.nodes = [*made.nodes, *copy.nodes]
    copy.metadata[KEY] = json.dumps({k: getattr(settings, k) for k in Preprocessing.__annotations__})
    copy.verify()
    return copy


def _check(kind: Picture, wanted: TensorType, name: str, graph: Graph) -> None:
    if kind.layout == "flat" or not is_floating(wanted.dtype):
        expected = "float32 [N, H, W, C] or [N, C, H, W] with 1, 3 or 4 channels"
        hint = "it has preprocessing already" if KEY in graph.metadata else ""
        raise InputError(
            "this input takes no pixels", where=f"input {name!r}", expected=expected, got=str(wanted), hint=hint
        )


def _sized(settings: Preprocessing, kind: Picture, name: str) -> Preprocessing:
    """The settings with the size that the input has, where they say none."""
    own = None if kind.height is None or kind.width is None else (kind.height, kind.width)
    if settings.size is None and own is not None:
        values = {k: getattr(settings, k) for k in Preprocessing.__annotations__}
        return Preprocessing(**{**values, "size": own})
    for axis, (a, b) in enumerate(zip(settings.size or (None, None), (kind.height, kind.width))):
        if a is not None and b is not None and a != b:
            what = ("height", "width")[axis]
            raise InputError(f"not the {what} of the network", where=f"input {name!r}", expected=str(b), got=str(a))
    return settings
