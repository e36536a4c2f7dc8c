"""Fourier transforms of signals, windows to multiply them with, and the mel scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..dtypes import DTYPES, is_narrow
from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .numeric import widened
from .registry import Attributes, Case, Constants, Types, operator

__all__: list[str] = []


def _scalar(types: Types, constants: Constants, index: int, name: str) -> int | None:
    """The integer at an input; None where it is absent or no constant."""
    found = shapes.value_of(types, constants, index, name)
    if found is None:
        return None
    if len(found) != 1:
        raise GraphError(f"input {name} is no scalar", expected="one integer", got=str(found))
    return found[0]


def _parts(shape: tuple[Dim, ...]) -> int | None:
    """1 for a real signal, 2 for a complex one, by the last dimension."""
    if shape[-1] is not None and not isinstance(shape[-1], str) and shape[-1] not in (1, 2):
        raise GraphError("the signal's last dimension is wrong", expected="1 or 2", got=shapes.describe(shape))
    return shape[-1] if isinstance(shape[-1], int) else None


def _complex(x: Array) -> Array:
    """A signal [..., 1 or 2] as real or complex numbers [...]."""
    x = widened(x)
    return np.asarray(x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1])


def _pairs(x: Array, dtype: np.dtype[Any]) -> Array:
    """Complex numbers [...] as pairs [..., 2]."""
    return np.stack([x.real, x.imag], axis=-1).astype(dtype)


def _dft_axis(axis: int, rank: int) -> int:
    found = shapes.axis_of(axis, rank)
    if found == rank - 1:
        raise GraphError("axis is wrong", expected="not the last one, of real and imaginary parts", got=str(axis))
    return found


def _infer_dft(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "input", "f")
    inverse, onesided = shapes.flag(attributes, "inverse"), shapes.flag(attributes, "onesided")
    shape = shapes.rank_of(x, "input", 2)
    length = _scalar(types, constants, 1, "dft_length")
    if length is not None and length < 1:
        raise GraphError("dft_length is wrong", expected="at least 1", got=str(length))
    axis = -2 if shapes.at(types, 2) is None else _scalar(types, constants, 2, "axis")
    if shape is None:
        return [TensorType(x.dtype, None)]
    parts = _parts(shape)
    if onesided and parts is not None and parts != (2 if inverse else 1):
        raise GraphError("the signal does not fit onesided", expected="real, or complex if inverse", got=str(x))
    last = 1 if inverse and onesided else 2
    if axis is None:
        return [shapes.tensor(x.dtype, (*(None,) * (len(shape) - 1), last))]
    axis = _dft_axis(axis, len(shape))
    size = shape[axis]
    if shapes.at(types, 1) is None:
        length = size if isinstance(size, int) else None
        if length is not None and inverse and onesided:
            length = 2 * (length - 1)
        if length is not None and length < 1:
            raise GraphError("the signal is too short", got=str(x))
    bins: Dim = length
    if onesided and not inverse and length is not None:
        bins = length // 2 + 1
    return [shapes.tensor(x.dtype, (*shape[:axis], bins, *shape[axis + 1 : -1], last))]


def _dft(attributes: Attributes, x: Array, dft_length: Array | None = None, axis: Array | None = None) -> Array:
    along = _dft_axis(-2 if axis is None else int(axis.item()), x.ndim)
    length = None if dft_length is None else int(dft_length.item())
    signal = _complex(x)
    if attributes["inverse"]:
        if attributes["onesided"]:
            return np.fft.irfft(signal, length, along)[..., None].astype(x.dtype)
        return _pairs(np.fft.ifft(signal, length, along), x.dtype)
    transform: Callable[..., Any] = np.fft.rfft if attributes["onesided"] else np.fft.fft
    return _pairs(transform(signal, length, along), x.dtype)


operator(
    "DFT",
    infer=_infer_dft,
    reference=_dft,
    attributes={"inverse": 0, "onesided": 0},
    arity=(1, 3),
    cases=(
        Case(((2, 7, 3, 2), np.array(9), np.array(1)), constants=(1, 2), name="longer, odd"),
        Case(((2, 7, 1), np.array(5), np.array(-2)), {"onesided": 1}, constants=(1, 2), name="shorter, real"),
        Case(((2, 6, 2), np.array(11)), {"onesided": 1, "inverse": 1}, constants=(1,), name="onesided inverse"),
        Case(((2, 7, 2),), {"inverse": 1}, name="inverse"),
    ),
)


def _infer_stft(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    x = shapes.required(types, 0, "signal", "f")
    onesided = shapes.flag(attributes, "onesided")
    shape = shapes.rank_of(x, "signal", 3, 3)
    step = _scalar(types, constants, 1, "frame_step")
    length: Dim = _scalar(types, constants, 3, "frame_length")
    window = shapes.at(types, 2)
    if window is not None:
        taps = shapes.rank_of(shapes.required(types, 2, "window", "f"), "window", 1, 1)
        length = shapes.unify(length, None if taps is None else taps[0], "frame_length and the window's length")
    elif shapes.at(types, 3) is None and shape is not None:
        length = shape[1]
    if any(v is not None and v < 1 for v in (step, length if isinstance(length, int) else None)):
        raise GraphError("frame_step or frame_length is wrong", expected="at least 1", got=f"{step}, {length}")
    if shape is None:
        return [TensorType(x.dtype, None)]
    if onesided and _parts(shape) == 2:
        raise GraphError("a complex signal has no onesided transform", expected="onesided 0", got=str(x))
    frames: Dim = None
    if isinstance(shape[1], int) and isinstance(length, int):
        if length > shape[1]:
            raise GraphError("a frame is longer than the signal", expected=f"at most {shape[1]}", got=str(length))
        frames = None if step is None else (shape[1] - length) // step + 1
    bins = None if not isinstance(length, int) else length // 2 + 1 if onesided else length
    return [shapes.tensor(x.dtype, (shape[0], frames, bins, 2))]


def _stft(
    attributes: Attributes, x: Array, step: Array, window: Array | None = None, frame_length: Array | None = None
) -> Array:
    length = x.shape[1]
    if frame_length is not None:
        length = int(frame_length.item())
    elif window is not None:
        length = window.shape[0]
    frames = sliding_window_view(_complex(x), length, axis=1)[:, :: int(step.item())]
    if window is not None:
        frames = frames * widened(window)
    return _pairs(np.fft.rfft(frames) if attributes["onesided"] else np.fft.fft(frames), x.dtype)


operator(
    "STFT",
    infer=_infer_stft,
    reference=_stft,
    attributes={"onesided": 1},
    arity=(2, 4),
    cases=(
        Case(((2, 30, 1), np.array(4), (9,)), constants=(1,), name="odd window"),
        Case(((1, 20, 2), np.array(3), None, np.array(8)), {"onesided": 0}, constants=(1, 3), name="complex"),
    ),
)


def _output_dtype(attributes: Attributes) -> np.dtype[Any]:
    code = shapes.integer(attributes, "output_datatype")
    found = DTYPES.get(code)
    if found is None or found.kind in "Obc" or (is_narrow(found) and code != 16):
        raise GraphError("attribute 'output_datatype' is wrong", expected="a real type", got=str(code))
    return found


def _as(x: Array, attributes: Attributes) -> Array:
    """Numbers in the output's dtype; bfloat16 in float32, which the evaluator rounds."""
    dtype = _output_dtype(attributes)
    return x.astype(np.float32 if is_narrow(dtype) else dtype)


def _infer_window(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    shapes.flag(attributes, "periodic")
    shapes.required(types, 0, "size", "i")
    return [shapes.tensor(_output_dtype(attributes), (_scalar(types, constants, 0, "size"),))]


def _window(*coefficients: float) -> Callable[[Attributes, Array], Array]:
    """The sum of cosines with these coefficients, the signs alternating."""

    def reference(attributes: Attributes, size: Array) -> Array:
        count = int(size.item())
        period = count if attributes["periodic"] else count - 1
        # A symmetric window of one value is its middle.
        angle = 2 * math.pi * np.arange(count) / period if period else np.full(count, math.pi)
        y = sum((-1) ** k * c * np.cos(k * angle) for k, c in enumerate(coefficients))
        return _as(np.asarray(y), attributes)

    return reference


for _name, _coefficients in (
    ("HannWindow", (0.5, 0.5)),
    ("HammingWindow", (25 / 46, 21 / 46)),
    ("BlackmanWindow", (0.42, 0.5, 0.08)),
):
    operator(
        _name,
        infer=_infer_window,
        reference=_window(*_coefficients),
        attributes={"output_datatype": 1, "periodic": 1},
    )


def _infer_mel(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    names = ("num_mel_bins", "dft_length", "sample_rate")
    bins, length, rate = (_scalar(types, constants, k, name) for k, name in enumerate(names))
    for k, name in enumerate(names):
        shapes.required(types, k, name, "i")
    for k, name in ((3, "lower_edge_hertz"), (4, "upper_edge_hertz")):
        shapes.rank_of(shapes.required(types, k, name, "f"), name, 0, 1)
    if any(v is not None and v < least for v, least in ((bins, 0), (length, 0), (rate, 1))):
        raise GraphError("an input is negative", expected=", ".join(names), got=f"{bins}, {length}, {rate}")
    return [shapes.tensor(_output_dtype(attributes), (None if length is None else length // 2 + 1, bins))]


def _mel(attributes: Attributes, bins: Array, length: Array, rate: Array, lower: Array, upper: Array) -> Array:
    count, size = int(bins.item()), int(length.item())
    low, high = (2595 * math.log10(1 + float(f.item()) / 700) for f in (lower, upper))
    # ONNX's evaluator and its tests space the edges as if there were one more; so does onnxruntime.
    mel = low + np.arange(count + 2) * ((high - low) / (count + 2))
    hertz = 700 * (10 ** (mel / 2595) - 1)
    edges = np.floor((size + 1) * hertz / int(rate.item()))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    at = np.arange(size // 2 + 1, dtype=np.float64)[:, None]
    rising = (at >= left) & (at <= centre)
    falling = (at >= centre) & (at < right)
    y = np.where(rising, (at - left) / (centre - left), 0)
    y = np.where((at == centre) & (centre == left), 1, np.where(falling, (right - at) / (right - centre), y))
    return _as(y, attributes)


operator(
    "MelWeightMatrix",
    infer=_infer_mel,
    reference=_mel,
    attributes={"output_datatype": 1},
    arity=(5, 5),
    cases=(
        Case(
            (np.array(8), np.array(64), np.array(8192), np.array(0, np.float32), np.array(4000, np.float32)),
            constants=(0, 1, 2, 3, 4),
            name="speech",
        ),
    ),
)
