"""Whole layers that PyTorch runs as one operator where no gradient is wanted, which is then what a trace has."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calls import Ref
from ..emitter import Emitter
from ._table import aten
from .layers import linear
from .normalization import layer_norm, scaled_dot_product_attention


def _heads(e: Emitter, x: Any, heads: int, size: int) -> Ref:
    """[N, T, heads * size] as [N, heads, T, size]."""
    split = e.node("Reshape", x, np.array([0, 0, heads, size], np.int64))
    return e.node("Transpose", split, perm=[0, 2, 1, 3])


def _self_attention(e: Emitter, x: Any, embed_dim: int, heads: int, inner: Any, outer: Any) -> Ref:
    if e.rank_of(x) != 3 or embed_dim % heads:
        raise e.refuse("attention of other shapes")
    joined = linear(e, x, *inner)
    bounds = np.array([embed_dim] * 3, np.int64)
    parts = e.nodes_of("Split", 3, joined, bounds, axis=2)
    query, key, value = (_heads(e, p, heads, embed_dim // heads) for p in parts)
    y = e.node("Transpose", scaled_dot_product_attention(e, query, key, value), perm=[0, 2, 1, 3])
    return linear(e, e.node("Reshape", y, np.array([0, 0, embed_dim], np.int64)), *outer)


@aten("_native_multi_head_attention")
def native_multi_head_attention(
    e: Emitter,
    query: Any,
    key: Any,
    value: Any,
    embed_dim: int,
    num_head: int,
    qkv_weight: Any,
    qkv_bias: Any,
    proj_weight: Any,
    proj_bias: Any,
    mask: Any = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: Any = None,
) -> tuple[Any, Any]:
    if mask is not None or need_weights or not query == key == value:
        raise e.refuse("attention with a mask, with weights as a result, or to other values")
    inner, outer = (qkv_weight, qkv_bias), (proj_weight, proj_bias)
    return _self_attention(e, query, embed_dim, num_head, inner, outer), None


@aten("_transformer_encoder_layer_fwd")
def transformer_encoder_layer(
    e: Emitter,
    src: Any,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Any,
    qkv_bias: Any,
    proj_weight: Any,
    proj_bias: Any,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Any,
    norm_bias_1: Any,
    norm_weight_2: Any,
    norm_bias_2: Any,
    ffn_weight_1: Any,
    ffn_bias_1: Any,
    ffn_weight_2: Any,
    ffn_bias_2: Any,
    mask: Any = None,
    mask_type: Any = None,
) -> Ref:
    if mask is not None:
        raise e.refuse("a layer of a transformer with a mask")
    first, second = (norm_weight_1, norm_bias_1), (norm_weight_2, norm_bias_2)

    def attended(x: Any) -> Ref:
        return _self_attention(e, x, embed_dim, num_heads, (qkv_weight, qkv_bias), (proj_weight, proj_bias))

    def forwarded(x: Any) -> Ref:
        wide = linear(e, x, ffn_weight_1, ffn_bias_1)
        return linear(e, e.node("Gelu" if use_gelu else "Relu", wide), ffn_weight_2, ffn_bias_2)

    def normal(x: Any, scale: tuple[Any, Any]) -> Ref:
        return layer_norm(e, x, [embed_dim], *scale, eps)

    if norm_first:
        x = e.node("Add", src, attended(normal(src, first)))
        return e.node("Add", x, forwarded(normal(x, second)))
    x = normal(e.node("Add", src, attended(src)), first)
    return normal(e.node("Add", x, forwarded(x)), second)
