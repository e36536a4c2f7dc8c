"""What is pickled in TorchScript's archives beside the weights: objects of the archive's classes, as attributes alone.

An object is the name of its class and its attributes. Nothing is made that could do something: the methods, of which
`__setstate__` would be one, are text that is read as a graph or not at all.
"""

from __future__ import annotations

from typing import Any

from ....records import field, record
from ..objects import KNOWN
from ..pickles import Global, Unpickler

__all__ = ["DEVICE", "KNOWN_OBJECTS", "Instance", "ObjectUnpickler"]

PREFIX = "__torch__."
DEVICE = object()
"""Any device: where a tensor was."""


@record(slots=True, eq=False)
class Instance:
    """An object of a class of the archive."""

    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)


def _list(pickle: Unpickler, *arguments: Any) -> list[Any]:
    if len(arguments) != 1 or not isinstance(arguments[0], list):
        raise pickle.error("wrong arguments of a list")
    return arguments[0]


def _tagged(pickle: Unpickler, *arguments: Any) -> Any:
    if len(arguments) != 2:
        raise pickle.error("wrong arguments of a type")
    return arguments[0]


def _device(pickle: Unpickler, *arguments: Any) -> Any:
    return DEVICE


KNOWN_OBJECTS: dict[str, Any] = {
    **KNOWN,
    **{f"torch.jit._pickle.build_{name}": _list for name in ("intlist", "doublelist", "boollist", "tensorlist")},
    "torch.jit._pickle.restore_type_tag": _tagged,
    "torch.device": _device,
}
"""As `KNOWN`, beside the archive's classes."""


class ObjectUnpickler(Unpickler):
    """One that also makes objects of the archive's classes."""

    def _global(self, module: str, name: str) -> Global:
        full = f"{module}.{name}"
        return Global(full, Instance) if full.startswith(PREFIX) else super()._global(module, name)

    def _structure(self, code: int) -> bool:
        if code == 0x81:  # NEWOBJ
            arguments, kind = self._pop(), self._pop()
            if arguments != () or not isinstance(kind, Global) or kind.value is not Instance:
                raise self.error("the pickle makes what is no object of the archive")
            self._stack.append(Instance(kind.name))
            return True
        if code == 0x62 and len(self._stack) > 1 and isinstance(self._stack[-2], Instance):  # BUILD
            state = self._pop()
            if not isinstance(state, dict):
                hint = "objects with a __setstate__ of their own, such as quantized weights, are not read"
                raise self.error("an object whose state is no dict of attributes", got=self._last().kind, hint=hint)
            for key, value in state.items():
                self.put(self._last().attributes, key, value)
            return True
        return super()._structure(code)

    def _call(self) -> Any:
        if len(self._stack) > 1 and isinstance(self._stack[-2], Global) and self._stack[-2].value is Instance:
            raise self.error("the pickle calls a class of the archive")
        return super()._call()
