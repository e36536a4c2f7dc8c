"""`forwardpass info`: what a model is and what it needs, without running it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console
from ..text import human_bytes
from .inputs import shapes
from .options import add_engine_arguments
from .plan_table import show_steps, steps_of

if TYPE_CHECKING:
    from ..graph import Graph, TensorType
    from ..run import Model

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show a model's inputs, outputs, operators, size and memory plan"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model: .npz or .onnx")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="[NAME=]SIZES",
        help="an input's shape for the memory plan, such as x=1,8,8,1 (default: batch 1)",
    )
    add_engine_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    import forwardpass as fp

    model = fp.load(args.model, threads=args.threads, precision=args.precision)
    graph = model.graph
    sizes = count_weights(graph)
    given = shapes(args.shape, model.inputs)
    planned = _planned(model, given)
    summary = model.summary(given or None)
    report = {
        "model": str(args.model),
        "name": graph.name,
        "metadata": graph.metadata,
        "inputs": {k: describe(t) for k, t in model.inputs.items()},
        "outputs": {k: describe(t) for k, t in model.outputs.items()},
        "operators": count_operators(graph),
        **sizes,
        "native_nodes": summary.native,
        "native_time": summary.native_time,
        "nodes": summary.rows,
        **planned,
    }
    _show(console, report, model.inputs, model.outputs)
    return report


def _planned(model: Model, given: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """What depends on the shapes; nothing of it where none are given, and sizes of 1 do not fit."""
    import forwardpass as fp

    try:
        memory, plan = model.memory_plan(given or None), fp.explain(model, given or None)
    except fp.Error as error:
        if given:
            raise
        return {"flops": None, "bytes_moved": None, "memory": {}, "steps": [], "no_plan": str(error)}
    return {
        "flops": sum(s["flops"] for s in plan.steps),
        "bytes_moved": sum(s["bytes"] for s in plan.steps),
        "memory": {k: int(getattr(memory, k)) for k in ("total", "weights", "arena")},
        "steps": steps_of(plan),
    }


def graphs(graph: Graph) -> Iterator[Graph]:
    """A graph, and all graphs that its nodes run."""
    from ..graph import Graph as Kind

    yield graph
    for node in graph.nodes:
        for value in node.attributes.values():
            for body in value if isinstance(value, list) else [value]:
                if isinstance(body, Kind):
                    yield from graphs(body)


def count_operators(graph: Graph) -> dict[str, int]:
    """How often each operator is there, the most frequent one first."""
    return dict(Counter(n.qualified for g in graphs(graph) for n in g.nodes).most_common())


def count_weights(graph: Graph) -> dict[str, int]:
    """Numbers in floating-point constants (`parameters`), and the bytes of all constants."""
    arrays = {id(a): a for g in graphs(graph) for a in g.constants.values()}.values()
    return {
        "parameters": sum(int(a.size) for a in arrays if a.dtype.kind in "fV"),
        "bytes": sum(int(a.nbytes) for a in arrays),
    }


def describe(kind: TensorType) -> dict[str, Any]:
    """A type for `--json`."""
    from ..dtypes import name_of

    item: dict[str, Any] = {"dtype": name_of(kind.dtype), "shape": None if kind.shape is None else list(kind.shape)}
    return {**item, "container": list(kind.container)} if kind.container else item


def _show(
    console: Console, report: dict[str, Any], inputs: dict[str, TensorType], outputs: dict[str, TensorType]
) -> None:
    console.line(f"{report['name'] or 'unnamed model'}  ({report['model']})", strong=True)
    for key, text in report["metadata"].items():
        console.line(f"  {key}: {' '.join(text.split())}")
    console.heading("inputs and outputs")
    rows = [("input", name, kind) for name, kind in inputs.items()]
    console.table(["", "name", "type"], rows + [("output", name, kind) for name, kind in outputs.items()])
    console.heading("operators")
    console.table(["operator", ">count"], list(report["operators"].items()))
    console.line(f"  {report['parameters']:,} parameters, {human_bytes(report['bytes'])} of constants")
    if report["flops"] is not None:
        console.line(f"  {report['flops']:,} operations and {human_bytes(report['bytes_moved'])} moved per call")
    console.heading("nodes after optimisation")
    columns = ["node", "operator", "output", ">parameters", "runs"]
    console.table(columns, [_node_row(n) for n in report["nodes"]])
    share = report["native_time"]
    took = "" if share is None else f", in {100 * share:.1f} % of the time of a measured run"
    console.line(f"  {report['native_nodes']} of {len(report['nodes'])} nodes run natively{took}")
    if report["steps"]:
        console.heading("plan")
        show_steps(console, report["steps"])
    memory = report["memory"]
    if not memory:
        console.line(f"  give --shape for the plan: sizes of 1 do not fit ({report['no_plan']})")
        return
    console.heading("memory")
    console.table(["part", ">bytes", ">"], [(k, f"{v:,}", human_bytes(v)) for k, v in memory.items()])


def _node_row(node: dict[str, Any]) -> list[object]:
    runs = "native" if node["native"] is True else f"by its NumPy definition: {node['native']}"
    return [node["name"], node["operator"], node["output"], f"{node['parameters']:,}", runs]
