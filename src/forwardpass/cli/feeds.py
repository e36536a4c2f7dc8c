"""Inputs for commands that run a model on anything: random values of the right shapes, or those of files."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, UnsupportedError
from .inputs import ImageOptions, Note, read, shapes
from .options import positive, whole

if TYPE_CHECKING:
    from ..graph import Array, Graph, TensorType

__all__ = ["add_feed_arguments", "full_shapes", "make_feeds"]

_LARGEST = 2
"""Random whole numbers are below it, unless a table says how far they may go."""


def add_feed_arguments(parser: argparse.ArgumentParser) -> None:
    """`--shape`, `--batch`, `--input` and `--seed`."""
    parser.add_argument(
        "--shape", action="append", default=[], metavar="[NAME=]SIZES", help="an input's shape, such as x=1,8,8,1"
    )
    parser.add_argument("--batch", type=positive, metavar="N", help="size of the first dimension where it is free")
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=FILE", help="an input's values (default: random)"
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="of random inputs (default: 0)")


def full_shapes(inputs: Mapping[str, TensorType], given: Mapping[str, tuple[int, ...]], batch: int | None) -> Any:
    """Input name -> shape: as given, else as the model says, with `batch` for a free first dimension and 1 for others.

    Raises
    ------
    InputError
        `batch` was asked for, and the first dimension is another size, which the model fixes or which was given.
    """
    found: dict[str, tuple[int, ...]] = {}
    names: dict[str, int] = {}
    for name, kind in inputs.items():
        if name in given:
            found[name] = given[name]
            named = zip(kind.shape or (), given[name])
            names.update((d, size) for d, size in named if isinstance(d, str))
    for name, kind in inputs.items():
        if name in found:
            continue
        dims = kind.shape or ()
        if batch is not None and dims and isinstance(dims[0], int) and dims[0] != batch:
            expected = f"{dims[0]}, which the model fixes"
            raise InputError("the batch cannot be chosen", where=f"input {name!r}", expected=expected, got=str(batch))
        if batch is not None and dims and isinstance(dims[0], str):
            names.setdefault(dims[0], batch)
        sizes = [d if isinstance(d, int) else names.get(d, 1) if d else 1 for d in dims]
        if batch is not None and dims and dims[0] is None:
            sizes[0] = batch
        found[name] = tuple(sizes)
    if batch is not None and not any(sizes[:1] == (batch,) for sizes in found.values()):
        shown = "; ".join(f"{name}={','.join(map(str, sizes))}" for name, sizes in found.items())
        raise InputError(
            "no input has this batch", where="--batch", expected=f"the first size of {shown}", got=str(batch)
        )
    return found


def make_feeds(graph: Graph, args: argparse.Namespace, note: Note) -> dict[str, Array]:
    """A value of every input, as the arguments say.

    Raises
    ------
    InputError, FileError
        An argument that does not fit the model, or a file that cannot be read.
    UnsupportedError
        An input that is no array.
    MemoryError
        Random values that do not fit.
    """
    import numpy as np

    given: dict[str, Array] = {}
    for word in args.input:
        name, equals, file = word.partition("=")
        if not equals or name not in graph.inputs:
            expected = f"NAME=FILE, NAME one of {', '.join(graph.inputs)}"
            raise InputError("not an input", where="--input", expected=expected, got=repr(word))
        given[name] = read(Path(file), name, graph.inputs[name], ImageOptions(), note)
    told = {**shapes(args.shape, graph.inputs), **{k: v.shape for k, v in given.items()}}
    sizes = full_shapes(graph.inputs, told, args.batch)
    _tell_free(graph.inputs, told, sizes, note)
    source = np.random.default_rng(args.seed)
    return {k: given[k] if k in given else _random(graph, k, sizes[k], source) for k in graph.inputs}


def _tell_free(inputs: Mapping[str, TensorType], told: Mapping[str, Any], sizes: Mapping[str, Any], note: Note) -> None:
    """Note the shapes in which more than the batch was left open, since 1 is seldom what is meant."""
    batches = {kind.shape[0] for kind in inputs.values() if kind.shape}
    for name, kind in inputs.items():
        if name not in told and any(not isinstance(d, int) and d not in batches for d in (kind.shape or ())[1:]):
            shown = ",".join(map(str, sizes[name]))
            note(f"input {name!r} is {kind}, taken as {shown}; --shape {name}=... gives other sizes")


def _random(graph: Graph, name: str, shape: tuple[int, ...], source: Any) -> Array:
    import numpy as np

    from ..dtypes import encode

    kind = graph.inputs[name]
    if kind.container:
        raise UnsupportedError("inputs that are no arrays cannot be made at random", where=f"input {name!r}")
    if 8 * math.prod(max(s, 1) for s in shape) > sys.maxsize:  # of which NumPy says that it is a wrong value
        raise MemoryError(f"input {name!r} of shape {','.join(map(str, shape))}")
    dtype = kind.dtype
    if dtype.names:
        return encode(source.standard_normal(shape, dtype=np.float32), dtype)
    if dtype.kind == "O":
        return np.full(shape, "text", object)
    if dtype.kind == "f":
        return np.asarray(source.standard_normal(shape), dtype)
    if dtype.kind == "c":
        return np.asarray(source.standard_normal(shape) + 1j * source.standard_normal(shape), dtype)
    return np.asarray(source.integers(0, _bound(graph, name), shape), dtype)


def _bound(graph: Graph, name: str) -> int:
    """How large an index may be: the rows of the smallest constant table that it looks up."""
    rows = [
        graph.constants[n.inputs[0]].shape[n.attributes.get("axis", 0)]
        for n in graph.nodes
        if n.op == "Gather" and n.inputs[1] == name and n.inputs[0] in graph.constants
    ]
    return max(min(rows, default=_LARGEST), 1)
