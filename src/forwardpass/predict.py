"""Long arrays in batches."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .inputs import bind_arguments

if TYPE_CHECKING:
    from .run import Model

__all__ = ["predict"]


def predict(model: Model, x: Any, batch_size: int, progress: bool) -> Any:
    """`Model.predict`."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise InputError(
            "wrong batch size", where="batch_size", expected="a positive integer", got=repr(batch_size)
        )
    given = (
        bind_arguments((), x, model.inputs)
        if isinstance(x, Mapping)
        else bind_arguments((x,), {}, model.inputs)
    )
    arrays = {k: np.asarray(v) for k, v in given.items()}
    rows = {k: len(a) if a.ndim else 0 for k, a in arrays.items()}
    count = next(iter(rows.values()))
    if any(r != count for r in rows.values()):
        raise InputError("inputs of different length", where="predict", got=str(rows))
    whole: list[Any] = []
    with _progress(count) if progress else nullcontext(lambda done: None) as advance:
        for start in range(0, max(count, 1), batch_size):
            parts = model._evaluate({k: a[start : start + batch_size] for k, a in arrays.items()})
            if not whole:
                whole = [np.empty((count, *p.shape[1:]), p.dtype) for p in parts]
            for all_rows, part in zip(whole, parts):
                all_rows[start : start + len(part)] = part
            advance(min(start + batch_size, count))
    return whole[0] if len(whole) == 1 else model._tuple(*whole)


def _progress(total: int) -> AbstractContextManager[Any]:
    from .console import make_console

    return make_console().progress("predict", total)
