"""Writes `graph.json`, whose fields `schema` describes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import GraphError, UnsupportedError
from ..graph import PRIVATE_DOMAINS, PRIVATE_REVISION, Array, Graph, Node, TensorType
from .archive import MAX_NAME_BYTES, excerpt, unsafe_name
from .places import INT64, MAX_BYTES, MAX_DEPTH, depth, text
from .schema import ENTRY, FORMAT, SCHEMA
from .stored import name_in_file, stored

__all__ = ["dump"]

_LONG_LIST = 256
"""Elements from which on a list is stored as an array."""
_FEW_TEXTS = 8
"""Such a list of text is stored as indices if its elements are this many times as many as its texts."""
_KINDS = "int64, float, text, bool, a type, a graph, a list of these, or an array"


def dump(graph: Graph) -> tuple[bytes, dict[str, Array]]:
    """The text of `graph.json`, and entry -> array for all that it names. Equal graphs give equal results.

    Raises
    ------
    GraphError
        A name that is not valid Unicode.
    UnsupportedError
        An attribute or a dtype that the format cannot hold, or too much text.
    """
    where = graph.name or "graph"
    try:
        writer = _Writer(name for name in graph.constants if _is_plain(name))
        data = _document(writer, graph).encode()
        levels = depth(data)
    except UnicodeEncodeError as e:
        bad = e.object[max(0, e.start - 20) : e.end + 20]
        raise GraphError("a name is not valid Unicode", where=where, got=repr(bad)) from None
    except RecursionError:
        levels, data = MAX_DEPTH + 1, b""
    if levels > MAX_DEPTH:
        raise UnsupportedError("nested too deeply for a file", where=where, expected=f"<= {MAX_DEPTH} levels")
    if len(data) > MAX_BYTES:
        expected, got = f"<= {MAX_BYTES} bytes", str(len(data))
        raise UnsupportedError("too much text for a file", where=where, expected=expected, got=got)
    return data, writer.entries


def _document(writer: _Writer, graph: Graph) -> str:
    constants = writer.constants(graph, "", "")
    nodes = [writer.node(n, k, "", "") for k, n in enumerate(graph.nodes)]
    fields = [
        f'"format": {text(FORMAT)}',
        f'"schema": {SCHEMA}',
        f'"name": {text(graph.name)}',
        f'"metadata": {text(_metadata(graph))}',
        f'"inputs": [{_lines(text(i) for i in _inputs(graph, ""))}]',
        f'"outputs": {text(graph.outputs)}',
        f'"constants": {{{_lines(f"{text(k)}: {text(v)}" for k, v in constants.items())}}}',
        f'"nodes": [{_lines(text(n) for n in nodes)}]',
    ]
    if graph.optimized_by:
        fields.insert(2, f'"optimized": {text(graph.optimized_by)}')
    if writer.private:
        fields.insert(2, f'"private": {PRIVATE_REVISION}')
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _lines(items: Iterable[str]) -> str:
    body = ",\n  ".join(items)
    return f"\n  {body}\n" if body else ""


def _metadata(graph: Graph) -> dict[str, str]:
    return {str(k): str(v) for k, v in sorted(graph.metadata.items())}


def _inputs(graph: Graph, where: str) -> list[dict[str, Any]]:
    return [{"name": k, **_type(t, f"{where}input {k!r}")} for k, t in graph.inputs.items()]


def _type(kind: TensorType, where: str) -> dict[str, Any]:
    item = {"dtype": name_in_file(kind.dtype, where), "shape": _plain(kind.shape, where)}
    return {**item, "container": list(kind.container)} if kind.container else item


class _Writer:
    """Describes the parts of a graph, and collects the arrays that they name.

    Parameters
    ----------
    plain
        Names of constants that are entries as they are.

    Attributes
    ----------
    entries
        Entry -> array as it is stored.
    private
        Whether there was an operator of a private domain.
    """

    def __init__(self, plain: Iterable[str]) -> None:
        self.entries: dict[str, Array] = {}
        self.private = False
        self._plain = frozenset(plain)
        self._taken = set(self._plain)

    def graph(self, graph: Graph, base: str, where: str) -> dict[str, Any]:
        """A graph that is an attribute; `base` starts the names of its entries."""
        item: dict[str, Any] = {"name": graph.name} if graph.name else {}
        if graph.metadata:
            item["metadata"] = _metadata(graph)
        item["inputs"] = _inputs(graph, where)
        item["outputs"] = graph.outputs
        item["constants"] = self.constants(graph, base, where)
        item["nodes"] = [self.node(n, k, base, where) for k, n in enumerate(graph.nodes)]
        return item

    def constants(self, graph: Graph, base: str, where: str) -> dict[str, Any]:
        """The constants of a graph, in the order of their names."""
        return {k: self._constant(k, graph.constants[k], base, where) for k in sorted(graph.constants)}

    def _constant(self, name: str, array: Array, base: str, where: str) -> dict[str, Any]:
        where = f"{where}constant {name!r}"
        kind = name_in_file(array.dtype, where)
        item = {"dtype": kind, "shape": list(array.shape)}
        if kind == "string":
            return {**item, "text": _texts(array, where)}
        array = stored(array, where)
        if not base and name in self._plain:
            self.entries[name] = array
            return item
        return {**item, "entry": self._put(base + name, array)}

    def _put(self, name: str, array: Array) -> str:
        """Add an array. Returns its entry, a safe one that still reads like `name`."""
        parts = [re.sub(r"[^\w.:-]", "_", p) for p in name.split("/")]
        stem = "/".join("_" if p in ("", ".", "..") else p for p in parts)[:200].strip("/").replace(":", "_")
        stem = stem.removesuffix(".npy")
        stem = stem if _is_plain(stem) else f"_{stem}".replace("/", "_")
        entry, k = stem, 0
        while entry in self._taken:
            k += 1
            entry = f"{stem}_{k}"
        self._taken.add(entry)
        self.entries[entry] = array
        return entry

    def node(self, node: Node, index: int, base: str, where: str) -> dict[str, Any]:
        """A node."""
        item: dict[str, Any] = {"op": node.op, "inputs": node.inputs, "outputs": node.outputs}
        if node.domain:
            item["domain"] = node.domain
            self.private |= node.domain in PRIVATE_DOMAINS
        if node.name:
            item["name"] = node.name
        attributes = {
            key: self._attribute(value, (base, f"{index}/{key}"), f"{where}{node.label}: attribute {key!r}")
            for key, value in sorted(node.attributes.items())
        }
        if attributes:
            item["attributes"] = attributes
        return item

    def _attribute(self, value: Any, way: tuple[str, str], where: str) -> Any:
        """An attribute; `way` is the start of its entries, and what follows `attributes` or `body` in them."""
        base, name = way
        if isinstance(value, np.ndarray):
            return self._array(value, f"{base}attributes/{name}", where)
        if isinstance(value, Graph):
            return self.graph(value, f"{base}body/{name}/", f"{where}: ")
        if isinstance(value, TensorType):
            return {"type": _type(value, where)}
        if isinstance(value, (list, tuple)):
            kinds = set(map(type, value))
            if len(value) >= _LONG_LIST and len(kinds) == 1:
                found = self._long_list(value, kinds.pop(), f"{base}attributes/{name}")
                if found is not None:
                    return found
            return [self._attribute(v, (base, f"{name}/{k}"), where) for k, v in enumerate(value)]
        return _plain(value, where)

    def _array(self, array: Array, name: str, where: str) -> dict[str, Any]:
        kind = name_in_file(array.dtype, where)
        if kind == "string":
            return {"dtype": kind, "shape": list(array.shape), "text": _texts(array, where)}
        entry = self._put(name, stored(array, where))
        return {"array": entry, "dtype": kind} if array.dtype.kind in "Vc" else {"array": entry}

    def _long_list(self, values: list[Any] | tuple[Any, ...], kind: type, name: str) -> dict[str, Any] | None:
        """A list of elements of one kind as an array, which reads and writes fast; None where it does not fit."""
        if kind is float:
            return {"list": self._put(name, np.array(values, np.float64))}
        if kind is int and min(values) >= -INT64 and max(values) < INT64:
            return {"list": self._put(name, np.array(values, np.int64))}
        texts = list(dict.fromkeys(values)) if kind is str else []
        if not texts or len(texts) * _FEW_TEXTS > len(values):
            return None
        index = {t: k for k, t in enumerate(texts)}
        return {"list": self._put(name, np.array([index[v] for v in values], np.int64)), "text": texts}


def _is_plain(name: str) -> bool:
    """Whether `<name>.npy` is a safe member name that `numpy.load` shows as just `name`."""
    if unsafe_name(name) or name.endswith(".npy") or name == ENTRY:
        return False
    return len(name.encode(errors="replace")) <= MAX_NAME_BYTES - len(".npy")


def _texts(array: Array, where: str) -> list[str]:
    texts: list[str] = array.reshape(-1).tolist()
    for t in texts:
        if not isinstance(t, str):
            got = f"{type(t).__name__} {excerpt(t)}"
            raise UnsupportedError("a file cannot hold this", where=where, expected="text", got=got)
    return texts


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int) and -INT64 <= value < INT64:
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return {"float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    if isinstance(value, (list, tuple)):
        return [_plain(v, where) for v in value]
    got = f"{type(value).__name__} {excerpt(value)}"
    raise UnsupportedError("a file cannot hold this", where=where, expected=_KINDS, got=got)
