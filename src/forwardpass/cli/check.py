"""`forwardpass check`: what of a model is not supported, and why, without reading its weights."""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console
from ..errors import Error, FileError

if TYPE_CHECKING:
    from ..graph import Graph, Node

__all__ = ["HELP", "add_arguments", "run"]

HELP = "say what of a model is not supported, and why, without reading its weights; exits with 1 if anything is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model: .onnx (needs the package onnx) or .npz")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from .weightless import read_weightless

    if not args.model.exists():
        raise FileError("no such file", where=str(args.model))
    problems: list[dict[str, str]] = []
    graph: Graph | None = None
    with console.progress("reading", 1) as advance:
        try:
            graph, missing = read_weightless(args.model)
            problems += [_missing(line) for line in missing]
        except Error as error:
            problems.append(_problem(error))
        advance(1)
    operators: list[dict[str, Any]] = []
    if graph is not None:
        problems += _nodes(graph)
        operators = _operators(graph)
        if not problems:
            problems += _types(graph)
    report = {"model": str(args.model), "ok": not problems, "problems": problems, "operators": operators}
    _show(console, report)
    return report


def _problem(error: Error) -> dict[str, str]:
    fields = {k: getattr(error, k) for k in ("where", "expected", "got", "hint")}
    return {"kind": type(error).__name__, "problem": error.message, **fields}


def _missing(line: str) -> dict[str, str]:
    """The importer's line for a node without an operator, `name: Op (domain D, opset N, inputs ...)`, as a problem."""
    where, _, rest = line.partition(": ")
    op, _, more = rest.partition(" (domain ")
    domain, _, detail = more.partition(", ")
    reason = detail.partition("): ")[2]
    state = f"is not supported: {reason}" if reason else "is unknown"
    return {
        "kind": "UnsupportedError",
        "problem": f"the operator {op} of the domain {domain} {state}",
        "where": where,
        "expected": "",
        "got": detail.partition(")")[0],
        "hint": _near("" if domain == "ai.onnx" else domain, op),
    }


def _near(domain: str, op: str) -> str:
    from ..errors import suggest
    from ..ops.registry import operator_names

    return suggest(op, operator_names(domain)) or "forwardpass.op adds an operator in Python"


def _all_nodes(graph: Graph) -> list[Node]:
    from .info import graphs

    return [n for g in graphs(graph) for n in g.nodes]


def _nodes(graph: Graph) -> list[dict[str, str]]:
    """Nodes whose operators do not exist, or whose attributes these do not have."""
    from ..ops import find

    found = []
    for node in _all_nodes(graph):
        try:
            find(node).bind(node)
        except Error as error:
            problem = _problem(error)
            if problem["kind"] == "UnsupportedError":
                problem["hint"] = _near(node.domain, node.op)
            found.append(problem)
    return found


def _types(graph: Graph) -> list[dict[str, str]]:
    """Types and shapes that contradict each other."""
    from ..ops.evaluate import infer_types

    try:
        infer_types(graph)
    except Error as error:
        return [_problem(error)]
    return []


def _operators(graph: Graph) -> list[dict[str, Any]]:
    """Each operator, how often it is there, and how it runs."""
    from ..ops.registry import supported

    slow = _without_kernels(graph)

    def runs(key: tuple[str, str]) -> str:
        if not supported(*key):
            return "not at all"
        return "NumPy definition" if key in slow else "native kernels"

    counts = Counter((n.domain, n.op) for n in _all_nodes(graph))
    return [
        {"operator": f"{d}.{o}" if d else o, "count": count, "runs": runs((d, o))}
        for (d, o), count in counts.most_common()
    ]


def _without_kernels(graph: Graph) -> set[tuple[str, str]]:
    """The operators that the passes leave in place, and that have no kernel."""
    from ..ops.registry import registry, supported
    from ..passes import optimize

    try:
        found = optimize(graph)[0]
    except Error:
        found = graph
    nodes = [*found.nodes, *(n for node in found.nodes for v in node.attributes.values() for n in _bodies(v))]
    keys = {(n.domain, n.op) for n in nodes}
    return {k for k in keys if supported(*k) and registry[k].lower is None and not registry[k].view}


def _bodies(value: Any) -> list[Node]:
    """The nodes of an attribute that is a graph, as they run: its own passes are applied to it."""
    from ..graph import Graph as Kind
    from ..passes import optimize

    if isinstance(value, list):
        return [n for v in value for n in _bodies(v)]
    if not isinstance(value, Kind):
        return []
    with suppress(Error):
        value = optimize(value)[0]
    return [*value.nodes, *(n for node in value.nodes for v in node.attributes.values() for n in _bodies(v))]


def _show(console: Console, report: dict[str, Any]) -> None:
    console.line(report["model"], strong=True)
    if report["operators"]:
        console.heading("operators")
        rows = [(o["operator"], o["count"], o["runs"]) for o in report["operators"]]
        console.table(["operator", ">count", "runs by"], rows)
    if report["problems"]:
        console.heading("problems")
        columns = ["where", "problem", "expected", "got", "hint"]
        console.table(columns, [[p[c] for c in columns] for p in report["problems"]])
    console.line()
    count = len(report["problems"])
    console.line("supported" if report["ok"] else f"{count} problem{'s' if count > 1 else ''}", strong=True)
