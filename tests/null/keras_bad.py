"""What damages Keras files: each a name, a change of the HDF5 part or a configuration, and what the message says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
from keras_files import call, entry, functional, given, sequential, tensor
from keras_mutants import MODEL

from forwardpass.errors import Error, FileError, GraphError, UnsupportedError


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


KERNEL = "model_weights/dense/dense/kernel:0"


def _replaced(**arguments: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, **arguments)

    return change


def _linked(link: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file[KERNEL] = link

    return change


def _virtual(file: h5py.File) -> None:
    del file[KERNEL]
    layout = h5py.VirtualLayout((3, 2), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "data", (3, 2))
    file.create_virtual_dataset(KERNEL, layout)


def _group_link(file: h5py.File) -> None:
    del file["model_weights/dense"]
    file["model_weights/dense"] = h5py.ExternalLink("other.h5", "/dense")


def _attribute(name: str, value: Any, group: str = "/") -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[group].attrs[name] = value

    return change


def _without(what: str, group: str = "") -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if group:
            del file[group].attrs[what]
        else:
            del file[what]

    return change


def _more(file: h5py.File) -> None:
    group = file.create_group("model_weights/other")
    group.attrs["weight_names"] = [b"w"]
    group["w"] = zeros(2)
    file["model_weights"].attrs["layer_names"] = [b"x", b"dense", b"norm", b"other"]


def _order(file: h5py.File) -> None:
    names = list(file["model_weights/norm"].attrs["weight_names"])
    file["model_weights/norm"].attrs["weight_names"] = [names[1], names[0], *names[2:]]


HDF5: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "an external link": (_linked(h5py.ExternalLink("other.h5", "/data")), "a link that is not followed"),
    "a soft link": (_linked(h5py.SoftLink("/model_weights/norm")), "a link that is not followed"),
    "a group elsewhere": (_group_link, "a link that is not followed"),
    "a virtual dataset": (_virtual, "a virtual dataset"),
    "external storage": (_replaced(shape=(3, 2), dtype="f4", external=[("secret.bin", 0, 24)]), "external storage"),
    "no data": (_replaced(shape=(1 << 40, 2), dtype="f4"), "the data is missing"),
    "no chunks": (_replaced(shape=(1 << 20, 1 << 20), dtype="f4", chunks=(256, 256)), "the data is missing"),
    "text": (_replaced(data=b"text"), "not an array of numbers"),
    "records": (_replaced(data=np.zeros(2, [("a", "f4")])), "not an array of numbers"),
    "nothing": (_replaced(data=h5py.Empty("f4")), "not an array"),
    "complex": (_replaced(data=np.zeros((3, 2), "c8")), "not an array of numbers"),
    "another shape": (_replaced(data=zeros(2, 3)), "layer 'dense' (Dense), weight 'kernel': the shape is wrong"),
    "another rank": (_replaced(data=zeros(3)), "layer 'dense' (Dense), weight 'kernel': the shape is wrong"),
    "no weight": (_without(KERNEL), "the weight is missing"),
    "no layer": (_without("model_weights/dense"), "the group of a layer is missing"),
    "no weights": (_without("model_weights"), "the model has no weights"),
    "no model": (_without("model_config", "/"), "not a whole model"),
    "no names": (_without("layer_names", "model_weights"), "not weights of Keras"),
    "one weight too few": (
        _attribute("weight_names", [b"dense/bias:0"], "model_weights/dense"),
        "wrong number of weights",
    ),
    "a layer too much": (_more, "weights of layers that the model does not have"),
    "another order": (_order, "the weights are in another order"),
    "the same twice": (_attribute("layer_names", [b"dense", b"dense"], "model_weights"), "there twice"),
    "a name that is a number": (_attribute("layer_names", [1, 2], "model_weights"), "not text"),
    "a path out": (_attribute("weight_names", [b"../a", b"b"], "model_weights/dense"), "not a path inside the file"),
    "a configuration that is a number": (_attribute("model_config", 5), "not text"),
    "a configuration that is no JSON": (_attribute("model_config", "{"), "not JSON"),
    "a configuration that is a list": (_attribute("model_config", "[]"), "not a model"),
}


def _edited(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    model = copy.deepcopy(MODEL)
    change(model)
    return model


def _layer(model: dict[str, Any], k: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = model["config"]["layers"][k]
    return found


def _deep(depth: int, wrap: Callable[[Any], Any]) -> Any:
    inner = MODEL
    for _ in range(depth):
        inner = wrap(inner)
    return inner


LOOP = functional(
    [
        given("x", 3),
        entry("Add", "a", [call([tensor("x"), tensor("b")])]),
        entry("Add", "b", [call([tensor("a"), tensor("x")])]),
    ],
    [["x", 0, 0]],
    [["b", 0, 0]],
)
SINGLE = functional([given("x", 3), entry("ReLU", "r", [call(tensor("x"))])], [["x", 0, 0]], [["r", 0, 0]])


def _single(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    model = copy.deepcopy(SINGLE)
    change(model["config"])
    return model


CONFIGS: dict[str, tuple[Any, type[Error], str]] = {
    "units that are text": (
        _edited(lambda m: _layer(m)["config"].update(units="3")),
        FileError,
        "argument 'units' is wrong",
    ),
    "units below one": (
        _edited(lambda m: _layer(m)["config"].update(units=-1)),
        FileError,
        "argument 'units' is wrong",
    ),
    "other units": (
        _edited(lambda m: _layer(m)["config"].update(units=4)),
        FileError,
        "weight 'kernel': the shape is wrong",
    ),
    "units beyond": (
        _edited(lambda m: _layer(m)["config"].update(units=1 << 40)),
        FileError,
        "argument 'units' is wrong",
    ),
    "epsilon": (
        _edited(lambda m: _layer(m, 2)["config"].update(epsilon="a")),
        FileError,
        "argument 'epsilon' is wrong",
    ),
    "an axis beyond": (_edited(lambda m: _layer(m, 2)["config"].update(axis=7)), FileError, "argument 'axis' is wrong"),
    "no layers": (_edited(lambda m: m["config"].update(layers=[])), FileError, "a weight that the model does not have"),
    "layers that are none": (_edited(lambda m: m["config"].update(layers=5)), FileError, "argument 'layers' is wrong"),
    "a layer that is text": (_edited(lambda m: m["config"]["layers"].append("x")), FileError, "not a layer"),
    "one name twice": (
        _edited(lambda m: _layer(m, 2)["config"].update(name="dense")),
        FileError,
        "two layers have the name",
    ),
    "a name that is none": (_edited(lambda m: _layer(m)["config"].update(name=["a"])), FileError, "not a name"),
    "an input of text": (
        _edited(lambda m: _layer(m, 0)["config"].update(dtype="string")),
        UnsupportedError,
        "this dtype",
    ),
    "an input of none": (
        _edited(lambda m: _layer(m, 0)["config"].update(batch_shape=None)),
        UnsupportedError,
        "not known",
    ),
    "a size of text": (
        _edited(lambda m: _layer(m, 0)["config"].update(batch_shape=[None, "3"])),
        FileError,
        "the shape of",
    ),
    "a rank too low": (
        _edited(lambda m: _layer(m, 0)["config"].update(batch_shape=[None])),
        UnsupportedError,
        "the size of axis -1 must be known",
    ),
    "a class of the user": (
        {**MODEL, "class_name": "Mine", "module": "mine"},
        UnsupportedError,
        "a model of the class",
    ),
    "a cycle": (LOOP, FileError, "the layers form a cycle"),
    "models too deep": (_deep(40, lambda m: sequential(m, name="s")), FileError, "models are nested too deeply"),
    "models 100 deep": (_deep(100, lambda m: sequential(m, name="s")), FileError, "nested too deeply"),
    "wrappers too deep": (
        sequential(given("x", 3), _deep(40, lambda m: entry("TimeDistributed", "t", layer=m))),
        FileError,
        "models are nested too deeply",
    ),
    "no such layer": (
        _single(lambda c: c.update(output_layers=[["none", 0, 0]])),
        FileError,
        "no such layer: got 'none'",
    ),
    "no such call": (_single(lambda c: c.update(output_layers=[["r", 3, 0]])), FileError, "not called so often"),
    "no such output": (_single(lambda c: c.update(output_layers=[["r", 0, 1]])), FileError, "no such output"),
    "an output below": (_single(lambda c: c.update(output_layers=[["r", -1, 0]])), FileError, "not a tensor"),
    "outputs of none": (_single(lambda c: c.update(output_layers=None)), FileError, "not a tensor"),
    "inputs of layers": (_single(lambda c: c.update(input_layers=[["r", 0, 0]])), FileError, "not an input"),
    "a call of text": (_single(lambda c: c["layers"][1].update(inbound_nodes=["x"])), FileError, "the call is wrong"),
    "shapes that differ": (
        functional(
            [given("x", 3), given("y", 4), entry("Add", "a", [call([tensor("x"), tensor("y")])])],
            [["x", 0, 0], ["y", 0, 0]],
            [["a", 0, 0]],
        ),
        GraphError,
        "layer 'a' (Add)",
    ),
}
