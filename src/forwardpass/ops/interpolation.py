"""Values between the pixels of images: interpolation kernels, and sums over the pixels around a point."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array

__all__ = ["cubic", "gather", "linear", "working_dtype"]


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which values of that dtype are interpolated: integers in float64, float16 in float32."""
    if dtype.kind in "iub":
        return np.dtype(np.float64)
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def linear(distance: Array) -> Array:
    """The weight of a pixel at a distance in linear interpolation."""
    return np.asarray(np.maximum(1 - np.abs(distance), 0))


def cubic(distance: Array, a: float) -> Array:
    """The weight of a pixel at a distance in cubic convolution (Keys, 1981, equation 4)."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.asarray(np.where(d <= 1, near, np.where(d < 2, far, 0)), dtype=distance.dtype)


def gather(images: Array, places: Sequence[Array], weights: Sequence[Array] | None) -> Array:
    """Sums over the pixels around points, whose weights are products of one weight per dimension.

    Parameters
    ----------
    images : [N, C, *spatial]
    places
        Per spatial dimension [N, points, taps]: coordinates of pixels inside the image.
    weights
        Per spatial dimension [N, points, taps]; None where there is one tap, whose value is wanted.

    Returns
    -------
    Array [N, C, points]
    """
    spatial = images.shape[2:]
    flat = images.reshape(*images.shape[:2], math.prod(spatial))
    total = np.zeros((*images.shape[:2], places[0].shape[1]), images.dtype)
    for taps in itertools.product(*(range(p.shape[-1]) for p in places)):
        index = np.zeros(places[0].shape[:2], np.intp)
        for size, p, t in zip(spatial, places, taps):
            index = index * size + p[..., t]
        if weights is None:
            for n, along in enumerate(index):
                total[n] = np.take(flat[n], along, axis=1)
            continue
        weight = np.ones(index.shape, images.dtype)
        for w, t in zip(weights, taps):
            weight = weight * w[..., t]
        weight = weight.astype(images.dtype, copy=False)
        for n, along in enumerate(index):
            total[n] += np.take(flat[n], along, axis=1) * weight[n]
    return total
