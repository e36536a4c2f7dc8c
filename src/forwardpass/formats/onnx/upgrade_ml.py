"""Upgrades of ai.onnx.ml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...dtypes import kind_of
from ...errors import UnsupportedError
from ...graph import Node
from .upgrade_parts import Table

if TYPE_CHECKING:
    from .context import Context

__all__ = ["ML"]


def _labels_by_place(node: Node, context: Context) -> list[Node]:
    """The keys of strings were their places in a list, and the other way round for integers."""
    labels = node.attributes.pop("classes_strings", None)
    if labels is None:
        return [node]
    dtype = context.dtype(node.inputs[0])
    if dtype is None:
        raise UnsupportedError("the dtype of the input is unknown", where=node.label, expected="string or int64")
    places = list(range(len(labels)))
    keys = ("keys_strings", "values_int64s") if kind_of(dtype) == "O" else ("values_strings", "keys_int64s")
    node.attributes.update(zip(keys, (labels, places)))
    return [node]


ML: Table = {"LabelEncoder": ((2, _labels_by_place),)}
"""The tree ensembles that opset 5 merged into one stay: every exporter writes them, and the merged one cannot name the
classes of a classifier."""
