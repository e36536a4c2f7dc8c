"""Every tolerance of the tests, by name. No other file holds one.

A tolerance is a dict of the keyword arguments `rtol` and `atol` of `numpy.testing.assert_allclose`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

EPS32 = 2.0**-23
"""The distance from 1 to the next float32."""
EPS64 = 2.0**-52
"""The distance from 1 to the next float64."""

EXACT = {"rtol": 0.0, "atol": 0.0}
"""The same values; only the sign of zero and the payload of NaN are free."""

ROUNDED = {
    "float16": {"rtol": 2.0**-10, "atol": 2.0**-24},
    "bfloat16": {"rtol": 2.0**-7, "atol": 2.0**-126},
}
"""A result of half precision that was computed in float32 and rounded once, against the float64 result rounded to the
same type: they are at most neighbours."""

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

UNARY_ULPS = {
    "relu": 0.0, "clip": 0.0, "abs": 0.0, "neg": 0.0, "floor": 0.0, "ceil": 0.0, "round": 0.0,
    "leaky_relu": 0.5, "hard_sigmoid": 0.5, "sqrt": 0.5, "reciprocal": 0.5,
    "exp": 1.0, "log": 1.0, "erf": 1.25, "tanh": 1.5, "sigmoid": 2.0, "softsign": 2.0, "softplus": 2.0,
    "elu": 2.0, "selu": 2.5, "celu": 2.5, "hard_swish": 2.5, "silu": 3.0, "swish": 3.0, "gelu_tanh": 3.0,
    "gelu": 4.0, "mish": 4.0,
    "sign": 0.0, "thresholded_relu": 0.0, "shrink": 0.5, "sin": 1.0, "cos": 1.0, "acos": 1.5, "atan": 1.5, "cosh": 1.5,
    "sinh": 2.0, "asinh": 2.0, "acosh": 2.5, "atanh": 2.5, "asin": 2.5, "tan": 2.5,
}  # fmt: skip
"""Largest error of a row of unary.def in units in the last place of the float32 nearest to the exact result."""
UNARY_ULPS_OTHERS = 4.0
"""The same for a row that is not listed."""
POW_ULPS = 1.5
SOFTMAX_ULPS = 4.0
"""Beyond the rounding of x - max(x), whose error the exponential multiplies by |x - max(x)|; and of the sum."""
HALF_ULP = 0.5
"""One correctly rounded operation."""
FLUSHED = 2.0**-118
"""Results below this may be zero: a factor of theirs was a denormal number, which the kernels flush."""
DENORMAL = 2.0**-125
"""What is left of a denormal number, which counts as zero or as itself."""

WINOGRAD = {"rtol": 1e-5, "atol": 1e-5}
"""A convolution by Winograd's way against float64: operands and results of size about 1, sums of up to 2,700
products. Its transforms add what later cancels, so an error is relative to the largest outputs."""
WINOGRAD_LUCK = 1.05
"""Its error over that of the sequential sum. The planner aims at 1 for images without negative numbers, whose error
differs by 3 % from draw to draw."""
WINOGRAD_FAST = 4.0
"""What tiles of 4 x 4 may round more than a sequential sum in precision fast: 32 channels 2.4 times."""

NOT_WORSE = 1.15
"""Our error over that of the sequential sum. Where a layer has one sum both round alike and only the double rounding
of the emulation differs; where it has several, ours is smaller but for the luck of the draw."""


def network_of(values: Iterable[Any]) -> dict[str, float]:
    """A random network of a dozen nodes in float32 against float64. Errors are relative to the largest of all its
    `values`, which may cancel later, and each layer can enlarge those of the layers before it."""
    finite = [float(np.abs(v[np.isfinite(v)]).max(initial=0.0)) for v in values]
    return {"rtol": 1024 * EPS32, "atol": 1024 * EPS32 * max(1.0, *finite)}


CLASSICAL_FLOAT32 = {"rtol": 512 * EPS32, "atol": 64 * EPS32}
"""A classical model (linear, support vectors, trees) in float32 against onnxruntime, on operands of size about 1:
sums of up to a few dozen terms in another order, and exp, log and tanh of them."""

REAL_MODEL = 1e-4
"""Of a pretrained network's outputs, relative to the largest expected one: other engines sum in other orders."""


def spread_of(dtype: Any) -> float:
    """How far one node moves a value by rounding, relative to the largest of its operands and results: a few units
    in the last place of its dtype. The attributes of float64 nodes are float32 numbers in an ONNX file, 0.2 too."""
    return 8 * max(float(np.finfo(dtype).eps), EPS32 / 16)


FAST = 2e-5
"""Largest error of a product with precision "fast", relative to the product of the norms of its row and column."""
BFLOAT16 = 2.0**-8
"""The same for "bfloat16": each of the two factors of a product is rounded to 8 bits."""

TILES_OF_GROUPS = {"float32": 4e-7, "fast": 1e-5, "bfloat16": BFLOAT16}
"""Norm of the error of a convolution of groups on tiles, relative to the norm of the result."""

RANDOM_IMAGES = {"portable": 3e-6, "float32": 3e-6, "fast": 1e-4, "bfloat16": 6e-2}
"""Precision -> norm of the error of a random network of a dozen layers against float64, relative to the norm: sums that
cancel, and the layers behind, enlarge what a product rounds."""

ROUGH_GELU = 2e-4
"""Gelu behind a product of "bfloat16", on an operand that is exact."""

NEAR_GELU = 1.5 * EPS32
"""Gelu behind a product of more terms, relative to its operand: 1e-7, and the rounding of the result."""

KERAS_METRICS = {"rtol": 1e-6, "atol": 1e-6}
"""A mean in float64 against Keras', which sums in float32."""

PIXELS = 1.5
"""Of 255, a resized picture against Pillow, which rounds to whole pixels after each of two passes."""

PREPROCESSED = {"rtol": 4 * EPS32, "atol": 4e-6}
"""A normalised pixel against the same formula in other steps: values up to 151 of float32."""
