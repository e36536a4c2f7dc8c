"""`forwardpass features`: what the channels of a layer see in a picture."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console
from ..errors import InputError, suggest
from .inputs import ImageOptions, assign, read
from .maps import is_channels_last, layers_of, planes
from .options import add_engine_arguments, check_output, positive

if TYPE_CHECKING:
    from ..graph import Array, Graph

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show the feature maps of a layer for a picture"
_STRONGEST = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model, of any format")
    parser.add_argument("image", metavar="IMAGE", help="a picture, or the input as .npy")
    parser.add_argument(
        "--layer", metavar="NAME", help="a node or a value of the graph (default: list those that are images)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="draw the maps as .png, .svg or .pdf")
    parser.add_argument("--maps", type=positive, default=64, metavar="N", help="most maps to draw (default: 64)")
    add_engine_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    import forwardpass as fp

    check_output(args.output)
    model = fp.load(args.model, threads=args.threads, precision=args.precision)
    graph = model.graph
    feeds = {
        name: read(Path(file), name, model.inputs[name], ImageOptions(), console.note)
        for name, file in assign([args.image], [], model.inputs).items()
    }
    layers = layers_of(graph, {k: v.shape for k, v in feeds.items()})
    if args.layer is None:
        if args.output:
            raise InputError(
                "no layer to draw", where="--output", expected="--layer NAME", hint=", ".join(list(layers)[:8])
            )
        _list(console, layers)
        return {"model": str(args.model), "layers": {k: list(v) for k, v in layers.items()}}
    value = _value_of(graph, args.layer, layers)
    found = model.run(feeds, capture=[value])[value]
    maps = planes(found, value, is_channels_last(graph, value))
    report = {"model": str(args.model), "layer": args.layer, "value": value, "shape": list(found.shape)}
    report["maps"] = [_describe(k, plane) for k, plane in enumerate(maps)]
    if args.output:
        from .draw_maps import draw

        draw(args.output, f"{args.layer}  {list(found.shape)}", maps[: args.maps])
    _show(console, report, args.output, min(args.maps, len(maps)))
    return report


def _list(console: Console, layers: Mapping[str, tuple[int, ...]]) -> None:
    console.heading("layers whose values are images")
    console.table(["layer", "shape"], [[name, " x ".join(map(str, shape))] for name, shape in layers.items()])


def _value_of(graph: Graph, name: str, layers: Mapping[str, Any]) -> str:
    """The value that a layer's name means: a value itself, or the first output of a node; the last part of a name is
    enough where it is the only one."""
    known = {o: o for n in graph.nodes for o in n.outputs if o}
    known |= {n.name: n.outputs[0] for n in graph.nodes if n.name} | {i: i for i in graph.inputs}
    if name in known:
        return known[name]
    ends = {known[n] for n in known if n.endswith(f"/{name}")}
    if len(ends) == 1:
        return ends.pop()
    expected = "the name of a node or of a value"
    if ends:
        several = ", ".join(sorted(n for n in known if n.endswith(f"/{name}"))[:_STRONGEST])
        raise InputError("several layers match", where="--layer", expected=f"one of {several}", got=repr(name))
    last = {n.rpartition("/")[2]: n for n in [*sorted(known), *layers]}
    hint = suggest(name, [*layers, *sorted(known), *last]) or "without --layer, all are listed"
    raise InputError("unknown layer", where="--layer", expected=expected, got=repr(name), hint=hint)


def _describe(channel: int, plane: Array) -> dict[str, Any]:
    import numpy as np

    wide = plane.astype(np.float64)
    return {"channel": channel, "min": float(wide.min()), "max": float(wide.max()), "mean": float(wide.mean())}


def _show(console: Console, report: Mapping[str, Any], output: Path | None, drawn: int) -> None:
    maps = report["maps"]
    console.heading(f"{report['layer']}: {len(maps)} maps of {report['shape']}")
    strongest = sorted(maps, key=lambda m: -m["mean"])[:_STRONGEST]
    rows = [[m["channel"], *(f"{m[k]:.4g}" for k in ("min", "max", "mean"))] for m in strongest]
    console.table([">channel", ">min", ">max", ">mean"], rows)
    if len(maps) > len(rows):
        console.line(f"  ... and {len(maps) - len(rows)} weaker ones (--json has them all)")
    if output:
        console.line(f"drew {drawn} of {len(maps)} maps: {output}", strong=True)
