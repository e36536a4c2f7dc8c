"""Every tolerance of the tests, by name. No other file holds one.

A tolerance is a dict of the keyword arguments `rtol` and `atol` of `numpy.testing.assert_allclose`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

EPS32 = 2.0**-23
"""The distance from 1 to the next float32."""
EPS64 = 2.0**-52
"""The distance from 1 to the next float64."""

EXACT = {"rtol": 0.0, "atol": 0.0}
"""The same values; only the sign of zero and the payload of NaN are free."""

ONNX_FLOAT32 = {"rtol": 32 * EPS32, "atol": 16 * EPS32}
"""A NumPy definition in float32 against another implementation in float32, on operands of size about 1: both
round every operation, and onnxruntime's erf, exp and tanh are polynomials of a few ulp."""

ONNX_FLOAT64 = {"rtol": 64 * EPS64, "atol": 32 * EPS64}
"""The same in float64, where both call the C library."""

FLOAT32_OF_FLOAT64 = {"rtol": 64 * EPS32, "atol": 32 * EPS32}
"""A NumPy definition in float32 against itself in float64, on operands of size about 1."""


def dot(k: int, magnitude: float) -> dict[str, float]:
    """A float32 sum of k terms or products, in any order, against the exact one.

    `magnitude` is the sum of the magnitudes of the terms. Higham, Accuracy and Stability of Numerical
    Algorithms, section 3.1: the error is at most k u / (1 - k u) times that, with u half of EPS32.
    """
    error = k * EPS32 / 2
    return {"rtol": 0.0, "atol": error / (1 - error) * magnitude}


def lanes(n: int, magnitude: float) -> dict[str, float]:
    """A float32 sum or mean of n terms over 16 virtual lanes and a tree of depth 4; as `dot`."""
    return dot(-(-n // 16) + 5, magnitude)


PROBABILITIES = {"rtol": 512 * EPS32, "atol": 16 * EPS32}
"""Softmax probabilities of a network of a few layers in float32 against float64. An absolute error of the logits
is a relative one of the probabilities: logits up to 30 carry about 1e-5 after sums of up to 288 products."""

ERF_FLOAT64 = {"rtol": 2 * EPS64, "atol": 0.0}
"""erf in float64 against its tabulated values: an ulp of the C library and half an ulp of the table."""

NETWORK_FLOAT64 = {"rtol": 4096 * EPS64, "atol": 1024 * EPS64}
"""A whole network by the NumPy definitions in float64 against the same mathematics written another way: sums of
up to a few thousand terms of size about 1."""


def native(want: Any) -> dict[str, float]:
    """A kernel in float32 against the float64 definition, on operands of size about 1 and sums of a few hundred
    terms: an error relative to the largest result, since sums cancel."""
    finite = np.abs(want[np.isfinite(want)])
    return {"rtol": 16 * EPS32, "atol": 16 * EPS32 * max(1.0, float(finite.max(initial=0.0)))}


NETWORK = {"rtol": 1e-4, "atol": 1e-5}
"""A network of a few layers in float32 against float64: each layer adds an error of a few EPS32 of its largest sum."""
