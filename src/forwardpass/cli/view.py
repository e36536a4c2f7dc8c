"""`forwardpass view`: the graph before and after the passes, as a page in the browser."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console
from ..errors import Error
from .feeds import add_feed_arguments, make_feeds
from .options import add_engine_arguments, check_output

if TYPE_CHECKING:
    from ..graph import Graph, TensorType
    from ..run import Model

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show a model's graph before and after the passes in the browser, with shapes and times"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model: .npz or .onnx")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the page there, and open nothing")
    parser.add_argument("--no-open", action="store_true", help="do not open the browser")
    parser.add_argument("--no-time", action="store_true", help="do not run the model to time its nodes")
    add_feed_arguments(parser)
    add_engine_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    import tempfile
    import webbrowser

    import forwardpass as fp

    from .view_page import make_page

    check_output(args.output)
    model = fp.load(args.model, threads=args.threads, precision=args.precision)
    types, times = _measured(model, args, console)
    s = model.settings
    settings = f"{args.model}: {s.precision}, {s.isa}, threads: {s.threads}"
    graphs = {
        "before": (model.graph, _types(model.graph, types)),
        "after": (model.optimized, _types(model.optimized, types)),
    }
    made = make_page(model.graph.name or args.model.stem, graphs, times, str(model.log), settings)
    file = args.output or Path(tempfile.mkdtemp(prefix="forwardpass-view-"), f"{args.model.stem}.html")
    file.write_text(made, encoding="utf-8")
    console.line(f"wrote {file}", strong=True)
    opened = not (args.no_open or args.output) and webbrowser.open(file.resolve().as_uri())
    if not opened and not (args.no_open or args.output):
        console.note("no browser could be opened")
    return {
        "model": str(args.model),
        "page": str(file),
        "opened": opened,
        "nodes_before": len(model.graph.nodes),
        "nodes_after": len(model.optimized.nodes),
        "times_us": times,
    }


def _measured(
    model: Model, args: argparse.Namespace, console: Console
) -> tuple[dict[str, TensorType] | None, dict[str, float]]:
    """The types of the inputs that the model ran on, and microseconds per node; neither where it cannot run."""
    from ..graph import TensorType
    from .profile import profiled

    try:
        feeds = make_feeds(model.graph, args, console.note)
        types = {k: TensorType.of(x) for k, x in feeds.items()}
        if args.no_time:
            return types, {}
        found = profiled(model, feeds, 0.3, console)
    except Error as error:
        if args.shape or args.input or args.batch:
            raise
        console.note(f"without times: {error}")
        return None, {}
    times: dict[str, float] = {}
    for step in found.steps:
        times[step["node"]] = times.get(step["node"], 0.0) + step["median"] * step["calls"] / found.calls / 1e3
    return types, times


def _types(graph: Graph, inputs: dict[str, TensorType] | None) -> dict[str, TensorType]:
    from ..ops.evaluate import infer_types

    return infer_types(graph, inputs)
