"""The steps of a plan as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..console import Console

__all__ = ["show_steps", "steps_of"]

FIELDS = ("node", "kernel", "algorithm", "isa", "threads", "bytes")


def steps_of(explanation: Any) -> list[dict[str, Any]]:
    """The steps that `forwardpass.explain` lists: the fields of the table, in values that JSON can hold."""
    return [{k: _plain(step.get(k)) for k in FIELDS} for step in explanation.steps]


def show_steps(console: Console, steps: Iterable[Mapping[str, Any]]) -> None:
    rows = [
        [
            step["node"],
            step["kernel"],
            step["algorithm"],
            step["isa"],
            step["threads"],
            f"{step['bytes'] or 0:,}",
        ]
        for step in steps
    ]
    console.table(["node", "kernel", "algorithm", "ISA", ">threads", ">bytes"], rows)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str)) else str(value)
