"""Fourier transforms, windows and decoded images beyond the cases that ONNX and onnxruntime judge."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from one_node import run_node

from forwardpass import dtypes
from forwardpass.errors import UnsupportedError
from tolerance import NETWORK_FLOAT64, ONNX_FLOAT64


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("length", [1, 6, 7, 13])
def test_dft_by_its_sum(length: int) -> None:
    x = image(3, 7, 2)
    signal = np.zeros((3, length), complex)
    kept = min(length, 7)
    signal[:, :kept] = (x[..., 0] + 1j * x[..., 1])[:, :kept]
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(length), np.arange(length)) / length)
    y = run_node("DFT", x, np.array(length))
    np.testing.assert_allclose(y[..., 0] + 1j * y[..., 1], signal @ matrix, **NETWORK_FLOAT64)
    back = run_node("DFT", y, inverse=1)
    np.testing.assert_allclose(back[..., 0] + 1j * back[..., 1], signal, **NETWORK_FLOAT64)


@pytest.mark.parametrize("length", [6, 7])
def test_dft_of_real_signals_and_back(length: int) -> None:
    x = image(length, 3, 1)
    y = run_node("DFT", x, None, np.array(0), onesided=1)
    assert y.shape == (length // 2 + 1, 3, 2)
    np.testing.assert_allclose(y, run_node("DFT", x, None, np.array(-3))[: length // 2 + 1], **NETWORK_FLOAT64)
    back = run_node("DFT", y, np.array(length), np.array(0), onesided=1, inverse=1)
    np.testing.assert_allclose(back, x, **NETWORK_FLOAT64)
    assert run_node("DFT", y, None, np.array(0), onesided=1, inverse=1).shape == (6, 3, 1)


def test_stft_by_its_frames() -> None:
    x, window = image(2, 23, 1), image(6, seed=1)
    y = run_node("STFT", x, np.array(4), window)
    frames = np.stack([x[:, k : k + 6, 0] * window for k in range(0, 18, 4)], 1)
    np.testing.assert_allclose(y[..., 0] + 1j * y[..., 1], np.fft.rfft(frames), **NETWORK_FLOAT64)
    half = [a.astype(np.float16) for a in (x, window)]
    single = [a.astype(np.float32) for a in half]
    coarse = run_node("STFT", half[0], np.array(4), half[1])
    np.testing.assert_array_equal(coarse, run_node("STFT", single[0], np.array(4), single[1]).astype(np.float16))


@pytest.mark.parametrize("size", [1, 2, 7, 10])
def test_windows_are_those_of_numpy(size: int) -> None:
    for op, function in (("HannWindow", np.hanning), ("BlackmanWindow", np.blackman)):
        np.testing.assert_allclose(
            run_node(op, np.array(size), periodic=0, output_datatype=11), function(size), **ONNX_FLOAT64
        )
        periodic = run_node(op, np.array(size), output_datatype=11)
        np.testing.assert_allclose(periodic, function(size + 1)[:-1], **ONNX_FLOAT64)
    hamming = run_node("HammingWindow", np.array(size), periodic=0, output_datatype=11)
    # NumPy's is the same with the coefficients 0.54 and 0.46.
    hann = np.hanning(size)
    np.testing.assert_allclose(hamming, hann + (1 - hann) * 4 / 46, **ONNX_FLOAT64)
    assert run_node("HannWindow", np.array(size), output_datatype=16).dtype == dtypes.BFLOAT16
    assert run_node("HannWindow", np.array(size), output_datatype=2).dtype == np.uint8


def test_mel_weights_are_triangles() -> None:
    edges = (np.float32(100), np.float32(3500))
    y = run_node("MelWeightMatrix", np.array(12), np.array(512), np.array(8000), *edges, output_datatype=11)
    assert y.shape == (257, 12)
    np.testing.assert_array_equal(y.max(0), 1)
    np.testing.assert_array_equal(np.sign(y.argmax(0)[1:] - y.argmax(0)[:-1]), 1)
    for column in y.T:
        used = np.flatnonzero(column)
        rising = np.diff(column[used[0] : used[-1] + 1])
        assert (np.diff(np.sign(rising)) <= 0).all()


def _file(pixels: np.ndarray, kind: str) -> np.ndarray:
    images = pytest.importorskip("PIL.Image", reason="Pillow is not installed (extra [cli])")
    stream = io.BytesIO()
    images.fromarray(pixels).save(stream, kind)
    return np.frombuffer(stream.getvalue(), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_images_are_decoded(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    stream = _file(pixels, kind)
    np.testing.assert_array_equal(run_node("ImageDecoder", stream), pixels)
    np.testing.assert_array_equal(run_node("ImageDecoder", stream, pixel_format="BGR"), pixels[..., ::-1])
    grey = run_node("ImageDecoder", stream, pixel_format="Grayscale")
    assert grey.shape == (5, 4, 1)
    # Pillow rounds the weights of the colours, and the result.
    assert np.abs(grey[..., 0] - pixels @ [0.299, 0.587, 0.114]).max() <= 1


def test_grey_and_transparent_images_have_three_channels() -> None:
    grey = np.arange(20, dtype=np.uint8).reshape(5, 4)
    np.testing.assert_array_equal(run_node("ImageDecoder", _file(grey, "PNG")), np.stack([grey] * 3, -1))
    clear = np.stack([grey, grey + 1, grey + 2, grey], -1)
    np.testing.assert_array_equal(run_node("ImageDecoder", _file(clear, "PNG")), clear[..., :3])


def test_what_is_no_image_is_empty() -> None:
    stream = _file(np.zeros((4, 4, 3), np.uint8), "PNG")
    for damaged in (
        stream[: len(stream) // 2],
        np.zeros(9, np.uint8),
        np.zeros(0, np.uint8),
        _file(stream[None], "GIF"),
    ):
        assert run_node("ImageDecoder", damaged).shape == (0, 0, 3)


def test_decoding_images_needs_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UnsupportedError, match="pip install pillow"):
        run_node("ImageDecoder", np.zeros(9, np.uint8))
