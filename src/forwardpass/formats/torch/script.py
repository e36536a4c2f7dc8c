"""TorchScript, frozen and inlined, read as calls: straight-line graphs alone."""

from __future__ import annotations

from typing import Any

from ...errors import InputError, UnsupportedError
from ...graph import Dim, Graph, TensorType
from .calls import Call, Program, Ref, Sym
from .exported import array_of, dtype_of, quiet, torch_module
from .objects import DTYPES
from .programs import graph_of

__all__ = ["read_script"]

_SCALAR_TYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    9: "complex64",
    10: "complex128",
    11: "bool",
    15: "bfloat16",
}
"""The numbers that stand for element types."""

_LISTS = frozenset({"prim::ListConstruct", "prim::TupleConstruct"})
_DROPPED = frozenset({"prim::RaiseException", "aten::warn", "prim::device"})
_NUMBERS = {
    "aten::Int": "", "aten::ScalarImplicit": "", "prim::NumToTensor": "", "aten::IntImplicit": "",
    "aten::__getitem__": "getitem", "aten::floordiv": "floordiv", "aten::__range_length": "",
}  # fmt: skip


def read_script(module: Any, example_inputs: Any) -> Graph:
    """The graph of a TorchScript module.

    Parameters
    ----------
    example_inputs
        Tensors whose ranks and types the inputs have; their first axis is free.

    Raises
    ------
    InputError
        No example inputs, or the module is in training mode.
    UnsupportedError
        Loops, branches or operators that are not known here.
    """
    torch = torch_module()
    if example_inputs is None:
        raise InputError("a TorchScript module needs example inputs", expected="a tensor or a tuple of them")
    if getattr(module, "training", False):
        raise InputError("the module is in training mode", hint="module.eval()")
    inputs = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    with quiet():
        frozen = torch.jit.freeze(module) if isinstance(module, torch.jit.ScriptModule) else module
        graph = frozen.inlined_graph if hasattr(frozen, "inlined_graph") else frozen.graph
    return graph_of(_Reader(torch, getattr(frozen, "original_name", "script")).read(graph, inputs))


class _Reader:
    """Reads one graph."""

    def __init__(self, torch: Any, name: str) -> None:
        self.torch = torch
        self.made = Program(name or "script", {})
        self.values: dict[str, Any] = {}

    def read(self, graph: Any, examples: tuple[Any, ...]) -> Program:
        given = [i for i in graph.inputs() if i.type().kind() != "ClassType"]
        if len(given) != len(examples):
            raise InputError("wrong number of example inputs", expected=str(len(given)), got=str(len(examples)))
        for value, example in zip(given, examples):
            name = value.debugName().replace(".", "_")
            tensor = self.torch.as_tensor(example)
            shape: tuple[Dim, ...] = ("N", *tensor.shape[1:]) if tensor.dim() else ()
            self.made.inputs[name] = TensorType(dtype_of(tensor.dtype), shape)
            self.values[value.debugName()] = Ref(name)
        for node in graph.nodes():
            self._node(node)
        for output in graph.outputs():
            value = self.values.get(output.debugName())
            self.made.outputs += [str(v) for v in (value if isinstance(value, list) else [value])]
        return self.made

    def _node(self, node: Any) -> None:
        kind = node.kind()
        outputs = [o.debugName() for o in node.outputs()]
        inputs = [self.values.get(i.debugName()) for i in node.inputs()]
        if kind in ("prim::If", "prim::Loop"):
            hint = "torch.jit.trace the module, or give from_torch the module itself"
            raise UnsupportedError("TorchScript with branches or loops", where=self.made.name, got=kind, hint=hint)
        if kind == "prim::Constant":
            self.values[outputs[0]] = self._constant(node, outputs[0])
        elif kind in _LISTS:
            self.values[outputs[0]] = inputs
        elif kind in ("prim::ListUnpack", "prim::TupleUnpack"):
            self._unpack(inputs[0], outputs)
        elif kind in _NUMBERS and not _NUMBERS[kind]:
            self.values[outputs[0]] = inputs[0]
        elif kind not in _DROPPED:
            self._call(node, kind, inputs, outputs)

    def _constant(self, node: Any, name: str) -> Any:
        value = node.output().toIValue()
        if isinstance(value, self.torch.Tensor):
            array = array_of(value)
            if array.ndim == 0 and array.dtype.kind in "ib":
                return array.item()
            known = f"constant_{name}".replace(".", "_")
            self.made.constants[known] = array
            return Ref(known)
        return value

    def _unpack(self, value: Any, outputs: list[str]) -> None:
        for k, name in enumerate(outputs):
            self.values[name] = value[k] if isinstance(value, list) else self._add("getitem", "python", value, k, name)

    def _add(self, op: str, overload: str, value: Any, index: int, name: str) -> Ref:
        made = f"v{name}".replace(".", "_")
        self.made.calls.append(Call(op, overload, {"0": value, "1": index}, made))
        return Ref(made)

    def _call(self, node: Any, kind: str, inputs: list[Any], outputs: list[str]) -> None:
        schema = self.torch._C.parse_schema(node.schema()) if node.schema() != "(no schema)" else None
        if schema is None:
            arguments = {str(k): v for k, v in enumerate(inputs)}
        else:
            arguments = {a.name: v for a, v in zip(schema.arguments, inputs)}
        overload = (schema.overload_name if schema is not None else "") or "default"
        op = _NUMBERS.get(kind) or kind.removeprefix("aten::")
        if kind in _NUMBERS:
            overload = "python"
        if isinstance(arguments.get("dtype"), int):
            arguments["dtype"] = DTYPES.get(_SCALAR_TYPES.get(arguments["dtype"], ""))
        made = f"v{outputs[0]}".replace(".", "_")
        numeric = node.output().type().kind() == "IntType" if len(outputs) == 1 else False
        self.made.calls.append(Call(op, overload, arguments, made))
        if len(outputs) == 1:
            self.values[outputs[0]] = (Sym if numeric else Ref)(made)
        else:
            for k, name in enumerate(outputs):
                self.values[name] = self._add("getitem", "python", Ref(made), k, f"{outputs[0]}_{k}")
