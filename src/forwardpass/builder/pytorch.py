"""Weights of PyTorch on layers of the builder: found by order or name, brought into the layouts of Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..graph import Array
from .core import Flatten
from .layer import Layer, Tensor
from .recurrent import Bidirectional

__all__ = ["from_pytorch", "is_pytorch"]

_LEAVES = frozenset({"weight", "bias", "running_mean", "running_var", "num_batches_tracked"})
_RECURRENT = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
# Keras' name of a weight -> PyTorch's, for layers whose arrays stay as they are.
_PLAIN = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "embeddings": "weight",
    "bias": "bias",
}
# The gates of a GRU are r z n in PyTorch, and z r h in Keras; those of an LSTM are i f c o in both.
_GATES = {"gru": (1, 0, 2), "lstm": (0, 1, 2, 3), "rnn": (0,)}

Groups = dict[str, dict[str, Array]]


def is_pytorch(names: Sequence[str]) -> bool:
    """Whether these are names of a `state_dict`."""
    return bool(names) and all(_split(n)[1] in _LEAVES or _split(n)[1].startswith(_RECURRENT) for n in names)


def _split(name: str) -> tuple[str, str]:
    """The module and its parameter."""
    module, _, leaf = name.rpartition(".")
    return module, leaf


def from_pytorch(
    layers: Mapping[str, Layer],
    order: Sequence[Tensor],
    source: Mapping[str, Any],
    names: Mapping[str, str] | None,
    where: str,
) -> dict[str, Array]:
    """The weights of all layers by the names that they have here.

    Parameters
    ----------
    layers
        Name -> layer.
    order
        The results of the layers, in the order in which they run.
    source
        PyTorch's name -> array.
    names
        Name of a layer -> name of a module; or None to take modules of the same names, else all in order.
    where
        How messages name the network.

    Raises
    ------
    InputError
        Layers and modules that do not belong together.
    """
    groups = _groups(source)
    weighted = {name: layer for name, layer in layers.items() if layer.weights}
    pairs = _named(weighted, groups, names, where) if names is not None else _paired(weighted, groups, where)
    flattened = _flattened(order)
    made: dict[str, Array] = {}
    for name, module in pairs.items():
        layer = weighted[name]
        given = _layer(layer, groups[module], flattened.get(id(layer)), f"{where}: layer {name!r} from {module!r}")
        made.update((f"{name}/{weight}", array) for weight, array in given.items())
    return made


def _groups(source: Mapping[str, Any]) -> Groups:
    """Module -> its parameters, in order. Layers of a stack are modules of their own."""
    groups: Groups = {}
    for name, value in source.items():
        module, leaf = _split(name)
        if leaf == "num_batches_tracked":
            continue
        stem, layer, rest = leaf.partition("_l")
        if stem in _RECURRENT and layer:
            number, _, reverse = rest.partition("_")
            module = module if number == "0" else f"{module}.l{number}"
            leaf = f"{stem}_{reverse}" if reverse else stem
        groups.setdefault(module, {})[leaf] = np.asarray(value)
    return groups


def _named(layers: Mapping[str, Layer], groups: Groups, names: Mapping[str, str], where: str) -> dict[str, str]:
    wrong = [k for k in names if k not in layers] + [v for v in names.values() if v not in groups]
    missing = [k for k in layers if k not in names]
    if wrong or missing:
        raise InputError(
            "the names do not fit the network and the file",
            where=where,
            expected=f"layers {', '.join(layers)}; modules {', '.join(groups)}"[:2000],
            got=", ".join([f"unknown {w!r}" for w in wrong] + [f"missing {m!r}" for m in missing])[:2000],
        )
    return dict(names)


def _paired(layers: Mapping[str, Layer], groups: Groups, where: str) -> dict[str, str]:
    """By name where all are the same, else one after the other."""
    if layers.keys() <= groups.keys():
        return {name: name for name in layers}
    if len(layers) != len(groups):
        raise InputError(
            "the file has another number of modules with weights than the network has layers",
            where=where,
            expected=f"{len(layers)}: {', '.join(layers)}"[:1000],
            got=f"{len(groups)}: {', '.join(groups)}"[:1000],
            hint="set_weights(source, names={layer: module}) says which belong together",
        )
    return dict(zip(layers, groups))


def _flattened(order: Sequence[Tensor]) -> dict[int, tuple[int, ...]]:
    """id of a layer -> the shape that was flattened before it, with nothing but element-wise layers between."""
    found: dict[int, tuple[int, ...]] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    for t in order:
        if not t.inputs:
            continue
        before = t.inputs[0]
        if isinstance(t.layer, Flatten):
            sizes = before.sizes
            if len(sizes) > 1 and all(isinstance(d, int) for d in sizes):
                shapes[id(t)] = tuple(d for d in sizes if d is not None)
        elif id(before) in shapes:
            if not t.layer.weights and t.sizes == before.sizes and len(t.inputs) == 1:
                shapes[id(t)] = shapes[id(before)]
            else:
                found[id(t.layer)] = shapes[id(before)]
    return found


def _layer(layer: Layer, given: dict[str, Array], flat: tuple[int, ...] | None, where: str) -> dict[str, Array]:
    made: dict[str, Array] = {}
    if isinstance(layer, Bidirectional):
        for way, suffix in (("forward", ""), ("backward", "_reverse")):
            own = {k: given[f"{k}{suffix}"] for k in _RECURRENT if f"{k}{suffix}" in given}
            parts = _recurrent(layer.layer, own, where)
            made.update((f"{way}_{k}", v) for k, v in parts.items())
        return made
    if "recurrent_kernel" in (layer.weights or {}):
        return _recurrent(layer, given, where)
    used: set[str] = set()
    for weight, shape in (layer.weights or {}).items():
        source = _PLAIN.get(weight, "weight")
        if source not in given:
            raise InputError(f"the module has no {source!r}", where=where, got=", ".join(given))
        used.add(source)
        array = given[source]
        if weight in ("kernel", "depthwise_kernel"):
            array = _kernel(weight, array, shape, where)
        if flat is not None and array.shape[:1] == (int(np.prod(flat)),) and weight != "bias":
            array = _rows(array, flat)
        made[weight] = array
    if unused := given.keys() - used:
        raise InputError("parameters of the module that the layer lacks", where=where, got=", ".join(sorted(unused)))
    return made


def _kernel(weight: str, array: Array, shape: tuple[int, ...], where: str) -> Array:
    """A kernel whose spatial axes come first and whose outputs come last."""
    if array.ndim < 2 or array.ndim != len(shape):
        expected = f"{len(shape)} axes"
        raise InputError("the kernel does not fit", where=where, expected=expected, got=str(array.shape))
    if weight == "depthwise_kernel":
        channels, multiplier = shape[-2:]
        if array.shape[:2] != (channels * multiplier, 1):
            expected = f"({channels * multiplier}, 1, ...)"
            raise InputError("the kernel does not fit", where=where, expected=expected, got=str(array.shape))
        array = array.reshape(channels, multiplier, *array.shape[2:])
        return np.asarray(array.transpose(*range(2, array.ndim), 0, 1))
    return np.asarray(array.transpose(*range(2, array.ndim), 1, 0))


def _rows(kernel: Array, flat: tuple[int, ...]) -> Array:
    """PyTorch flattens images with the channels first, this builder with the channels last."""
    *spatial, channels = flat
    split = kernel.reshape(channels, *spatial, *kernel.shape[1:])
    rank = len(spatial)
    return np.asarray(split.transpose(*range(1, rank + 1), 0, *range(rank + 1, split.ndim)).reshape(kernel.shape))


def _recurrent(layer: Any, given: dict[str, Array], where: str) -> dict[str, Array]:
    needed = _RECURRENT if getattr(layer, "use_bias", True) else _RECURRENT[:2]
    if given.keys() != set(needed):
        raise InputError("not a recurrent module", where=where, expected=", ".join(needed), got=", ".join(given))
    gates = _GATES[layer.cell]

    def ordered(name: str) -> Array:
        array = given[name]
        if array.ndim == 0 or len(array) % len(gates):
            expected = f"{len(gates)} gates"
            raise InputError(f"{name!r} does not fit", where=where, expected=expected, got=str(array.shape))
        parts = np.split(array, len(gates))
        return np.concatenate([parts[k] for k in gates])

    made = {"kernel": ordered("weight_ih").T, "recurrent_kernel": ordered("weight_hh").T}
    if len(needed) == 4:
        first, second = ordered("bias_ih"), ordered("bias_hh")
        if layer.cell == "gru" and not layer.after:
            raise InputError("GRUs of PyTorch reset after the product", where=where, expected="reset_after=True")
        made["bias"] = np.stack([first, second]) if layer.after else first + second
    return made
