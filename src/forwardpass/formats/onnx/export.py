"""Graphs to ONNX models. Needs the package onnx.

A body, which takes all that it reads as inputs, becomes a graph that reads values of the graphs around it by their
names, as ONNX writes bodies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ... import __version__
from ...errors import GraphError, UnsupportedError
from ...graph import Array, Graph
from ...ops.evaluate import infer_types
from ..replace import replaced
from .export_graph import Writer
from .export_standard import standard
from .export_tensors import External, stored_bytes
from .export_versions import Types, versions_of
from .proto import MAX_BYTES, package
from .ranks import KEY

if TYPE_CHECKING:
    import onnx

__all__ = ["to_model", "write"]

_ROOM = 64 << 20
"""Bytes that a message may need beside its tensors."""


def to_model(graph: Graph) -> onnx.ModelProto:
    """The graph as a message, in the oldest opset from 17 on that has all its nodes.

    Values, nodes and inputs keep their names; the metadata become metadata_props. Numbers among the attributes are
    rounded to float32, which is what ONNX has for them.

    Raises
    ------
    GraphError
        The graph is not valid.
    UnsupportedError
        It has an attribute or a dtype that ONNX lacks, or is too large for a message; or the package onnx is not
        installed.
    """
    size = sum(map(stored_bytes, _arrays(graph)))
    if size > MAX_BYTES - _ROOM:
        raise UnsupportedError(
            "the model is too large for a protobuf message",
            where=graph.name or "graph",
            expected=f"at most {MAX_BYTES - _ROOM} bytes of tensors",
            got=str(size),
            hint="written to a file, it keeps its weights in external data",
        )
    return _model(graph, None)


def write(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a model. An existing file is replaced in one step or not at all.

    Tensors beyond what a message can hold (2 GiB) go into a file beside it, the same name with `.data` after it.

    Raises
    ------
    GraphError, UnsupportedError
        As `to_model`.
    FileError
        The operating system refuses.
    """
    text = os.fsdecode(path)
    large = sum(map(stored_bytes, _arrays(graph))) > MAX_BYTES - _ROOM
    external = External(f"{os.path.basename(text)}.data") if large else None
    data = _model(graph, external).SerializeToString()
    if external is not None:
        with replaced(f"{text}.data") as file:
            for part in external.parts():
                file.write(part)
    with replaced(path) as file:
        file.write(data)


def _arrays(graph: Graph) -> Iterator[Array]:
    """The constants of a graph and of all bodies in it."""
    yield from graph.constants.values()
    for node in graph.nodes:
        for value in node.attributes.values():
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, Graph):
                    yield from _arrays(item)


def _model(graph: Graph, external: External | None) -> onnx.ModelProto:
    library = package("writing ONNX models")
    graph.verify()
    graph = standard(graph)
    infer_types(graph)  # raises what is wrong with it
    types = Types(graph)
    model: onnx.ModelProto = library.ModelProto()
    model.producer_name, model.producer_version = "forwardpass", __version__
    try:
        for domain, version in sorted(versions_of(types).items()):
            model.opset_import.add(domain=domain, version=version)
        model.ir_version = library.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
        _put_metadata(model, graph.metadata)
        Writer(types, external).graph(model.graph, graph)
    except UnicodeEncodeError as error:
        raise GraphError("a name is not valid Unicode", where=graph.name or "graph", got=repr(error.object)) from None
    return model


def _put_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """The fields of a message where they say the same, and metadata_props for all others."""
    rest = dict(metadata)
    rest.pop(KEY, "")
    model.doc_string = rest.pop("description", "")
    model.graph.doc_string = rest.pop("graph_description", "")
    model.domain = rest.pop("domain", "")
    version = rest.get("version", "")
    if version.isascii() and version.isdigit() and len(version) < 19 and str(int(version)) == version != "0":
        model.model_version = int(rest.pop("version"))
    for key, value in sorted(rest.items()):
        model.metadata_props.add(key=key, value=value)
