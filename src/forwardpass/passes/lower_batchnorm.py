"""BatchNormalization with constants becomes fused.ScaleShift: a multiplication and an addition per value."""

from __future__ import annotations

from ..graph import Array, Node
from ..ops.normalization import scale_and_shift
from .affine import reshaped_for_channels, rounded
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]


@rule("BatchNormalization")
def lower(view: View, node: Node) -> Result:
    """x * (scale / sqrt(var + epsilon)) + (B - mean * scale / sqrt(var + epsilon)), computed in float64."""
    bound = view.attributes(node)
    if bound["training_mode"]:
        return Declined("training_mode")
    vectors: list[Array] = []
    for name in node.inputs[1:5]:
        array = view.constant(name)
        if array is None:
            return Declined(f"{name!r} is not a constant")
        vectors.append(array)
    x, y = node.inputs[0], node.outputs[0]
    found = view.type(x)
    if found.shape is None:
        return Declined(f"the rank of {x!r} is unknown")
    made = scale_and_shift(vectors, float(bound["epsilon"]))
    names = view.fresh(f"{y}_scale"), view.fresh(f"{y}_shift")
    constants = {
        name: rounded(reshaped_for_channels(vector, len(found.shape)), found.dtype) for name, vector in zip(names, made)
    }
    return Patch(
        "became fused.ScaleShift", [node], [Node("ScaleShift", [x, *names], [y], {}, "fused", node.name)], constants
    )


PASS = Pass("lower_batchnorm", (lower,))
