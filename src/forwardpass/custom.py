"""Operators from Python: `@fp.op("my.domain", "MyOp")`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from .errors import ConfigError, GraphError
from .graph import Array, TensorType
from .ops import registry
from .ops.catalog import load
from .ops.registry import Attributes, Constants, Types, operator
from .prepared import forget

__all__ = ["op"]

F = TypeVar("F", bound=Callable[..., Any])


def op(
    domain: str,
    name: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    infer: Callable[..., Any] | None = None,
    outputs: int = 1,
    replace: bool = False,
) -> Callable[[F], F]:
    """Register a Python function as an operator, for models that use one which is not built in.

    Parameters
    ----------
    domain, name
        As the model's nodes say. The domains "" and "ai.onnx" are ONNX's own.
    attributes
        Attribute name -> default. `REQUIRED` from `forwardpass.ops` where there is none. A node with other
        attributes is refused. By default the operator has none.
    infer
        `(*types, **attributes) -> TensorType or list of them`: dtype and shape of the outputs for those of the inputs.
        Without it the outputs have the dtype of the first input, and shapes that are known when the model runs.
    outputs
        How many outputs there are.
    replace
        Take the place of an operator that exists already.

    Returns
    -------
    decorator
        Of a function `(*arrays, **attributes) -> array or tuple of arrays`. An absent optional input is None. It must
        not change its inputs.

    Raises
    ------
    ConfigError
        There is such an operator already.

    Examples
    --------
    >>> import numpy as np
    >>> import forwardpass as fp
    >>> @fp.op("my.domain", "Swish2", attributes={"beta": 1.0})
    ... def swish2(x, beta):
    ...     return x / (1 + np.exp(-beta * x))
    """
    domain = "" if domain == "ai.onnx" else domain
    if not replace and ((domain, name) in registry or load(domain, name)):
        label = f"{domain}.{name}" if domain else name
        raise ConfigError("there is such an operator already", where=label, hint="replace=True takes its place")

    def register(function: F) -> F:
        operator(
            name,
            domain=domain,
            attributes=attributes,
            arity=(0, None),
            infer=_infer(infer, outputs),
            reference=lambda given, *arrays: _called(function, outputs, given, arrays),
            pure=False,
        )
        forget()  # plans with the operator that this one may replace
        return function

    return register


def _called(function: Callable[..., Any], outputs: int, attributes: Attributes, arrays: tuple[Any, ...]) -> Any:
    result = function(*arrays, **attributes)
    given = result if isinstance(result, tuple) else (result,)
    if len(given) != outputs:
        raise GraphError("wrong number of results", expected=str(outputs), got=str(len(given)))
    return tuple(g if isinstance(g, (list, dict)) else _native_order(np.asarray(g)) for g in given)


def _native_order(array: Array) -> Array:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _infer(rule: Callable[..., Any] | None, outputs: int) -> Callable[..., list[TensorType]]:
    def infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
        if rule is None:
            first = next((t for t in types if t is not None), TensorType(np.dtype(np.float32), None))
            return [TensorType(first.dtype, None)] * outputs
        found = rule(*types, **attributes)
        found = [found] if isinstance(found, TensorType) else list(found)
        if len(found) != outputs or not all(isinstance(t, TensorType) for t in found):
            raise GraphError("wrong result of the shape rule", expected=f"{outputs} TensorType", got=repr(found))
        return found

    return infer
