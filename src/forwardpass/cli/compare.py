"""How far two values are apart: relative to the largest one, and in units in the last place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..graph import Array

__all__ = ["compare", "is_close"]


def compare(found: Any, wanted: Any) -> dict[str, Any]:
    """The errors of a value.

    Returns
    -------
    dict
        `relative`: the largest difference over the largest wanted value; of whole numbers and text, the share of wrong
        elements. `ulp`: the largest difference in units in the last place of each wanted element, in the precision of
        `found`; None for others than floats. `at`: the index of the largest difference. `message`: what else is wrong.
    """
    import numpy as np

    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        each = [compare(f, w) for f, w in zip(found, wanted)]
        return max(each, key=lambda e: e["relative"], default=_result(0.0))
    if not (isinstance(found, np.ndarray) and isinstance(wanted, np.ndarray)):
        same = type(found) is type(wanted) and bool(np.all(np.asarray(found == wanted)))
        return _result(0.0 if same else math.inf, message="" if same else "the values differ in kind")
    if found.shape != wanted.shape:
        return _result(math.inf, message=f"the shape is {list(found.shape)}, wanted {list(wanted.shape)}")
    if not found.size:
        return _result(0.0)
    if found.dtype.kind not in "fc" or wanted.dtype.kind not in "fc":
        wrong = np.asarray(found != wanted)
        place = _place(wrong.astype(np.float64)) if wrong.any() else None
        return _result(float(wrong.mean()), at=place)
    return _floats(found, wanted)


def _floats(found: Array, wanted: Array) -> dict[str, Any]:
    import numpy as np

    wide = np.result_type(wanted.dtype, np.complex128 if wanted.dtype.kind == "c" else np.float64)
    f, w = found.astype(wide), wanted.astype(wide)
    with np.errstate(all="ignore"):
        same = (f == w) | (np.isnan(f) & np.isnan(w))
        difference = np.where(same, 0.0, np.abs(f - w))
    if not np.isfinite(difference).all():
        return _result(
            math.inf, at=_place(~np.isfinite(difference)), message="not finite where it should be, or finite"
        )
    finite = np.abs(w[np.isfinite(w)])
    largest = float(finite.max(initial=0.0))
    unit = np.spacing(np.abs(w).astype(found.real.dtype)).astype(np.float64)
    with np.errstate(all="ignore"):
        ulps = np.where(difference > 0, difference / unit, 0.0)
    relative = float(difference.max()) / (largest or 1.0)
    return _result(relative, ulp=float(np.nan_to_num(ulps).max()), at=_place(difference))


def _result(
    relative: float, ulp: float | None = None, at: list[int] | None = None, message: str = ""
) -> dict[str, Any]:
    return {"relative": relative, "ulp": ulp, "at": at, "message": message}


def _place(values: Array) -> list[int]:
    import numpy as np

    return [int(i) for i in np.unravel_index(int(np.argmax(values)), values.shape)]


def is_close(errors: dict[str, Any], tolerance: float) -> bool:
    return bool(errors["relative"] <= tolerance)
