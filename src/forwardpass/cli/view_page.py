"""The page of a graph before and after the passes: drawn as SVG, with a search and details on request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .layers import GAP, HEIGHT, WIDTH, Drawing, arrange
from .page import data, page, short, table, text

if TYPE_CHECKING:
    from ..graph import Graph, Node, TensorType

__all__ = ["make_page"]

_MOST_NODES = 5000

_STYLE = """
.bar { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: .75rem 0; }
.bar input { flex: 1 1 12rem; min-width: 8rem; } input, button { font: inherit; color: inherit; padding: .3rem .6rem;
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
button[aria-pressed="true"] { border-color: var(--c0); color: var(--c0); }
.graph { overflow: auto; max-height: 75vh; border: 1px solid var(--line); border-radius: 8px; }
.graph svg { width: auto; min-width: 0; max-width: none; margin: 0 auto; }
.box rect { fill: var(--card); stroke: var(--line); } .box { cursor: pointer; }
.box.hit rect { stroke: var(--c1); stroke-width: 3; } .box.chosen rect { stroke: var(--c0); stroke-width: 3; }
.box .heat { fill: #b4232c; stroke: none; } .edge { fill: none; stroke: var(--soft); stroke-opacity: .6; }
.edge.near { stroke: var(--c0); stroke-width: 2; stroke-opacity: 1; }
#told { background: var(--card); border-radius: 8px; padding: .5rem 1rem; margin: .75rem 0; overflow-x: auto; }
#told pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
[hidden] { display: none; }
"""

_SCRIPT = """
const $ = (s, e = document) => e.querySelector(s), $$ = (s, e = document) => [...e.querySelectorAll(s)];
const told = JSON.parse($('#details').textContent), zoom = {};
function show(which) {
  $$('.graph').forEach(g => g.hidden = g.id !== which);
  $$('[data-show]').forEach(b => b.setAttribute('aria-pressed', b.dataset.show === which));
  search();
}
function shown() { return $$('.graph').find(g => !g.hidden); }
function search() {
  const words = $('#search').value.toLowerCase().split(/\\s+/).filter(Boolean), g = shown();
  const hits = $$('.box', g).filter(b => {
    const hit = words.length > 0 && words.every(w => told[b.id].toLowerCase().includes(w));
    b.classList.toggle('hit', hit);
    return hit;
  });
  $('#count').textContent = words.length ? hits.length + ' found' : '';
  if (hits.length) hits[0].scrollIntoView({block: 'center', inline: 'center'});
}
function choose(box) {
  const g = shown();
  $$('.chosen', g).forEach(b => b.classList.remove('chosen'));
  box.classList.add('chosen');
  $$('.edge', g).forEach(e => e.classList.toggle('near', e.dataset.a === box.id || e.dataset.b === box.id));
  $('#told pre').textContent = told[box.id];
}
function scale(by) {
  const g = shown(), s = $('svg', g), z = zoom[g.id] = Math.min(Math.max((zoom[g.id] || 1) * by, .05), 4);
  s.setAttribute('width', s.viewBox.baseVal.width * z);
  s.setAttribute('height', s.viewBox.baseVal.height * z);
}
$('#search').addEventListener('input', search);
$$('[data-show]').forEach(b => b.addEventListener('click', () => show(b.dataset.show)));
$$('[data-zoom]').forEach(b => b.addEventListener('click', () => scale(+b.dataset.zoom)));
$$('.box').forEach(b => {
  b.addEventListener('click', () => choose(b));
  b.addEventListener('keydown', e => { if (e.key === 'Enter') choose(b); });
});
show('after');
"""


def make_page(
    title: str,
    graphs: Mapping[str, tuple[Graph, Mapping[str, TensorType]]],
    times: Mapping[str, float],
    log: str,
    settings: str,
) -> str:
    """The page.

    Parameters
    ----------
    graphs
        "before" and "after": the graph and the types of its values.
    times
        Name of a node, or of its first output where it has none, -> microseconds.
    log
        What the passes did.
    """
    details: dict[str, str] = {}
    drawn = [_graph(kind, graph, types, times, details) for kind, (graph, types) in graphs.items()]
    buttons = "".join(
        f'<button data-show="{k}">{k} the passes ({len(g.nodes)} nodes)</button>' for k, (g, _) in graphs.items()
    )
    zooms = "".join(
        f'<button data-zoom="{by}" aria-label="{name}">{sign}</button>'
        for by, name, sign in ((0.8, "smaller", "-"), (1.25, "larger", "+"))
    )
    field = '<input id="search" type="search" placeholder="name, operator, shape" aria-label="search">'
    summary = f"<summary>{log.count(chr(10)) + 1} lines</summary>"
    body = [
        f"<h1>{text(title)}</h1>",
        f'<p class="soft">{text(settings)}; the redder a node, the more of the time is its own</p>',
        f'<div class="bar">{buttons}{zooms}{field}<span id="count" class="soft"></span></div>',
        *drawn,
        '<div id="told"><pre>Choose a node to see its inputs, outputs and attributes.</pre></div>',
        "<h2>Slowest nodes</h2>" + _slowest(times) if times else "",
        f'<h2>What the passes did</h2><details>{summary}<div class="wide"><pre>{text(log)}</pre></div></details>',
        data("details", details),
    ]
    return page(title, "\n".join(body), style=_STYLE, script=_SCRIPT)


def _slowest(times: Mapping[str, float]) -> str:
    total = sum(times.values()) or 1.0
    top = sorted(times.items(), key=lambda item: -item[1])[:15]
    return table(["node", ">us", ">%"], [(k, f"{v:.2f}", f"{100 * v / total:.1f}") for k, v in top])


def _graph(
    kind: str, graph: Graph, types: Mapping[str, TensorType], times: Mapping[str, float], details: dict[str, str]
) -> str:
    if len(graph.nodes) > _MOST_NODES:
        return f'<div class="graph" id="{kind}"><p>{len(graph.nodes)} nodes are too many to draw.</p></div>'
    drawing = arrange(graph)
    first, last = len(graph.inputs), len(graph.inputs) + len(graph.nodes)
    most = max(times.values(), default=0.0)
    boxes = []
    for k, name in enumerate(graph.inputs):
        boxes.append(_box(drawing, kind, k, "input", name, types.get(name, "?"), 0.0))
        details[f"{kind}{k}"] = f"input {name}: {types.get(name, '?')}"
    for k, node in enumerate(graph.nodes):
        name = node.title
        heat = math.sqrt(times.get(name, 0.0) / most) if most else 0.0
        made = next(o for o in node.outputs if o)
        boxes.append(_box(drawing, kind, first + k, node.qualified, name, types.get(made, "?"), heat))
        details[f"{kind}{first + k}"] = _details(graph, node, types, times.get(name))
    for k, name in enumerate(graph.outputs):
        boxes.append(_box(drawing, kind, last + k, "output", name, types.get(name, "?"), 0.0))
        details[f"{kind}{last + k}"] = f"output {name}: {types.get(name, '?')}"
    edges = "".join(_edge(drawing, kind, a, b) for a, b, _ in drawing.edges)
    size = f'width="{drawing.width:.0f}" height="{drawing.height:.0f}"'
    return (
        f'<div class="graph" id="{kind}"><svg viewBox="0 0 {drawing.width:.0f} {drawing.height:.0f}" {size} role="img"'
        f' aria-label="the graph {kind} the passes">{edges}{"".join(boxes)}</svg></div>'
    )


def _box(drawing: Drawing, kind: str, k: int, op: str, name: str, shape: object, heat: float) -> str:
    box = drawing.boxes[k]
    x, y = f"{box.x:.0f}", f"{box.y:.0f}"
    middle = box.x + WIDTH / 2
    radius = 18 if op in ("input", "output") else 6
    frame = f'x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="{radius}"'
    warm = f'<rect class="heat" {frame} fill-opacity="{0.65 * heat:.2f}"/>' if heat else ""
    lines = [(17, short(op, 22), ' font-weight="600"'), (32, short(name, 26), ""), (47, short(str(shape), 26), "")]
    told = "".join(
        f'<text x="{middle:.0f}" y="{box.y + down:.0f}" text-anchor="middle"{bold}>{text(line)}</text>'
        for down, line, bold in lines
    )
    return f'<g class="box" id="{kind}{k}" tabindex="0"><rect {frame}/>{warm}{told}</g>'


def _edge(drawing: Drawing, kind: str, a: int, b: int) -> str:
    start, end = drawing.boxes[a], drawing.boxes[b]
    x1, y1, x2, y2 = start.x + WIDTH / 2, start.y + HEIGHT, end.x + WIDTH / 2, end.y
    bend = max((y2 - y1) / 2, 10)
    # An edge past other layers goes around what stands between its ends.
    aside = WIDTH * 0.8 if y2 - y1 > HEIGHT + 2 * GAP and abs(x1 - x2) < WIDTH else 0
    ends = f"{x1 + aside:.0f} {y1 + bend:.0f} {x2 + aside:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"
    path = f"M{x1:.0f} {y1:.0f}C{ends}"
    return f'<path class="edge" data-a="{kind}{a}" data-b="{kind}{b}" d="{path}"/>'


def _details(graph: Graph, node: Node, types: Mapping[str, TensorType], microseconds: float | None) -> str:
    from ..graph import TensorType as Kind

    lines = [f"{node.qualified}  {node.name}"]
    if microseconds is not None:
        lines.append(f"time: {microseconds:.2f} us")
    for i in node.inputs:
        constant = graph.constants.get(i)
        kind = f"constant {Kind.of(constant)}" if constant is not None else types.get(i, "?")
        lines.append(f"input {i}: {kind}" if i else "input absent")
    lines += [f"output {o}: {types.get(o, '?')}" for o in node.outputs if o]
    lines += [f"{k} = {_value(v)}" for k, v in sorted(node.attributes.items())]
    return "\n".join(lines)


def _value(value: Any) -> str:
    shown = repr(value) if not hasattr(value, "nodes") else f"a graph of {len(value.nodes)} nodes"
    return shown if len(shown) <= 300 else f"{shown[:300]}..."
