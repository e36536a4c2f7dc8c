"""Which values of a graph are images, and their channels one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import Error, InputError

if TYPE_CHECKING:
    from ..graph import Array, Graph

__all__ = ["is_channels_last", "layers_of", "planes"]

_CHANNELS_FIRST = frozenset(
    {
        "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool",
        "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "QLinearConv",
        "SpaceToDepth",
    }
)  # fmt: skip
"""Operators whose images have their channels on axis 1."""
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def layers_of(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the layers whose value is a batch of images larger than a pixel, for inputs of these shapes.

    A layer is called as its node, or as its value where the node has no name.
    """
    from ..graph import TensorType
    from ..ops.evaluate import infer_types

    given = {k: TensorType(t.dtype, shapes[k]) for k, t in graph.inputs.items()}
    try:
        types = infer_types(graph, given)
    except Error:  # a shape that depends on data; what can be captured still can
        types = {}
    found: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        kind = types.get(node.outputs[0])
        if kind is not None and kind.is_known and len(kind.sizes) == 4 and sorted(kind.sizes)[-2] > 1:
            found[node.title] = kind.sizes
    return found


def is_channels_last(graph: Graph, value: str) -> bool:
    """Whether the channels of an image are its last axis, by the operators that it comes from."""
    producers = graph.producers()
    node = producers.get(value)
    while node is not None:
        if node.op in _CHANNELS_FIRST:
            return node.domain == "nhwc"
        perm = node.attributes.get("perm")
        if node.op == "Transpose" and perm in (_TO_LAST, _TO_FIRST):
            return bool(perm == _TO_LAST)
        value = next((i for i in node.inputs if i in producers or i in graph.inputs), "")
        node = producers.get(value)
    shape = graph.inputs[value].shape if value in graph.inputs else None
    return shape is not None and len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)


def planes(found: Array, name: str, channels_last: bool) -> list[Array]:
    """The maps [H, W] of the first image of a batch, one per channel.

    Raises
    ------
    InputError
        The value is no batch of images.
    """
    if getattr(found, "ndim", 0) != 4 or not found.size or found.dtype.kind not in "fiub":
        got = f"{found.dtype.name}{list(found.shape)}" if hasattr(found, "shape") else type(found).__name__
        expected = "numbers [N, C, H, W] or [N, H, W, C]"
        raise InputError("the values of this layer are no images", where=f"layer {name!r}", expected=expected, got=got)
    image = found[0].transpose(2, 0, 1) if channels_last else found[0]
    return list(image)
