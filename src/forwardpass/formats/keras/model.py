"""Models run layer by layer: which tensor goes where, for Sequential and Functional models inside of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...builder.layer import BATCH
from ...dtypes import code_of
from ...errors import Error, FileError, UnsupportedError
from ...graph import Dim, Graph, TensorType
from ..archive import excerpt
from .call import Call, finished, flatten
from .config import Layer, Ref, reference, references
from .emitter import MAX_NODES, Emitter
from .kinds import Flow
from .units import Unit

__all__ = ["Importer"]

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
FLOAT = np.dtype(np.float32)
_FLOATS = ("float16", "bfloat16", "float32", "float64")
Key = tuple[str, int]


class Importer:
    """The graph of one model.

    Parameters
    ----------
    model
        With its weights.
    version
        The major version of Keras that wrote the file.
    """

    def __init__(self, model: Unit, version: int) -> None:
        self.model, self.version = model, version
        self.emitter = Emitter(model.layer.name)

    def graph(self) -> Graph:
        """The graph.

        Raises
        ------
        FileError, GraphError, UnsupportedError
            Naming the layer.
        """
        graph = self.emitter.graph
        if _runs(self.model) > MAX_NODES:
            # Found before they are made: models that call each other twice double with each of them.
            raise FileError("the model has too many nodes", where=self.model.layer.where, expected=f"<= {MAX_NODES}")
        layers = [(u, TensorType(*_input_type(u.layer, spec))) for u, spec in self._inputs()]
        given = [Flow(self.emitter.input(_input_name(unit), found)) for unit, found in layers]
        results = self.run_model(self.model, given)
        for flow in results:
            taken = flow.value in graph.inputs or flow.value in graph.outputs
            name = (
                self.emitter.nodes(f"{flow.value}_output", "Identity", [flow.value], 1, {})[0] if taken else flow.value
            )
            graph.outputs.append(name)
        graph.prune()
        graph.verify()
        return graph

    def _inputs(self) -> list[tuple[Unit, Any]]:
        """The layers at which the model's tensors enter, and the shape that each says."""
        model = self.model
        if model.layer.kind == "Functional":
            refs = references(model.layer.config.get("input_layers"), f"{model.layer.where}: input_layers")
            units = [_child(model, r) for r in refs]
            for unit in units:
                if unit.layer.kind != "InputLayer":
                    raise FileError("not an input", where=unit.layer.where, expected="an InputLayer")
            return [(u, _stated_shape(u.layer)) for u in units]
        children = list(model.children.values())
        if not children:
            raise FileError("the model has no layers", where=model.layer.where)
        first = children[0]
        stated = _stated_shape(first.layer)
        if stated is None:
            stated = model.layer.config.get("build_input_shape") or model.layer.build.get("input_shape")
        return [(first, stated)]

    # ---- models

    def run_model(self, model: Unit, given: Sequence[Flow]) -> list[Flow]:
        """The results of a model for its inputs."""
        if model.layer.kind == "Sequential":
            flows = list(given)
            for unit in model.children.values():
                if unit.layer.kind != "InputLayer":
                    flows = self.run(unit, flows, {})
            return flows
        config, where = model.layer.config, model.layer.where
        entering = references(config.get("input_layers"), f"{where}: input_layers")
        if len(entering) != len(given):
            raise FileError("wrong number of inputs", where=where, expected=str(len(entering)), got=str(len(given)))
        done: dict[Key, list[Flow]] = {(r.layer, r.node): [flow] for r, flow in zip(entering, given)}
        leaving = references(config.get("output_layers"), f"{where}: output_layers")
        self._resolve(model, leaving, done)
        return [_found(done, r, where) for r in leaving]

    def _resolve(self, model: Unit, wanted: Sequence[Ref], done: dict[Key, list[Flow]]) -> None:
        """Run the calls that the wanted tensors come from, each once, without recursion."""
        stack = [(r.layer, r.node) for r in reversed(wanted)]
        open_keys: set[Key] = set()
        while stack:
            key = stack[-1]
            if key in done:
                stack.pop()
                continue
            unit = _child(model, Ref(*key, 0))
            args, kwargs = _call_of(unit.layer, key[1])
            needed = [(r.layer, r.node) for r in _refs((args, kwargs)) if (r.layer, r.node) not in done]
            if needed:
                if key in open_keys:
                    raise FileError("the layers form a cycle", where=unit.layer.where)
                open_keys.add(key)
                stack += reversed(needed)
                continue
            where = unit.layer.where
            done[key] = self.run(unit, _filled(args, done, where), _filled(kwargs, done, where))
            stack.pop()

    # ---- layers

    def run(self, unit: Unit, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Flow]:
        """The results of a layer, or of a model inside of a model."""
        try:
            return self._run(unit, args, kwargs)
        except Error as error:
            if error.where.startswith(unit.layer.where) or ": layer " in error.where:
                raise
            where = f"{unit.layer.where}: {error.where}" if error.where else unit.layer.where
            raise type(error)(
                error.message, where=where, expected=error.expected, got=error.got, hint=error.hint
            ) from error

    def _run(self, unit: Unit, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Flow]:
        if unit.kind is None:
            # A model that is called with keywords has its inputs there.
            return self.run_model(unit, flatten(args) or flatten(kwargs))
        _check_policy(unit.layer)
        if not unit.kind.integers:
            args, kwargs = self._floats(args, unit), self._floats(kwargs, unit)
        args = self._masked(args, kwargs.get("mask"))
        call = Call(self.emitter, unit, args, kwargs, self.version, self.run)
        results = finished(unit.kind.emit(call))
        if unit.kind.masking == "pass" and len(call.flows) == 1:
            results = [Flow(r.value, call.flows[0].mask) for r in results]
        given = {f.value for f in call.flows}
        named: list[Flow] = []
        for flow in results:
            value = flow.value
            if value in given or value in (n.value for n in named):
                value = self.emitter.nodes(call.stem, "Identity", [value], 1, {})[0]
            elif len(results) == 1:
                value = self.emitter.rename(value, call.stem)
            named.append(Flow(value, flow.mask))
        return named

    def _masked(self, args: Sequence[Any], mask: Any) -> Sequence[Any]:
        """The arguments with the masks that the call gives by keyword, as Keras 3 writes those that it found."""
        masks = iter(flatten(mask))
        if isinstance(mask, list) and len(flatten(mask)) != len(flatten(args)):
            return args

        def put(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return [put(v) for v in value]
            given = next(masks, None) if isinstance(value, Flow) else None
            return value if given is None else Flow(value.value, self._bool(given.value))

        return [put(v) for v in args]

    def _bool(self, value: str) -> str:
        if self.emitter.type(value).dtype == np.bool_:
            return value
        return self.emitter.nodes("mask", "Cast", [value], 1, {"to": code_of(np.dtype(np.bool_))})[0]

    def _floats(self, value: Any, unit: Unit) -> Any:
        """Integers among tensors as float32, in which the layers compute."""
        if isinstance(value, Flow):
            if self.emitter.type(value.value).dtype.kind not in "iub":
                return value
            return Flow(
                self.emitter.nodes(f"{unit.path}/cast", "Cast", [value.value], 1, {"to": code_of(FLOAT)})[0], value.mask
            )
        if isinstance(value, dict):
            return {k: v if k.endswith("mask") else self._floats(v, unit) for k, v in value.items()}
        return [self._floats(v, unit) for v in value] if isinstance(value, (list, tuple)) else value


def _runs(unit: Unit) -> int:
    """How often layers run when a unit does, at most."""
    if unit.kind is not None:
        return 1
    return sum(max(len(child.layer.calls), 1) * _runs(child) for child in unit.children.values())


def _child(model: Unit, ref: Ref) -> Unit:
    if ref.layer not in model.children:
        raise FileError("no such layer", where=model.layer.where, got=excerpt(repr(ref.layer)))
    return model.children[ref.layer]


def _found(done: dict[Key, list[Flow]], ref: Ref, where: str) -> Flow:
    results = done[ref.layer, ref.node]
    if ref.tensor >= len(results):
        got = f"output {ref.tensor} of {ref.layer!r}, which has {len(results)}"
        raise FileError("no such output", where=where, got=excerpt(got))
    return results[ref.tensor]


def _call_of(layer: Layer, node: int) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a call, with `Ref` for tensors."""
    if node >= len(layer.calls):
        got = f"call {node} of {len(layer.calls)}"
        raise FileError("the layer is not called so often", where=layer.where, got=got)
    entry = layer.calls[node]
    if isinstance(entry, dict):
        args, kwargs = _new(entry.get("args", []), layer), _new(entry.get("kwargs", {}), layer)
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise FileError("the call is wrong", where=layer.where, got=excerpt(repr(entry)))
        return args, kwargs
    if not isinstance(entry, list):
        raise FileError("the call is wrong", where=layer.where, got=excerpt(repr(entry)))
    if entry and isinstance(entry[0], str):  # a single tensor without a list around it
        entry = [entry]
    kwargs = next((e[3] for e in entry if isinstance(e, list) and len(e) > 3 and isinstance(e[3], dict)), {})
    return [reference(e, layer.where) for e in entry], {k: _old(v, layer) for k, v in kwargs.items()}


def _new(value: Any, layer: Layer) -> Any:
    """Arguments as Keras 3 writes them."""
    if isinstance(value, dict):
        config = value.get("config")
        if value.get("class_name") == "__keras_tensor__" and isinstance(config, dict):
            return reference(config.get("keras_history"), layer.where)
        if value.get("class_name") == "__tuple__" and isinstance(config, list):
            return [_new(v, layer) for v in config]
        return value if "class_name" in value else {k: _new(v, layer) for k, v in value.items()}
    return [_new(v, layer) for v in value] if isinstance(value, list) else value


def _old(value: Any, layer: Layer) -> Any:
    """A keyword as Keras 2 writes it: tensors are [layer, call, output]."""
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and all(isinstance(v, int) for v in value[1:3]):
            return reference(value, layer.where)
        return [_old(v, layer) for v in value]
    return value


def _refs(value: Any) -> list[Ref]:
    if isinstance(value, Ref):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [r for v in value for r in _refs(v)] if isinstance(value, (list, tuple)) else []


def _filled(value: Any, done: dict[Key, list[Flow]], where: str) -> Any:
    if isinstance(value, Ref):
        return _found(done, value, where)
    if isinstance(value, dict):
        return {k: _filled(v, done, where) for k, v in value.items()}
    return [_filled(v, done, where) for v in value] if isinstance(value, (list, tuple)) else value


# ---- inputs and dtypes


def _stated_shape(layer: Layer) -> Any:
    for key in ("batch_shape", "batch_input_shape"):
        if layer.config.get(key) is not None:
            return layer.config[key]
    return None


def _input_name(unit: Unit) -> str:
    return unit.layer.name if unit.layer.kind == "InputLayer" else f"{unit.layer.name}_input"


def _input_type(layer: Layer, shape: Any) -> tuple[np.dtype[Any], tuple[Dim, ...]]:
    if shape is None:
        hint = "save the model after it was built: call it, or begin it with keras.Input(shape)"
        raise UnsupportedError("the shape of the model's input is not known", where=layer.where, hint=hint)
    if layer.kind == "InputLayer" and (layer.flag("sparse", False) or layer.flag("ragged", False)):
        raise UnsupportedError("sparse and ragged inputs are not read", where=layer.where)
    good = isinstance(shape, list) and 0 < len(shape) <= 16
    if not good or not all(d is None or (isinstance(d, int) and 0 < d < 2**31) for d in shape):
        raise FileError("the shape of the input is wrong", where=layer.where, got=excerpt(repr(shape)))
    dtype = layer.config.get("dtype") if layer.kind == "InputLayer" else "float32"
    dtype = "float32" if dtype is None else dtype
    if dtype not in (*_INTEGERS, *_FLOATS):
        raise UnsupportedError("inputs of this dtype are not read", where=layer.where, got=excerpt(repr(dtype)))
    batch: Dim = BATCH if shape[0] is None else shape[0]
    return np.dtype(dtype if dtype in _INTEGERS else "float32"), (batch, *shape[1:])


def _check_policy(layer: Layer) -> None:
    """Every floating dtype computes in float32; quantised layers hold other weights."""
    policy = layer.config.get("dtype")
    if isinstance(policy, dict):
        config = policy.get("config")
        quantised = "Quantized" in str(policy.get("class_name"))
        policy = config.get("name") if isinstance(config, dict) and not quantised else policy.get("class_name")
    allowed = (None, *_FLOATS, *_INTEGERS, "mixed_float16", "mixed_bfloat16")
    if policy not in allowed or layer.config.get("quantization_config"):
        raise UnsupportedError("quantised layers are not read", where=layer.where, got=excerpt(repr(policy)))
