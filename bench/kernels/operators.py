"""Work for the kernels that are easiest to reach through an operator: a node, and the arrays that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from work import ELEMENTS, Case, normal, planned

from forwardpass.graph import Node

ROWS, COLUMNS = 64, ELEMENTS // 64
SIZE = f"{ROWS}x{COLUMNS}"
COPIES = ("copy_x8", "copy_x16", "copy_f32", "copy_x64")


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def whole(low: int, high: int, *shape: int, dtype: str = "int32") -> np.ndarray:
    """Whole numbers from low to high - 1."""
    return rng(high, *shape).integers(low, high, shape).astype(dtype)


def one(kernel: str, op: str, *values: Any, label: str = SIZE, outputs: int = 1, **more: Any) -> list[Case]:
    """One case: an operator of the values, of which those of `constants` belong to the graph."""
    names = [f"x{k}" for k in range(len(values))]
    constants = {names[k]: values[k] for k in more.pop("constants", ())}
    beside, domain, precision = more.pop("beside", ()), more.pop("domain", ""), more.pop("precision", "float32")
    node = Node(op, names, [f"y{k}" for k in range(outputs)], more, domain)
    given = {n: v for n, v in zip(names, values) if n not in constants}
    return [planned(kernel, label, node, given, constants, beside=beside, precision=precision)]


def reduction(op: str, dtype: str = "int32") -> Callable[[str], list[Case]]:
    x = whole(-3, 4, ROWS, COLUMNS, dtype=dtype)
    return lambda kernel: one(kernel, op, x, np.array([1]), constants=[1], keepdims=0)


def typed(op: str) -> Callable[[str], list[Case]]:
    return lambda kernel: one(kernel, op, whole(1, 50, ROWS, COLUMNS), whole(1, 9, ROWS, COLUMNS))


def logic(op: str) -> Callable[[str], list[Case]]:
    a, b = (whole(0, 2, ROWS, COLUMNS + k, dtype="bool")[:, :COLUMNS].copy() for k in range(2))
    return lambda kernel: one(kernel, op, a, b)


def transposed(dtype: str) -> Callable[[str], list[Case]]:
    x = whole(0, 100, ROWS, COLUMNS, dtype=dtype)
    return lambda kernel: one(kernel, "Transpose", x, perm=[1, 0], label=f"{SIZE} transposed")


def top_k(kernel: str) -> list[Case]:
    beside = ("gather_elements_any",)
    return one(kernel, "TopK", normal(ROWS, COLUMNS), np.array([8]), constants=[1], outputs=2, beside=beside)


def running(op: str) -> Callable[[str], list[Case]]:
    x = np.ones((ROWS, COLUMNS), np.float32) + normal(ROWS, COLUMNS) / np.float32(1e4)
    return lambda kernel: one(kernel, op, x, np.array(1), constants=[1])


def gather_nd(kernel: str) -> list[Case]:
    return one(
        kernel, "GatherND", normal(ROWS, 16, COLUMNS // 16), whole(0, 16, 256, 2, dtype="int64"), label="256 rows"
    )


def scatter_elements(kernel: str) -> list[Case]:
    index = whole(0, ROWS, ROWS, COLUMNS, dtype="int64")
    values = (normal(ROWS, COLUMNS), index, normal(ROWS, COLUMNS))
    return one(kernel, "ScatterElements", *values, axis=0, reduction="add", beside=COPIES)


def scatter_nd(kernel: str) -> list[Case]:
    values = (normal(ROWS, COLUMNS), whole(0, ROWS, 32, 1, dtype="int64"), normal(32, COLUMNS))
    return one(kernel, "ScatterND", *values, label=f"32 rows of {COLUMNS}", beside=COPIES)


def tensor_scatter(kernel: str) -> list[Case]:
    values = (normal(2, 8, 64, 32), normal(2, 8, 4, 32), whole(0, 8, 2, dtype="int64"))
    return one(kernel, "TensorScatter", *values, label="4 rows of 32 into 2x8x64", beside=COPIES, axis=2)


def reverse_sequence(kernel: str) -> list[Case]:
    return one(kernel, "ReverseSequence", normal(32, 8, 128), whole(1, 32, 8, dtype="int64"), label="32x8x128")


def one_hot(kernel: str) -> list[Case]:
    values = (whole(0, 64, 512, dtype="int64"), np.array([64]), np.array([0.0, 1.0], np.float32))
    return one(kernel, "OneHot", *values, constants=[1, 2], label="512 of 64")


def resized(mode: str) -> Callable[[str], list[Case]]:
    values = (normal(1, 16, 24, 24), np.array([], np.float32), np.array([1, 1, 2, 2], np.float32))
    return lambda kernel: one(kernel, "Resize", *values, constants=[1, 2], mode=mode, label=f"24x24 by 2, {mode}")


def grid_sample(kernel: str) -> list[Case]:
    points = np.tanh(normal(1, 24, 24, 2))
    return one(kernel, "GridSample", normal(1, 16, 24, 24), points, label="24x24")


def roi_align(kernel: str) -> list[Case]:
    corners = np.sort(rng(7).uniform(0, 24, (8, 2, 2)).astype(np.float32), axis=1).reshape(8, 4)
    values = (normal(1, 16, 24, 24), corners, np.zeros(8, np.int64))
    return one(kernel, "RoiAlign", *values, output_height=7, output_width=7, sampling_ratio=2, label="8 regions")


def layer_norm(outputs: int) -> Callable[[str], list[Case]]:
    def cases(kernel: str) -> list[Case]:
        values = (normal(ROWS, COLUMNS), normal(COLUMNS), normal(COLUMNS))
        beside = ("normalize_f32", "reduce_mean_f32") if outputs > 1 else ()
        return one(kernel, "LayerNormalization", *values, constants=[1, 2], outputs=outputs, beside=beside)

    return cases


def on_tiles(kernel: str) -> list[Case]:
    values = (normal(1, 16, 16, 64), normal(3, 3, 64, 64), normal(64))
    beside = {"split_f32", "brgemm_split_f32"} - {kernel}
    label, how = "conv 3x3 64-64", {"activation": "Relu", "kernel_shape": [3, 3], "domain": "nhwc"}
    return one(kernel, "Conv", *values, constants=[1, 2], label=label, beside=beside, **how)


def attention(number: str, precision: str) -> Callable[[str], list[Case]]:
    def cases(kernel: str) -> list[Case]:
        beside = {f"attention_{number}", f"pack_heads_{number}", *COPIES} - {kernel}
        values = [normal(1, 4, 64, 32), normal(1, 4, 64, 33)[..., 1:].copy(), normal(1, 4, 64, 34)[..., 2:].copy()]
        return one(kernel, "Attention", *values, label="4 heads of 64x32", beside=beside, precision=precision)

    return cases


def winograd(kernel: str) -> list[Case]:
    """Tiles of 2 x 2, 2 x 4 and 4 x 4 outputs."""
    made = []
    for channels in (32, 64, 256):
        values = (normal(1, 28, 28, channels), normal(3, 3, channels, channels), normal(channels))
        how = {"activation": "Relu", "kernel_shape": [3, 3], "domain": "nhwc"}
        made += one(kernel, "Conv", *values, constants=[1, 2], label=f"conv 3x3 {channels}-{channels}", **how)
    return made


def scaled_weights(kernel: str) -> list[Case]:
    values = (normal(1, 28, 28, 240), normal(1, 1, 240, 40), normal(40), normal(1, 28, 28, 40), normal(1, 1, 1, 240))
    how = {"kernel_shape": [1, 1], "domain": "nhwc", "beside": {"brgemm_f32"}, "precision": "portable"}
    return one(kernel, "Conv", *values, constants=[1, 2], label="240x40", **how)


def stem(kernel: str) -> list[Case]:
    values = (normal(1, 3, 112, 112), normal(3, 3, 3, 32), normal(32))
    how = {"activation": "Relu", "strides": [2, 2], "pads": [1, 1, 1, 1], "channels_first": 1, "domain": "nhwc"}
    return one(kernel, "Conv", *values, constants=[1, 2], label="conv 3x3 3-32", **how)


def planes(kernel: str) -> list[Case]:
    values = (normal(1, 56, 112, 8), normal(5, 5, 8, 1), normal(1))
    how = {"activation": "Relu", "pads": [2, 2, 2, 2], "domain": "nhwc"}
    return one(kernel, "Conv", *values, constants=[1, 2], label="conv 5x5 8-1", **how)


def nbits(kernel: str) -> list[Case]:
    k, n, block = 512, 256, 32
    codes = whole(0, 256, n, k // block, block // 2, dtype="uint8")
    values = (normal(1, k), codes, np.abs(normal(n * (k // block))))
    how = {"K": k, "N": n, "bits": 4, "block_size": block, "domain": "com.microsoft"}
    return one(kernel, "MatMulNBits", *values, constants=[1, 2], label=f"1x{k}x{n}, 4 bits", **how)


def where(kernel: str) -> list[Case]:
    condition = whole(0, 2, ROWS, COLUMNS, dtype="bool")
    return one(kernel, "Where", condition, normal(ROWS, COLUMNS), normal(ROWS, COLUMNS + 1)[:, 1:].copy())


def half_weights(kernel: str) -> list[Case]:
    """Large enough for the planner to choose them."""
    node = Node("Linear", ["x", "w"], ["y"], {"activation": "Relu"}, "fused")
    x, w = normal(1, 1, 1536), normal(1536, 400)
    return [planned(kernel, "1x1536x400", node, {"x": x}, {"w": w}, precision="bfloat16")]


def rotary(kernel: str) -> list[Case]:
    angles = rng(7).uniform(0, 6, (64, 32)).astype(np.float32)
    heads = normal(1, 8, 64, 64)
    places = np.arange(64)[None]
    label = "8 heads of 64x64"
    return one(kernel, "RotaryEmbedding", heads, np.cos(angles), np.sin(angles), places, constants=[1, 2], label=label)


KERNELS: dict[str, Callable[[str], list[Case]]] = {
    "brgemm_bf16": half_weights,
    "rotary_f32": rotary,
    "brgemm_split_f32": on_tiles,
    "split_f32": on_tiles,
    "scale_panels_f32": scaled_weights,
    "stem_f32": stem,
    "planes_f32": planes,
    "winograd_f32": winograd,
    "nbits_f32": nbits,
    "attention_f32": attention("f32", "float32"),
    "pack_heads_f32": attention("f32", "float32"),
    "attention_bf16": attention("bf16", "bfloat16"),
    "pack_heads_bf16": attention("bf16", "bfloat16"),
    "normalize_f32": layer_norm(1),
    "inverse_deviation_f32": layer_norm(3),
    "lrn_f32": lambda kernel: one(kernel, "LRN", normal(1, 32, 32, 32), size=5, label="32x32x32"),
    "reduce_sum_int": reduction("ReduceSum"),
    "reduce_mean_int": reduction("ReduceMean"),
    "reduce_prod_int": reduction("ReduceProd"),
    "reduce_l1_int": reduction("ReduceL1"),
    "reduce_sum_square_int": reduction("ReduceSumSquare"),
    "reduce_max_any": reduction("ReduceMax"),
    "reduce_min_any": reduction("ReduceMin"),
    "arg_max_any": lambda kernel: one(kernel, "ArgMax", normal(ROWS, COLUMNS), axis=1),
    "arg_min_any": lambda kernel: one(kernel, "ArgMin", normal(ROWS, COLUMNS), axis=1),
    "top_k_any": top_k,
    "cumulative_sum_any": running("CumSum"),
    "cumulative_prod_any": running("CumProd"),
    "copy_x8": transposed("int8"),
    "copy_x16": transposed("int16"),
    "copy_x64": transposed("int64"),
    "cast_any": lambda kernel: one(kernel, "Cast", whole(-9, 9, ROWS, COLUMNS), to=1),
    "equal_any": typed("Equal"),
    "less_any": typed("Less"),
    "less_or_equal_any": typed("LessOrEqual"),
    "and_bool": logic("And"),
    "or_bool": logic("Or"),
    "xor_bool": logic("Xor"),
    "add_int": typed("Add"),
    "sub_int": typed("Sub"),
    "mul_int": typed("Mul"),
    "div_int": typed("Div"),
    "mod_int": typed("Mod"),
    "min_int": typed("Min"),
    "max_int": typed("Max"),
    "where_any": where,
    "gather_any": lambda kernel: one(
        kernel, "Gather", normal(512, 64), whole(0, 512, 512, dtype="int64"), label="512x64"
    ),
    "gather_elements_any": lambda kernel: one(
        kernel, "GatherElements", normal(ROWS, COLUMNS), whole(0, ROWS, ROWS, COLUMNS, dtype="int64")
    ),
    "gather_nd_any": gather_nd,
    "scatter_elements_any": scatter_elements,
    "scatter_nd_any": scatter_nd,
    "tensor_scatter_any": tensor_scatter,
    "reverse_sequence_any": reverse_sequence,
    "one_hot_any": one_hot,
    "resample_f32": resized("linear"),
    "choose_any": resized("nearest"),
    "grid_sample_f32": grid_sample,
    "roi_align_f32": roi_align,
}
"""Kernel -> its cases."""
