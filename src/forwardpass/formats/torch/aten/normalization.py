"""Normalization, softmax and attention."""

# ruff: noqa: A002 - arguments have the names of ATen's schema

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..calls import Ref
from ..emitter import Emitter
from ._table import aten


def _affine(e: Emitter, weight: Any, bias: Any, like: Any) -> tuple[Any, Any]:
    """Scale and shift of each channel, where they may be absent."""
    channels, dtype = e.size_of(like, 1), e.dtype_of(like)
    gamma = np.ones(channels, dtype) if weight is None else weight
    return gamma, np.zeros(channels, dtype) if bias is None else bias


@aten("batch_norm", "cudnn_batch_norm")
def batch_norm(
    e: Emitter,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Ref:
    if training or running_mean is None or running_var is None:
        raise e.refuse("batch normalization by the statistics of the batch")
    gamma, beta = _affine(e, weight, bias, input)
    return e.node("BatchNormalization", input, gamma, beta, running_mean, running_var, epsilon=float(eps))


@aten("_native_batch_norm_legit_no_training", "native_batch_norm", "_batch_norm_no_update")
def native_batch_norm(
    e: Emitter,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    momentum: float,
    eps: float,
    training: bool = False,
) -> tuple[Any, ...]:
    y = batch_norm(e, input, weight, bias, running_mean, running_var, training, momentum, eps)
    return y, None, None, None


@aten("instance_norm")
def instance_norm(
    e: Emitter,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Ref:
    if not use_input_stats:
        return batch_norm(e, input, weight, bias, running_mean, running_var, False, momentum, eps)
    gamma, beta = _affine(e, weight, bias, input)
    return e.node("InstanceNormalization", input, gamma, beta, epsilon=float(eps))


@aten("layer_norm")
def layer_norm(
    e: Emitter,
    input: Any,
    normalized_shape: list[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = False,
) -> Ref:
    scale = weight if weight is not None else np.ones(normalized_shape, e.dtype_of(input))
    return e.node("LayerNormalization", input, scale, bias, axis=-len(normalized_shape), epsilon=float(eps))


@aten("native_layer_norm")
def native_layer_norm(
    e: Emitter,
    input: Any,
    normalized_shape: list[int],
    weight: Any,
    bias: Any,
    eps: float,
) -> tuple[Any, ...]:
    return layer_norm(e, input, normalized_shape, weight, bias, eps), None, None


@aten("rms_norm")
def rms_norm(
    e: Emitter,
    input: Any,
    normalized_shape: list[int],
    weight: Any = None,
    eps: float | None = None,
) -> Ref:
    dtype = e.dtype_of(input)
    scale = weight if weight is not None else np.ones(normalized_shape, dtype)
    epsilon = float(np.finfo(dtype).eps) if eps is None else float(eps)
    return e.node("RMSNormalization", input, scale, axis=-len(normalized_shape), epsilon=epsilon)


@aten("group_norm")
def group_norm(
    e: Emitter,
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Ref:
    gamma, beta = _affine(e, weight, bias, input)
    return e.node("GroupNormalization", input, gamma, beta, num_groups=num_groups, epsilon=float(eps))


@aten("native_group_norm")
def native_group_norm(
    e: Emitter,
    input: Any,
    weight: Any,
    bias: Any,
    N: Any,
    C: Any,
    HxW: Any,
    group: int,
    eps: float,
) -> tuple[Any, ...]:
    return group_norm(e, input, group, weight, bias, eps), None, None


def _softmax(e: Emitter, op: str, x: Any, dim: int, dtype: Any) -> Ref:
    x = x if dtype is None or isinstance(dtype, bool) else e.cast(x, dtype)
    return e.node(op, x, axis=dim)


@aten("softmax", "_softmax")
def softmax(e: Emitter, self: Any, dim: int, dtype: Any = None, half_to_float: bool = False) -> Ref:
    return _softmax(e, "Softmax", self, dim, dtype)


@aten("_safe_softmax")
def safe_softmax(e: Emitter, self: Any, dim: int, dtype: Any = None) -> Ref:
    y = _softmax(e, "Softmax", self, dim, dtype)
    # A row of which everything is masked gives zeros.
    return e.node("Where", e.node("IsNaN", y), e.cast(0.0, e.dtype_of(self)), y)


@aten("log_softmax", "_log_softmax")
def log_softmax(e: Emitter, self: Any, dim: int, dtype: Any = None, half_to_float: bool = False) -> Ref:
    return _softmax(e, "LogSoftmax", self, dim, dtype)


@aten("scaled_dot_product_attention")
def scaled_dot_product_attention(
    e: Emitter,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Ref:
    if dropout_p or enable_gqa:
        raise e.refuse("attention with dropout or with shared heads")
    dtype, rank = e.dtype_of(query), e.rank_of(query)
    factor = 1 / math.sqrt(e.size_of(query, -1)) if scale is None else float(scale)
    swapped = e.node("Transpose", key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = e.node("MatMul", e.node("Mul", query, e.cast(factor, dtype)), swapped)
    if is_causal:
        rows, columns = e.size_of(query, -2), e.size_of(key, -2)
        e.fill([rows, columns])
        allowed = np.tril(np.ones((rows, columns), np.bool_))
        scores = e.node("Add", scores, e.cast(np.where(allowed, 0.0, -np.inf), dtype))
    if attn_mask is not None:
        if e.dtype_of(attn_mask).kind == "b":
            attn_mask = e.node("Where", attn_mask, e.cast(0.0, dtype), e.cast(-np.inf, dtype))
        scores = e.node("Add", scores, e.cast(attn_mask, dtype))
    weights = e.node("Softmax", scores, axis=-1)
    if attn_mask is not None:
        weights = e.node("Where", e.node("IsNaN", weights), e.cast(0.0, dtype), weights)
    return e.node("MatMul", weights, value)
