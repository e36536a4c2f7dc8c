"""Where somebody speaks in a recording, with the speech detector Silero VAD, frame by frame as from a microphone.

    pip install "forwardpass[onnx]"
    python speech_detection.py silero_vad_16k_sequence.onnx recording.wav

A frame is 512 new samples, 32 ms, behind the last 64 of the frame before. The states of the network stay in a stream.
"""

from __future__ import annotations

import sys
import wave
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import forwardpass as fp

RATE, FRAME, CONTEXT = 16_000, 512, 64
Array = np.ndarray[Any, Any]


def read(path: str) -> Array:
    """The samples of a mono recording of 16 kHz, from -1 to 1."""
    with wave.open(path) as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
            raise SystemExit(f"{path}: not mono, 16 bits, {RATE} Hz")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def frames(samples: Array) -> Iterator[Array]:
    """The frames of a recording, the last one filled up with silence."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples, np.zeros(-len(samples) % FRAME, np.float32)])
    for start in range(0, len(padded) - CONTEXT, FRAME):
        yield padded[None, start : start + CONTEXT + FRAME]


def probabilities(model: fp.Model, pieces: Iterable[Array]) -> Array:
    """How sure the network is of speech in every frame."""
    stream = model.stream()
    return np.concatenate([stream.push(piece) for piece in pieces])


def spoken(found: Array, threshold: float = 0.5, pause: int = 4) -> list[tuple[float, float]]:
    """Seconds from and to which somebody speaks; pauses of a few frames do not end it."""
    times: list[tuple[int, int]] = []
    for k in np.flatnonzero(found > threshold):
        if times and k - times[-1][1] <= pause:
            times[-1] = (times[-1][0], int(k) + 1)
        else:
            times.append((int(k), int(k) + 1))
    return [(a * FRAME / RATE, b * FRAME / RATE) for a, b in times]


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit((__doc__ or "").partition("\n\nA frame")[0])
    model = fp.load(sys.argv[1], threads=1)
    for start, end in spoken(probabilities(model, frames(read(sys.argv[2])))):
        print(f"{start:7.2f} s to {end:7.2f} s")


if __name__ == "__main__":
    main()
