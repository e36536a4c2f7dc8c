"""The operators of TorchScript's code: on what is known at once, on tensors as nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ....errors import Error, UnsupportedError
from ....graph import TensorType
from ...archive import excerpt
from ..calls import Call, Ref, Sym
from ..emitter import Emitter
from ..objects import DTYPES
from ..programs import COMPARED, definition, emit, unknown
from .numbers import ASKED, LISTS, NUMBERS, SCALAR_TYPES
from .objects import DEVICE
from .schemas import bound
from .values import UNDECIDED, UNKNOWN, Cell, Special

__all__ = ["Operators"]

_VIEWS = frozenset({
    "view", "reshape", "flatten", "unflatten", "transpose", "permute", "t", "mT", "numpy_T", "movedim", "swapaxes",
    "unsqueeze", "squeeze", "expand", "expand_as", "select", "slice", "narrow", "chunk", "split", "split_with_sizes",
    "unbind", "contiguous", "detach", "to", "type_as", "alias", "dropout", "feature_dropout", "alpha_dropout",
    "feature_alpha_dropout", "positive", "requires_grad_", "_reshape_alias", "lift_fresh",
})  # fmt: skip
"""What gives another look at the same memory, or may."""
_WRONG = (
    TypeError, ValueError, LookupError, ArithmeticError, AttributeError, StopIteration, AssertionError, MemoryError,
)  # fmt: skip
"""What Python raises where a file gives arguments that PyTorch would not."""
_SIZES = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "floordiv": "floordiv",
    "floor_divide": "floordiv",
    "remainder": "mod",
}


class Operators:
    """Calls operators.

    Attributes
    ----------
    count
        Called for every value that is looked at.
    """

    def __init__(self, e: Emitter, where: str) -> None:
        self._e, self._where = e, where
        self._missing: dict[str, int] = {}
        self._sizes: set[str] = set()
        self.count: Callable[[], None] = lambda: None

    def call(self, op: str, given: Sequence[Any], named: dict[str, Any]) -> Any:
        """The result of an operator, named without `torch.` before it."""
        name = op.removeprefix("prim.")
        try:
            if name in ("__is__", "__isnot__"):
                return (given[0] is given[1] or given[0] == given[1] is None) == (name == "__is__")
            if name in ASKED:
                return ASKED[name]
            if name in ("RaiseException", "dtype", "device", "dim", "NumToTensor", "ScalarImplicit", "IntImplicit"):
                return self._asked(name, given[0])
            if name in ("int", "float", "bool", "Int", "Float", "Bool", "item", "str", "len", "range"):
                return self._python(name, given)
            if given and isinstance(given[0], (list, dict, str)) and name in LISTS:
                return LISTS[name](*given, **named)
            plain = [self.plain(v) for v in given]
            if not any(self._has_tensor(v) for v in (*plain, *named.values())):
                if name in COMPARED and len(plain) == 2:
                    return self._compared(name, *plain)
                if name in NUMBERS:
                    return self._number(name, plain, {k: self.plain(v) for k, v in named.items()})
        except Error:
            raise
        except _WRONG as problem:
            raise self._refuse(f"{name} of such values", excerpt(problem)) from None
        return self._tensors(op, given, named)

    def plain(self, value: Any) -> Any:
        """A tensor that is one known number as that."""
        return value.number if isinstance(value, Cell) and value.number is not None else value

    def complain(self) -> NoReturn:
        """Raise for the operators that are not known.

        Raises
        ------
        UnsupportedError
            All that were met.
        """
        raise unknown(
            self._missing, self._where, "forwardpass.from_torch(module, example_inputs) takes most of them apart"
        )

    def finish(self) -> None:
        """Complain if an operator was not known."""
        if self._missing:
            self.complain()

    # ---- what is known at once

    def _asked(self, name: str, value: Any) -> Any:
        if name == "RaiseException":
            raise self._refuse("the program ends with an error for inputs of these shapes", value)
        if name == "device":
            return DEVICE
        if name == "dim" and isinstance(value, Cell):
            return self._e.rank_of(self.read(value))
        if name == "dtype" and isinstance(value, Cell):
            kind = self._e.dtype_of(self.read(value))
            return next((k for k, v in SCALAR_TYPES.items() if DTYPES[v] == kind), None)
        return value

    def _python(self, name: str, given: Sequence[Any]) -> Any:
        value = self.plain(given[0])
        if value is UNKNOWN:
            return UNKNOWN
        if name == "range":
            return UNDECIDED if any(isinstance(v, Sym) for v in given) else range(*given)
        if name == "len":
            return self._e.size(self.read(value), 0) if isinstance(value, Cell) else len(value)
        if isinstance(value, Cell):
            ref = self.read(value)
            whole = self._e.rank(ref) == 0 and self._e.dtype_of(ref).kind in "iu" and name in ("int", "Int", "item")
            return Sym(ref) if whole else UNDECIDED
        if isinstance(value, (Sym, Special)):
            return value if name in ("int", "Int", "item") else UNDECIDED
        convert: Any = {"int": int, "Int": int, "float": float, "Float": float, "bool": bool, "Bool": bool, "str": str}
        return convert.get(name, lambda v: v)(value)

    def _number(self, name: str, given: list[Any], named: dict[str, Any]) -> Any:
        parts = (*given, *named.values())
        if any(p is UNKNOWN for p in parts):
            return UNKNOWN
        if name == "__and__" and False in given:
            return False
        if name == "__or__" and True in given:
            return True
        if name == "format" or not any(isinstance(p, (Sym, Special)) for p in parts):
            made = NUMBERS[name](*given, **named)
            if isinstance(made, int) and not -(1 << 63) <= made < 1 << 63:
                raise self._refuse("an integer that is too large", name)
            return made
        if any(isinstance(p, Special) for p in parts) or name in ("__not__", "__and__", "__or__"):
            return UNDECIDED
        if name in ("to", "detach", "clone"):
            return given[0]
        name = _SIZES.get("floordiv" if name == "div" and named.get("rounding_mode") else name, "")
        if not name or any(isinstance(g, float) for g in given):
            raise self._refuse("numbers that depend on sizes that are not known", name or "a quotient")
        call = Call(name, "python", {str(k): v for k, v in enumerate(given)}, self._e.fresh(name))
        return emit(self._e, call, call.arguments)

    def _compared(self, name: str, one: Any, other: Any) -> Any:
        self.count()
        if one is UNKNOWN or other is UNKNOWN:
            return UNKNOWN
        if isinstance(one, list) and isinstance(other, list) and name in ("eq", "ne"):
            same = len(one) == len(other)
            found = [self._compared("eq", a, b) for a, b in zip(one, other)] if same else [False]
            if False in found:
                return name == "ne"
            return UNDECIDED if UNDECIDED in found else name == "eq"
        if isinstance(one, Sym) and isinstance(other, Sym):
            sizes = self._e.sizes
            if one == other or (one in sizes and sizes[one] == sizes.get(other)):
                return COMPARED[name](0, 0)
        if isinstance(one, Sym) and one in self._sizes and isinstance(other, int) and other <= 0:
            return COMPARED[name](1, other)  # no axis is empty, as for `torch.export`
        if isinstance(one, (Sym, Special)) or isinstance(other, (Sym, Special)):
            return UNDECIDED
        return COMPARED[name](one, other)

    # ---- tensors

    def _tensors(self, op: str, given: Sequence[Any], named: dict[str, Any]) -> Any:
        """The result of an operator whose arguments stand in their order."""
        form = bound(_base(op, "default"), given, named)
        if form is None:
            return self.miss(op)
        overload, arguments = form
        if isinstance(arguments.get("dtype"), int):
            arguments["dtype"] = DTYPES.get(SCALAR_TYPES.get(arguments["dtype"], ""))
        return self.apply(op, overload, arguments)

    def apply(
        self, op: str, overload: str, arguments: dict[str, Any], found: TensorType | None = None, size: str = ""
    ) -> Any:
        """The result of an operator on tensors, whose arguments have their names.

        Parameters
        ----------
        found, size
            The type of the result, or the size that it is, where the program says it.
        """
        known = _base(op, overload)
        if definition(known, overload) is None:
            return self.miss(op if overload == "default" else f"{op}.{overload}")
        if any(self._has_unknown(v) for v in arguments.values()):
            return UNKNOWN
        first = next(iter(arguments.values()), None)
        refs = {k: self._unwrapped(v) for k, v in arguments.items()}
        call = Call(known, overload, refs, self._e.fresh(known.strip("_")), found, size)
        try:
            made = emit(self._e, call, call.arguments)
        except _WRONG as problem:
            raise self._refuse(f"aten.{known} with such arguments", excerpt(problem)) from None
        if known in ("size", "sym_size", "numel", "sym_numel"):
            self._sizes.update(v for v in (made if isinstance(made, list) else [made]) if isinstance(v, Sym))
        if isinstance(first, Cell):
            if op.endswith("_") and not op.endswith("__") and isinstance(made, Ref):
                return self._changed(first, made)
            return self._wrapped(made, first if known in _VIEWS else None)
        return self._wrapped(made, None)

    def miss(self, op: str) -> Any:
        """Note an operator that is not known, so that all can be named at once."""
        self._missing[op] = self._missing.get(op, 0) + 1
        return UNKNOWN

    def _changed(self, cell: Cell, made: Any) -> Cell:
        """The tensor, which has other elements from now on."""
        if cell.memory.fixed:
            raise self._refuse("a module that changes its parameters or buffers", cell.ref)
        dtype = self._e.dtype_of(cell.ref)
        cell.ref = self._e.cast(made, dtype)
        cell.memory.version += 1
        cell.version = cell.memory.version
        cell.number = None
        return cell

    def read(self, cell: Cell) -> Ref:
        """The value of the graph that a tensor is."""
        if cell.version != cell.memory.version:
            hint = "give from_torch the module itself"
            raise self._refuse("a tensor whose memory was changed by another name", cell.ref, hint)
        return cell.ref

    def _unwrapped(self, value: Any) -> Any:
        self.count()
        if isinstance(value, Cell):
            return self.read(value)
        if isinstance(value, list):
            return [self._unwrapped(v) for v in value]
        if value is UNDECIDED:
            raise self._refuse("an argument that is known only when the model runs", "")
        return None if value is DEVICE else value

    def _wrapped(self, made: Any, base: Cell | None) -> Any:
        if isinstance(made, Sym) or not isinstance(made, (Ref, list, tuple)):
            return made
        if isinstance(made, Ref):
            array = self._e.constants.get(made)
            number = array.item() if array is not None and array.ndim == 0 and not array.dtype.names else None
            return Cell(made, None if base is None else base.memory, number)
        return [self._wrapped(m, base) for m in made]

    def _has_tensor(self, value: Any) -> bool:
        self.count()
        return isinstance(value, Cell) or (isinstance(value, list) and any(self._has_tensor(v) for v in value))

    def _has_unknown(self, value: Any) -> bool:
        self.count()
        return value is UNKNOWN or (isinstance(value, list) and any(self._has_unknown(v) for v in value))

    def _refuse(self, message: str, got: object, hint: str = "") -> UnsupportedError:
        return UnsupportedError(message, where=self._where, got=excerpt(got), hint=hint)


def _base(op: str, overload: str) -> str:
    """The operator that gives what another writes into its argument, where that is not known itself."""
    plain = op[:-1]
    return plain if op.endswith("_") and definition(op, overload) is None and definition(plain, overload) else op
