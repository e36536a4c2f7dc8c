"""Programs of `torch.export`, read as calls."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...errors import InputError, UnsupportedError
from ...graph import Array, Dim, Graph, TensorType
from .calls import Call, Program, Ref, Sym
from .objects import DTYPES
from .programs import definition, graph_of

__all__ = ["array_of", "dtype_of", "quiet", "read_exported", "read_module", "torch_module"]


def torch_module() -> Any:
    """The package torch, which the user has installed."""
    try:
        import torch
    except ImportError as e:
        hint = "pip install torch; files of weights alone need no PyTorch: forwardpass.read_weights"
        raise UnsupportedError("PyTorch is not installed", hint=hint) from e
    return torch


@contextmanager
def quiet() -> Iterator[None]:
    """PyTorch warns of what parts of it do with others; a caller cannot help it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_module(module: Any, example_inputs: Any, dynamic_shapes: Any) -> Graph:
    """The graph of a `torch.nn.Module`, exported by `torch.export`.

    Parameters
    ----------
    dynamic_shapes
        As for `torch.export.export`; None leaves the first axis of every input free where that can be.
    """
    torch = torch_module()
    where = type(module).__name__
    if example_inputs is None:
        raise InputError("a module needs example inputs", where=where, expected="a tensor or a tuple of them")
    if any(m.training for m in module.modules()):
        raise InputError("the module is in training mode", where=where, hint="module.eval()")
    given = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    inputs = tuple(torch.as_tensor(x) if isinstance(x, np.ndarray) else x for x in given)
    try:
        with torch.no_grad(), quiet():
            program = _exported(torch, module, inputs, dynamic_shapes)
    except Exception as e:
        reason = f"{type(e).__name__}: {e}".splitlines()[0][:300]
        raise UnsupportedError("torch.export cannot export the module", where=where, got=reason) from e
    return read_exported(program, where)


def _exported(torch: Any, module: Any, inputs: tuple[Any, ...], dynamic_shapes: Any) -> Any:
    if dynamic_shapes is not None:
        return torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes)
    tensors = [x for x in inputs if isinstance(x, torch.Tensor)]
    if len(tensors) == len(inputs) and all(x.dim() for x in tensors):
        # A size of one is taken as fixed, so that the example becomes a batch of two.
        alone = all(x.shape[0] == 1 for x in tensors)
        batch = tuple(torch.cat([x, x]) for x in tensors) if alone else inputs
        free = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
        try:
            return torch.export.export(module, batch, dynamic_shapes=free)
        except Exception:  # a module whose batch is fixed: what is wrong else, the next line says
            pass
    return torch.export.export(module, inputs)


def read_exported(program: Any, name: str = "") -> Graph:
    """The graph of a `torch.export.ExportedProgram`.

    Operators that are defined here stay whole; the others are decomposed into those of Core ATen.

    Raises
    ------
    UnsupportedError
        Operators that are not known, all at once; inputs that are no tensors.
    """
    torch = torch_module()
    table = torch.export.default_decompositions()
    for key in list(table.keys()):
        if isinstance(key, torch._ops.OpOverload) and definition(*_name_of(key)) is not None:
            table.pop(key)
    with quiet():
        program = program.run_decompositions(table)
    return graph_of(_Reader(torch, program, name or "exported").read())


def array_of(tensor: Any) -> Array:
    """A tensor's values as an array, bit for bit."""
    torch = torch_module()
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy().view(DTYPES["bfloat16"][0]).view(DTYPES["bfloat16"]))
    return np.array(tensor.numpy())


def _name_of(target: Any) -> tuple[str, str]:
    name = target._schema.name.removeprefix("aten::")
    return name, target._schema.overload_name or "default"


def dtype_of(torch_dtype: Any) -> np.dtype[Any]:
    """NumPy's dtype of one of PyTorch."""
    name = str(torch_dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise UnsupportedError("a type that is not known here", got=name)
    return DTYPES[name]


class _Reader:
    """Reads one program."""

    def __init__(self, torch: Any, program: Any, name: str) -> None:
        self.torch, self.program = torch, program
        self.made = Program(name, {})
        self.dims: dict[str, str] = {}

    def read(self) -> Program:
        signature = self.program.graph_signature
        constants = {**self.program.state_dict, **self.program.constants}
        held: dict[str, str] = {}
        for spec in signature.input_specs:
            if spec.kind.name in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
                held[spec.arg.name] = spec.target
        user = [s.arg.name for s in signature.input_specs if s.kind.name == "USER_INPUT"]
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                if node.name in held:
                    self.made.constants[node.name] = array_of(constants[held[node.name]])
                elif node.name in user:
                    self._input(node)
                # Others are tokens that keep an order: only operators that are not known read them.
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self._outputs(signature)
            else:
                raise UnsupportedError("a kind of node that is not known", where=self.made.name, got=node.op)
        return self.made

    def _input(self, node: Any) -> None:
        value = node.meta.get("val")
        if not isinstance(value, self.torch.Tensor):
            raise UnsupportedError("an input that is no tensor", where=f"{self.made.name}: {node.name}")
        shape: list[Dim] = []
        for k, size in enumerate(value.shape):
            if isinstance(size, int):
                shape.append(size)
                continue
            text = str(size)
            if text not in self.dims:
                self.dims[text] = "N" if k == 0 and "N" not in self.dims.values() else text
            shape.append(self.dims[text])
        self.made.inputs[node.name] = TensorType(dtype_of(value.dtype), tuple(shape))

    def _outputs(self, signature: Any) -> None:
        for spec in signature.output_specs:
            if spec.kind.name == "USER_OUTPUT" and hasattr(spec.arg, "name"):
                self.made.outputs.append(spec.arg.name)
            elif spec.kind.name == "BUFFER_MUTATION":
                raise UnsupportedError("a module that changes its buffers", where=self.made.name, got=spec.target)

    def _call(self, node: Any) -> None:
        target = node.target
        if isinstance(target, self.torch._ops.OpOverload):
            if target.namespace != "aten":
                op, overload = target._schema.name.replace("::", "."), target._schema.overload_name or "default"
            else:
                op, overload = _name_of(target)
            arguments = self._bound(target._schema.arguments, node.args, node.kwargs)
            if not target._schema.returns:
                return  # an assertion
        else:
            op, overload = getattr(target, "__name__", str(target)), "python"
            arguments = {str(k): self._value(a) for k, a in enumerate(node.args)}
            if op in ("sym_constrain_range_for_size", "sym_constrain_range"):
                return
        value = node.meta.get("val")
        found, size = None, ""
        if isinstance(value, self.torch.Tensor):
            shape = tuple(self._dim(d) for d in value.shape)
            found = TensorType(dtype_of(value.dtype), shape)
        elif isinstance(value, self.torch.SymInt):
            size = str(self._dim(value))
        self.made.calls.append(Call(op, overload, arguments, node.name, found, size))

    def _dim(self, size: Any) -> Dim:
        return size if isinstance(size, int) else self.dims.get(str(size), str(size))

    def _bound(self, schema: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        bound = {a.name: self._value(v) for a, v in zip(schema, args)}
        bound.update((k, self._value(v)) for k, v in kwargs.items())
        return bound

    def _value(self, value: Any) -> Any:
        torch = self.torch
        if isinstance(value, torch.fx.Node):
            kind = value.meta.get("val")
            return Sym(value.name) if isinstance(kind, (int, torch.SymInt)) else Ref(value.name)
        if isinstance(value, (list, tuple)):
            return [self._value(v) for v in value]
        if isinstance(value, torch.dtype):
            return dtype_of(value)
        if isinstance(value, (torch.device, torch.layout, torch.memory_format)):
            return None
        return value
