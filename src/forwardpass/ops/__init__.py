"""The operators: importing this package registers those that most models use, `load_all` the others."""

from __future__ import annotations

from . import binary, conv, data, layout, linear, nhwc, normalization, pool, reduce, reshape, unary
from .activations import ACTIVATIONS, Activation, activate, activation_of
from .catalog import load_all
from .evaluate import evaluate, evaluate_node, infer_node, infer_types
from .registry import (
    REQUIRED,
    Attributes,
    Case,
    Constants,
    Lowering,
    Operator,
    Tensor,
    Types,
    find,
    operator,
    registry,
)

FAMILIES = (binary, conv, data, layout, linear, nhwc, normalization, pool, reduce, reshape, unary)
"""The modules that register operators."""

__all__ = [
    "ACTIVATIONS",
    "FAMILIES",
    "REQUIRED",
    "Activation",
    "Attributes",
    "Case",
    "Constants",
    "Lowering",
    "Operator",
    "Tensor",
    "Types",
    "activate",
    "activation_of",
    "evaluate",
    "evaluate_node",
    "find",
    "infer_node",
    "infer_types",
    "load_all",
    "operator",
    "registry",
]
