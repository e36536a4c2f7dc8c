"""A node of an old opset, and the values that the examples of such nodes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["FLOATS", "IMAGE", "X2", "X3", "X4", "Old", "draw", "scalar", "vector"]

RNG = np.random.default_rng(3)


def draw(*shape: int) -> Any:
    """Standard normal float32 values."""
    return RNG.standard_normal(shape).astype(np.float32)


def scalar(value: Any, dtype: Any = np.int64) -> Any:
    """An array of rank 0."""
    return np.array(value, dtype)


def vector(*values: Any, dtype: Any = np.int64) -> Any:
    """An array of the values."""
    return np.array(values, dtype)


X2, X3, X4 = draw(3, 4), draw(2, 3, 4), draw(2, 3, 4, 5)
IMAGE = draw(1, 2, 4, 6)
FLOATS = {"dtype": np.float32}


class Old:
    """A node of an old opset.

    Parameters
    ----------
    want
        What it gives, from its inputs; None asks onnxruntime.
    constants
        Inputs that are initializers.
    """

    def __init__(
        self,
        op: str,
        versions: int | Sequence[int],
        inputs: Sequence[Any],
        want: Callable[..., Any] | None = None,
        *,
        outputs: int = 1,
        constants: Sequence[int] = (),
        domain: str = "",
        **attributes: Any,
    ) -> None:
        self.op, self.inputs, self.want, self.attributes = op, list(inputs), want, attributes
        self.versions = [versions] if isinstance(versions, int) else list(versions)
        self.options = {"outputs": outputs, "constants": constants, "domain": domain}
