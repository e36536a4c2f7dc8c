"""Files of `torch.export.save`: a program as JSON and its weights as bytes. Neither is run, and PyTorch is not needed.

PyTorch's own reader evaluates the sizes that are written as expressions. Here a size is a number, or the text that says
it, which is compared with others and no more.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ...errors import Error, FileError, UnsupportedError
from ...graph import Array, Dim, Graph, TensorType
from ..archive import Archive, excerpt
from ..places import Place, parse
from .calls import Ref
from .containers import Entries
from .emitter import Emitter
from .objects import DTYPES, Storage, tensor_of
from .programs import finished
from .torchscript.operators import Operators
from .torchscript.values import Cell, Memory, Special

__all__ = ["program_of", "read_package"]

_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn",
    30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz",
}  # fmt: skip
"""The numbers that stand for element types, which are not those of TorchScript."""
_SYMBOL = re.compile(r"Symbol\('(\w+)'[^()]*\)")
_PLAIN = ("as_int", "as_float", "as_bool", "as_string")
_LISTS = ("as_ints", "as_floats", "as_bools", "as_strings")
_SILENT = ("as_none", "as_device", "as_layout", "as_memory_format")
_PLACED = ("as_tensors", "as_sym_ints", "as_sym_floats", "as_sym_bools")
_SYMBOLS = ("as_sym_int", "as_sym_float", "as_sym_bool")
_WEIGHTS = (("weights", "parameter"), ("weights", "buffer"), ("constants", "tensor_constant"))


def program_of(archive: Archive) -> str | None:
    """The entry that is the program, None where the file is of another kind."""
    found = [m for m in archive.members if m.endswith(".json") and m.count("/") == 2 and "/models/" in m]
    return found[0] if len(found) == 1 else None


def read_package(archive: Archive, entry: str) -> Graph:
    """The graph of an exported program.

    Raises
    ------
    FileError
        The file is damaged.
    UnsupportedError
        A kind of value or operators that are not known here: all operators at once.
    """
    return _Reader(archive, entry, _json(archive, entry)).read()


class _Reader:
    def __init__(self, archive: Archive, entry: str, top: Place) -> None:
        self._archive, self._where = archive, archive.path
        self._root, _, self._name = entry.removesuffix(".json").rpartition("/models/")
        module = top["graph_module"]
        self._graph, self._signature = module["graph"], module["signature"]
        self._e = Emitter([])
        self._operators = Operators(self._e, archive.path)
        self._values: dict[str, Any] = {}
        self._dims: dict[str, str] = {}
        self._stored: dict[str, dict[str, Place]] = {}

    def read(self) -> Graph:
        try:
            self._inputs()
            for node in self._graph["nodes"].list():
                self._node(node)
            outputs = self._outputs()
        except Error:
            self._operators.finish()
            raise
        self._operators.finish()
        return finished(self._e, outputs, self._name)

    # ---- inputs and outputs

    def _inputs(self) -> None:
        for spec in self._signature["input_specs"].list():
            kind, place = _only_field(spec)
            held = next((folder for folder, name in _WEIGHTS if name == kind), "")
            if held:
                # Buffers that are not kept with the weights are with the constants.
                kept = place.fields.get("persistent") is not False
                target = place.text_of(f"{kind}_name")
                array = self._array("weights" if held == "weights" and kept else "constants", target)
                ref = Ref(self._e.add_constant(target, array))
                self._values[place["arg"].text_of("name")] = Cell(ref, Memory(fixed=True))
            elif kind == "user_input" and "as_tensor" in place["arg"].fields:
                name = place["arg"]["as_tensor"].text_of("name")
                found = self._type(name)
                if found is None:
                    raise place.error("an input without a type")
                label = self._e.fresh(name)
                self._e.add_input(label, found)
                self._values[name] = Cell(Ref(label))
            elif kind != "token":
                raise UnsupportedError("an input that is no tensor", where=spec.where, got=kind or "several")

    def _outputs(self) -> list[Any]:
        found = []
        for spec in self._signature["output_specs"].list():
            for kind, place in spec.items():
                if kind == "user_output":
                    value = self._argument(place["arg"])
                    found.append(self._operators.read(value) if isinstance(value, Cell) else value)
                elif kind != "token":
                    raise UnsupportedError("a module that changes its buffers", where=place.where, got=kind)
        return found

    def _array(self, folder: str, name: str) -> Array:
        if folder not in self._stored:
            entry = f"{self._root}/data/{folder}/{self._name}_{folder}_config.json"
            if entry not in self._archive.members:
                raise FileError("the list of tensors is missing", where=self._where, expected=excerpt(entry))
            self._stored[folder] = dict(_json(self._archive, entry)["config"].items())
        if name not in self._stored[folder]:
            raise FileError("a tensor that is not in the file", where=self._where, expected=excerpt(name))
        place = self._stored[folder][name]
        if place.fields.get("use_pickle"):
            raise UnsupportedError("a tensor that is stored as a pickle", where=place.where)
        key = place.text_of("path_name")
        entries = Entries(self._archive, f"{self._root}/", f"data/{folder}/")
        member = self._archive.members.get(f"{self._root}/data/{folder}/{key}")
        if member is None:
            raise FileError("the data of a tensor is missing", where=place.where, expected=excerpt(key))
        meta = place["tensor_meta"]
        storage = Storage(key, None, member.size, 0, member.size)
        sizes, strides = (tuple(s["as_int"].integer() for s in meta[k].list()) for k in ("sizes", "strides"))
        offset = meta["storage_offset"]["as_int"].integer()
        tensor = tensor_of(meta, storage, offset, sizes, strides, self._dtype(meta["dtype"]))
        return entries.array(tensor, name)

    # ---- types

    def _dtype(self, place: Place) -> np.dtype[Any]:
        name = _TYPES.get(place.integer())
        if name is None:
            raise UnsupportedError("an element type that is not known", where=place.where, got=str(place.value))
        return DTYPES[name]

    def _type(self, name: str) -> TensorType | None:
        known = self._graph["tensor_values"]
        if name not in known.fields:
            return None
        sizes = known[name]["sizes"].list()
        return TensorType(self._dtype(known[name]["dtype"]), tuple(self._dim(s, k) for k, s in enumerate(sizes)))

    def _dim(self, place: Place, axis: int = -1) -> Dim:
        if "as_int" in place.fields:
            size = place["as_int"].integer()
            if size < 0:
                raise place.error("a size that is negative")
            return size
        text = place["as_expr"].text_of("expr_str")
        if text not in self._dims:
            plain = _SYMBOL.fullmatch(text)
            name = "N" if axis == 0 and "N" not in self._dims.values() else plain[1] if plain else text
            self._dims[text] = name
        return self._dims[text]

    # ---- nodes

    def _node(self, node: Place) -> None:
        target = node.text_of("target")
        outputs = [o for o in node["outputs"].list() if "as_none" not in o.fields]
        if not outputs:
            return  # an assertion
        arguments: dict[str, Any] = {}
        for k, item in enumerate(node["inputs"].list()):
            arguments[item.text_of("name", "") or str(k)] = self._argument(item["arg"])
        names = [self._named(o) for o in outputs]
        first = names[0] if isinstance(names[0], str) else ""
        if target.startswith("torch.ops.aten."):
            op, _, overload = target.removeprefix("torch.ops.aten.").partition(".")
            found, size = (self._type(first), self._size(first)) if len(names) == 1 else (None, "")
            made = self._operators.apply(op, overload or "default", arguments, found, size)
        elif target.startswith(("_operator.", "math.", "torch.sym_")):
            made = self._operators.call(target.rpartition(".")[2].removeprefix("sym_"), list(arguments.values()), {})
        else:
            made = self._operators.miss(target)
        self._keep(names if len(names) > 1 else names[0], made)

    def _size(self, name: str) -> str:
        known = self._graph["sym_int_values"]
        return str(self._dim(known[name])) if name in known.fields else ""

    def _named(self, output: Place) -> Any:
        """The name of an output, or those of a list of tensors."""
        kind, place = _only_field(output)
        if kind == "as_tensors":
            return [p.text_of("name") for p in place.list()]
        if kind == "as_tensor":
            return place.text_of("name")
        if kind in _SYMBOLS:
            return place.text_of("as_name")
        raise UnsupportedError("a kind of result that is not known", where=output.where, got=kind)

    def _keep(self, names: Any, made: Any) -> None:
        if isinstance(names, str):
            self._values[names] = made
            return
        parts = [made] * len(names) if isinstance(made, Special) else made
        if not isinstance(parts, (list, tuple)) or len(parts) < len(names):
            raise FileError("an operator with more results than it has", where=self._where, got=excerpt(names))
        for name, part in zip(names, parts):
            self._keep(name, part)

    def _argument(self, place: Place) -> Any:
        kind, value = _only_field(place)
        if kind in _PLAIN:
            return value.value
        if kind in _LISTS:
            return [v.value for v in value.list()]
        if kind in _SILENT:
            return None
        if kind == "as_scalar_type":
            return self._dtype(value)
        if kind == "as_tensor":
            return self._value(value, "name")
        if kind in _SYMBOLS:
            return self._symbol(value)
        if kind == "as_optional_tensors":
            return [None if "as_none" in v.fields else self._value(v["as_tensor"], "name") for v in value.list()]
        if kind in _PLACED:
            return [self._value(v, "name") if kind == "as_tensors" else self._symbol(v) for v in value.list()]
        raise UnsupportedError("a kind of argument that is not known", where=place.where, got=excerpt(kind))

    def _symbol(self, place: Place) -> Any:
        if "as_name" in place.fields:
            return self._value(place, "as_name")
        found = next(iter(place.fields.values()), None)
        if not isinstance(found, (int, float)):
            raise place.error("a size that is no number")
        return found

    def _value(self, place: Place, key: str) -> Any:
        name = place.text_of(key)
        if name not in self._values:
            raise place.error("a value that nothing made")
        return self._values[name]


def _only_field(place: Place) -> tuple[str, Place]:
    """The kind of a value, which is the name of its only field, and the field; no kind where there are several."""
    return place.items()[0] if len(place.fields) == 1 else ("", place)


def _json(archive: Archive, entry: str) -> Place:
    where = f"{archive.path}: {excerpt(entry)}"
    return Place(parse(archive.data(entry), where), None, where)
