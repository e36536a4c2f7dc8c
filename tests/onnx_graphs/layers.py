"""Nodes of layers: products, convolutions, pools, normalisations, resizing and recurrent cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_graphs.grower import Grower, Val
from onnx_graphs.older import Skip

__all__ = ["ADDERS"]


def matmul(g: Grower) -> None:
    x = g.pick("ffffi", low=1)
    if x.dtype.name == "int8":
        raise Skip("no product")
    k, n = x.shape[-1], g.size()
    batch = g.broadcastable(x.shape[:-2]) if x.rank > 2 else g.one_of((), (), (2,), (1, 2))
    form = g.one_of((k,), (k, n), (k, n), (k, n), (*batch, k, n))
    g.emit("MatMul", [x, g.partner(x, form)])


def product_from_left(g: Grower) -> None:
    x = g.pick("f", low=2)
    form = g.one_of((x.shape[-2],), (g.size(), x.shape[-2]), (*x.shape[:-2], g.size(), x.shape[-2]))
    g.emit("MatMul", [g.partner(x, form), x])


def gemm(g: Grower) -> None:
    x = g.pick("f", low=2, high=2)
    ta, tb = g.number(0, 1), g.number(0, 1)
    m, k = x.shape[::-1] if ta else x.shape
    n = g.size()
    w = g.partner(x, (n, k) if tb else (k, n))
    inputs: list[Any] = [x, w]
    if g.number(0, 2) or g.root.opset < 11:
        inputs.append(g.partner(x, g.one_of((n,), (m, n), (1, n), (m, 1), (1,), ())))
    attributes = {"transA": ta, "transB": tb} if ta or tb or g.chance(2) else {}
    if g.chance(3):
        attributes |= {"alpha": g.one_of(0.5, 2.0), "beta": g.one_of(0.25, 0.0, 1.0)}
    g.emit("Gemm", inputs, attributes)


def einsum(g: Grower) -> None:
    x = g.pick("f", low=2, high=3)
    k, n = x.shape[-1], g.size()
    if x.rank == 2:
        equation, form = g.one_of(
            ("ij,jk->ik", (k, n)), ("ij,kj", (n, k)), ("ij,ij->i", x.shape), ("ij->ji", None), ("i...,j->...j", (n,)),
            ("ij,j->", (k,)), ("ij,kl->ijkl", (2, n)), ("...j,jk", (k, n)),
        )  # fmt: skip
    else:
        equation, form = g.one_of(
            ("bij,jk->bik", (k, n)), ("bij,bkj->bik", (x.shape[0], n, k)), ("bij->b", None), ("bij->jb", None),
            ("...ij,...jk->...ik", (x.shape[0], k, n)), ("bij,bij->", x.shape),
        )  # fmt: skip
    g.emit("Einsum", [x] if form is None else [x, g.partner(x, form)], {"equation": equation})


def _image(g: Grower, *, exact: bool = False, full: bool = True) -> Val:
    found = g.pick("f", low=3, high=4, exact=exact, full=full)
    if 0 in found.shape[1:]:
        raise Skip("empty")
    return found


def _window(g: Grower, sizes: tuple[int, ...], *, dilate: bool, most: int = 3) -> tuple[list[int], dict[str, Any]]:
    """A kernel and the attributes of its places, all of which touch the image."""
    kernel = [g.number(1, min(most, max(d, 1))) for d in sizes]
    attributes: dict[str, Any] = {}
    if g.chance(2):
        attributes["strides"] = [g.number(1, 3) for _ in sizes]
    if dilate and g.chance(3):
        attributes["dilations"] = [g.number(1, 2) for _ in sizes]
    dilations = attributes.get("dilations", [1] * len(sizes))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    how = g.one_of("pads", "pads", "none", "SAME_UPPER", "SAME_LOWER", "VALID")
    if how == "pads":
        pads = [g.number(0, k - 1) for k in kernel * 2]
        attributes["pads"] = pads
        sizes = tuple(d + a + b for d, a, b in zip(sizes, pads, pads[len(kernel) :]))
    elif how != "none":
        attributes["auto_pad"] = how
    if not how.startswith("SAME") and any(e > d for e, d in zip(extent, sizes)):
        raise Skip("window")
    return kernel, attributes


def conv(g: Grower) -> None:
    x = _image(g, full=g.chance(2))
    channels = x.shape[1]
    group = g.one_of(1, 1, channels, *(d for d in (2, 4) if channels % d == 0))
    filters = group * g.one_of(1, 2, 3, 5)
    kernel, attributes = _window(g, x.shape[2:], dilate=True)
    if group > 1 or g.chance(3):
        attributes["group"] = group
    if g.chance(2):
        attributes["kernel_shape"] = kernel
    w = g.partner(x, (filters, channels // group, *kernel))
    bias = [g.partner(x, (filters,))] if g.chance(2) else []
    g.emit("Conv", [x, w, *bias], attributes)


def conv_transpose(g: Grower) -> None:
    x = _image(g)
    channels = x.shape[1]
    group = g.one_of(1, 1, channels, *(d for d in (2,) if channels % d == 0))
    filters = g.number(1, 3)
    kernel = [g.number(1, 3) for _ in x.shape[2:]]
    attributes: dict[str, Any] = {"group": group}
    strides = [g.number(1, 2) for _ in kernel]
    if g.chance(2):
        attributes["strides"] = strides
        if g.chance(3):
            attributes["output_padding"] = [g.number(0, s - 1) for s in strides]
    if g.chance(3):
        attributes["dilations"] = [g.number(1, 2) for _ in kernel]
    if g.chance(2):
        attributes["pads"] = [g.number(0, (k - 1) // 2) for k in kernel * 2]
    elif g.chance(3):
        attributes["auto_pad"] = g.one_of("SAME_UPPER", "SAME_LOWER", "VALID")
    w = g.partner(x, (channels, filters, *kernel))
    bias = [g.partner(x, (filters * group,))] if g.chance(2) else []
    g.emit("ConvTranspose", [x, w, *bias], attributes)


def pool(g: Grower) -> None:
    op = g.one_of("MaxPool", "AveragePool", "MaxPool", "AveragePool", "LpPool")
    outputs = 2 if op == "MaxPool" and g.root.opset >= 8 and g.chance(4) else 1
    x = _image(g, exact=outputs == 2)
    dilate = g.root.opset >= {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op]
    kernel, attributes = _window(g, x.shape[2:], dilate=dilate)
    attributes["kernel_shape"] = kernel
    if op == "AveragePool" and g.chance(2):
        attributes["count_include_pad"] = g.number(0, 1)
    if op == "LpPool" and g.chance(2):
        attributes["p"] = g.number(1, 3)
    if dilate and g.chance(3) and not attributes.get("auto_pad", "").startswith("SAME"):
        attributes["ceil_mode"] = 1
    g.emit(op, [x], attributes, outputs=outputs)


def global_pool(g: Grower) -> None:
    g.emit(g.one_of("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), [_image(g)])


def batch_norm(g: Grower) -> None:
    x = g.pick("f", low=2)
    form = (x.shape[1],)
    others = [g.numbers(x.dtype, form), g.numbers(x.dtype, form), g.numbers(x.dtype, form)]
    variance = g.numbers(x.dtype, form, positive=True)
    g.emit("BatchNormalization", [x, *others, variance], {"epsilon": 1e-3} if g.chance(2) else {})


def norm(g: Grower) -> None:
    op = g.one_of("InstanceNormalization", "GroupNormalization", "LpNormalization", "LRN", "MeanVarianceNormalization")
    x = g.pick("f", low=3 if op != "LpNormalization" else 1, high=4, full=True)
    channels = x.shape[1] if x.rank > 1 else 1
    if op == "LpNormalization":
        g.emit(op, [x], {"axis": g.axis(x.rank), "p": g.number(1, 2)})
        return
    if op == "LRN":
        g.emit(op, [x], {"size": g.number(1, 5), "alpha": g.one_of(1e-4, 0.5), "bias": g.one_of(1.0, 2.0)})
        return
    if op == "MeanVarianceNormalization" and x.dtype != np.float32:
        raise Skip("its function has constants of float32")
    if op == "MeanVarianceNormalization":
        axes = [0, 2, 3] if x.rank == 4 else [0, 2]
        if x.array.std(axis=tuple(axes)).min() < 0.1:
            raise Skip("its function takes the difference of two squares")
        g.emit(op, [x], {"axes": axes})
        return
    attributes: dict[str, Any] = {"epsilon": g.one_of(1e-5, 1e-2)}
    if op == "GroupNormalization":
        attributes["num_groups"] = g.one_of(*(k for k in (1, 2, 3, channels) if channels % k == 0))
    g.emit(op, [x, g.numbers(x.dtype, (channels,)), g.numbers(x.dtype, (channels,))], attributes)


def layer_norm(g: Grower) -> None:
    op = g.one_of("LayerNormalization", "LayerNormalization", "RMSNormalization")
    x = g.pick("f", low=1, full=True)
    axis = g.axis(x.rank)
    form = x.shape[axis:]
    bias = [g.numbers(x.dtype, form)] if op[0] == "L" and g.chance(2) else []
    g.emit(op, [x, g.numbers(x.dtype, form), *bias], {"axis": axis, "epsilon": g.one_of(1e-5, 1e-2)})


def blocks(g: Grower) -> None:
    b = g.one_of(1, 2, 2, 3)
    if g.chance(2):
        x = g.source(g.dtype("f"), (g.number(1, 2), b * b * g.number(1, 3), g.number(1, 4), g.number(1, 4)))
        mode = g.one_of("DCR", "CRD") if g.root.opset >= 11 else None
        g.emit("DepthToSpace", [x], {"blocksize": b, "mode": mode})
        return
    x = g.source(g.dtype("f"), (g.number(1, 2), g.number(1, 3), b * g.number(1, 3), b * g.number(1, 3)))
    g.emit("SpaceToDepth", [x], {"blocksize": b})


def resize(g: Grower) -> None:
    if g.root.opset < 11:
        raise Skip("Resize")
    x = _image(g)
    mode = g.one_of("nearest", "linear", "nearest", "linear", "cubic")
    if mode == "cubic" and x.rank != 4:
        raise Skip("cubic")
    attributes: dict[str, Any] = {"mode": mode}
    attributes["coordinate_transformation_mode"] = g.one_of("half_pixel", "asymmetric", "align_corners")
    if mode == "nearest":
        attributes["nearest_mode"] = g.one_of("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    # Quotients of sizes and scales are dyadic, so that no position is near a tie by rounding alone.
    scales = [1.0, 1.0, *(g.one_of(1.0, 2.0, 0.5, 4.0) for _ in x.shape[2:])]
    sizes = [int(d * s) for d, s in zip(x.shape, scales)]
    if 0 in sizes:
        raise Skip("empty")
    if attributes["coordinate_transformation_mode"] == "align_corners" and mode == "nearest":
        raise Skip("ties")
    if g.chance(2) and all(d * s == n for d, s, n in zip(x.shape, scales, sizes)):
        g.emit("Resize", [x, None, None, g.constant(np.array(sizes, np.int64))], attributes)
    else:
        g.emit("Resize", [x, None, np.array(scales, np.float32)], attributes)


def recurrent(g: Grower) -> None:
    op, gates = g.one_of(("LSTM", 4), ("GRU", 3), ("RNN", 1))
    steps, batch, width, hidden = g.number(1, 4), g.number(1, 3), g.number(1, 5), g.number(1, 5)
    way = g.one_of("forward", "reverse", "bidirectional")
    both = 2 if way == "bidirectional" else 1
    known = [v for v in g.values if v.dtype == np.float32 and v.rank == 3 and 0 not in v.shape]
    x = known[-1] if known else g.source(np.float32, (steps, batch, width))
    steps, batch, width = x.shape
    if hidden * width * batch > 1000:
        raise Skip("size")

    def small(*form: int) -> Any:
        return (g.numbers(np.float32, form) / 8).astype(np.float32)

    inputs: list[Any] = [x, small(both, gates * hidden, width), small(both, gates * hidden, hidden)]
    inputs.append(small(both, 2 * gates * hidden) if g.chance(2) else None)
    inputs.append(np.asarray(g.root.rng.integers(1, steps + 1, batch), np.int32) if g.chance(3) else None)
    inputs.append(small(both, batch, hidden) if g.chance(2) else None)
    if op == "LSTM":
        inputs.append(small(both, batch, hidden) if g.chance(2) else None)
        inputs.append(small(both, 3 * hidden) if g.chance(4) else None)
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": way}
    if op == "GRU":
        attributes["linear_before_reset"] = g.number(0, 1)
    if g.chance(4):
        attributes["clip"] = 0.5
    outputs = g.one_of([True], [True, True], [False, True], [True, True, True], [False, False, True])
    g.emit(op, inputs, attributes, outputs=outputs[: 3 if op == "LSTM" else 2] if any(outputs[:2]) else [True])


ADDERS = (
    matmul, matmul, product_from_left, gemm, gemm, einsum, conv, conv, conv_transpose, pool, pool, global_pool,
    batch_norm, norm, layer_norm, blocks, resize, recurrent,
)  # fmt: skip
