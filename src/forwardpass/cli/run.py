"""`forwardpass run`: a model on inputs from files."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console
from ..errors import FileError, InputError, UnsupportedError
from ..labels import class_names, probabilities, top
from .inputs import ImageOptions, assign, read
from .options import add_engine_arguments, number, positive

if TYPE_CHECKING:
    from ..graph import Graph

__all__ = ["HELP", "add_arguments", "run"]

HELP = "run a model on .npy arrays or images"
ROWS_SHOWN = 10
VALUES_SHOWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model: .npz or .onnx")
    parser.add_argument("files", nargs="*", metavar="INPUT", help=".npy or image, one for each input of the model")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=FILE", help="a file for a named input")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="save the output as .npy, or all outputs by name as .npz"
    )
    parser.add_argument("--top", type=positive, metavar="K", help="classes to show for each row (default: 3)")
    parser.add_argument(
        "--pixel-max", type=number, metavar="V", help="value of a white pixel (default: the model's, else 255)"
    )
    parser.add_argument("--invert", action="store_true", help="exchange dark and light in images")
    add_engine_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    import forwardpass as fp

    model = fp.load(args.model, threads=args.threads, precision=args.precision)
    metadata = model.graph.metadata
    options = ImageOptions(_pixel_max(args.pixel_max, metadata), args.invert)
    files = assign(args.files, args.input, model.inputs)
    inputs = {name: read(Path(f), name, model.inputs[name], options, console.note) for name, f in files.items()}
    start = time.perf_counter()
    outputs = model.run(inputs)
    milliseconds = 1e3 * (time.perf_counter() - start)
    if args.output:
        _save(args.output, outputs)
    report: dict[str, Any] = {}
    for name, value in outputs.items():
        report[name] = _describe(name, value, model.graph, args.top)
        _show(console, name, report[name])
    console.line(f"first run took {milliseconds:.3f} ms, its planning included")
    if args.output:
        console.line(f"saved {args.output}")
    return {"model": str(args.model), "outputs": report, "milliseconds": milliseconds}


def _pixel_max(given: float | None, metadata: Mapping[str, str]) -> float:
    if given is not None:
        return given
    text = metadata.get("pixel_max", "255")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FileError("not a number", where="metadata 'pixel_max'", got=repr(text), hint="use --pixel-max")
    return value


def _save(path: Path, outputs: Mapping[str, Any]) -> None:
    import numpy as np

    for name, value in outputs.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind == "O":
            kind = "text" if isinstance(value, np.ndarray) else type(value).__name__
            raise UnsupportedError("only arrays of numbers can be saved", where=f"output {name!r}", got=kind)
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **outputs)
        return
    if path.suffix != ".npy":
        raise InputError("unknown kind of file", where="--output", expected=".npy or .npz", got=str(path))
    if len(outputs) != 1:
        raise InputError(
            f"the model has {len(outputs)} outputs", where="--output", expected="a .npz file", got=str(path)
        )
    np.save(path, next(iter(outputs.values())), allow_pickle=False)


def _describe(name: str, value: Any, graph: Graph, k: int | None) -> dict[str, Any]:
    """Type and statistics of an output, and the top classes of each row if it holds class scores."""
    import numpy as np

    from ..dtypes import name_of

    if not isinstance(value, np.ndarray):
        return _describe_other(value)
    kind: dict[str, Any] = {"dtype": name_of(value.dtype), "shape": list(value.shape)}
    if value.dtype.kind in "Ob":
        kind["values"] = value.reshape(-1)[:VALUES_SHOWN].tolist()
    if value.size and value.dtype.kind in "fiu":
        kind |= {
            "min": value.min().item(),
            "max": value.max().item(),
            "mean": float(value.mean(dtype=np.float64)),
        }
        kind["values"] = value.reshape(-1)[:VALUES_SHOWN].tolist()
    names = class_names(graph.metadata, value.shape[-1]) if value.ndim == 2 else None
    producer = graph.producers().get(name)
    if value.ndim == 2 and value.shape[1] > 1 and (names or k or (producer and producer.op == "Softmax")):
        scores = probabilities(graph, name, value) if names and value.dtype.kind == "f" else value
        kind["top"] = [
            [{"class": i, "label": names[i] if names else str(i), "score": float(row[i])} for i in top(row, k or 3)]
            for row in scores
        ]
    return kind


def _describe_other(value: Any) -> dict[str, Any]:
    """A sequence or a map, by its first elements, or an optional that is empty."""
    from ..graph import TensorType

    def short(element: Any) -> str:
        return str(TensorType.of(element)) if hasattr(element, "dtype") else str(element)

    if isinstance(value, Mapping):
        return {"map": len(value), "elements": [f"{k}: {short(v)}" for k, v in list(value.items())[:VALUES_SHOWN]]}
    return {"sequence": len(value), "elements": [short(v) for v in value[:VALUES_SHOWN]]} if value is not None else {}


def _show(console: Console, name: str, kind: Mapping[str, Any]) -> None:
    if "dtype" not in kind:
        _show_other(console, name, kind)
        return
    console.heading(f"{name}: {kind['dtype']}{kind['shape']}")
    if "top" in kind:
        rows = [
            [r, *(f"{c['label']}  {c['score']:.4f}" for c in classes)]
            for r, classes in enumerate(kind["top"][:ROWS_SHOWN])
        ]
        ranks = len(kind["top"][0]) if kind["top"] else 0
        console.table([">row", *(f"top {i + 1}" for i in range(ranks))], rows)
        if len(kind["top"]) > ROWS_SHOWN:
            console.line(f"  ... and {len(kind['top']) - ROWS_SHOWN} more rows (--json or --output has them all)")
    elif "min" in kind:
        console.line(f"  min {kind['min']:.6g}  max {kind['max']:.6g}  mean {kind['mean']:.6g}")
        console.line(f"  first values: {'  '.join(f'{v:.6g}' for v in kind['values'])}")
    elif "values" in kind:
        console.line(f"  first values: {'  '.join(map(str, kind['values']))}")


def _show_other(console: Console, name: str, kind: Mapping[str, Any]) -> None:
    what = next((f"{k} of {kind[k]}" for k in ("sequence", "map") if k in kind), "empty")
    console.heading(f"{name}: {what}")
    for element in kind.get("elements", ()):
        console.line(f"  {element}")
