"""Shapes of outputs that a file says and nothing else tells: behind branches that the sizes of a call decide.

ONNX wants a shape for every output of a model. A graph has none for its outputs, so those that cannot be inferred
travel as text among its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ...graph import Dim, Graph, TensorType
from .context import Context

__all__ = ["KEY", "remember", "shapes_of"]

KEY = "output_shapes"
_MAX_RANK = 32


def remember(context: Context, outputs: Sequence[str], declared: Mapping[str, TensorType]) -> dict[str, str]:
    """Metadata that say the shapes which only the file knows; none where there are no such.

    Only bodies hide them, so that other graphs are not looked at.
    """
    if not any(isinstance(a, Graph) for n in context.nodes for a in n.attributes.values()):
        return {}
    found = {}
    for name in outputs:
        said, known = declared.get(name), context.inferred(name)
        if said is None or said.shape is None or said.container:
            continue
        if known is None or known.shape is None:
            found[name] = list(said.shape)
    return {KEY: json.dumps(found)} if found else {}


def shapes_of(metadata: Mapping[str, str]) -> dict[str, tuple[Dim, ...]]:
    """Output -> shape, as the metadata say; what they do not say well counts for nothing."""
    try:
        found = json.loads(metadata.get(KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return {k: tuple(v) for k, v in found.items() if _is_shape(v)} if isinstance(found, dict) else {}


def _is_shape(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MAX_RANK
        and all(d is None or isinstance(d, str) or (type(d) is int and 0 <= d < 1 << 62) for d in value)
    )
