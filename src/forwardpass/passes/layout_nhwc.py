"""Convolutions and pools of images become operators on channels-last values, between two Transposes each.

`sink_transposes` removes the Transposes that meet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array, Node
from ..ops import windows
from .merge_transposes import transpose, transposed_type
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS", "TO_NCHW", "TO_NHWC"]

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)


def _not_an_image(view: View, node: Node, kinds: str = "f") -> Declined | None:
    found = view.type(node.inputs[0])
    if found.shape is None:
        return Declined(f"the rank of {node.inputs[0]!r} is unknown")
    if len(found.shape) != 4:
        return Declined(f"{node.inputs[0]!r} has {len(found.shape) - 2} spatial dimensions, not 2")
    return None if found.dtype.kind in kinds else Declined(f"dtype {found.dtype.name}")


def _window(view: View, node: Node, bound: dict[str, Any], kernel: list[int]) -> dict[str, Any] | Declined:
    """The attributes of a window with explicit pads."""
    auto = bound["auto_pad"]
    if auto.startswith("SAME"):
        shape = view.type(node.inputs[0]).shape
        assert shape is not None
        sizes = [d for d in shape[2:] if isinstance(d, int)]
        if len(sizes) != 2:
            return Declined(f"{auto} needs the size of {node.inputs[0]!r}, which is unknown")
        found = windows.window(bound, sizes, kernel)
        pads = [*found.before, *found.after]
    else:
        given = None if auto == "VALID" else bound["pads"]
        pads = [0, 0, 0, 0] if given is None else [int(p) for p in given]
    return {
        "kernel_shape": kernel,
        "strides": [int(s) for s in bound["strides"] or (1, 1)],
        "pads": pads,
        "dilations": [int(d) for d in bound["dilations"] or (1, 1)],
    }


def _between(
    view: View,
    node: Node,
    operator: str,
    more: list[str],
    attributes: dict[str, Any],
    constants: dict[str, Array] | None = None,
) -> Patch:
    """The operator on channels-last values, between two Transposes."""
    x, y = node.inputs[0], node.outputs[0]
    x_last, y_last = view.fresh(f"{x}_nhwc"), view.fresh(f"{y}_nhwc")
    nodes = [
        transpose(x, x_last, TO_NHWC),
        Node(operator, [x_last, *more], [y_last], attributes, "nhwc", node.name),
        transpose(y_last, y, TO_NCHW),
    ]
    types = {
        x_last: transposed_type(view.type(x), TO_NHWC),
        y_last: transposed_type(view.type(y), TO_NHWC),
    }
    return Patch(f"became nhwc.{operator}", [node], nodes, constants or {}, types=types)


@rule("Conv")
def conv(view: View, node: Node) -> Result:
    """Conv with constant weights: OIHW -> HWIO."""
    declined = _not_an_image(view, node)
    if declined is not None:
        return declined
    weights = view.constant(node.inputs[1])
    if weights is None:
        return Declined(f"the weights {node.inputs[1]!r} are not constant")
    bound = view.attributes(node)
    attributes = _window(view, node, bound, [int(d) for d in weights.shape[2:]])
    if isinstance(attributes, Declined):
        return attributes
    attributes["group"] = int(bound["group"])
    # A view: packing reads the weights in any order, so nothing is copied here.
    name = view.fresh(f"{node.inputs[1]}_hwio")
    made = {name: np.transpose(weights, (2, 3, 1, 0))}
    return _between(view, node, "Conv", [name, *node.inputs[2:]], attributes, made)


@rule("MaxPool", "AveragePool")
def pool(view: View, node: Node) -> Result:
    """Pools of windows; those that also say where the largest value was stay."""
    declined = _not_an_image(view, node, "fiu" if node.op == "MaxPool" else "f")
    if declined is not None:
        return declined
    indices = node.outputs[1] if len(node.outputs) > 1 else ""
    if indices and (view.uses(indices) or view.is_output(indices)):
        return Declined(f"the indices {indices!r} are used")
    bound = view.attributes(node)
    attributes = _window(view, node, bound, [int(k) for k in bound["kernel_shape"]])
    if isinstance(attributes, Declined):
        return attributes
    # The number of SAME windows is given by the stride alone.
    attributes["ceil_mode"] = 0 if bound["auto_pad"].startswith("SAME") else int(bound["ceil_mode"])
    attributes["count_include_pad"] = int(bound.get("count_include_pad", 0))
    return _between(view, node, node.op, [], attributes)


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(view: View, node: Node) -> Result:
    """Pools of whole images."""
    return _not_an_image(view, node) or _between(view, node, node.op, [], {})


PASS = Pass("layout_nhwc", (conv, pool, global_pool))
