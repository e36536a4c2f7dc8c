"""Scales and shifts per channel, such as a bias or a batch normalisation, go into the weights beside them."""

from __future__ import annotations

import numpy as np

from ..graph import Array, Node
from .affine import OPS, Affine, affine_of, channel_vector, rounded
from .rewrite import Declined, Pass, Patch, Result, rule
from .view import View

__all__ = ["PASS"]

_LAYERS = ("Conv", "nhwc.Conv", "nhwc.ConvTranspose", "fused.Linear")
_MOST_SHIFT = 8.0
"""The largest shift that goes into the layer behind it. There x @ w + b takes the place of (x + shift) @ w, and
where the shift nearly cancels x, as when a large mean is taken off, x @ w has lost the digits that count."""


def _scaled(weights: Array, factor: Array) -> Array:
    """weights * factor, computed in float64 and rounded once, in the memory order of the weights."""
    made = np.empty_like(weights)
    with np.errstate(over="ignore"):
        np.multiply(weights, factor, out=made, casting="same_kind")
    return made


def _parts(view: View, node: Node) -> tuple[Array, Array | None] | Declined:
    """Weights and bias of a layer, where both are constant and no residual comes after them."""
    weights = view.constant(node.inputs[1])
    if weights is None:
        return Declined(f"the weights {node.inputs[1]!r} are not constant")
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    bias = view.constant(name) if name else None
    if name and bias is None:
        return Declined(f"the bias {name!r} is not constant")
    return Declined(f"{node.label} has a residual already") if any(node.inputs[3:]) else (weights, bias)


def _rebuilt(
    view: View, node: Node, y: str, weights: Array | None, bias: Array | str | None
) -> tuple[Node, dict[str, Array]]:
    """The layer with other weights (None: the same) and bias, which may be a constant's name."""
    constants: dict[str, Array] = {}
    inputs = list(node.inputs[:2])
    if weights is not None:
        inputs[1] = view.fresh(f"{node.inputs[1]}_folded")
        constants[inputs[1]] = weights
    if isinstance(bias, str):
        inputs.append(bias)
    elif bias is not None:
        inputs.append(view.fresh(f"{y}_bias"))
        constants[inputs[2]] = bias
    return Node(node.op, inputs, [y], dict(node.attributes), node.domain, node.name), constants


def _vectors(found: Affine, rank: int, axis: int, size: int) -> tuple[Array | None, Array | None] | None:
    scale = channel_vector(found.scale, rank, axis, size)
    shift = channel_vector(found.shift, rank, axis, size)
    if (scale is None) != (found.scale is None) or (shift is None) != (found.shift is None):
        return None
    return scale, shift


@rule(*OPS)
def backward(view: View, node: Node) -> Result:
    """layer(x) * scale + shift -> layer with weights * scale and bias * scale + shift."""
    found = affine_of(view, node)
    layer = view.producer(found.x) if found is not None else None
    if found is None or layer is None or layer.qualified not in _LAYERS or layer.attributes.get("activation"):
        return None
    reason = view.shared(found.x)
    if reason is not None:
        return Declined(reason)
    parts = _parts(view, layer)
    if isinstance(parts, Declined):
        return parts
    weights, bias = parts
    shape = view.type(found.x).shape
    if shape is None or view.type(node.outputs[0]).shape is None:
        return Declined(f"the rank of {found.x!r} is unknown")
    first = layer.qualified == "Conv"
    size = weights.shape[0] if first else weights.shape[-1]
    y, note = node.outputs[0], f"folded into {layer.label}"
    name = _vector_input(view, node, size) if bias is None and not first else None
    if name is not None:
        return Patch(note, [layer, node], [_rebuilt(view, layer, y, None, name)[0]])
    vectors = _vectors(found, len(shape), 1 - len(shape) if first else -1, size)
    if vectors is None:
        return Declined("the constant is not one value per channel")
    scale, shift = vectors
    scaled = None
    if scale is not None:
        scaled = _scaled(weights, scale.reshape((-1,) + (1,) * (weights.ndim - 1)) if first else scale)
    total = np.zeros(size) if bias is None else bias.astype(np.float64)
    total = total if scale is None else total * scale
    total = total if shift is None else total + shift
    none = bias is None and shift is None
    made, constants = _rebuilt(view, layer, y, scaled, None if none else rounded(total, weights.dtype))
    return Patch(note, [layer, node], [made], constants)


def _vector_input(view: View, node: Node, size: int) -> str | None:
    """The constant of an Add that can be the bias as it is."""
    for name in node.inputs if node.op == "Add" else ():
        array = view.constant(name)
        if array is not None and array.shape == (size,):
            return name
    return None


@rule("fused.Linear", "nhwc.Conv")
def forward(view: View, node: Node) -> Result:
    """layer(x * scale + shift) -> layer with scale * weights and bias + shift @ weights, if nothing is padded."""
    before = view.producer(node.inputs[0])
    found = affine_of(view, before) if before is not None and before.qualified in OPS else None
    if before is None or found is None:
        return None
    reason = view.shared(node.inputs[0])
    if reason is not None:
        return Declined(reason)
    if any(node.attributes.get("pads", ())):
        return Declined(f"{before.label} cannot go past the padding")
    parts = _parts(view, node)
    if isinstance(parts, Declined):
        return parts
    weights, bias = parts
    shape = view.type(found.x).shape
    if shape is None or shape != view.type(node.inputs[0]).shape or not isinstance(shape[-1], int):
        return Declined(f"the shape of {found.x!r} is unknown or broadcast")
    vectors = _vectors(found, len(shape), -1, shape[-1])
    if vectors is None:
        return Declined(f"the constant of {before.label} is not one value per channel")
    scale, shift = vectors
    if shift is not None and not bool((np.abs(shift) <= _MOST_SHIFT).all()):
        return Declined(f"{before.label} shifts by more than {_MOST_SHIFT:g}: the sum could cancel")
    total = None if bias is None else bias.astype(np.float64)
    if shift is not None:
        product = (weights * _per_input(shift, weights, node)).reshape(-1, weights.shape[-1]).sum(axis=0)
        total = product if total is None else total + product
    scaled = None if scale is None else _scaled(weights, _per_input(scale, weights, node))
    made, constants = _rebuilt(
        view, node, node.outputs[0], scaled, None if total is None else rounded(total, weights.dtype)
    )
    made.inputs[0] = found.x
    return Patch(f"took in {before.label}", [before, node], [made], constants)


def _per_input(vector: Array, weights: Array, node: Node) -> Array:
    """A vector over the input channels in a shape that broadcasts to the weights [..., C / group, M]."""
    group = int(node.attributes.get("group", 1))
    by_group = vector.reshape(group, -1).T
    return np.repeat(by_group, weights.shape[-1] // group, axis=1) if group > 1 else by_group


@rule(*OPS)
def merge(view: View, node: Node) -> Result:
    """(x * a + b) * c + d -> x * (a c) + (b c + d), as a normalisation and a layer's own scale and bias leave it."""
    second = affine_of(view, node)
    before = view.producer(second.x) if second is not None else None
    first = affine_of(view, before) if before is not None and before.qualified in OPS else None
    if second is None or before is None or first is None:
        return None
    reason = view.shared(second.x)
    if reason is not None:
        return Declined(reason)
    x, y = view.type(first.x), view.type(node.outputs[0])
    if x.shape is None or x.shape != y.shape or x.dtype != y.dtype or x.dtype.itemsize < 4:
        return Declined(f"the shape of {first.x!r} is unknown or broadcast, or its dtype is narrow")
    if first.shift is not None and not bool((np.abs(first.shift) <= _MOST_SHIFT).all()):
        return Declined(f"{before.label} shifts by more than {_MOST_SHIFT:g}: the sum could cancel")
    scale = _product(first.scale, second.scale)
    carried = None if first.shift is None else _product(first.shift, second.scale)
    shift = _sum(carried, second.shift)
    constants = {}
    for kind, value in (("scale", scale), ("shift", shift)):
        if value is not None:
            constants[view.fresh(f"{node.outputs[0]}_{kind}")] = rounded(value, x.dtype)
    if not all(np.isfinite(c).all() for c in constants.values()):
        return Declined("the merged constants are not finite")
    op, domain = ("ScaleShift", "fused") if len(constants) == 2 else ("Add" if scale is None else "Mul", "")
    made = Node(op, [first.x, *constants], list(node.outputs), {}, domain, node.name)
    return Patch(f"took in {before.label}", [before, node], [made], constants)


def _product(a: Array | None, b: Array | None) -> Array | None:
    """a * b, where None is one."""
    if a is None or b is None:
        return b if a is None else a
    return np.multiply(a, b, dtype=np.float64)


def _sum(a: Array | None, b: Array | None) -> Array | None:
    if a is None or b is None:
        return b if a is None else a
    return np.add(a, b, dtype=np.float64)


PASS = Pass("fold_affine", (backward, forward, merge))
