"""The standard interface of ONNX backends: `prepare`, `run_model`, `run_node`. Needs the package onnx.

>>> import forwardpass.backend as backend            # doctest: +SKIP
>>> y, = backend.run_model(model, [x])               # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import ConfigError, InputError
from .imports import from_onnx
from .run import Model

try:
    import onnx
    from onnx.backend.base import Backend, BackendRep, namedtupledict
except ImportError:
    raise ImportError("forwardpass.backend needs the package onnx (pip install 'forwardpass[onnx]')") from None

__all__ = ["ForwardpassBackend", "Prepared", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]

_OPTIONS = ("threads", "precision")


class Prepared(BackendRep):
    """A model that is ready to run.

    Parameters
    ----------
    model
        The model.
    names
        The inputs that its file lists: also those that are constants here, because the file gives them a value.
    """

    def __init__(self, model: Model, names: Sequence[str]) -> None:
        self.model = model
        self._names = list(names)

    def run(self, inputs: Any, **kwargs: Any) -> Any:
        """The outputs, as a tuple whose items have the names of the outputs.

        Parameters
        ----------
        inputs
            Arrays in the order of the model's inputs, or name -> array. Sequences are lists; an optional that is
            empty is None.

        Raises
        ------
        InputError
            Too many or too few of them, or one that does not fit.
        """
        outputs = self.model.run(self._bound(inputs))
        return namedtupledict("Outputs", list(outputs))(*outputs.values())

    def _bound(self, inputs: Any) -> dict[str, Any]:
        wanted = list(self.model.inputs)
        if isinstance(inputs, Mapping):
            return dict(inputs)
        given = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        names = wanted if len(given) == len(wanted) else self._names
        if len(given) > len(names):
            raise InputError("too many inputs", where="run", expected=str(len(wanted)), got=str(len(given)))
        bound = dict(zip(names, given))
        fixed = [n for n in bound if n not in self.model.inputs]
        if fixed:
            hint = "the file gives it a value; leave it out"
            raise InputError("the input is a constant", where=f"input {fixed[0]!r}", hint=hint)
        return bound


class ForwardpassBackend(Backend):
    """The backend; the functions of this module are its methods."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        """A model that is ready to run.

        Parameters
        ----------
        model
            A ModelProto, the bytes of a file, or a path.
        device
            "CPU".
        threads, precision
            As for `forwardpass.Model`. Other options are for other backends, and of no effect.

        Raises
        ------
        ConfigError
            Another device.
        FileError, GraphError, UnsupportedError
            As `forwardpass.from_onnx`.
        """
        if not cls.supports_device(device):
            raise ConfigError("no such device", where="device", expected="CPU", got=device)
        ready = from_onnx(model, **{k: kwargs[k] for k in _OPTIONS if k in kwargs})
        listed = [i.name for i in model.graph.input] if isinstance(model, onnx.ModelProto) else ready.inputs
        return Prepared(ready, list(listed))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> Any:
        """Prepare a model and run it once; see `prepare` and `Prepared.run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> Any:
        """Run one node of the newest opset on arrays.

        Parameters
        ----------
        inputs
            One array per input that is present, in order.
        outputs_info
            Of no effect: the outputs are what the operator gives.
        opset_version
            Of the node's domain.

        Raises
        ------
        ConfigError, InputError, FileError, GraphError, UnsupportedError
            As `prepare` and `Prepared.run`.
        """
        names = [i for i in node.input if i]
        given = [np.asarray(v) for v in ([inputs] if isinstance(inputs, np.ndarray) else inputs)]
        if len(given) != len(names):
            raise InputError("wrong number of inputs", where="run_node", expected=str(len(names)), got=str(len(given)))
        known = [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in dict(zip(names, given)).items()
        ]
        outputs = [onnx.ValueInfoProto(name=o) for o in node.output if o]
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version() if domain == "" else 1)
        graph = onnx.helper.make_graph([node], node.op_type, known, outputs)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(domain, version)])
        return cls.run_model(model, dict(zip(names, given)), device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models run on it: "CPU" alone."""
        return device.partition(":")[0] == "CPU"

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether `prepare` may be tried."""
        return cls.supports_device(device)


prepare = ForwardpassBackend.prepare
run_model = ForwardpassBackend.run_model
run_node = ForwardpassBackend.run_node
supports_device = ForwardpassBackend.supports_device
is_compatible = ForwardpassBackend.is_compatible
