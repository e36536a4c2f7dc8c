"""Keras models: `.keras` of Keras 3, and the `.h5` of Keras 2 and 3. Neither Keras nor TensorFlow is needed.

What the file says of the layers (`config`) becomes a tree (`units`) of classes that the importer knows (`kinds`,
`layers_*`, `operations`); `weights` fills it from the HDF5 part (`hdf5`), and `model` runs it layer by layer into a
graph. No code of a file is run: a class that is not known is refused.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from ...builder.layer import Layer as BuilderLayer
from ...errors import FileError, UnsupportedError
from ...graph import Array, Graph
from ..archive import Archive, excerpt
from ..files import first_bytes, naming
from .config import Layer, is_model, parse_json
from .hdf5 import opened
from .model import Importer
from .onto import onto
from .units import Unit, unit_of
from .weights import by_order, by_place, is_by_order

__all__ = ["read", "read_weights"]

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_LAYERS = ("attention", "conv", "core", "merge", "norm", "recurrent", "shape")


def read(path: str | os.PathLike[str], *, verify: bool = True) -> Graph:
    """Read a model with its weights.

    Parameters
    ----------
    path
        A `.keras` file, or an `.h5` file of a whole model.
    verify
        Of no effect: the checksums of `.keras` files are always checked, and HDF5 has none.

    Raises
    ------
    FileError
        The file cannot be read, is damaged or unsafe, or its weights do not fit its layers.
    GraphError
        Its layers do not fit each other.
    UnsupportedError
        It has layers or arguments that are not read, or the package h5py is not installed.
    """
    text = os.fsdecode(path)
    try:
        with naming(text):
            return _archive(text) if _is_archive(text) else _hdf5(text)
    except RecursionError:
        raise FileError("the model is nested too deeply", where=text) from None


def read_weights(path: str | os.PathLike[str], layers: dict[str, BuilderLayer], where: str) -> dict[str, Array]:
    """Read the weights of a file for the layers of a network of the builder.

    Layers are found by name where the file has all names, else by their order.

    Parameters
    ----------
    path
        A `.weights.h5`, `.h5` or `.keras` file.
    layers
        Name -> layer, in the order in which they run.
    where
        What messages call the network.

    Raises
    ------
    FileError
        The file cannot be read or is damaged.
    InputError
        Its weights do not fit the network.
    """
    text = os.fsdecode(path)
    if _is_archive(text):
        data: Any = bytes(_member(Archive(text), _WEIGHTS))
    else:
        data = text
    with opened(data, text) as root:
        return onto(root.group("model_weights") or root, layers, where)


def _is_archive(path: str) -> bool:
    return first_bytes(path, 2) == b"PK"


def _member(archive: Archive, name: str) -> memoryview:
    if name not in archive.members:
        sharded = any(m.startswith(("model.weights", "model_")) for m in archive.members)
        if name == _WEIGHTS and sharded:
            hint = "save it with one file of weights in HDF5"
            raise UnsupportedError("weights in several files are not read", where=archive.path, hint=hint)
        raise FileError("not a Keras model", where=archive.path, expected=f"an entry {name}")
    return archive.data(name)


def _archive(path: str) -> Graph:
    archive = Archive(path)
    config = parse_json(bytes(_member(archive, _CONFIG)), f"{path}: {_CONFIG}")
    metadata = parse_json(bytes(_member(archive, _METADATA)), f"{path}: {_METADATA}")
    model = _model(config, path)
    with opened(bytes(_member(archive, _WEIGHTS)), f"{path}: {_WEIGHTS}") as root:
        by_place(model, root)
    return _graph(model, metadata.get("keras_version"))


def _hdf5(path: str) -> Graph:
    with opened(path, path) as root:
        config = root.text("model_config")
        if config is None:
            hint = "these are weights alone: build the network with forwardpass.builder, then set_weights(path)"
            known = is_by_order(root) or root.group("layers") is not None
            raise FileError("not a whole model", where=path, expected="an attribute 'model_config'", hint=hint * known)
        model = _model(parse_json(config, f"{path}: model_config"), path)
        weights = root.group("model_weights")
        if weights is None:
            raise FileError("the model has no weights", where=path, expected="a group model_weights")
        by_order(model, weights)
        version = root.text("keras_version") or weights.text("keras_version")
    return _graph(model, version)


def _model(config: dict[str, Any], path: str) -> Unit:
    for name in _LAYERS:  # which fill the table of kinds
        import_module(f".layers_{name}", __name__)
    import_module(".operations", __name__)
    layer = Layer.of(config, path)
    if not is_model(layer):
        message = f"a model of the class {layer.kind!r}, whose code is not in the file"
        hint = "only Sequential and Functional models hold all that they compute"
        raise UnsupportedError(message, where=path, hint=hint)
    return unit_of(layer)


def _graph(model: Unit, version: Any) -> Graph:
    text = version if isinstance(version, str) else ""
    major = text.partition(".")[0]
    graph = Importer(model, int(major) if major.isdecimal() and len(major) < 4 else 2).graph()
    graph.metadata["producer"] = f"Keras {excerpt(text)}".strip()
    return graph
