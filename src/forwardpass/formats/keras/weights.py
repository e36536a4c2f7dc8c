"""The weights of a tree of layers out of an HDF5 file: as Keras 3 stores them by place, or older ones by order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from ...errors import FileError
from ...graph import Array
from ..archive import excerpt
from .config import is_model
from .hdf5 import MAX_NAMES, Group
from .units import Unit

__all__ = ["by_order", "by_place", "is_by_order", "place_names", "saved_layers", "values"]

_FROZEN = frozenset({"moving_mean", "moving_variance", "mean", "variance", "count"})
"""Weights that no training changes: they come after the others."""
_DISTINCT = ({"gamma", "beta", "moving_mean", "moving_variance"}, {"kernel", "recurrent_kernel", "bias"})
"""Names of weights whose shapes may be equal, so that only the name shows that the order is another one."""
_LISTS = ("layers", "_layer_checkpoint_dependencies")
"""Where the layers of a model lie; the second in the first files of this format."""


def values(array: Array, where: str) -> Array:
    """A weight as float32."""
    if array.dtype.kind not in "fiub":
        raise FileError("not an array of numbers", where=where, got=str(array.dtype))
    with np.errstate(over="ignore"):
        found: Array = np.ascontiguousarray(array, np.float32).reshape(array.shape)
    return found


# ---- by order: Keras 1 and 2, and `.h5` of Keras 3


def is_by_order(root: Group) -> bool:
    return root.texts("layer_names") is not None


def saved_layers(root: Group) -> dict[str, list[tuple[str, Array]]]:
    """Layer -> its weights, name and array, in the order of the file; layers without weights too."""
    names = root.texts("layer_names")
    if names is None:
        raise FileError("not weights of Keras", where=root.where, expected="an attribute 'layer_names'")
    found: dict[str, list[tuple[str, Array]]] = {}
    for name in names:
        group = root.group(name)
        if group is None or name in found:
            raise FileError("the group of a layer is missing or there twice", where=root.where, got=excerpt(repr(name)))
        arrays = []
        for weight in group.texts("weight_names") or ():
            array = group.array(weight)
            if array is None:
                raise FileError("the weight is missing", where=f"{group.where}/{excerpt(weight)}")
            arrays.append((weight, values(array, f"{group.where}/{excerpt(weight)}")))
        found[name] = arrays
    return found


def _variables(unit: Unit, trained: bool) -> Iterator[tuple[Unit, str, bool]]:
    """All weights of a layer in order: the layer they belong to, name, and whether training changes them."""
    trained = trained and unit.layer.flag("trainable", True)
    for name in unit.own:
        yield unit, name, trained and name.rpartition("/")[2] not in _FROZEN
    for child in unit.children.values():
        yield from _variables(child, trained)


def by_order(model: Unit, root: Group) -> None:
    """Fill a model from a file that lists the weights of every layer: what is trained first, then the rest."""
    saved = saved_layers(root)
    for name, unit in model.children.items():
        expected = list(_variables(unit, model.layer.flag("trainable", True)))
        expected.sort(key=lambda v: not v[2])
        arrays = saved.pop(name, [])
        where = f"{unit.layer.where}, {root.where}"
        if len(arrays) != len(expected):
            wanted = ", ".join(w for _, w, _ in expected[:12])
            message = "wrong number of weights"
            raise FileError(message, where=where, expected=f"{len(expected)} ({wanted})", got=str(len(arrays)))
        for (owner, weight, _), (label, array) in zip(expected, arrays):
            _check_label(weight, label, where)
            owner.weights[weight] = array
    extra = [name for name, arrays in saved.items() if arrays]
    if extra:
        got = excerpt(", ".join(map(repr, extra)))
        raise FileError("weights of layers that the model does not have", where=root.where, got=got)


def _check_label(weight: str, label: str, where: str) -> None:
    expected, got = weight.rpartition("/")[2], re.sub(r":\d+$", "", label).rpartition("/")[2]
    if any(expected in names and got in names for names in _DISTINCT) and expected != got:
        raise FileError("the weights are in another order", where=where, expected=expected, got=excerpt(repr(label)))


# ---- by place: `.keras` and `.weights.h5`


def snake_case(name: str) -> str:
    """A class as Keras names a place: Conv2DTranspose is conv2d_transpose."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def place_names(classes: Sequence[str]) -> list[str]:
    """The places of layers of these classes in a list: dense, dense_1, ..."""
    counts: dict[str, int] = {}
    found = []
    for name in map(snake_case, classes):
        k = counts[name] = counts.get(name, -1) + 1
        found.append(f"{name}_{k}" if k else name)
    return found


def by_place(model: Unit, root: Group) -> None:
    """Fill a model from a file in which every layer has a group."""
    used: set[str] = set()
    _fill(model, root, used)
    for name in _LISTS:
        group = root.group(name)
        if group is not None:
            _check_rest(group, used)


def _fill(unit: Unit, group: Group | None, used: set[str]) -> None:
    counts: dict[str, int] = {}
    for weight in unit.own:
        part = weight.rpartition("/")[0]
        k = counts[part] = counts.get(part, -1) + 1
        home = _part(group, part) if part else group
        place = home.group("vars") if home is not None else None
        array = place.array(str(k)) if place is not None else None
        if array is None or place is None:
            where = group.where if group is not None else "weights"
            raise FileError(f"weight {weight!r} is missing", where=f"{unit.layer.where}, {where}")
        used.add(f"{place.where}/{k}")
        unit.weights[weight] = values(array, f"{unit.layer.where}, {place.where}/{k}")
    if is_model(unit.layer):
        listed = next((g for name in _LISTS if group is not None and (g := group.group(name)) is not None), None)
        layers = [c for c in unit.children.values() if not c.layer.kind.startswith("ops.")]
        if unit.layer.kind == "Sequential" and layers and layers[0].layer.kind == "InputLayer":
            layers = layers[1:]
        for child, place_name in zip(layers, place_names([c.layer.real for c in layers])):
            _fill(child, listed.group(place_name) if listed is not None else None, used)
    else:
        for part, child in unit.children.items():
            _fill(child, _part(group, part), used)


def _part(group: Group | None, name: str) -> Group | None:
    """A part of a layer; some are private in some versions."""
    if group is None:
        return None
    return group.group(name) or group.group(f"_{name}")


def _check_rest(group: Group, used: set[str]) -> None:
    """Every stored weight must have been asked for, but for the state of generators of random numbers."""
    stack, seen = [group], 0
    while stack:
        here = stack.pop()
        for name in here.names():
            seen += 1
            if seen > MAX_NAMES:
                raise FileError("too many entries", where=group.where, expected=f"at most {MAX_NAMES}")
            if name == "seed_generator":
                continue
            inner = here.group(name)
            if inner is not None:
                stack.append(inner)
            elif name.isdigit() and f"{here.where}/{name}" not in used:
                raise FileError("a weight that the model does not have", where=f"{here.where}/{excerpt(name)}")
