"""Nodes of old opsets that calculate or move data, and what they give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from old_nodes import FLOATS, X2, X3, X4, Old, draw, scalar, vector

__all__ = ["ARITHMETIC", "DATA"]

POSITIVE = np.abs(X4) + 0.5
BOOL3 = X3 > 0
INT3 = np.random.default_rng(5).integers(-9, 9, (2, 3, 4))
HALF, WIDE = X3.astype(np.float16), X3.astype(np.float64)


def rows(function: Callable[[Any], Any], axis: int) -> Callable[[Any], Any]:
    def over(x: Any) -> Any:
        return function(x.reshape(int(np.prod(x.shape[:axis])), -1)).reshape(x.shape)

    return over


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def hardmax(x: Any) -> Any:
    return (np.arange(x.shape[-1]) == x.argmax(-1)[..., None]).astype(x.dtype)


def _grown(a: Any, b: Any) -> Any:
    return b.reshape(b.shape + (1,) * (a.ndim - 1 - b.ndim))


def binary(op: str, function: Callable[..., Any], *, consumed: bool) -> list[Old]:
    if op in ("And", "Or", "Xor"):
        a: Any = BOOL3
        tail, middle, one = BOOL3[0, 0], BOOL3[0, :, 0], np.array([True])
    else:
        a = np.abs(X3) + 0.5
        tail, middle, one = a[0, 0], a[0, :, 0], vector(2.0, dtype=np.float32)
        if op == "Equal":
            a, tail, middle, one = INT3, INT3[0, 0], INT3[0, :, 0], vector(2)
    legacy = {"consumed_inputs": [0, 0]} if consumed else {}
    return [
        Old(op, 1, [a, a[::-1].copy()], function, **legacy),
        Old(op, 6, [a, a[::-1].copy()], function),
        Old(op, 1, [a, tail], function, broadcast=1, **legacy),
        Old(op, (1, 6), [a, middle], lambda x, y: function(x, _grown(x, y)), broadcast=1, axis=1),
        Old(op, 6, [a, middle], lambda x, y: function(x, _grown(x, y)), broadcast=1, axis=-2),
        Old(op, 6, [a, one], function, broadcast=1, axis=0),
        Old(op, 6, [a, a[0]], function, broadcast=1, axis=-2),
        Old(op, 7, [a, a[:, :1]]),
    ]


def unary(op: str, function: Callable[[Any], Any], x: Any = X3, **attributes: Any) -> list[Old]:
    return [
        Old(op, 1, [x], function, consumed_inputs=[0], **attributes),
        Old(op, 6, [x], **attributes),
    ]


def reduction(op: str, function: Callable[..., Any], x: Any = X3) -> list[Old]:
    return [
        Old(op, (1, 11), [x], lambda v: function(v, (0, 2), True), axes=[0, 2]),
        Old(op, (1, 13), [x], lambda v: function(v, None, False), keepdims=0),
        *([] if op == "ReduceSum" else [Old(op, 17, [x], axes=[-1], keepdims=0)]),
    ]


def _log_sum(x: Any, axis: Any, keepdims: bool) -> Any:
    return np.log(np.sum(x, axis, keepdims=keepdims))


def _repeated(x: Any, tiles: Any, axis: Any) -> Any:
    return np.concatenate([x] * int(tiles), int(axis))


def _scattered(x: Any, places: Any, updates: Any) -> Any:
    found = x.copy()
    np.put_along_axis(found, places, updates, 0)
    return found


def _selu(x: Any) -> Any:
    return np.float32(1.0507) * np.where(x > 0, x, np.float32(1.6732) * (np.exp(x) - 1))


def _transform(x: Any) -> Any:
    found = np.fft.fft(x[..., 0], axis=1)
    return np.stack([found.real, found.imag], -1).astype(x.dtype)


ARITHMETIC = [
    *(
        c
        for op, f in (("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply))
        for c in binary(op, f, consumed=True)
    ),
    *binary("Div", np.divide, consumed=True),
    *binary("Pow", np.power, consumed=False),
    *binary("Greater", np.greater, consumed=False),
    *binary("Less", np.less, consumed=False),
    *binary("Equal", np.equal, consumed=False),
    *binary("And", np.logical_and, consumed=False),
    *binary("Or", np.logical_or, consumed=False),
    *binary("Xor", np.logical_xor, consumed=False),
    *unary("Abs", np.abs),
    *unary("Ceil", np.ceil),
    *unary("Floor", np.floor),
    *unary("Exp", np.exp),
    *unary("Log", np.log, POSITIVE),
    *unary("Neg", np.negative),
    *unary("Reciprocal", np.reciprocal, POSITIVE),
    *unary("Relu", lambda x: np.maximum(x, 0)),
    *unary("Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    *unary("Sqrt", np.sqrt, POSITIVE),
    *unary("Tanh", np.tanh),
    *unary("Elu", lambda x: np.where(x > 0, x, 2 * (np.exp(x) - 1)), alpha=2.0),
    *unary("LeakyRelu", lambda x: np.where(x > 0, x, np.float32(0.1) * x), alpha=0.1),
    *unary("HardSigmoid", lambda x: np.clip(np.float32(0.25) * x + np.float32(0.5), 0, 1), alpha=0.25),
    Old("Selu", 1, [X3], _selu, consumed_inputs=[0]),
    Old("Selu", 6, [X3]),
    *(
        Old(op, 1, [X3, X3[::-1].copy(), 2 * X3], lambda *x, f=f: f(np.stack(x)), consumed_inputs=[0, 0, 0])
        for op, f in (
            ("Sum", lambda x: x.sum(0)),
            ("Mean", lambda x: x.mean(0)),
            ("Max", lambda x: x.max(0)),
            ("Min", lambda x: x.min(0)),
        )
    ),
    *(Old(op, (7, 8), [X3, X3[::-1].copy()]) for op in ("Sum", "Mean", "Max", "Min")),
    Old("Clip", 1, [X3], lambda x: np.clip(x, -0.5, 0.25), min=-0.5, max=0.25, consumed_inputs=[0]),
    Old("Clip", (6, 10), [X3], min=-0.5),
    Old("Clip", 10, [X3], max=0.25),
    Old("Clip", 7, [X3]),
    Old("Clip", 10, [HALF], lambda x: np.clip(x, np.float16(-0.5), None), min=-0.5, max=3.4028234663852886e38),
    Old("Clip", 10, [WIDE], lambda x: np.clip(x, -0.5, 0.25), min=-0.5, max=0.25),
    Old("PRelu", 1, [X4, vector(0.5, **FLOATS)], lambda x, s: np.where(x < 0, s * x, x), consumed_inputs=[0]),
    Old("PRelu", 6, [X4, draw(3)], lambda x, s: np.where(x < 0, s[:, None, None] * x, x)),
    Old("PRelu", 6, [X2, draw(4)], lambda x, s: np.where(x < 0, s * x, x)),
    Old("PRelu", 7, [X4, draw(3, 1, 1)]),
    Old("Gemm", (1, 6), [X2, draw(4, 5), draw(5)], lambda a, b, c: a @ b + c, broadcast=1),
    Old("Gemm", 6, [X2, draw(5, 4), draw(3, 5)], lambda a, b, c: 2 * a @ b.T + c, transB=1, alpha=2.0),
    Old("Gemm", (7, 9), [X2, draw(4, 5), draw(1, 5)]),
    *(
        case
        for op, f in (("Softmax", softmax), ("LogSoftmax", lambda x: np.log(softmax(x))), ("Hardmax", hardmax))
        for case in (
            Old(op, 1, [X4], rows(f, 1)),
            Old(op, 6, [X4], rows(f, 2), axis=2),
            Old(op, (7, 12), [X4]),
            Old(op, 12, [X4], axis=0),
            Old(op, 12, [X4], axis=3),
            Old(op, (11, 12), [X4], axis=-2),
            Old(op, 11, [X2], axis=-1),
            Old(op, 13, [X4]),
        )
    ),
    Old("Softmax", 12, [np.zeros((2, 3, 0), np.float32)], lambda x: x),
    *reduction("ReduceSum", lambda x, a, k: np.sum(x, a, keepdims=k)),
    *reduction("ReduceMean", lambda x, a, k: np.mean(x, a, keepdims=k)),
    *reduction("ReduceMax", lambda x, a, k: np.max(x, a, keepdims=k)),
    *reduction("ReduceMin", lambda x, a, k: np.min(x, a, keepdims=k)),
    *reduction("ReduceProd", lambda x, a, k: np.prod(x, a, keepdims=k)),
    *reduction("ReduceL1", lambda x, a, k: np.sum(np.abs(x), a, keepdims=k)),
    *reduction("ReduceL2", lambda x, a, k: np.sqrt(np.sum(x * x, a, keepdims=k))),
    *reduction("ReduceSumSquare", lambda x, a, k: np.sum(x * x, a, keepdims=k)),
    *reduction("ReduceLogSum", _log_sum, np.abs(X3) + 0.5),
    *reduction("ReduceLogSumExp", lambda x, a, k: _log_sum(np.exp(x), a, k)),
]

DATA = [
    Old("Cast", 1, [X3], lambda x: x.astype(np.int32), to="INT32"),
    Old("Cast", 5, [INT3], lambda x: x.astype(np.float32), to="FLOAT"),
    Old("Cast", 5, [INT3], lambda x: x.astype(np.float64), to="double"),
    Old("Cast", (6, 9), [X3], to=7),
    Old("Concat", 1, [X3, X3], lambda a, b: np.concatenate([a, b], 1)),
    Old("Concat", (1, 4), [X3, X3], lambda a, b: np.concatenate([a, b], 2), axis=2),
    Old("Reshape", 1, [X3], lambda x: x.reshape(2, 12), shape=[0, -1], consumed_inputs=[0]),
    Old("Reshape", 1, [X3[:1, :1, :1]], lambda x: x.reshape(()), shape=[]),
    Old("Reshape", 5, [X3, vector(4, -1)]),
    Old("Slice", 1, [X3], lambda x: x[:1, 1:-1], starts=[0, 1], ends=[1, -1]),
    Old("Slice", (7, 9), [X3], starts=[-3, 1], ends=[2**31 - 1, 2], axes=[2, 1]),
    Old("Slice", 10, [X3, vector(3), vector(-9), vector(2), vector(-1)]),
    Old("Split", 1, [X3], lambda x: [x[:1], x[1:]], outputs=2),
    Old("Split", 1, [X3, vector(1, 3, **FLOATS)], lambda x, _: [x[..., :1], x[..., 1:]], outputs=2, axis=2),
    Old("Split", (2, 12), [X3], lambda x: [x[..., :1], x[..., 1:]], outputs=2, axis=2, split=[1, 3]),
    Old("Split", (7, 11, 13), [X3], outputs=2, axis=-1),
    Old("Split", 17, [X3, vector(3, 1)], outputs=2, axis=2),
    Old("Squeeze", (1, 7, 12), [X3[:, None, :, None]], lambda x: x[:, 0, :, 0], axes=[1, 3]),
    Old("Squeeze", 7, [X3[:1, :, :1]], lambda x: x[0, :, 0]),
    Old("Unsqueeze", (1, 7, 12), [X3], lambda x: x[None, :, :, None], axes=[0, 3]),
    Old("Tile", 1, [X3, scalar(3, np.float32), scalar(1, np.float32)], _repeated),
    Old("Tile", 5, [X3, scalar(2), scalar(2)], _repeated),
    Old("Tile", 6, [X3, vector(1, 2, 3)]),
    Old("Pad", 1, [X2], lambda x: np.pad(x, ((0, 2), (1, 3)), constant_values=1.5), paddings=[0, 1, 2, 3], value=1.5),
    Old("Pad", (2, 10), [X2], lambda x: np.pad(x, ((0, 2), (1, 3))), pads=[0, 1, 2, 3]),
    Old("Pad", (7, 10), [X2], pads=[0, 1, 2, 3], value=-1.5),
    Old("Pad", 10, [X2], pads=[1, 1, 1, 1], mode="reflect"),
    Old("Pad", 10, [X2], pads=[1, 1, 1, 1], mode="edge", value=3.0),
    Old("Pad", 10, [WIDE], pads=[0, 1, 1, 0, 0, 2], value=0.5),
    Old("Scatter", (11, 16), [X2, vector([0, 2, 1, 0]), draw(1, 4)], _scattered),
    Old("Scatter", 9, [X2, vector([0, 2, 1, 0]), draw(1, 4)]),
    Old("Scatter", 9, [X2, vector([0], [2], [1]), draw(3, 1)], axis=1),
    Old("TopK", 1, [X3], lambda x: [-np.sort(-x)[..., :2], np.argsort(-x)[..., :2]], outputs=2, k=2),
    Old("TopK", (7, 9), [X3], outputs=2, k=2, axis=1),
    Old("TopK", 10, [X3, vector(3)], outputs=2),
    Old("DFT", 17, [X4[..., :1]], _transform),
    Old("DFT", (17, 19), [X4[..., :2]], axis=2, inverse=1),
    Old("DFT", 17, [X4[..., :1], scalar(3)], axis=-2, onesided=1),
]
