"""Nodes in their newest meaning, and those whose operator does not exist here."""

from __future__ import annotations

from collections.abc import Mapping

from ...dtypes import name_of
from ...errors import GraphError, UnsupportedError
from ...graph import Node
from ...ops.registry import supported
from .context import Context
from .upgrade import upgrade

__all__ = ["newest", "report"]

_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What upgrades raise for attributes of types, and inputs, that no opset allows; `Error`s pass."""

_SHOWN = 1000
_TRAINING = ("ai.onnx.preview.training", "ai.onnx.training")


def newest(node: Node, versions: Mapping[str, int], context: Context, unsupported: list[str]) -> list[Node]:
    """The nodes that say in the newest opset what `node` says in its own.

    Parameters
    ----------
    versions
        Domain -> opset.
    unsupported
        Gets a line for a node whose operator does not exist here; the node is returned as it is.

    Raises
    ------
    GraphError
        No opset for the node's domain, or a node that its opset does not allow.
    """
    version = versions.get(node.domain)
    if version is None:
        if node.domain == "":
            raise GraphError("the model imports no opset of the domain ai.onnx", where=node.label)
        version = 1
    try:
        made = [node] if node.domain in _TRAINING else upgrade(node, version, context)
    except UnsupportedError as error:
        unsupported.append(f"{_line(node, version, context)}: {error.message}")
        return [node]
    except _FAILURES as error:
        raise GraphError(f"{type(error).__name__}: {error}", where=node.label) from error
    if not all(supported(n.domain, n.op) for n in made):
        unsupported.append(_line(node, version, context))
    return made


def _line(node: Node, version: int, context: Context) -> str:
    dtypes = [context.dtype(i) if i else None for i in node.inputs]
    shown = ", ".join("-" if not i else "?" if d is None else name_of(d) for i, d in zip(node.inputs, dtypes))
    name = node.name or f"-> {node.outputs[0]}"
    return f"{name}: {node.op} (domain {node.domain or 'ai.onnx'}, opset {version}, inputs {shown or 'none'})"


def report(unsupported: list[str], where: str) -> None:
    """Refuse a model with nodes whose operators do not exist here.

    Raises
    ------
    UnsupportedError
        Listing them all.
    """
    if not unsupported:
        return
    lines = unsupported[:_SHOWN]
    if len(unsupported) > _SHOWN:
        lines.append(f"and {len(unsupported) - _SHOWN} more")
    count = "an operator that is" if len(unsupported) == 1 else f"{len(unsupported)} nodes of operators that are"
    raise UnsupportedError(f"{count} not supported: {'; '.join(lines)}", where=where)
