"""`forwardpass convert`: a model file of any format that is read, written as `.npz` or ONNX."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console
from ..errors import Error, InputError
from ..text import human_bytes
from .info import count_operators, count_weights, describe

if TYPE_CHECKING:
    from ..graph import Graph, TensorType
    from ..run import Model

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write a model of any format as an .npz file that runs with NumPy alone, or as an ONNX file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="the model: .npz, .onnx, .keras, .h5, .tflite, .pt, .pt2"
    )
    parser.add_argument(
        "target", type=_target, metavar="TARGET", help="the file to write, .npz or .onnx; an old one is replaced"
    )
    parser.add_argument(
        "--network",
        metavar="FILE.py:NAME",
        help="for a file of weights alone (.pth, .safetensors, .weights.h5, ...): a network of forwardpass.builder, or "
        "a function that makes it, in a Python file of yours, which is run",
    )

    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="[NAME=][TYPE:]SIZES",
        help="for TorchScript, which does not say it: an input's shape, with names for axes that stay free, such as "
        "x=N,3,224,224 or tokens=int64:N,128 (default type: float32); once for each input",
    )
    parser.add_argument(
        "--optimize",
        action="store_true",
        help="write the graph as it is after the passes: an .npz file that loads faster, for this version alone",
    )


def _target(text: str) -> Path:
    """An argument type: a path whose suffix says the format."""
    path = Path(text)
    if path.suffix.lower() not in (".npz", ".onnx"):
        raise argparse.ArgumentTypeError(f"expected a path that ends in .npz or .onnx, got {text!r}")
    return path


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    if args.optimize and args.target.suffix.lower() != ".npz":
        raise InputError("only an .npz file can be optimised", where="--optimize", got=str(args.target))
    from ..saving import marked

    with console.progress("reading", 1) as advance:
        model = _with_weights(args.network, args.source) if args.network else _loaded(args)
        advance(1)
    with console.progress("planning", 1) as advance:
        # Before anything is written: a graph whose nodes contradict each other makes no file.
        found = model.outputs
        rows = model.summary().rows
        advance(1)
    with console.progress("writing", 100) as percent:
        _write(
            marked(model.optimized) if args.optimize else model.graph,
            args.target,
            lambda done, total: percent(100 * done // max(total, 1)),
        )
    report = _report(args.source, args.target, model, rows, found)
    _show(console, report, model.inputs, found)
    return report


def _loaded(args: argparse.Namespace) -> Model:
    import forwardpass as fp

    from .inputs import types

    return fp.load(args.source, inputs=types(args.shape) if args.shape else None)


def _with_weights(network: str, source: Path) -> Model:
    """The network that a Python file of the caller makes, with the weights of a file."""
    from ..builder import Network

    path, _, name = network.rpartition(":")
    expected = "FILE.py:NAME, a network of forwardpass.builder or a function that makes one"
    if not Path(path).is_file():
        raise InputError("no such file", where="--network", expected=expected, got=network)
    found = _made(path, name)
    if not isinstance(found, Network):
        raise InputError("not a network", where="--network", expected=expected, got=f"{name}: {type(found).__name__}")
    return found.set_weights(source).model()


def _made(path: str, name: str) -> Any:
    """What the name means in a Python file, or what the function of that name returns.

    Raises
    ------
    InputError
        The file cannot be run, or the function not be called. It is code of the caller's, which may raise anything.
    """
    import runpy

    try:
        found = runpy.run_path(path).get(name)
        return found() if callable(found) else found
    except Error:
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError("cannot make the network", where=f"--network {path}{_line(error, path)}", got=what) from None


def _line(error: BaseException, path: str) -> str:
    """The last line of the file that took part, which is where its author looks."""
    import traceback

    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f", line {lines[-1]}" if lines else ""


def _write(graph: Graph, target: Path, progress: Callable[[int, int], None]) -> None:
    if target.suffix.lower() == ".npz":
        from ..formats import npz

        npz.write(graph, target, progress)
        return
    from ..formats.onnx import export

    export.write(graph, target)
    progress(1, 1)


def _report(
    source: Path, target: Path, model: Model, rows: list[dict[str, Any]], outputs: dict[str, TensorType]
) -> dict[str, Any]:
    graph = model.graph
    others = Counter((r["operator"], str(r["native"])) for r in rows if r["native"] is not True)
    return {
        "source": str(source),
        "target": str(target),
        "source_bytes": source.stat().st_size,
        "target_bytes": target.stat().st_size,
        "name": graph.name,
        "inputs": {k: describe(t) for k, t in model.inputs.items()},
        "outputs": {k: describe(t) for k, t in outputs.items()},
        "operators": count_operators(graph),
        **count_weights(graph),
        "nodes_after_optimisation": len(rows),
        "native_nodes": len(rows) - others.total(),
        "by_definition": [{"operator": o, "count": n, "reason": r} for (o, r), n in others.most_common()],
    }


def _show(
    console: Console, report: dict[str, Any], inputs: dict[str, TensorType], outputs: dict[str, TensorType]
) -> None:
    console.line(f"{report['name'] or 'unnamed model'}  ({report['source']})", strong=True)
    console.heading("inputs and outputs")
    rows = [("input", name, kind) for name, kind in inputs.items()]
    console.table(["", "name", "type"], rows + [("output", name, kind) for name, kind in outputs.items()])
    console.heading("operators")
    console.table(["operator", ">count"], list(report["operators"].items()))
    console.line(f"  {report['parameters']:,} parameters, {human_bytes(report['bytes'])} of constants")
    console.heading("how they run")
    native, total = report["native_nodes"], report["nodes_after_optimisation"]
    console.line(f"  {native} of {total} nodes after optimisation have native kernels")
    if report["by_definition"]:
        others = [(o["operator"], o["count"], o["reason"]) for o in report["by_definition"]]
        console.table(["by its NumPy definition", ">count", "because"], others)
    console.line()
    sizes = f"{human_bytes(report['source_bytes'])} -> {human_bytes(report['target_bytes'])}"
    console.line(f"wrote {report['target']}  ({sizes})", strong=True)
