"""ONNX models to graphs. Needs the package onnx; nothing else here does.

A model is parsed to plain records (`parse`, `tensors`), which are put together as one graph in the newest opset
(`build`, `context`, `check`, `upgrade`): functions in the place of their calls, bodies closed over what they read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...errors import Error, FileError, GraphError, InputError, UnsupportedError
from ...graph import Graph
from .build import Builder
from .check import report
from .external import Folder
from .functions import check_calls, parse_functions
from .opsets import MAX_IR, versions_of
from .parse import parse_graph
from .proto import parse, read_file
from .tensors import Tensors
from .text import text_of, texts_of

if TYPE_CHECKING:
    import onnx

__all__ = ["graph_of", "import_model", "read"]


def read(path: str | os.PathLike[str], *, verify: bool = True) -> Graph:
    """Read a model file.

    Parameters
    ----------
    path
        The file. External data is read from its folder alone, and mapped: it must not be changed in place while
        the graph is in use.
    verify
        Of no effect: the format has no checksums.

    Raises
    ------
    FileError
        The file cannot be read, is damaged or unsafe.
    GraphError
        Its graph is not valid.
    UnsupportedError
        It uses what does not exist here: operators, versions, types; or the package onnx is not installed.
    """
    text = os.fsdecode(path)
    return import_model(parse(read_file(text), text), folder=os.path.dirname(text) or ".", where=text)


def graph_of(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> Graph:
    """The graph of a model: a path, the bytes of a file, or a message.

    Raises
    ------
    InputError
        It is none of these.
    FileError, GraphError, UnsupportedError
        As `read`.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return import_model(parse(bytes(source), "model"))
    if isinstance(source, (str, os.PathLike)):
        return read(source)
    if type(source).__name__ != "ModelProto":
        expected = "a path, bytes or a ModelProto"
        raise InputError("not an ONNX model", where="model", expected=expected, got=type(source).__name__)
    return import_model(source)


def import_model(model: onnx.ModelProto, *, folder: str | None = None, where: str = "model") -> Graph:
    """The graph of a message.

    Parameters
    ----------
    folder
        Where external data lies; None for a model that has none.
    where
        What messages call the model.

    Raises
    ------
    FileError, GraphError, UnsupportedError
        As `read`.
    """
    try:
        return _imported(model, folder)
    except Error as error:
        place = f"{where}: {error.where}" if error.where else where
        raise type(error)(
            error.message, where=place, expected=error.expected, got=error.got, hint=error.hint
        ) from error
    except UnicodeDecodeError as error:  # some implementations of protobuf raise it when a name is looked at
        raise FileError("a name is not UTF-8", where=where, got=str(error)) from None
    except RecursionError:
        raise GraphError("graphs are nested too deeply", where=where) from None


def _imported(model: onnx.ModelProto, folder: str | None) -> Graph:
    _check_head(model)
    versions = versions_of(model.opset_import, "opset_import") if model.opset_import else {"": 1}
    tensors = Tensors(Folder(folder))
    functions = parse_functions(model.functions, tensors, "functions")
    source = parse_graph(model.graph, tensors, "graph", body=False)
    check_calls(functions, source.operations, "functions")
    builder = Builder(functions)
    graph = builder.model(source, versions, _metadata(model))
    report(builder.unsupported, "")
    graph.verify()
    return graph


def _check_head(model: onnx.ModelProto) -> None:
    if not model.ir_version or not model.HasField("graph"):
        raise FileError("not an ONNX model", expected="an IR version and a graph")
    if model.ir_version < 1:
        raise FileError("the IR version is wrong", expected="1 or more", got=str(model.ir_version))
    if model.ir_version > MAX_IR:
        expected, got = f"at most {MAX_IR}", str(model.ir_version)
        raise UnsupportedError("a newer IR version", expected=expected, got=got, hint="upgrade forwardpass")


def _metadata(model: onnx.ModelProto) -> Mapping[str, str]:
    found = {
        "producer": " ".join(texts_of((model.producer_name, model.producer_version))).strip(),
        "domain": text_of(model.domain),
        "version": str(model.model_version or ""),
        "description": text_of(model.doc_string),
        "graph_description": text_of(model.graph.doc_string),
    }
    found.update((text_of(p.key), text_of(p.value)) for p in model.metadata_props)
    return {k: v for k, v in found.items() if v}
