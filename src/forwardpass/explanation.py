"""Why a model runs as it does: what the passes did, the steps of the plan, and the configuration."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__, _native
from .config import PRECISIONS, choose_isa, default_threads
from .graph import Node
from .inputs import as_model
from .ops.lower_linear import PRODUCTS
from .plan import Plan
from .plan.depth_first import Chain
from .plan.hybrid import Hybrid
from .tabular import Parts, Report
from .text import aligned, human_bytes

if TYPE_CHECKING:
    from .plan.planner import Step
    from .run import Model

__all__ = ["Config", "Explanation", "Steps", "explain", "show_config"]


def explain(model: Model, shapes: Mapping[str, Sequence[int]] | None = None) -> Explanation:
    """What the passes rewrote and declined, and each step of the plan for `shapes` (by default batch 1).

    Returns
    -------
    Explanation
        Printable; `.log` is the passes' log, `.steps` a list of dicts with node, kernel, algorithm, isa, threads,
        bytes, flops; `.fallbacks` maps nodes without native kernels, which have the kernel "definition", to the
        reason.

    Raises
    ------
    InputError
        No model, or a shape that does not fit it.
    """
    return Explanation(model, shapes)


class Steps(Report):
    """The steps of a plan, native or not.

    Attributes
    ----------
    steps : list of dict
        Per step: node, kernel, algorithm, isa, threads, bytes, flops.
    chains : list of dict
        Per chain of steps that run by blocks of rows, or could: first and last node, steps, rows of a block, blocks of
        an image, bytes of the values between the steps, window_bytes that hold some rows of them instead, estimates
        saved_us and spent_us, and why it is declined, or "".
    arena_bytes, threads : int
        Of the plan.
    """

    def __init__(self, plan: Plan | Hybrid) -> None:
        parts: list[Plan | Node] = [plan] if isinstance(plan, Plan) else list(plan.planned())
        self.steps = [s for p in parts for s in (_steps(p) if isinstance(p, Plan) else [_definition(p)])]
        native = [p for p in parts if isinstance(p, Plan)]
        self.chains = [_chain(c) for p in native for c in p.chains]
        self.arena_bytes = sum(p.arena_bytes for p in native)
        self.threads = max((p.threads for p in native), default=1)

    def records(self) -> list[dict[str, Any]]:
        return self.steps

    def parts(self) -> Parts:
        rows = [
            [*(s[k] for k in ("node", "kernel", "algorithm", "isa", "threads")), f"{s['bytes']:,}", f"{s['flops']:,}"]
            for s in self.steps
        ]
        columns = ["node", "kernel", "algorithm", "ISA", ">threads", ">bytes", ">operations"]
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        after = ["", *_chain_lines(self.chains), f"arena {human_bytes(self.arena_bytes)}, {threads}"]
        return Parts([], columns, rows, after)


class Explanation(Steps):
    """See `explain`."""

    def __init__(self, model: Model, shapes: Mapping[str, Sequence[int]] | None = None) -> None:
        plan = as_model(model).plan(shapes)
        super().__init__(plan)
        self.log = model.log
        self.isa = model.settings.isa
        self.fallbacks: dict[str, str] = {}
        if isinstance(plan, Hybrid):
            self.fallbacks = {n.label: reason for n, reason in plan.reasons.items()}

    def parts(self) -> Parts:
        lines = ["passes", *(f"  {line}" for line in (str(self.log) or "nothing to do").splitlines()), ""]
        if self.fallbacks:
            lines += ["nodes that run by their NumPy definition"]
            lines += [*(f"  {k}: {v}" for k, v in self.fallbacks.items()), ""]
        return super().parts()._replace(before=[*lines, "plan"])

    def __str__(self) -> str:
        before, columns, rows, after = self.parts()
        return "\n".join([*before, *(f"  {line}" for line in aligned(columns, rows)), *after])


def _steps(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "node": s.node.title,
            "kernel": s.kernel,
            "algorithm": _algorithm(s),
            "isa": plan.isa,
            "threads": max(s.threads, 1),
            "bytes": s.nbytes,
            "flops": s.flops,
        }
        for s in plan.steps
    ]


def _chain(c: Chain) -> dict[str, Any]:
    first, last = (m.step.node.title for m in (c.members[0], c.members[-1]))
    return {
        "first": first, "last": last, "steps": c.last - c.first + 1, "rows": c.rows, "blocks": c.blocks,
        "bytes": c.nbytes, "window_bytes": sum(b.nbytes for b in c.windows),
        "saved_us": c.saved, "spent_us": c.spent, "declined": c.declined,
    }  # fmt: skip


def _chain_lines(chains: Sequence[dict[str, Any]]) -> list[str]:
    """The chains, one to a line."""
    lines = ["by blocks of rows"] if chains else []
    for c in chains:
        weighed = f"saves about {c['saved_us']:.0f} us for {c['spent_us']:.0f} us"
        if c["declined"]:
            how = f"no, {c['declined']} ({weighed})"
        else:
            between, window = human_bytes(c["bytes"]), human_bytes(c["window_bytes"])
            how = f"{c['blocks']} x {c['rows']} rows, {between} between them in {window}, {weighed}"
        lines.append(f"  {c['first']} .. {c['last']}, {c['steps']} steps: {how}")
    return [*lines, ""] if lines else []


def _definition(node: Node) -> dict[str, Any]:
    name = node.title
    return {"node": name, "kernel": "definition", "algorithm": f"{node.qualified} in NumPy", "isa": "-"} | {
        "threads": 1, "bytes": 0, "flops": 0,
    }  # fmt: skip


def _algorithm(s: Step) -> str:
    """How the kernel goes about this step, in words."""
    p = s.params
    if s.kernel == "brgemm_split_f32":
        return _tiles(p)
    if s.kernel == "attention_bf16":
        return f"bf16 tiles of {p['tile_m']} rows"
    if s.kernel == "linear_split_f32":
        return f"{p['rows']}x{p['n']}x{p['k']}, {_terms(p)} tiles of 16 rows"
    if s.kernel not in PRODUCTS:
        return ", ".join(filter(None, [p.get("activation"), "pools 2x2" if p.get("pooled") else None]))
    rows = p["batch"] * p["oh"] * p["ow"]
    shape = f"{rows}x{p['n']}x{p['k']}"
    parts = [shape if p["groups"] == 1 else f"{p['groups']} groups of {shape}"]
    parts.append(f"{p['n_chunks']} sums" if p["n_chunks"] > 1 else "1 sum")
    parts.append("split by columns" if p["split_n"] else f"tiles of {p['tile_m']} rows")
    return ", ".join([*parts, *([p["activation"]] if p.get("activation") else [])])


def _terms(p: dict[str, Any]) -> str:
    return f"bf16x{p['terms'] * (p['terms'] + 1) // 2}"


def _tiles(p: dict[str, Any]) -> str:
    rows, groups = p["batch"] * p["oh"] * p["ow"], p["n"] // p["group_out"]
    k = p["taps"] * p["group_in"] if groups > 1 else sum(int(valid).bit_count() for valid in p["steps"][:, 1])
    parts = [f"{groups} groups of {rows}x{p['group_out']}x{k}" if groups > 1 else f"{rows}x{p['n']}x{k}"]
    parts += [f"{_terms(p)} tiles of {p['tile_m']} rows"]
    parts += ["split by columns"] if p["split_n"] else []
    parts += filter(None, [p.get("activation")])
    return ", ".join([*parts, *(["splits the result"] if p["makes"] else [])])


class Config(Report):
    """See `show_config`. The attributes are the lines of the text."""

    def __init__(self) -> None:
        self.version = __version__
        self.python = platform.python_version()
        self.numpy = np.__version__
        self.cpu = _native.cpu_brand()
        self.caches = dict(zip(("l1d", "l2", "l3"), _native.cache_sizes()))
        self.isas = _native.isas()
        self.isa = choose_isa()
        self.threads, self.threads_reason = default_threads()
        self.precisions = dict(PRECISIONS)
        self.sanitize = _native.sanitize

    def records(self) -> list[dict[str, Any]]:
        return [dict(isa) for isa in self.isas]

    def parts(self) -> Parts:
        caches = ", ".join(f"{k} {human_bytes(v)}" for k, v in self.caches.items() if v)
        lines = [
            f"forwardpass {self.version}, NumPy {self.numpy}, Python {self.python}",
            f"CPU: {self.cpu or 'unknown'} ({caches})",
            f"threads: {self.threads} ({self.threads_reason})",
        ]
        for isa in self.isas:
            state = "in use" if isa["name"] == self.isa else "available" if isa["available"] else isa["why_not"]
            lines.append(f"ISA {isa['name']}: {state}")
        lines += [f"precision {name}: {text}" for name, text in self.precisions.items()]
        return Parts([*lines, *([f"sanitizers: {self.sanitize}"] if self.sanitize else [])], [], [], [])


def show_config() -> Config:
    """Versions, CPU, ISAs and why some are out, threads and the reason for their number, precisions."""
    return Config()
