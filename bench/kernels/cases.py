"""Work for every kernel of `kernels.def`, sized to stay in the second cache level.

A kernel gets its cases by its name (operators.py), or else by its parameter block: a new kernel with a block known here
needs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from operators import KERNELS
from work import ELEMENTS, MAX_RANK, Case, Work, direct, normal, planned

from forwardpass import _native
from forwardpass.config import settings
from forwardpass.graph import Node


def dims(*values: int) -> list[int]:
    return [*values, *[0] * (MAX_RANK - len(values))]


def brgemm(kernel: str) -> list[Case]:
    def linear(rows: int, k: int, n: int) -> Case:
        node = Node("Linear", ["x", "w", "b"], ["y"], {"activation": "Relu"}, "fused")
        weights = {"w": normal(k, n), "b": normal(n)}
        return planned(kernel, f"{rows}x{k}x{n}", node, {"x": normal(rows, k)}, weights)

    def conv(size: int, channels: int, filters: int) -> Case:
        node = Node("Conv", ["x", "w", "b"], ["y"], {"activation": "Relu", "kernel_shape": [3, 3]}, "nhwc")
        weights = {"w": normal(3, 3, channels, filters), "b": normal(filters)}
        x = normal(1, size, size, channels)
        return planned(kernel, f"conv 3x3 {channels}-{filters}", node, {"x": x}, weights)

    return [linear(1, 512, 256), linear(196, 128, 256), linear(8, 5, 3), conv(16, 24, 64), conv(32, 3, 32)]


def depthwise(kernel: str) -> list[Case]:
    attributes = {"activation": "Relu", "kernel_shape": [3, 3], "group": 96}
    node = Node("Conv", ["x", "w", "b"], ["y"], attributes, "nhwc")
    weights = {"w": normal(3, 3, 1, 96), "b": normal(96)}
    return [planned(kernel, "3x3 96", node, {"x": normal(1, 16, 16, 96)}, weights)]


def recurrent(kernel: str) -> list[Case]:
    op = kernel.partition("_")[0].upper()
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]

    def layer(steps: int, batch: int, width: int, hidden: int) -> Case:
        weights = {
            "w": normal(1, gates * hidden, width) / width**0.5,
            "r": normal(1, gates * hidden, hidden) / hidden**0.5,
            "b": normal(1, 2 * gates * hidden),
        }
        node = Node(op, ["x", "w", "r", "b"], ["y"])
        label = f"{steps} steps of {batch}x{width}x{hidden}"
        x = normal(steps, batch, width)
        return planned(kernel, label, node, {"x": x}, weights, beside=("brgemm_f32", "copy_f32"))

    return [layer(32, 1, 64, 128), layer(8, 8, 64, 64)]


def pack(kernel: str) -> list[Case]:
    k = n = 128

    def prepare(isa: str) -> Work:
        panel = settings(1, "float32", isa).panel
        panels = -(-n // panel)
        params = {
            "batch": 1, "k": k, "n": n, "in_batch": k * n, "in_k": n, "in_n": 1, "out_batch": panels * k * panel,
        }  # fmt: skip
        return direct(kernel, "", params, [normal(k, n)], (panels, k, panel), panels).prepare(isa)

    return [Case(kernel, f"{k}x{n}", prepare, nbytes=8 * k * n, portable=False)]


def pack_split(kernel: str) -> list[Case]:
    k = n = 128
    params = {"terms": 3, "taps": 1, "k": k, "n": n}
    return [direct(kernel, f"{k}x{n}", params, [normal(1, k, n)], (n // 16, 1, k // 32, 3, 16, 16), n // 16)]


def linear_split(kernel: str) -> list[Case]:
    rows, k, n = 32, 64, 512
    b = np.empty((n // 16, k // 32, 1, 3, 16, 16), np.float32)
    weights = {"terms": 3, "taps": 1, "k": k, "n": n, "in_tap": k * n, "in_k": n, "in_n": 1}
    _native.run_kernel("scalar", "pack_split_f32", weights, [normal(1, k, n)], b, 0, n // 16)
    params = {"terms": 3, "rows": rows, "k": k, "n": n, "b": b, "bias": normal(n)}
    return [direct(kernel, f"{rows}x{k}x{n}", params, [normal(rows, k)], (rows, n), rows // 16)]


def pool(kernel: str) -> list[Case]:
    def case(size: int, stride: int) -> Case:
        side, c = 24, 32
        out = (side - size) // stride + 1
        params = {
            "batch": 1, "ih": side, "iw": side, "oh": out, "ow": out, "c": c, "kh": size, "kw": size,
            "stride_h": stride, "stride_w": stride, "dilation_h": 1, "dilation_w": 1,
            "in_batch": side * side * c, "in_row": side * c, "in_col": c,
            "out_batch": out * out * c, "out_row": out * c, "out_col": c,
        }  # fmt: skip
        return direct(kernel, f"{size}x{size}/{stride}", params, [normal(1, side, side, c)], (1, out, out, c), out)

    return [case(2, 2), case(3, 1)]


def operand(blocks: int, side: int) -> np.ndarray:
    """Pairs of bfloat16 numbers: an image in blocks of 32 channels."""
    low, high = (normal(blocks, side, side, 16).view(np.uint32) >> 16 for _ in range(2))
    return (high << 16 | low).view(np.float32)


def between_tiles(kernel: str) -> list[Case]:
    def case(size: int, stride: int) -> Case:
        side, blocks = 23, 3
        out = (side - size) // stride + 1
        params: dict[str, Any] = {
            "batch": 1, "blocks": blocks, "oh": out, "ow": out, "in_block": side * side * 16, "in_row": side * 16,
            "out_block": out * out * 16, "out_row": out * 16,
        }  # fmt: skip
        if kernel == "depthwise_bf16":
            weights, bias = normal(blocks, size, size, 32), normal(blocks, 32)
            params |= {"k": size, "stride": stride, "weights": weights, "bias": bias, "activation": "relu"}
        else:
            params |= {"ih": side, "iw": side, "kh": size, "kw": size, "stride_h": stride, "stride_w": stride}
        shape, units = (blocks, out, out, 16), blocks * out
        return direct(kernel, f"{size}x{size}/{stride} 96", params, [operand(blocks, side)], shape, units)

    return [case(3, 1), case(3, 2), case(5, 1), case(5, 2)]


def means_of_tiles(kernel: str) -> list[Case]:
    side, blocks = 7, 40
    c = blocks * 32
    params = {
        "batch": 1, "blocks": blocks, "h": side, "w": side, "c": c, "in_block": side * side * 16, "in_row": side * 16,
    }  # fmt: skip
    return [direct(kernel, f"{side}x{side}x{c}", params, [operand(blocks, side)], (c,), blocks)]


def unary(kernel: str) -> list[Case]:
    x = normal(ELEMENTS)
    if kernel in ("log_f32", "sqrt_f32"):
        x = np.abs(x) + np.float32(0.1)
    elif kernel == "acosh_f32":
        x = np.abs(x) + np.float32(1)
    elif kernel in ("asin_f32", "acos_f32", "atanh_f32"):
        x = np.tanh(x)
    # As alpha and beta, these suit every activation; Clip needs them in this order.
    strides = {"in_stride": dims(1), "out_stride": dims(1)}
    params = {"rank": 1, "shape": dims(ELEMENTS), **strides, "alpha": 0.25, "beta": 0.5}
    return [direct(kernel, f"{ELEMENTS}", params, [x], (ELEMENTS,), ELEMENTS)]


def binary(kernel: str) -> list[Case]:
    rows, columns = ELEMENTS // 128, 128
    a = np.abs(normal(rows, columns)) + np.float32(0.1)  # a base that Pow can raise to any power
    common = {"rank": 2, "shape": dims(rows, columns), "a_stride": dims(columns, 1), "out_stride": dims(columns, 1)}
    full = {**common, "b_stride": dims(columns, 1)}
    row = {**common, "b_stride": dims(0, 1)}
    return [
        direct(kernel, f"{rows}x{columns}", full, [a, normal(rows, columns)], a.shape, a.size),
        direct(kernel, f"{rows}x{columns}, a row", row, [a, normal(columns)], a.shape, a.size),
    ]


def scale_shift(kernel: str) -> list[Case]:
    rows, columns = ELEMENTS // 128, 128
    params = {
        "rank": 2, "shape": dims(rows, columns), "in_stride": dims(columns, 1), "scale_stride": dims(0, 1),
        "shift_stride": dims(0, 1),
        "out_stride": dims(columns, 1),
    }  # fmt: skip
    inputs = [normal(rows, columns), normal(columns), normal(columns)]
    return [direct(kernel, f"{rows}x{columns}", params, inputs, (rows, columns), rows * columns)]


def softmax(kernel: str) -> list[Case]:
    def case(rows: int, length: int) -> Case:
        params = {
            "length": length, "in_axis": 1, "out_axis": 1, "rank": 1, "shape": dims(rows),
            "in_stride": dims(length), "out_stride": dims(length),
        }  # fmt: skip
        return direct(kernel, f"{rows}x{length}", params, [normal(rows, length)], (rows, length), rows)

    return [case(1, 10), case(32, 1000)]


def reduce(kernel: str) -> list[Case]:
    rows, columns = 64, ELEMENTS // 64

    def case(label: str, kept: tuple[int, int], reduced: tuple[int, int]) -> Case:
        params = {
            "kept_rank": 1, "kept": dims(kept[0]), "kept_stride": dims(kept[1]), "out_stride": dims(1),
            "reduced_rank": 1, "reduced": dims(reduced[0]), "reduced_stride": dims(reduced[1]),
        }  # fmt: skip
        return direct(kernel, label, params, [normal(rows, columns)], (kept[0],), kept[0])

    return [
        case(f"{rows}x{columns} along rows", (rows, columns), (columns, 1)),
        case(f"{rows}x{columns} along columns", (columns, 1), (rows, columns)),
    ]


def copy(kernel: str) -> list[Case]:
    rows, columns = 256, ELEMENTS // 256

    def case(label: str, strides: tuple[int, int]) -> Case:
        params = {"rank": 2, "shape": dims(rows, columns), "in_stride": dims(*strides), "out_stride": dims(columns, 1)}
        return direct(kernel, label, params, [normal(ELEMENTS)], (rows, columns), ELEMENTS)

    return [case(f"{rows}x{columns}", (columns, 1)), case(f"{columns}x{rows} transposed", (1, rows))]


def fill(kernel: str) -> list[Case]:
    params = {"rank": 1, "shape": dims(ELEMENTS), "out_stride": dims(1), "value": 0.5}
    return [direct(kernel, f"{ELEMENTS}", params, [], (ELEMENTS,), ELEMENTS)]


def pad(kernel: str) -> list[Case]:
    rows, columns = 62, 510
    index = np.concatenate([np.pad(np.arange(n), 1, constant_values=-1) for n in (rows, columns)])
    shape = (rows + 2, columns + 2)
    params = {
        "rank": 2, "shape": dims(*shape), "in_stride": dims(columns, 1), "out_stride": dims(shape[1], 1),
        "index": index.astype(np.int64), "value": 0.5,
    }  # fmt: skip
    return [direct(kernel, f"{rows}x{columns} by 1", params, [normal(rows, columns)], shape, shape[0] * shape[1])]


def halo(kernel: str) -> list[Case]:
    side, c = 30, 32
    shape = (1, side + 2, side + 2, c)
    params = {
        "batch": 1, "h": side, "w": side, "c": c, "pad_top": 1, "pad_left": 1, "pad_bottom": 1, "pad_right": 1,
        "out_batch": shape[1] * shape[2] * c,
    }  # fmt: skip
    return [direct(kernel, f"{side}x{side}x{c} by 1", params, [], shape, 1)]


BLOCKS: tuple[tuple[str, Callable[[str], list[Case]]], ...] = (
    ("n_gates", recurrent),
    ("entries", brgemm),
    ("taps", pack_split),
    ("terms", linear_split),
    ("in_k", pack),
    ("out_block", between_tiles),
    ("in_block", means_of_tiles),
    ("weights", depthwise),
    ("count_include_pad", pool),
    ("scale_stride", scale_shift),
    ("b_stride", binary),
    ("in_axis", softmax),
    ("reduced", reduce),
    ("index", pad),
    ("value", fill),
    ("pad_top", halo),
    ("alpha", unary),
    ("in_stride", copy),
)
"""A field that tells a parameter block from those further down, and the cases of its kernels."""


def cases_of(kernel: str) -> list[Case]:
    """The cases of a kernel.

    Raises
    ------
    LookupError
        Its parameter block has none yet.
    """
    if kernel in KERNELS:
        return KERNELS[kernel](kernel)
    fields = {name for name, _ in _native.describe_params(kernel)}
    for field, make in BLOCKS:
        if field in fields:
            return make(kernel)
    raise LookupError(f"bench/kernels/cases.py has no case for the parameter block of {kernel}: {sorted(fields)}")
