"""`forwardpass verify`: a model against another computation of it, and the first node where they part."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console
from .bisect import first_disagreement
from .compare import compare, is_close
from .feeds import add_feed_arguments, make_feeds
from .options import add_engine_arguments, positive, share

if TYPE_CHECKING:
    from ..graph import Node
    from .peers import Judge, Peer, Tested

__all__ = ["HELP", "add_arguments", "run"]

HELP = "compare a model with onnxruntime or with its definition, and find the first node that disagrees"
_TOLERANCE = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model: .onnx or .npz")
    parser.add_argument(
        "--against",
        choices=("onnxruntime", "reference"),
        default="reference",
        help="what to compare with: onnxruntime, or the definitions in float64 (default: reference)",
    )
    parser.add_argument(
        "--tolerance",
        type=share,
        default=_TOLERANCE,
        metavar="T",
        help=f"largest difference, relative to the largest value (default: {_TOLERANCE:g})",
    )
    parser.add_argument("--runs", type=positive, default=1, metavar="N", help="sets of random inputs (default: 1)")
    add_feed_arguments(parser)
    add_engine_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    import forwardpass as fp

    from .peers import Judge, Onnxruntime, Tested

    model = fp.load(args.model, threads=args.threads, precision=args.precision)
    report: dict[str, Any] = {"model": str(args.model), "against": args.against, "tolerance": args.tolerance}
    report |= {"precision": model.settings.precision, "isa": model.settings.isa, "runs": []}
    first = None
    for seed in range(args.seed, args.seed + args.runs):
        args.seed = seed
        feeds = make_feeds(model.graph, args, console.note)
        tested, judge = Tested(model, feeds), Judge(model.graph, feeds)
        other: Peer = judge if args.against == "reference" else Onnxruntime(args.model, feeds, model.settings.threads)
        with console.progress("comparing", 1) as advance:
            rows = _outputs(tested, other, judge, args.tolerance)
            advance(1)
        if judge.why_not and other is judge:
            raise fp.UnsupportedError("the definitions cannot run it in float64", got=judge.why_not)
        report["runs"].append({"seed": seed, "outputs": rows, "judge": judge.why_not or "float64"})
        wrong = next((r["name"] for r in rows if not r["agrees"]), None)
        if wrong is not None:
            first = _first(tested, other, judge, wrong, args.tolerance, console)
            break
    report |= {"ok": all(r["agrees"] for one in report["runs"] for r in one["outputs"]), "first": first}
    _show(console, report)
    return report


def _outputs(tested: Tested, other: Peer, judge: Judge, tolerance: float) -> list[dict[str, Any]]:
    names = list(tested.model.graph.outputs)
    exact = judge.values(names)
    theirs = exact if other is judge else other.values(names)
    ours = tested.values(names)
    return [_row(n, ours[n], theirs[n], exact.get(n), other is judge, tolerance) for n in names if n in theirs]


def _row(name: str, ours: Any, theirs: Any, exact: Any, same: bool, tolerance: float) -> dict[str, Any]:
    """The errors of a value: of both to each other, and of each to the judge."""
    between = compare(ours, theirs)
    row = {"name": name, "agrees": is_close(between, tolerance), "difference": between}
    if exact is not None:
        row["error"] = between if same else compare(ours, exact)
        if not same:
            row["other_error"] = compare(theirs, exact)
    return row


def _first(
    tested: Tested, other: Peer, judge: Judge, output: str, tolerance: float, console: Console
) -> dict[str, Any] | None:
    """The first node that disagrees, with the errors of its value and of what it reads."""
    known = tested.known() & other.known()
    rows: dict[str, dict[str, Any]] = {}
    judged = judge.values(sorted(known))  # once for all: definitions are slow

    def row(name: str) -> dict[str, Any]:
        if name not in rows:
            exact = judged.get(name)
            theirs = exact if other is judge else other.values([name])[name]
            rows[name] = _row(name, tested.values([name])[name], theirs, exact, other is judge, tolerance)
        return rows[name]

    started, count = time.perf_counter(), len(known)
    with console.progress("bisecting", max(count.bit_length(), 1)) as advance:
        found = first_disagreement(
            tested.model.graph, output, known, lambda n: bool(row(n)["agrees"]), lambda: advance(len(rows))
        )
    if found is None:
        return None
    node, value = found
    inputs = [row(i) for i in node.inputs if i in known]
    return {
        "node": node.title,
        "operator": node.qualified,
        "text": str(node),
        "value": row(value),
        "inputs": inputs,
        "kernels": _kernels(tested, node),
        "compared": len(rows),
        "seconds": time.perf_counter() - started,
        "blame": _blame(row(value), other.name),
    }


def _kernels(tested: Tested, node: Node) -> list[str]:
    import forwardpass as fp

    plan = fp.explain(tested.model, {k: x.shape for k, x in tested.inputs.items()})
    name = node.title
    return [s["kernel"] for s in plan.steps if s["node"] == name]


def _blame(row: dict[str, Any], other: str) -> str:
    """Who is farther from the definition in float64."""
    if "other_error" not in row:
        return "forwardpass" if "error" in row else "unknown"
    ours, theirs = row["error"]["relative"], row["other_error"]["relative"]
    return "forwardpass" if ours > theirs else other


def _number(errors: dict[str, Any] | None, key: str) -> str:
    value = errors.get(key) if errors else None
    return (
        "-"
        if value is None
        else f"{value:.2e}"
        if key == "relative"
        else f"{value:,.1f}"
        if value < 1e6
        else f"{value:.1e}"
    )


def _show(console: Console, report: dict[str, Any]) -> None:
    settings = f"{report['precision']}, {report['isa']}; tolerance {report['tolerance']:g}"
    console.line(f"{report['model']} against {report['against']}  ({settings})", strong=True)
    for one in report["runs"]:
        console.heading(f"outputs, seed {one['seed']}; judge: definitions in {one['judge']}")
        _table(console, one["outputs"])
    first = report["first"]
    if first:
        console.heading("first node that disagrees")
        console.line(f"  {first['text']}")
        kernels = ", ".join(first["kernels"]) or "none of its own: it is a part of another step"
        console.line(f"  kernels: {kernels}")
        _table(console, [*first["inputs"], first["value"]])
    console.line()
    blame = f", and {first['blame']} is farther from the definition" if first else ""
    console.line("agrees" if report["ok"] else f"disagrees{blame}", strong=True)


def _table(console: Console, rows: list[dict[str, Any]]) -> None:
    columns = ["value", "agrees", ">difference", ">ulp", ">error", ">ulp", ">their error", ">ulp", "note"]
    shown = []
    for r in rows:
        pairs = [r["difference"], r.get("error"), r.get("other_error")]
        figures = [_number(p, key) for p in pairs for key in ("relative", "ulp")]
        note = r["difference"]["message"] or ("" if r["difference"]["at"] is None else f"at {r['difference']['at']}")
        shown.append([r["name"], "yes" if r["agrees"] else "NO", *figures, note])
    console.table(columns, shown)
