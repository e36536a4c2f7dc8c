"""Times of single pushes of streams: median, 99th and 99.9th percentile.

    python bench/streaming.py [--models DIR] [--frames 20000] [--peer]

Two models: a denoiser of two GRU layers on frames of 10 ms, made by the builder, and the speech detector Silero VAD on
frames of 32 ms, where the folder of the real models is known. `--peer` times onnxruntime on the latter, in turn.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

import forwardpass as fp
from forwardpass.builder import GRU, Dense, Input, Network

Push = Callable[[], Any]
_SLICES = 10
"""Turns of each contender."""


def denoiser() -> Push:
    """A stream of frames of 22 features, 10 ms of sound each."""
    x = Input((None, 22), name="features")
    y = GRU(48, return_sequences=True)(GRU(24, return_sequences=True)(Dense(24, activation="tanh")(x)))
    stream = Network(x, Dense(22, activation="sigmoid")(y)).init(0).model(threads=1).stream()
    frame = np.random.default_rng(0).standard_normal((1, 1, 22), dtype=np.float32)
    return lambda: stream.push(frame)


def detector(path: Path) -> Push:
    stream = fp.load(path, threads=1).stream()
    frame = np.random.default_rng(0).standard_normal((1, 576), dtype=np.float32)
    return lambda: stream.push(frame)


def detector_of_peer(path: Path) -> Push:
    """The same frames in onnxruntime, the states passed from call to call."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"input": np.random.default_rng(0).standard_normal((1, 576), dtype=np.float32)}
    feed.update({k: np.zeros((1, 1, 128), np.float32) for k in "hc"})

    def push() -> Any:
        y, feed["h"], feed["c"] = session.run(None, feed)
        return y

    return push


def measure(contenders: dict[str, Push], count: int) -> dict[str, Any]:
    """Nanoseconds of single pushes, the contenders in turn."""
    times: dict[str, list[int]] = {name: [] for name in contenders}
    for _ in range(_SLICES):
        for name, push in contenders.items():
            for _ in range(50):
                push()
            for _ in range(count // _SLICES):
                start = perf_counter_ns()
                push()
                times[name].append(perf_counter_ns() - start)
    return {name: np.percentile(t, [50, 99, 99.9]) / 1e3 for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=Path, default=os.environ.get("FORWARDPASS_MODELS"))
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--peer", action="store_true", help="time onnxruntime too")
    options = parser.parse_args()
    contenders = {"GRU denoiser, 10 ms": denoiser()}
    if options.models:
        path = options.models / "silero_vad" / "silero_vad_16k_sequence.onnx"
        contenders["Silero VAD, 32 ms"] = detector(path)
        if options.peer:
            contenders["Silero VAD, onnxruntime"] = detector_of_peer(path)
    print("| one push | p50 us | p99 us | p99.9 us |\n|---|---|---|---|")
    for name, found in measure(contenders, options.frames).items():
        print(f"| {name} | " + " | ".join(f"{v:.1f}" for v in found) + " |")


if __name__ == "__main__":
    main()
