"""Long arrays in batches."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .graph import Array, TensorType
from .inputs import as_ndarray, as_tensor, bind_arguments

if TYPE_CHECKING:
    from .run import Model

__all__ = ["predict"]


def predict(model: Model, x: Any, batch_size: int, progress: bool) -> Any:
    """`Model.predict`."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise InputError("wrong batch size", where="batch_size", expected="a positive integer", got=repr(batch_size))
    given = bind_arguments((), x, model.inputs) if isinstance(x, Mapping) else bind_arguments((x,), {}, model.inputs)
    arrays = {k: as_ndarray(k, v) for k, v in given.items()}
    count = _rows(arrays)
    whole: list[Array] = []
    with _progress(count) if progress else nullcontext(lambda done: None) as advance:
        for start in range(0, max(count, 1), batch_size):
            rows = min(batch_size, count - start)
            parts = model.outputs_for({k: a[start : start + rows] for k, a in arrays.items()})
            if not whole:
                whole = [_empty(name, count, rows, p) for name, p in zip(model.outputs, parts)]
            for name, all_rows, part in zip(model.outputs, whole, parts):
                _put(name, all_rows[start : start + rows], part)
            advance(start + rows)
    return model.as_result(whole)


def _rows(arrays: Mapping[str, Array]) -> int:
    """The length of the inputs."""
    count, first = -1, ""
    for name, a in arrays.items():
        if a.ndim == 0:
            raise InputError("a scalar has no rows", where=f"input {name!r}", expected="a batch", got=str(a.dtype))
        if count >= 0 and len(a) != count:
            raise InputError(
                "inputs of different length", where=f"input {name!r}", expected=f"{count} as {first!r}", got=str(len(a))
            )
        count, first = len(a), name
    if count < 0:
        raise InputError("a model without inputs has no batches", where="predict")
    return count


def _empty(name: str, count: int, rows: int, part: Any) -> Array:
    """Room for all rows of an output, of which `part` are the first ones."""
    if as_tensor(name, part).shape[:1] != (rows,):
        raise InputError(
            "the output has no row per row of the inputs", where=f"output {name!r}", expected=f"{rows} rows",
            got=str(part.shape), hint="call the model instead",
        )  # fmt: skip
    shape = (count, *part.shape[1:])
    try:
        return np.empty(shape, part.dtype)
    except (MemoryError, ValueError):  # the second where not even the number of bytes is one
        raise InputError(
            "not enough memory for all rows", where=f"output {name!r}", got=str(TensorType(part.dtype, shape)),
            hint="predict fewer rows at a time",
        ) from None  # fmt: skip


def _put(name: str, rows: Array, part: Any) -> None:
    """Fill the rows of a batch. NumPy would repeat what is too small for them."""
    if as_tensor(name, part).shape != rows.shape:
        raise InputError(
            "the output has another shape than in the batches before", where=f"output {name!r}",
            expected=str(rows.shape), got=str(part.shape), hint="call the model instead",
        )  # fmt: skip
    rows[...] = part


def _progress(total: int) -> AbstractContextManager[Any]:
    from .console import make_console

    return make_console().progress("predict", total)
