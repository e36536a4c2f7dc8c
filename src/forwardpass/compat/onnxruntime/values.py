"""Values that outlive calls, and the buffers that a session is bound to."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...dtypes import from_foreign, name_of
from ...graph import Array, TensorType
from .errors import InvalidArgument, translated

if TYPE_CHECKING:
    from .session import InferenceSession

__all__ = ["IOBinding", "OrtValue", "type_text"]

_NAMES = {"float32": "float", "float64": "double"}


def type_text(t: TensorType) -> str:
    """A type as onnxruntime writes it: `tensor(float)`, `seq(tensor(int64))`."""
    name = name_of(t.dtype).replace("_", "")
    text = f"tensor({_NAMES.get(name, name)})"
    for outer in reversed(t.container):
        text = f"seq({text})" if outer == "sequence" else f"{outer}({text})"
    return text


def _on_cpu(device: str) -> None:
    if device.lower() not in ("cpu", ""):
        raise InvalidArgument("no such device", where="device_type", expected="cpu", got=device)


class OrtValue:
    """An array, or a sequence or map, as a value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @staticmethod
    def ortvalue_from_numpy(numpy_obj: Array, device_type: str = "cpu", device_id: int = 0) -> OrtValue:
        """A value that shares the memory of a contiguous array."""
        _on_cpu(device_type)
        return OrtValue(np.asarray(numpy_obj, order="C"))

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int], element_type: Any, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        """A value of zeros."""
        _on_cpu(device_type)
        return OrtValue(np.zeros(tuple(shape), element_type))

    @staticmethod
    def from_dlpack(data: Any) -> OrtValue:
        """The memory of any object that speaks DLPack."""
        return OrtValue(np.from_dlpack(data))

    def numpy(self) -> Array:
        """The array itself."""
        if not isinstance(self._value, np.ndarray):
            raise InvalidArgument("not a tensor", where="OrtValue", got=type(self._value).__name__)
        return self._value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype, copy=True) if copy else np.asarray(self.numpy(), dtype)

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy().__dlpack__(*args, **kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.numpy().__dlpack_device__()
        return device

    def update_inplace(self, np_arr: Array) -> None:
        """Write an array of the same shape and dtype into this one's memory."""
        array = self.numpy()
        if np_arr.shape != array.shape or np_arr.dtype != array.dtype:
            wanted, got = TensorType.of(array), TensorType.of(np_arr)
            raise InvalidArgument("another shape or dtype", where="OrtValue", expected=str(wanted), got=str(got))
        np.copyto(array, np_arr)

    def shape(self) -> list[int]:
        """Of the array."""
        return list(self.numpy().shape)

    def data_type(self) -> str:
        """Such as `tensor(float)`."""
        return type_text(TensorType.of(from_foreign(self.numpy())))

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self.numpy().ctypes.data

    def device_name(self) -> str:
        """cpu."""
        return "cpu"

    def has_value(self) -> bool:
        """Whether it holds anything: an optional may not."""
        return self._value is not None

    def is_tensor(self) -> bool:
        """Whether it is an array."""
        return isinstance(self._value, np.ndarray)

    def is_tensor_sequence(self) -> bool:
        """Whether it is a sequence."""
        return isinstance(self._value, list)

    def is_sparse_tensor(self) -> bool:
        """Never."""
        return False


class IOBinding:
    """Inputs and outputs of a session that stay from run to run. Outputs with a buffer are written there."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Array | None] = {}
        self._results: list[OrtValue] = []

    def bind_cpu_input(self, name: str, arr_on_cpu: Array) -> None:
        """Bind an array as it is."""
        self._inputs[name] = arr_on_cpu

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Bind a value."""
        self._inputs[name] = ortvalue._value

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """Bind the memory at an address, which must stay valid."""
        _on_cpu(device_type)
        self._inputs[name] = _at(buffer_ptr, shape, element_type)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Ask for an output; with an address it is written there."""
        _on_cpu(device_type)
        self._outputs[name] = None if not buffer_ptr or shape is None else _at(buffer_ptr, shape, element_type)

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Have an output written into a value."""
        self._outputs[name] = ortvalue.numpy()

    def clear_binding_inputs(self) -> None:
        """Forget the inputs."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Forget the outputs."""
        self._outputs.clear()

    def synchronize_inputs(self) -> None:
        """Of no effect: there is nothing to wait for."""

    def synchronize_outputs(self) -> None:
        """Of no effect: there is nothing to wait for."""

    def get_outputs(self) -> list[OrtValue]:
        """The outputs of the last run, in the order of their binding."""
        return self._results

    def copy_outputs_to_cpu(self) -> list[Any]:
        """Copies of the outputs of the last run."""
        return [np.array(v._value) if v.is_tensor() else v._value for v in self._results]

    def _run(self) -> None:
        model, names = self._session._model, list(self._outputs)
        with translated():
            self._session._check_names(names)
            if names and set(names) == set(model.outputs) and all(a is not None for a in self._outputs.values()):
                model.run_into(self._inputs, dict(self._outputs))
                self._results = [OrtValue(a) for a in self._outputs.values()]
                return
            found = model.run(self._inputs)
        for name, target in self._outputs.items():
            if target is not None:
                OrtValue(target).update_inplace(found[name])
        self._results = [OrtValue(found[n] if self._outputs[n] is None else self._outputs[n]) for n in names]


def _at(address: int, shape: Sequence[int], element_type: Any) -> Array:
    dtype = np.dtype(element_type)
    memory = (ctypes.c_byte * (math.prod(shape) * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype).reshape(tuple(shape))
