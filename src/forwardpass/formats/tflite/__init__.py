"""LiteRT (TensorFlow Lite) models, read with NumPy alone.

`flat` follows the offsets of the file, `schema` makes records of its tables, and `call` with `elementwise`, `images`
and `shapes` emits the operators. A quantised value stands for real numbers: operators compute with those, and each
result is rounded to what the file says can be stored, so that only the rounding differs from integer arithmetic.
"""

from __future__ import annotations

import os

from ...errors import UnsupportedError
from ...graph import Graph, TensorType
from ..files import mapped, naming
from ..keras.emitter import Emitter
from . import elementwise, images, shapes  # noqa: F401 - which fill the table of operators
from .call import KINDS, Call, Values
from .schema import Operator, Parsed, parse

__all__ = ["read"]


def read(path: str | os.PathLike[str], *, verify: bool = True) -> Graph:
    """Read the first graph of a model file.

    Parameters
    ----------
    path
        The file. Weights are mapped: it must not be changed in place while the graph is in use.
    verify
        Of no effect: the format has no checksums.

    Returns
    -------
    Graph
        Its inputs and outputs have the names of the first signature, where there is one, and the types of the file:
        a model of int8 takes and gives int8.

    Raises
    ------
    FileError
        The file cannot be read or is damaged.
    GraphError
        Its operators do not fit their inputs.
    UnsupportedError
        Operators that are not known here, all at once, or types that are not read.
    """
    text = os.fsdecode(path)
    parsed = parse(mapped(path), text)
    unknown = sorted({o.kind for o in parsed.operators} - KINDS.keys())
    if unknown:
        raise UnsupportedError("operators that are not read", where=text, got=", ".join(unknown))
    with naming(text):
        return _graph(parsed, os.path.splitext(os.path.basename(text))[0])


def _graph(parsed: Parsed, name: str) -> Graph:
    emitter = Emitter(name)
    values = Values(parsed, emitter)
    for index, stem in parsed.inputs.items():
        tensor = parsed.tensors[index]
        shape = tensor.shape
        if shape and shape[0] is None:
            shape = ("N", *shape[1:])
        values.define(index, emitter.input(stem, TensorType(tensor.dtype, shape)), real=False)
    for node in parsed.operators:
        _emit(values, node)
    graph = emitter.graph
    for index, stem in parsed.outputs.items():
        graph.outputs.append(emitter.rename(values.stored(index), stem))
    graph.metadata["producer"] = "LiteRT"
    if parsed.description:
        graph.metadata["description"] = parsed.description
    graph.prune()
    return graph


def _emit(values: Values, node: Operator) -> None:
    call = Call(values, node)
    found = KINDS[node.kind](call)
    made = [found] if isinstance(found, str) else list(found)
    if len(made) != len(node.outputs):
        raise call.error("wrong number of outputs", expected=str(len(made)), got=str(len(node.outputs)))
    for index, value in zip(node.outputs, made):
        values.define(index, value, real=not call.moving)
