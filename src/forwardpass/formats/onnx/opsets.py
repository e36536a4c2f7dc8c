"""Which versions are read, and which one each domain of a model has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...errors import GraphError, UnsupportedError
from .text import text_of

if TYPE_CHECKING:
    import onnx

__all__ = ["MAX_IR", "NEWEST", "domain_of", "versions_of"]

MAX_IR = 14
NEWEST = {"": 28, "ai.onnx.ml": 5}
"""Domain -> the newest opset whose meaning this version knows."""


def domain_of(name: str) -> str:
    """The domain under the name that the graph uses."""
    return "" if name == "ai.onnx" else text_of(name)


def versions_of(imports: Iterable[onnx.OperatorSetIdProto], where: str) -> dict[str, int]:
    """Domain -> opset version.

    Raises
    ------
    GraphError
        Two versions of one domain, or one that cannot be.
    UnsupportedError
        A version that is not known yet.
    """
    versions: dict[str, int] = {}
    for entry in imports:
        domain = domain_of(entry.domain)
        if entry.version < 1:
            raise GraphError("the opset version is wrong", where=where, expected="1 or more", got=str(entry.version))
        if versions.setdefault(domain, entry.version) != entry.version:
            raise GraphError(f"domain {entry.domain!r} has two opset versions", where=where)
        newest = NEWEST.get(domain)
        if newest is not None and entry.version > newest:
            raise UnsupportedError(
                f"a newer opset of domain {domain or 'ai.onnx'!r}",
                where=where,
                expected=f"1 to {newest}",
                got=str(entry.version),
                hint="upgrade forwardpass",
            )
    return versions
