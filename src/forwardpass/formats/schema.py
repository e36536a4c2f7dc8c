"""`graph.json`: everything of a graph but its arrays, as text that a person can read.

Schema 1 is one object:

- `format`: "forwardpass"; `schema`: 1; `name`: text; `metadata`: text -> text.
- `inputs`: list of `{name, dtype, shape}`; `shape` is null where the rank is unknown, else a list of sizes,
  names of sizes, and nulls.
- `outputs`: names.
- `constants`: name -> `{dtype, shape}`, with `entry` where the array is not stored as `<name>.npy` because
  that would not be a safe file name.
- `nodes`: list of `{op, inputs, outputs}`, with `domain`, `name` and `attributes` where they are not empty.
- An attribute is a number (a float always has a point or an exponent), text, bool, null, or a list of these;
  `{"float": "nan"}` where JSON has no number (nan, inf, -inf), and `{"array": entry}` for the array in
  `<entry>.npy`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import FileError, GraphError, UnsupportedError
from ..graph import Array, Dim, Graph, Node, TensorType
from .archive import MAX_NAME_BYTES, excerpt, unsafe_name
from .npy import DTYPES

__all__ = ["ENTRY", "FORMAT", "SCHEMA", "dump", "load"]

ENTRY = "graph.json"
FORMAT = "forwardpass"
SCHEMA = 1

MAX_BYTES = 16 << 20
MAX_DEPTH = 32
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_INT64 = 1 << 63


def dump(graph: Graph) -> tuple[bytes, dict[str, Array]]:
    """The text of `graph.json`, and entry -> array for all that it names. Equal graphs give equal results.

    Raises
    ------
    GraphError
        A name that is not valid Unicode.
    UnsupportedError
        An attribute or a dtype that the format cannot hold.
    """
    entries: dict[str, Array] = {}
    constants = {}
    plain = {name for name in graph.constants if _is_plain(name)}
    for name in sorted(graph.constants):
        array = graph.constants[name]
        entry = name if name in plain else _entry(name, plain | entries.keys())
        entries[entry] = array
        constants[name] = {"dtype": _dtype(array.dtype, f"constant {name!r}"), "shape": list(array.shape)}
        if entry != name:
            constants[name]["entry"] = entry
    nodes = [_dump_node(n, k, plain, entries) for k, n in enumerate(graph.nodes)]
    inputs = [
        {"name": k, "dtype": _dtype(t.dtype, f"input {k!r}"), "shape": _dump_value(t.shape, k)}
        for k, t in graph.inputs.items()
    ]
    fields = [
        f'"format": {_text(FORMAT)}',
        f'"schema": {SCHEMA}',
        f'"name": {_text(graph.name)}',
        f'"metadata": {_text({str(k): str(v) for k, v in sorted(graph.metadata.items())})}',
        f'"inputs": [{_lines(_text(i) for i in inputs)}]',
        f'"outputs": {_text(graph.outputs)}',
        f'"constants": {{{_lines(f"{_text(k)}: {_text(v)}" for k, v in constants.items())}}}',
        f'"nodes": [{_lines(_text(n) for n in nodes)}]',
    ]
    try:
        return ("{\n" + ",\n".join(fields) + "\n}\n").encode(), entries
    except UnicodeEncodeError as e:
        bad = e.object[max(0, e.start - 20) : e.end + 20]
        raise GraphError("a name is not valid Unicode", where=graph.name or "graph", got=repr(bad)) from None


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _lines(items: Any) -> str:
    body = ",\n  ".join(items)
    return f"\n  {body}\n" if body else ""


def _is_plain(name: str) -> bool:
    """Whether `<name>.npy` is a safe member name that `numpy.load` shows as just `name`."""
    if unsafe_name(name) or name.endswith(".npy") or name == ENTRY:
        return False
    return len(name.encode(errors="replace")) <= MAX_NAME_BYTES - len(".npy")


def _entry(name: str, taken: set[str]) -> str:
    """A safe entry that still reads like `name`."""
    parts = [re.sub(r"[^\w.:-]", "_", p) for p in name.split("/")]
    stem = "/".join("_" if p in ("", ".", "..") else p for p in parts)[:200].strip("/").replace(":", "_")
    stem = stem.removesuffix(".npy")
    stem = stem if _is_plain(stem) else f"_{stem}".replace("/", "_")
    entry, k = stem, 0
    while entry in taken:
        k += 1
        entry = f"{stem}_{k}"
    return entry


def _dtype(dtype: np.dtype[Any], where: str) -> str:
    name = str(dtype.newbyteorder("=").name)
    if name not in DTYPES:
        raise UnsupportedError("a file cannot hold this dtype", where=where, expected=", ".join(DTYPES), got=name)
    return name


def _dump_node(node: Node, index: int, plain: set[str], entries: dict[str, Array]) -> dict[str, Any]:
    item: dict[str, Any] = {"op": node.op, "inputs": node.inputs, "outputs": node.outputs}
    if node.domain:
        item["domain"] = node.domain
    if node.name:
        item["name"] = node.name
    attributes = {}
    for key, value in sorted(node.attributes.items()):
        if isinstance(value, np.ndarray) and value.dtype.newbyteorder("=").name in DTYPES:
            entry = _entry(f"attributes/{index}/{key}", plain | entries.keys())
            entries[entry] = value
            attributes[key] = {"array": entry}
        else:
            attributes[key] = _dump_value(value, f"{node.label}: attribute {key!r}")
    if attributes:
        item["attributes"] = attributes
    return item


def _dump_value(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return {"float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    if isinstance(value, (list, tuple)):
        return [_dump_value(v, where) for v in value]
    kinds = "int64, float, text, bool, a list of them, or an array of numbers"
    raise UnsupportedError(
        "a file cannot hold this", where=where, expected=kinds, got=f"{type(value).__name__} {excerpt(value)}"
    )


def load(data: memoryview, arrays: Mapping[str, Array], where: str) -> Graph:
    """The graph that `graph.json` describes.

    Parameters
    ----------
    data
        The bytes of `graph.json`.
    arrays
        Entry -> array. Just those that the text names must be there, with the dtypes and shapes that it says.
    where
        How messages name the file.

    Raises
    ------
    FileError
        Naming the place in the text, or the entries, that are wrong.
    """
    top = _top(data, f"{where}: {ENTRY}")
    used: set[str] = set()
    types = {name: _constant(item, name, used) for name, item in top["constants"].items()}
    nodes = [_node(item, arrays, used) for item in top["nodes"].list()]
    _check_entries(used, arrays, where)
    constants = {}
    for name, (entry, declared) in types.items():
        actual = TensorType.of(arrays[entry])
        if actual != declared:
            entry = f"{where}: {excerpt(entry)}.npy"
            message = "the array is not what graph.json says"
            raise FileError(message, where=entry, expected=excerpt(declared), got=excerpt(actual))
        constants[name] = arrays[entry]
    inputs: dict[str, TensorType] = {}
    for item in top["inputs"].list():
        name = item["name"].text()
        if name in inputs:
            raise item.error(f"input {excerpt(name)!r} is there twice")
        item.only({"name", "dtype", "shape"})
        inputs[name] = _type(item)
    metadata = {k: v.text() for k, v in top["metadata"].items()}
    return Graph(inputs, top["outputs"].texts(), nodes, constants, name=top["name"].text(), metadata=metadata)


def _top(data: memoryview, where: str) -> _Place:
    """The whole text, if it is of a version that is read here."""
    top = _Place(_parse(data, where), None, where)
    if top.fields.get("format") != FORMAT:
        raise FileError("not the description of a model", where=where, expected=f'"format": "{FORMAT}"')
    version = top["schema"].integer()
    if version > SCHEMA:
        hint = "upgrade forwardpass to read it"
        raise FileError("a newer version", where=where, expected=f"schema {SCHEMA}", got=str(version), hint=hint)
    if version != SCHEMA:
        raise FileError("unknown version", where=where, expected=f"schema {SCHEMA}", got=str(version))
    top.only({"format", "schema", "name", "metadata", "inputs", "outputs", "constants", "nodes"})
    return top


def _check_entries(used: set[str], arrays: Mapping[str, Array], where: str) -> None:
    missing, extra = sorted(used - arrays.keys()), sorted(arrays.keys() - used)
    if missing or extra:
        raise FileError(
            "the arrays are not those that graph.json names",
            where=where,
            expected=excerpt(f"also {', '.join(f'{m}.npy' for m in missing)}") if missing else "no others",
            got=excerpt(f"also {', '.join(f'{e}.npy' for e in extra)}") if extra else "",
        )


def _constant(item: _Place, name: str, used: set[str]) -> tuple[str, TensorType]:
    item.only({"dtype", "shape", "entry"})
    entry = item["entry"].text() if "entry" in item.fields else name
    if entry in used:
        raise item.error(f"the array {excerpt(entry)!r} belongs to two constants")
    used.add(entry)
    return entry, _type(item)


def _type(item: _Place) -> TensorType:
    dtype = item["dtype"].text()
    if dtype not in DTYPES:
        raise item["dtype"].error("unknown dtype", ", ".join(DTYPES))
    shape = item["shape"]
    if shape.value is None:
        return TensorType(np.dtype(dtype), None)
    return TensorType(np.dtype(dtype), tuple(_dim(d) for d in shape.list()))


def _dim(item: _Place) -> Dim:
    if item.value is None or isinstance(item.value, str):
        return item.value
    if item.integer() < 0:
        raise item.error("a size is negative", "a size >= 0, a name or null")
    return item.integer()


def _node(item: _Place, arrays: Mapping[str, Array], used: set[str]) -> Node:
    item.only({"op", "inputs", "outputs", "domain", "name", "attributes"})
    attributes = {}
    if "attributes" in item.fields:
        attributes = {k: _attribute(v, arrays, used) for k, v in item["attributes"].items()}
    domain = item["domain"].text() if "domain" in item.fields else ""
    name = item["name"].text() if "name" in item.fields else ""
    return Node(item["op"].text(), item["inputs"].texts(), item["outputs"].texts(), attributes, domain, name)


def _attribute(item: _Place, arrays: Mapping[str, Array], used: set[str]) -> Any:
    value = item.value
    if isinstance(value, list):
        if not any(isinstance(v, (list, dict)) for v in value):
            return value
        return [_attribute(v, arrays, used) for v in item.list()]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"float"} and value["float"] in ("nan", "inf", "-inf"):
        return _NOT_FINITE[value["float"]]
    if value.keys() == {"array"}:
        entry = item["array"].text()
        used.add(entry)
        return arrays.get(entry)
    raise item.error("malformed attribute", '{"float": ...} or {"array": ...}')


class _Place:
    """A JSON value and the way to it, for messages."""

    __slots__ = ("key", "parent", "value")

    def __init__(self, value: Any, parent: _Place | None, key: str | int) -> None:
        self.value, self.parent, self.key = value, parent, key

    @property
    def where(self) -> str:
        if self.parent is None:
            return str(self.key)
        step = f"[{self.key}]" if isinstance(self.key, int) else f": {excerpt(self.key)}"
        return self.parent.where + step

    def error(self, message: str, expected: str = "") -> FileError:
        return FileError(message, where=self.where, expected=expected, got=excerpt(repr(self.value)))

    @property
    def fields(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.error("wrong kind of value", "an object")
        return self.value

    def only(self, known: set[str]) -> None:
        for key in self.fields.keys() - known:
            expected = ", ".join(sorted(known))
            raise FileError(f"unknown field {excerpt(repr(key))}", where=self.where, expected=expected)

    def __getitem__(self, key: str) -> _Place:
        if key not in self.fields:
            raise self.error(f"the field {key!r} is missing")
        return _Place(self.value[key], self, key)

    def items(self) -> list[tuple[str, _Place]]:
        return [(k, _Place(v, self, k)) for k, v in self.fields.items()]

    def list(self) -> list[_Place]:
        if not isinstance(self.value, list):
            raise self.error("wrong kind of value", "a list")
        return [_Place(v, self, k) for k, v in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.error("wrong kind of value", "text")
        return self.value

    def texts(self) -> Any:
        if type(self.value) is list and all(type(v) is str for v in self.value):
            return self.value
        return [v.text() for v in self.list()]  # raises, saying which is wrong

    def integer(self) -> int:
        if type(self.value) is not int:
            raise self.error("wrong kind of value", "a whole number")
        return self.value


def _parse(data: memoryview, where: str) -> Any:
    """The JSON value, if it is strict JSON of bounded size, depth and numbers."""
    if len(data) > MAX_BYTES:
        raise FileError("the text is too long", where=where, expected=f"<= {MAX_BYTES} bytes", got=str(len(data)))
    depth = _depth(bytes(data))
    if depth > MAX_DEPTH:
        raise FileError("nested too deeply", where=where, expected=f"<= {MAX_DEPTH} levels", got=str(depth))
    try:
        text = str(data, "utf-8")
        value = json.loads(text, parse_int=_integer, parse_constant=_refuse)
        if "\\ud" in text or "\\uD" in text:  # a half of a surrogate pair alone is no text
            _text(value).encode()
        return value
    except (ValueError, RecursionError) as e:
        raise FileError(f"not valid JSON: {excerpt(e)}", where=where) from None


def _depth(data: bytes) -> int:
    """How deep objects and lists nest: found without recursion, since the parser recurses on the C stack."""
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # of the escapes, these could hide the end of a string
    code = np.frombuffer(plain, np.uint8)
    outside = ~np.bitwise_xor.accumulate(code == ord('"'))
    opens = (code == ord("[")) | (code == ord("{"))
    closes = (code == ord("]")) | (code == ord("}"))
    steps = (opens & outside).astype(np.int8) - (closes & outside)
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _integer(text: str) -> int:
    # The conversion of a long number takes quadratic time.
    if len(text) > 20 or not -_INT64 <= int(text) < _INT64:
        raise ValueError(f"the number {excerpt(text, 40)} is not an int64")
    return int(text)


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")
