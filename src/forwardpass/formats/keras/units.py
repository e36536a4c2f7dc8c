"""The layers of a model as a tree: each with its kind, its parts, and a place for its weights."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import FileError, UnsupportedError
from ...graph import Array
from ...records import field, record
from .config import Layer, is_model
from .kinds import KINDS, Kind

__all__ = ["MAX_DEPTH", "Unit", "unit_of"]

MAX_DEPTH = 32
"""Models and wrappers inside of each other."""
_SHOWN = 10


@record(slots=True, eq=False)
class Unit:
    """A layer.

    Attributes
    ----------
    kind
        None for a model.
    own
        The names of its weights in the order of Keras, without those of its parts.
    children
        The layers of a model by name, or the parts of a wrapper by place.
    weights
        Name -> float32 array.
    constants
        Stem -> the constants that its calls have in common.
    """

    layer: Layer
    kind: Kind | None
    own: list[str]
    children: dict[str, Unit]
    path: str
    weights: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, list[str]] = field(default_factory=dict)

    def all(self) -> Iterator[Unit]:
        """The unit and all inside of it, in order."""
        yield self
        for child in self.children.values():
            yield from child.all()


def unit_of(model: Layer) -> Unit:
    """The tree of a model.

    Raises
    ------
    UnsupportedError
        Naming all layers of classes that are not read.
    FileError
        Two layers have one name, or models are nested too deeply.
    """
    unknown: list[Layer] = []
    tree = _unit(model, "", 0, unknown)
    if unknown:
        names = [f"{u.name!r} ({u.kind})" for u in unknown[:_SHOWN]]
        rest = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        message = f"layers of classes that are not read: {', '.join(names)}{rest}"
        hint = "no code of a file is run; build these parts with forwardpass.builder"
        raise UnsupportedError(message, where=model.where, hint=hint)
    return tree


def _unit(found: Layer, prefix: str, depth: int, unknown: list[Layer]) -> Unit:
    if depth > MAX_DEPTH:
        raise FileError("models are nested too deeply", where=found.where[:400], expected=f"at most {MAX_DEPTH}")
    path = f"{prefix}{found.name}" if depth else ""
    children: dict[str, Unit] = {}
    inside = f"{path}/" if path else ""
    if is_model(found):
        for child in found.layers():
            if child.name in children:
                raise FileError(f"two layers have the name {child.name!r}", where=found.where)
            children[child.name] = _unit(child, inside, depth + 1, unknown)
        return Unit(found, None, [], children, path)
    if found.bare and f"ops.{found.real}" in KINDS and found.calls and isinstance(found.calls[0], dict):
        found.kind = f"ops.{found.real}"
    kind = KINDS.get(found.kind)
    if kind is None:
        unknown.append(found)
        return Unit(found, None, [], {}, path)
    for place, child in kind.children(found).items():
        children[place] = _unit(child, inside, depth + 1, unknown)
    return Unit(found, kind, list(kind.weights(found)), children, path)
