"""What TorchScript's code does with numbers, texts and lists, which no graph needs to know of."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from ..calls import Sym
from .values import UNDECIDED, Special

__all__ = ["ASKED", "LISTS", "NUMBERS", "SCALAR_TYPES", "LengthError"]

MAX_LIST = 100_000
MAX_TEXT = 1000

SCALAR_TYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64",
    9: "complex64", 10: "complex128", 11: "bool", 15: "bfloat16",
}  # fmt: skip
"""The numbers that stand for element types."""


class LengthError(ValueError):
    """A value that no program of a network has."""


def _joined(a: Any, b: Any) -> Any:
    if isinstance(a, str) and isinstance(b, str):
        return (a + b)[:MAX_TEXT]
    if isinstance(a, list) and isinstance(b, list):
        return _short(a + b)
    return a + b


def _times(a: Any, b: Any) -> Any:
    parts, count = (a, b) if isinstance(a, list) else (b, a)
    if isinstance(parts, list):
        if len(parts) * max(count, 0) > MAX_LIST:
            raise LengthError("a list that is too long")
        return parts * count
    return a * b


def _short(made: list[Any]) -> list[Any]:
    if len(made) > MAX_LIST:
        raise LengthError("a list that is too long")
    return made


def _divided(a: Any, b: Any, rounding_mode: Any = None) -> Any:
    if rounding_mode is None:
        return a / b
    made = math.floor(a / b) if rounding_mode == "floor" else math.trunc(a / b)
    return made if isinstance(a, int) and isinstance(b, int) else float(made)


def _power(a: Any, b: Any) -> Any:
    made = math.pow(a, b)
    return int(a**b) if isinstance(a, int) and isinstance(b, int) and b >= 0 and abs(made) < 2**63 else made


def _format(text: Any, *given: Any) -> str:
    return str(text)[:MAX_TEXT]


def _converted(value: Any, dtype: Any, *ignored: Any) -> Any:
    """`torch.to` of a number, whose types are those of Python."""
    name = SCALAR_TYPES.get(dtype, "")
    return bool(value) if name == "bool" else float(value) if "float" in name else int(value)


NUMBERS: dict[str, Callable[..., Any]] = {
    "add": _joined,
    "sub": operator.sub,
    "mul": _times,
    "div": _divided,
    "floordiv": operator.floordiv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "neg": operator.neg,
    "abs": abs,
    "pow": _power,
    "sqrt": math.sqrt,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
    "trunc": math.trunc,
    "to": _converted,
    "detach": lambda value: value,
    "clone": lambda value: value,
    "Int": int,
    "Float": float,
    "Bool": bool,
    "format": _format,
    "__not__": operator.not_,
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__xor__": operator.xor,
    "__derive_index": lambda index, start, step: start + index * step,
    "__range_length": lambda start, stop, step: len(range(start, stop, step)),
}
"""What is calculated while the program is read, if all arguments are known."""


def _item(values: Any, index: Any) -> Any:
    return values[index]


def _extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    def of(values: list[Any]) -> Any:
        return UNDECIDED if any(isinstance(v, Sym) for v in values) else choose(values)

    return of


def _slice(values: Any, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return values[start:end:step]


def _append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return _short(values)


def _extend(values: list[Any], more: list[Any]) -> list[Any]:
    values.extend(more)
    return _short(values)


def _set(values: Any, index: Any, value: Any) -> Any:
    values[index] = value
    return values


LISTS: dict[str, Callable[..., Any]] = {
    "__getitem__": _item,
    "select": _item,
    "slice": _slice,
    "len": len,
    "__contains__": lambda values, value: UNDECIDED if isinstance(value, (Sym, Special)) else value in values,
    "append": _append,
    "extend": _extend,
    "insert": lambda values, at, value: _short([values.insert(at, value), values][1]),
    "pop": lambda values, at=-1: values.pop(at),
    "reverse": lambda values: [values.reverse(), values][1],
    "copy": lambda values: values[:],
    "list": lambda values: list(values),
    "_set_item": _set,
    "any": any,
    "all": all,
    "max": _extreme(max),
    "min": _extreme(min),
    "keys": lambda values: list(values.keys()),
    "values": lambda values: list(values.values()),
    "items": lambda values: [list(i) for i in values.items()],
    "get": lambda values, key, default=None: values.get(key, default),
}
"""What is done to a list, a text or a dict."""

ASKED: dict[str, Any] = {
    # With gradients on, PyTorch's own layers take the way that does not fuse them into one operator.
    "is_grad_enabled": True,
    "requires_grad": True,
    "is_autocast_enabled": False,
    "is_autocast_cpu_enabled": False,
    "is_scripting": True,
    "is_tracing": False,
    "type": "cpu",
    "is_cuda": False,
    "is_nested": False,
    "is_quantized": False,
    "is_sparse": False,
    "is_mkldnn": False,
    "is_contiguous": True,
    "warn": None,
}
"""What has one answer here, whatever it is asked of."""
