"""`forwardpass demo`: a trained network classifies handwritten digits that it has never seen."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..console import Console
from ..labels import class_names, top
from .draw import bar, image, rows_of
from .measure import Latency, latency, rate
from .options import add_engine_arguments, positive
from .plan_table import show_steps, steps_of

if TYPE_CHECKING:
    from ..graph import Array

__all__ = ["HELP", "add_arguments", "choose", "panel", "run"]

HELP = "classify held-out handwritten digits with an embedded network"
BATCH = 64
PIXEL_MAX = 16.0
BAR_WIDTH = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=("cnn", "mlp"), default="cnn", help="which network (default: cnn)")
    parser.add_argument("--draw", type=positive, default=4, metavar="N", help="digits to draw (default: 4)")
    parser.add_argument(
        "--calls", type=positive, default=20_000, metavar="N", help="single calls to time (default: 20000)"
    )
    add_engine_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    import numpy as np

    import forwardpass as fp

    from .. import data

    model = fp.load(data.path(f"digits_{args.model}.npz"), threads=args.threads, precision=args.precision)
    images, labels = data.digits()
    (kind,) = model.inputs.values()
    x = images.reshape(len(images), *(kind.shape or ())[1:]).astype(np.float32)
    console.line(f"{len(images)} handwritten digits that took no part in training; network {args.model}", strong=True)

    scores = np.empty((len(x), 10), np.float32)
    with console.progress("classifying", len(x)) as advance:
        for first in range(0, len(x), BATCH):
            scores[first : first + BATCH] = model(x[first : first + BATCH])
            advance(min(first + BATCH, len(x)))
    found = scores.argmax(axis=1)
    right = int((found == labels).sum())

    names = class_names(model.graph.metadata, 10) or [str(i) for i in range(10)]
    panels = [
        panel(images[i], scores[i], names, names[int(labels[i])], unicode=console.unicode)
        for i in choose(found == labels, args.draw)
    ]
    console.line()
    for line in rows_of(panels, 2):
        console.line(line)
    if right < len(x):
        which = "the only one" if len(x) - right == 1 else f"the first of the {len(x) - right}"
        console.line(f"\n  The last one drawn is {which} that it misreads.")

    one, many = x[:1].copy(), x[:BATCH].copy()
    single = latency(lambda: model(one), calls=args.calls)
    batches = rate(lambda: model(many))
    steps = steps_of(fp.explain(model))
    report = {
        "model": args.model,
        "images": len(x),
        "correct": right,
        "accuracy": right / len(x),
        "latency_us": {"p50": single.p50, "p99": single.p99, "p99.9": single.p999, "calls": single.calls},
        "batch": {"size": BATCH, "calls_per_second": batches, "images_per_second": BATCH * batches},
        "steps": steps,
    }
    _show_results(console, report, single)
    return report


def choose(right: Array, count: int) -> list[int]:
    """Which images to draw: `count` spread evenly, the last of them the first mistake if there is one."""
    n = len(right)
    count = min(count, n)
    wrong = [i for i in range(n) if not right[i]]
    chosen = [k * n // count for k in range(count)]
    if not wrong:
        return chosen
    return [i for i in chosen if i != wrong[0]][: count - 1] + wrong[:1]


def panel(pixels: Array, scores: Array, names: list[str], truth: str, *, unicode: bool = True) -> list[str]:
    """One digit as lines: what it is, its picture, and beside it the probability of each class as a bar."""
    best = top(scores, 1)[0]
    mark = "right" if names[best] == truth else "WRONG"
    lines = image(pixels, PIXEL_MAX, unicode=unicode)
    width = max(map(len, lines))
    lines += [" " * width] * (len(scores) - len(lines))
    bars = [
        f"{name} {bar(float(p), BAR_WIDTH, unicode=unicode)} {100 * float(p):5.1f} %" + (" <" if i == best else "  ")
        for i, (name, p) in enumerate(zip(names, scores, strict=True))
    ]
    title = f"written {truth}, read {names[best]}: {mark}"
    return [title, *(f"{left}  {chances}" for left, chances in zip(lines, bars, strict=True))]


def _show_results(console: Console, report: dict[str, Any], single: Latency) -> None:
    batch = report["batch"]
    console.heading("results")
    console.table(
        ["what", ">value", ""],
        [
            (
                "accuracy",
                f"{100 * report['accuracy']:.2f} %",
                f"{report['correct']} of {report['images']} right",
            ),
            ("p50 of a single call", f"{single.p50:.2f} us", f"model(x), {single.calls:,} calls"),
            ("p99", f"{single.p99:.2f} us", ""),
            ("p99.9", f"{single.p999:.2f} us", ""),
            (f"calls per second at batch {batch['size']}", f"{batch['calls_per_second']:,.0f}", ""),
            ("images per second", f"{batch['images_per_second']:,.0f}", ""),
        ],
    )
    console.heading("plan")
    show_steps(console, report["steps"])
