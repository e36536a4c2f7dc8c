"""`graph.json`: everything of a graph but its arrays, as text that a person can read. `schema_dump` writes it.

Schema 1 is one object:

- `format`: "forwardpass"; `schema`: 1; `name`: text; `metadata`: text -> text.
- `inputs`: list of `{name, dtype, shape}`; `shape` is null where the rank is unknown, else a list of sizes,
  names of sizes, and nulls. `container` lists what the tensors are wrapped in, where they are.
- `outputs`: names.
- `constants`: name -> `{dtype, shape}`, with `entry` where the array is not stored as `<name>.npy` because
  that would not be a safe file name. Narrow and complex arrays are stored as `stored` says. Text is stored here:
  `{dtype: "string", shape, text}`.
- `nodes`: list of `{op, inputs, outputs}`, with `domain`, `name` and `attributes` where they are not empty.
- `optimized`: the version whose passes made the graph, where it was saved after them.
- `private`: the revision of the operators in the domains `nhwc` and `fused`, where nodes have such operators.
- An attribute is a number (a float always has a point or an exponent), text, bool, null, or a list of these;
  `{"float": "nan"}` where JSON has no number (nan, inf, -inf); `{"array": entry}` for the array in
  `<entry>.npy`, with `dtype` where that is another one; `{"list": entry}` for its elements as a list, with `text`
  where they are indices into that; `{"dtype": "string", "shape": ..., "text": ...}`; `{"type": {dtype, shape}}`;
  or a graph: an object with `inputs`, `outputs`, `constants`, `nodes`, `name` and `metadata`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import FileError, GraphError
from ..graph import PRIVATE_DOMAINS, PRIVATE_REVISION, Array, Dim, Graph, Node, TensorType
from .archive import excerpt
from .npy import MAX_ELEMENTS, MAX_RANK
from .places import MAX_BYTES, MAX_DEPTH, Place, parse
from .stored import TYPES, restored, stored_type, text_array

__all__ = ["ENTRY", "FORMAT", "MAX_BYTES", "MAX_DEPTH", "SCHEMA", "load"]

ENTRY = "graph.json"
FORMAT = "forwardpass"
SCHEMA = 1

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_CONTAINERS = ("sequence", "optional", "map")
_MAX_CONTAINERS = 8
_BODY_FIELDS = frozenset({"name", "metadata", "inputs", "outputs", "constants", "nodes"})
_TOP_FIELDS = _BODY_FIELDS | {"format", "schema", "optimized", "private"}
_NODE_FIELDS = frozenset({"op", "inputs", "outputs", "domain", "name", "attributes"})
_INPUT_FIELDS = frozenset({"name", "dtype", "shape", "container"})
_ARRAY_FIELDS = frozenset({"dtype", "shape", "entry"})
_PLAIN_FIELDS = frozenset({"dtype", "shape"})
_PLAIN_TYPES = {name: dtype for name, dtype in TYPES.items() if dtype.kind in "biuf"}
"""Those that are stored as they are."""
_TEXT_FIELDS = frozenset({"dtype", "shape", "text"})
_TYPE_FIELDS = frozenset({"dtype", "shape", "container"})
_PLAIN, _SIZE = frozenset({bool, int, float, str, type(None)}), frozenset({int})
_LISTED = (np.dtype(np.int64), np.dtype(np.float64))


def load(data: memoryview, arrays: Mapping[str, Array], where: str, listed: int = 1 << 20) -> Graph:
    """The graph that `graph.json` describes.

    Parameters
    ----------
    data
        The bytes of `graph.json`.
    arrays
        Entry -> array. Just those that the text names must be there, with the dtypes and shapes that it says.
    where
        How messages name the file.
    listed
        How many elements of arrays may become elements of lists, which take several times their memory.

    Raises
    ------
    FileError
        Naming the place in the text, or the entries, that are wrong.
    """
    place = f"{where}: {ENTRY}"
    try:
        top = _top(data, place)
        reader = _Reader(arrays, where, listed)
        graph = reader.graph(top)
        reader.finish()
        if reader.private:
            _check_revision(top)
        graph.optimized_by = top.text_of("optimized", "")
        return graph
    except RecursionError:
        raise FileError("nested too deeply", where=place) from None


def _top(data: memoryview, where: str) -> Place:
    """The whole text, if it is of a version that is read here."""
    top = Place(parse(data, where), None, where)
    if top.fields.get("format") != FORMAT:
        raise FileError("not the description of a model", where=where, expected=f'"format": "{FORMAT}"')
    version = top["schema"].integer()
    if version > SCHEMA:
        hint = "upgrade forwardpass to read it"
        raise FileError("a newer version", where=where, expected=f"schema {SCHEMA}", got=str(version), hint=hint)
    if version != SCHEMA:
        raise FileError("unknown version", where=where, expected=f"schema {SCHEMA}", got=str(version))
    top.only(_TOP_FIELDS)
    top["name"], top["metadata"]  # which only graphs inside of this one may lack
    return top


def _check_revision(top: Place) -> None:
    """Refuse private operators that may mean something else here than where they were written."""
    revision = top["private"].integer()
    if revision != PRIVATE_REVISION:
        raise FileError(
            "optimised by another version",
            where=top["private"].where,
            expected=f"operators of revision {PRIVATE_REVISION}",
            got=str(revision),
            hint="optimise the original model again with this version",
        )


class _Reader:
    """Makes graphs of their descriptions.

    Parameters
    ----------
    arrays, where, listed
        As for `load`.

    Attributes
    ----------
    private
        Whether there was an operator of a private domain.
    """

    __slots__ = ("_arrays", "_left", "_used", "_where", "private")

    def __init__(self, arrays: Mapping[str, Array], where: str, listed: int) -> None:
        self._arrays, self._where, self._left = arrays, where, listed
        self._used: set[str] = set()
        self.private = False

    def finish(self) -> None:
        """Refuse arrays that are missing, or that nothing names."""
        missing, extra = sorted(self._used - self._arrays.keys()), sorted(self._arrays.keys() - self._used)
        if missing or extra:
            raise FileError(
                "the arrays are not those that graph.json names",
                where=self._where,
                expected=excerpt(f"also {', '.join(f'{m}.npy' for m in missing)}") if missing else "no others",
                got=excerpt(f"also {', '.join(f'{e}.npy' for e in extra)}") if extra else "",
            )

    def graph(self, item: Place) -> Graph:
        """The graph of an object whose fields' names were looked at."""
        constants = {name: self._constant(c, name) for name, c in item["constants"].items()}
        nodes = [self._node(n) for n in item["nodes"].list()]
        inputs: dict[str, TensorType] = {}
        for i in item["inputs"].list():
            name = i.text_of("name")
            if name in inputs:
                raise i.error(f"input {excerpt(name)!r} is there twice")
            inputs[name] = _type(i, _INPUT_FIELDS)
        metadata = {}
        if "metadata" in item.fields:
            metadata = {k: v.text() for k, v in item["metadata"].items()}
        name = item.text_of("name", "")
        return Graph(inputs, item.texts_of("outputs"), nodes, constants, name=name, metadata=metadata)

    def _node(self, item: Place) -> Node:
        item.only(_NODE_FIELDS)
        fields = item.fields
        attributes: dict[str, Any] = {}
        if "attributes" in fields:
            place = item["attributes"]
            for k, v in place.fields.items():
                plain = type(v) in _PLAIN or (type(v) is list and _PLAIN.issuperset(map(type, v)))
                attributes[k] = v if plain else self._attribute(Place(v, place, k))
        domain = item.text_of("domain") if "domain" in fields else ""
        self.private |= domain in PRIVATE_DOMAINS
        name = item.text_of("name") if "name" in fields else ""
        return Node(item.text_of("op"), item.texts_of("inputs"), item.texts_of("outputs"), attributes, domain, name)

    # ---- arrays. One that is missing is None until `finish` reports all of them.

    def _constant(self, item: Place, name: str) -> Any:
        array = self._arrays.get(name)
        if array is not None and name not in self._used and _declares(item.value, array):
            self._used.add(name)
            return array
        if item.fields.get("dtype") == "string":
            return _text(item)
        declared = _type(item, _ARRAY_FIELDS)
        entry = item.text_of("entry", name)
        self._use_once(item, entry)
        return self._array(entry, declared)

    def _use_once(self, item: Place, entry: str) -> None:
        if entry in self._used:
            raise item.error(f"the array {excerpt(entry)!r} belongs to something else already")
        self._used.add(entry)

    def _array(self, entry: str, declared: TensorType) -> Array | None:
        array = self._arrays.get(entry)
        if array is None:
            return None
        expected, actual = stored_type(declared), TensorType.of(array)
        if actual != expected:
            message = "the array is not what graph.json says"
            where = f"{self._where}: {excerpt(entry)}.npy"
            raise FileError(message, where=where, expected=excerpt(expected), got=excerpt(actual))
        if expected is declared:
            return array
        return restored(array, declared.dtype, f"{self._where}: {excerpt(entry)}.npy")

    # ---- attributes

    def _attribute(self, item: Place) -> Any:
        value = item.value
        if type(value) is list:
            return value if _PLAIN.issuperset(map(type, value)) else [self._element(v) for v in item.list()]
        return value if type(value) in _PLAIN else self._object(item)

    def _element(self, item: Place) -> Any:
        value = self._attribute(item)
        if isinstance(value, Graph):
            _verify(value, item)  # the graph around it looks at graphs that are no elements of lists
        return value

    def _object(self, item: Place) -> Any:
        fields = item.fields
        if "nodes" in fields:
            item.only(_BODY_FIELDS)
            return self.graph(item)
        if "float" in fields:
            item.only(frozenset({"float"}))
            if item["float"].text() in _NOT_FINITE:
                return _NOT_FINITE[fields["float"]]
            raise item.error("not what JSON has no number for", ", ".join(_NOT_FINITE))
        if "array" in fields:
            return self._array_attribute(item)
        if "list" in fields:
            return self._listed(item)
        if "text" in fields:
            return _text(item)
        if "type" in fields:
            item.only(frozenset({"type"}))
            return _type(item["type"], _TYPE_FIELDS)
        raise item.error("malformed attribute", "float, array, list, text, type, or the fields of a graph")

    def _array_attribute(self, item: Place) -> Array | None:
        item.only(frozenset({"array", "dtype"}))
        entry = item["array"].text()
        self._use_once(item["array"], entry)
        array = self._arrays.get(entry)
        if array is None or "dtype" not in item.fields:
            return array
        dtype = _dtype(item)
        shape = array.shape[:-1] if dtype.kind == "c" else array.shape
        return self._array(entry, TensorType(dtype, shape))

    def _listed(self, item: Place) -> list[Any] | None:
        item.only(frozenset({"list", "text"}))
        entry = item["list"].text()
        self._use_once(item["list"], entry)
        array = self._arrays.get(entry)
        if array is None:
            return None
        where = f"{self._where}: {excerpt(entry)}.npy"
        if array.ndim != 1 or array.dtype not in _LISTED:
            got = excerpt(TensorType.of(array))
            raise FileError("not a list", where=where, expected="int64 or float64 of rank 1", got=got)
        self._left -= array.size
        if self._left < 0:
            raise FileError("the lists are suspiciously long", where=where, got=f"{array.size} elements more")
        if "text" not in item.fields:
            return list(array.tolist())
        texts = item.texts_of("text")
        if array.dtype.kind != "i" or (array.size and not 0 <= array.min() <= array.max() < len(texts)):
            raise FileError("not indices into the text", where=where, expected=f"int64, 0 to {len(texts) - 1}")
        return [texts[k] for k in array.tolist()]


def _declares(fields: Any, array: Array) -> bool:
    """Whether a constant is declared as most are, with the type that its array has. Of others somebody else says what
    is wrong."""
    if type(fields) is not dict or fields.keys() != _PLAIN_FIELDS or type(fields["dtype"]) is not str:
        return False
    shape = fields["shape"]
    if type(shape) is not list or not _SIZE.issuperset(map(type, shape)):
        return False
    return _PLAIN_TYPES.get(fields["dtype"]) == array.dtype and tuple(shape) == array.shape


def _verify(graph: Graph, item: Place) -> None:
    try:
        graph.verify()
    except GraphError as e:
        where = f"{item.where}: {excerpt(e.where)}"
        message = f"not a valid graph: {excerpt(e.message, 300)}"
        raise FileError(message, where=where, expected=excerpt(e.expected), got=excerpt(e.got)) from e


def _text(item: Place) -> Array:
    """An array of text."""
    declared = _type(item, _TEXT_FIELDS)
    texts, shape = item.texts_of("text"), declared.shape
    if declared.dtype.kind != "O":
        raise item["dtype"].error("text of another dtype", "string")
    if shape is None or not declared.is_known:
        raise item["shape"].error("not the shape of an array", "sizes")
    if len(shape) > MAX_RANK or math.prod(max(d, 1) for d in declared.sizes) >= MAX_ELEMENTS >> 3:
        raise item["shape"].error("the array is too large", f"rank <= {MAX_RANK}, < 2^62 bytes")
    if math.prod(declared.sizes) != len(texts):
        expected = f"{math.prod(declared.sizes)} for string{list(shape)}"
        raise FileError("the wrong number of texts", where=item.where, expected=expected, got=str(len(texts)))
    return text_array(texts, declared.sizes)


def _type(item: Place, known: frozenset[str]) -> TensorType:
    """The type that an object of just these fields declares."""
    item.only(known)
    dtype = _dtype(item)
    shape = _shape(item["shape"])
    return TensorType(dtype, shape, _container(item) if "container" in item.fields else ())


def _container(item: Place) -> tuple[str, ...]:
    found = tuple(item.texts_of("container"))
    if not 0 < len(found) <= _MAX_CONTAINERS or not set(found) <= set(_CONTAINERS):
        raise item["container"].error("unknown container", f"1 to {_MAX_CONTAINERS} of {', '.join(_CONTAINERS)}")
    return found


def _shape(item: Place) -> tuple[Dim, ...] | None:
    sizes = item.value
    if sizes is None:
        return None
    if type(sizes) is list and _SIZE.issuperset(map(type, sizes)) and min(sizes, default=0) >= 0:
        return tuple(sizes)
    return tuple(_dim(d) for d in item.list())


def _dtype(item: Place) -> np.dtype[Any]:
    dtype = TYPES.get(item.text_of("dtype"))
    if dtype is None:
        raise item["dtype"].error("unknown dtype", ", ".join(TYPES))
    return dtype


def _dim(item: Place) -> Dim:
    if item.value is None or isinstance(item.value, str):
        return item.value
    if item.integer() < 0:
        raise item.error("a size is negative", "a size >= 0, a name or null")
    return item.integer()
