"""Keras files written by hand, with h5py and json: models, and what damages them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from forwardpass.formats import load_graph
from forwardpass.graph import Graph
from forwardpass.ops import evaluate

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Sequence[Array]]


def entry(
    kind: str, name: str, calls: list[Any] | None = None, module: str = "keras.layers", **config: Any
) -> dict[str, Any]:
    """A layer as Keras 3 writes it."""
    return {
        "module": module,
        "class_name": kind,
        "config": {"name": name, **config},
        "registered_name": None,
        "name": name,
        "inbound_nodes": calls or [],
    }


def given(name: str, *shape: int | None, dtype: str = "float32") -> dict[str, Any]:
    return entry("InputLayer", name, batch_shape=[None, *shape], dtype=dtype, sparse=False, ragged=False)


def tensor(layer: str, node: int = 0, output: int = 0) -> dict[str, Any]:
    config = {"shape": [None], "dtype": "float32", "keras_history": [layer, node, output]}
    return {"class_name": "__keras_tensor__", "config": config}


def call(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"args": list(args), "kwargs": kwargs}


def sequential(*layers: dict[str, Any], name: str = "sequential") -> dict[str, Any]:
    return entry("Sequential", name, module="keras", layers=list(layers))


def functional(
    layers: Sequence[dict[str, Any]],
    inputs: Any,
    outputs: Any,
    name: str = "functional",
    calls: list[Any] | None = None,
) -> dict[str, Any]:
    return entry(
        "Functional",
        name,
        calls,
        "keras.src.models.functional",
        layers=list(layers),
        input_layers=inputs,
        output_layers=outputs,
    )


def weights_by_place(group: h5py.Group, weights: Arrays) -> None:
    """`.weights.h5` of Keras 3: place -> arrays."""
    group.create_group("vars")
    group.create_group("layers")
    for place, arrays in weights.items():
        home = group.create_group(f"layers/{place}/vars")
        for k, array in enumerate(arrays):
            home[str(k)] = array


def keras_bytes(model: Any, weights: Arrays, version: str = "3.10.0") -> bytes:
    """A `.keras` file."""
    data, file = io.BytesIO(), io.BytesIO()
    with h5py.File(data, "w") as store:
        weights_by_place(store, weights)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version, "date_saved": "2025-01-01@00:00:00"}))
        archive.writestr("config.json", model if isinstance(model, str) else json.dumps(model))
        archive.writestr("model.weights.h5", data.getvalue())
    return file.getvalue()


def weights_by_order(group: h5py.Group, weights: Mapping[str, Mapping[str, Any]]) -> None:
    """The weights of an `.h5` file: layer -> name -> array."""
    group.attrs["layer_names"] = [name.encode() for name in weights]
    group.attrs["backend"] = b"tensorflow"
    for layer, arrays in weights.items():
        home = group.create_group(layer)
        home.attrs["weight_names"] = [name.encode() for name in arrays]
        for name, array in arrays.items():
            home[name] = array


def h5_file(path: Path, model: Any, weights: Mapping[str, Mapping[str, Any]], version: str = "2.15.0") -> Path:
    """A whole model as `.h5`."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = model if isinstance(model, str) else json.dumps(model)
        weights_by_order(file.create_group("model_weights"), weights)
    return path


def old_call(*layers: str, **kwargs: Any) -> list[Any]:
    """A call as Keras 2 writes it."""
    return [[name, 0, 0, kwargs if k == 0 else {}] for k, name in enumerate(layers)]


def draw(*shape: int) -> Array:
    return np.random.default_rng([3, *shape]).standard_normal(shape).astype(np.float32)


def written(tmp_path: Path, model: Any, weights: Any, name: str = "model.keras") -> Graph:
    path = tmp_path / name
    path.write_bytes(keras_bytes(model, weights))
    return load_graph(path)


def run(graph: Graph, *arrays: Array) -> list[Array]:
    """Results in float64, as the weights and inputs are float32 numbers."""
    return list(evaluate(graph, dict(zip(graph.inputs, arrays)), dtype=np.float64).values())


def close(got: Array, want: Any) -> None:
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
