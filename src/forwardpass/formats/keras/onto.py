"""Weights of a file for a network of the builder, whose layers have the names and layouts of Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...builder.layer import Layer
from ...errors import FileError, InputError
from ...graph import Array
from .hdf5 import MAX_NAMES, Group
from .weights import is_by_order, saved_layers, values

__all__ = ["onto"]

_RECURRENT = ("gru", "lstm", "simple_rnn")
_LISTS = ("layers", "_layer_checkpoint_dependencies")


def onto(root: Group, layers: Mapping[str, Layer], where: str) -> dict[str, Array]:
    """`layer/weight` -> array.

    Raises
    ------
    InputError
        The file has more or fewer layers with weights, or a layer with more or fewer.
    FileError
        It is damaged, or no file of weights.
    """
    own = {name: list(layer.weights) for name, layer in layers.items() if layer.weights}
    if is_by_order(root):
        return _ordered({k: [a for _, a in v] for k, v in saved_layers(root).items() if v}, own, root, where)
    listed = next((g for name in _LISTS if (g := root.group(name)) is not None), None)
    if listed is None:
        raise FileError("not weights of Keras", where=root.where, expected="layer_names, or a group layers")
    return _placed(listed, layers, own, where)


def _ordered(
    saved: Mapping[str, Sequence[Array]], own: Mapping[str, list[str]], root: Group, where: str
) -> dict[str, Array]:
    places = list(own) if own.keys() <= saved.keys() else list(saved)
    if len(saved) != len(own):
        message = "the file has another number of layers with weights"
        raise InputError(message, where=f"{where}: {root.where}", expected=_names(own), got=_names(saved))
    found: dict[str, Array] = {}
    for (name, weights), place in zip(own.items(), places):
        if len(saved[place]) != len(weights):
            expected, got = f"{len(weights)} ({', '.join(weights)})", str(len(saved[place]))
            message = f"layer {name!r} and layer {place!r} of the file have different numbers of weights"
            raise InputError(message, where=f"{where}: {root.where}", expected=expected, got=got)
        found.update((f"{name}/{w}", array) for w, array in zip(weights, saved[place]))
    return found


def _names(layers: Mapping[str, object]) -> str:
    shown = list(layers)[:20]
    return f"{len(layers)} ({', '.join(shown)}{', ...' if len(layers) > len(shown) else ''})"


def _placed(listed: Group, layers: Mapping[str, Layer], own: Mapping[str, list[str]], where: str) -> dict[str, Array]:
    named = _places_by_name(listed)
    counts: dict[str, int] = {}
    found: dict[str, Array] = {}
    for name, layer in layers.items():
        k = counts[layer.kind] = counts.get(layer.kind, -1) + 1
        place = f"{layer.kind}_{k}" if k else layer.kind
        if own.keys() <= named.keys():
            place = named.get(name, place)
        numbers: dict[str, int] = {}
        for weight in own.get(name, ()):
            inside = _inside(layer, weight)
            number = numbers[inside] = numbers.get(inside, -1) + 1
            path = f"{place}{inside}/vars/{number}"
            array = listed.array(path)
            if array is None:
                got = f"nothing at {path}"
                raise InputError(f"the file has no weight {name}/{weight}", where=f"{where}: {listed.where}", got=got)
            found[f"{name}/{weight}"] = values(array, f"{listed.where}/{path}")
        _check_count(listed, place, numbers, name, where)
    stored = {k for k in listed.names()[:MAX_NAMES] if _has_weights(listed.group(k))}
    if len(stored) != len(own):
        message = "the file has another number of layers with weights"
        raise InputError(
            message, where=f"{where}: {listed.where}", expected=_names(own), got=_names(dict.fromkeys(stored))
        )
    return found


def _inside(layer: Layer, weight: str) -> str:
    """Where in a layer's group a weight lies."""
    if layer.kind == "bidirectional":
        return f"/{weight.partition('_')[0]}_layer/cell"
    return "/cell" if layer.kind in _RECURRENT else ""


def _check_count(listed: Group, place: str, numbers: Mapping[str, int], name: str, where: str) -> None:
    for inside, last in numbers.items():
        if listed.array(f"{place}{inside}/vars/{last + 1}") is not None:
            message = f"the file has more weights than layer {name!r}"
            raise InputError(message, where=f"{where}: {listed.where}", expected=str(last + 1))


def _places_by_name(listed: Group) -> dict[str, str]:
    """Name of a layer -> its place; newer files say it."""
    found: dict[str, str] = {}
    for place in listed.names():
        group = listed.group(f"{place}/vars")
        name = group.text("name") if group is not None else None
        if name is not None:
            found[name] = place
    return found


def _has_weights(group: Group | None) -> bool:
    if group is None:
        return False
    own = group.group("vars")
    inner = (group.group(k) for k in ("cell", "forward_layer"))
    return (own is not None and bool(own.names())) or any(_has_weights(g) for g in inner if g is not None)
