"""Which argument is which: TorchScript's code names few of them, the definitions of the operators all.

Where the order of an operator's arguments is that of its definition nothing is said here. The others have the forms
below, told apart by what is given; the names are those of the definition.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..programs import definition
from .values import Cell

__all__ = ["bound"]

_FORMS: dict[str, tuple[str, ...]] = {
    "_convolution": (
        "input weight bias stride padding dilation transposed output_padding groups benchmark deterministic"  # noqa: ISC004
        " cudnn_enabled allow_tf32",
    ),
    "_log_softmax": ("self dim half_to_float",),
    "_reshape_alias": ("self size stride",),
    "_softmax": ("self dim half_to_float",),
    "addmv": ("self mat vec",),
    "arange": ("end", "start end", "start end step"),
    "baddbmm": ("self batch1 batch2",),
    "cudnn_batch_norm": ("input weight bias running_mean running_var training momentum eps",),
    "dot": ("self tensor",),
    "dropout_": ("input p train",),
    "matmul": ("self other",),
    "max": ("self", "self other:tensor -> other", "self dim keepdim -> dim"),
    "min": ("self", "self other:tensor -> other", "self dim keepdim -> dim"),
    "mv": ("self vec",),
    "native_batch_norm": ("input weight bias running_mean running_var training momentum eps",),
    "new_full": ("self size fill_value",),
    "new_ones": ("self size",),
    "new_zeros": ("self size",),
    "norm": ("self p dim keepdim",),
    "repeat_interleave": ("self repeats:int dim output_size -> self_int",),
    "reshape": ("self shape",),
    "size": ("self", "self dim -> int"),
    "std": ("self unbiased:bool", "self dim unbiased keepdim"),
    "std_mean": ("self unbiased:bool", "self dim unbiased keepdim"),
    "swapaxes": ("self dim0 dim1",),
    "tile": ("self dims",),
    "to": (
        "self dtype:int non_blocking copy memory_format",
        "self other:tensor non_blocking copy memory_format",
        "self device dtype:int non_blocking copy memory_format",
        "self device:none non_blocking:none copy memory_format",
        "self device non_blocking:bool copy memory_format",
        "self device",
    ),
    "type_as": ("self other",),
    "upsample_bicubic2d": (
        "input output_size align_corners scale_factors",
        "self output_size align_corners scales_h scales_w",
    ),
    "upsample_bilinear2d": (
        "input output_size align_corners scale_factors",
        "self output_size align_corners scales_h scales_w",
    ),
    "upsample_linear1d": (
        "input output_size align_corners scale_factors:list",
        "self output_size align_corners scales",
    ),
    "upsample_nearest1d": ("input output_size scale_factors:list", "self output_size scales"),
    "upsample_nearest2d": ("input output_size scale_factors", "self output_size scales_h scales_w"),
    "upsample_nearest3d": ("input output_size scale_factors", "self output_size scales_d scales_h scales_w"),
    "upsample_trilinear3d": (
        "input output_size align_corners scale_factors",
        "self output_size align_corners scales_d scales_h scales_w",
    ),
    "var": ("self unbiased:bool", "self dim unbiased keepdim"),
    "var_mean": ("self unbiased:bool", "self dim unbiased keepdim"),
    "view": ("self dtype:int", "self size"),
    **dict.fromkeys(
        ("lstm", "gru", "rnn_tanh", "rnn_relu"),
        ("input hx params has_biases num_layers dropout train bidirectional batch_first -> input",),
    ),
}

_KINDS: dict[str, Callable[[Any], bool]] = {
    "tensor": lambda v: isinstance(v, Cell),
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "bool": lambda v: isinstance(v, bool),
    "list": lambda v: isinstance(v, list),
    "none": lambda v: v is None,
}


def bound(op: str, given: Sequence[Any], named: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The overload and the arguments by name; None where no form takes them.

    Operators of nothing that is known here are taken as they come.
    """
    for form in _FORMS.get(op, ()):
        text, _, overload = form.partition(" -> ")
        parts = [p.partition(":") for p in text.split(" ")]
        if len(given) > len(parts):
            continue
        pairs = list(zip(parts, given))
        if all(not kind or _KINDS[kind](value) for (_, _, kind), value in pairs):
            return overload or "default", {**{name: value for (name, _, _), value in pairs}, **named}
    if op in _FORMS:
        return None
    define = definition(op, "default")
    names = [] if define is None else list(inspect.signature(define).parameters)[1:]
    if define is not None and len(given) > len(names):
        return None
    return "default", {**dict(zip(names, given)), **named}
