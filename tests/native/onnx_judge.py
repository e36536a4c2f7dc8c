"""A model of random nodes: what its outputs are, and how far from that float arithmetic may get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from forwardpass.graph import Graph
from forwardpass.ops import evaluate
from forwardpass.ops.evaluate import _widened, evaluate_node
from onnx_graphs.grower import MOVES
from tolerance import spread_of

__all__ = ["Judge"]

Array = np.ndarray[Any, Any]
_SAMPLES = 3


class Judge:
    """The outputs of a graph in float64, and how much they move when every rounded value moves as rounding moves it.

    Parameters
    ----------
    graph
        The graph.
    feeds
        Its inputs.
    exact
        Names of values that no precision rounds.
    seed
        Of the movements.
    """

    def __init__(self, graph: Graph, feeds: Mapping[str, Array], exact: frozenset[str], seed: int) -> None:
        self.graph, self.feeds, self.exact = graph, feeds, exact
        names = [o for n in graph.nodes for o in n.outputs if o]
        self.own: dict[str, Any] = evaluate(graph, feeds, outputs=[*names, *graph.outputs])
        self.want = self._moved(None)
        rng = np.random.default_rng(seed)
        self.moved = [self._moved(rng) for _ in range(_SAMPLES)]

    def _moved(self, rng: np.random.Generator | None) -> dict[str, Any]:
        """All values in float64; with a generator, moved."""
        target = np.dtype(np.float64)
        values: dict[str, Any] = {k: _wide(v) for k, v in {**self.graph.constants, **self.feeds}.items()}
        for node in self.graph.nodes:
            given = [values[i] if i else None for i in node.inputs]
            results = [_wide(r) for r in evaluate_node(_widened(node, target), given)]
            for name, r in zip(node.outputs, results):
                if name and rng is not None and node.op not in MOVES and name not in self.exact:
                    r = self._move(name, r, given, rng)
                values[name] = r
        return values

    def _move(self, name: str, result: Any, given: list[Any], rng: np.random.Generator) -> Any:
        own = self.own[name]
        if not isinstance(own, np.ndarray) or own.dtype.kind != "f":
            return result
        scale = max(_largest(v) for v in (result, *given))
        return np.asarray(result + spread_of(own.dtype) * scale * rng.choice([-1.0, 1.0], result.shape))

    def check(self, name: str, found: Any, who: str) -> None:
        """Assert that a result is right: equal if nothing rounds it, else as near as its movements."""
        want, own = self.want[name], self.own[name]
        found = np.asarray(found)
        assert found.shape == own.shape, f"{who}: shape of {name}: {found.shape}, not {own.shape}"
        assert found.dtype == own.dtype, f"{who}: dtype of {name}: {found.dtype}, not {own.dtype}"
        if own.dtype.kind != "f":
            np.testing.assert_array_equal(found, want, err_msg=f"{who}: {name}")
            return
        moved = np.stack([m[name] for m in self.moved])
        with np.errstate(all="ignore"):
            apart = np.abs(moved - want).max(axis=0)
            alike = (np.isnan(moved) == np.isnan(want)).all(axis=0) & (np.isinf(moved) == np.isinf(want)).all(axis=0)
            limit = 8 * apart + 8 * spread_of(own.dtype) * _largest(want)
            near = np.abs(found.astype(np.float64) - want) <= limit
        same = near | (found == want) | (np.isnan(found) & np.isnan(want))
        wrong = alike & ~same
        if wrong.any():
            worst = np.argwhere(wrong)[:5].tolist()
            details = "; ".join(
                f"{tuple(k)}: {found[tuple(k)]}, not {want[tuple(k)]} within {limit[tuple(k)]:.3g}" for k in worst
            )
            raise AssertionError(f"{who}: {name}: {int(wrong.sum())} of {wrong.size} wrong: {details}")


def _wide(value: Any) -> Any:
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def _largest(value: Any) -> float:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return 0.0
    finite = value[np.isfinite(value)]
    return float(np.abs(finite).max(initial=0.0))
