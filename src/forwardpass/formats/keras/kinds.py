"""What the importer knows of a class of layers: its weights, what it does with a mask, and how it becomes nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ...records import record
from .config import Layer

if TYPE_CHECKING:
    from .call import Call

__all__ = ["KINDS", "Flow", "Kind", "Result", "layer", "only"]


@record(frozen=True, slots=True)
class Flow:
    """A tensor on its way: the value's name, and that of its mask [N, time] of bools."""

    value: str
    mask: str | None = None


Result: TypeAlias = "str | Flow | Sequence[str | Flow]"
Emit: TypeAlias = "Callable[[Call], Result]"
Names: TypeAlias = "Callable[[Layer], Sequence[str]]"
Children: TypeAlias = "Callable[[Layer], Mapping[str, Layer]]"


def _none(_: Layer) -> Sequence[str]:
    return ()


def _no_children(_: Layer) -> Mapping[str, Layer]:
    return {}


@record(frozen=True, slots=True)
class Kind:
    """A class of layers.

    Attributes
    ----------
    emit
        Appends the nodes of a call and returns the results.
    weights
        Names of the layer's weights in the order of Keras; `cell/kernel` belongs to the part `cell`.
    children
        Place -> layer, for layers that hold others.
    masking
        "pass": results have the mask of the input; "drop": they have none; "own": `emit` says it.
    integers
        Whether integer inputs stay as they are; else they become float32.
    """

    emit: Emit
    weights: Names = _none
    children: Children = _no_children
    masking: str = "drop"
    integers: bool = False


KINDS: dict[str, Kind] = {}
"""Class -> what is known of it; filled by the modules layers_*.py."""


def layer(
    *names: str,
    weights: Names = _none,
    children: Children = _no_children,
    masking: str = "drop",
    integers: bool = False,
) -> Callable[[Emit], Emit]:
    """Register a function for classes of layers."""

    def register(emit: Emit) -> Emit:
        for name in names:
            assert name not in KINDS, name
            KINDS[name] = Kind(emit, weights, children, masking, integers)
        return emit

    return register


def only(*names: str, **optional: str) -> Names:
    """Weights with these names, then those whose argument is true: `only("kernel", bias="use_bias")`."""

    def names_of(found: Layer) -> Sequence[str]:
        return [*names, *(name for name, key in optional.items() if found.flag(key, True))]

    return names_of
