"""What operators lower to, run by an interpreter of the parameter blocks on operands with gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cases import graph_of, parameters
from forwardpass.graph import Node, TensorType
from forwardpass.ops import Case, Operator, infer_types, registry
from forwardpass.ops.lower import collapse
from interpreter import KERNEL_BLOCKS, RUN, Context, fill, place, read
from tolerance import FLOAT32_OF_FLOAT64

# Their kernel reads packed weights; tests/native runs them.
BRGEMM = {("", "MatMul"), ("", "Gemm"), ("fused", "Linear"), ("nhwc", "Conv"), ("nhwc", "ConvTranspose")}


# Shares its parameter block with the softmaxes, but not its meaning; tests/native runs it.
NOT_INTERPRETED = {"log_sum_exp_f32"}


def _lowered(operator: Operator) -> bool:
    return operator.lower is not None and (operator.domain, operator.name) not in BRGEMM


def _interpreted(operator: Operator, case: Case) -> bool:
    """Whether the case is of float32 alone, and its kernels are among those of the interpreter."""
    graph, inputs = graph_of(operator, case)
    types = infer_types(graph)
    values = [types[v] for v in (*inputs, *graph.outputs)]
    if any(t.dtype != np.float32 or not t.is_known for t in values) or len(graph.outputs) > 1:
        return False
    context, _ = _context(operator, case, 0)
    context.runs = False
    assert operator.lower is not None
    reason = operator.lower(context)  # type: ignore[arg-type]
    if reason:
        return (operator.name, case.name) in DECLINES
    return all(KERNEL_BLOCKS[kernel] in RUN and kernel not in NOT_INTERPRETED for kernel in context.kernels)


def _context(operator: Operator, case: Case, gap: int) -> tuple[Context, list[np.ndarray | None]]:
    graph, _ = graph_of(operator, case)
    node, arrays = graph.nodes[0], case.draw()
    shape = infer_types(graph)[node.outputs[0]].shape
    assert shape is not None
    inputs = []
    for a in arrays:
        made = None if a is None else place(a.shape, gap if a.ndim > 1 else 0)
        if made is not None and a is not None:
            fill(made, a)
        inputs.append(made)
    out = place([d for d in shape if isinstance(d, int)], gap)
    assert out.shape == shape, "the shape of every native case is known"
    types = [None if a is None else TensorType.of(a) for a in arrays]
    constants = [a if k in case.constants else None for k, a in enumerate(arrays)]
    return Context(node, operator.bind(node), types, inputs, constants, out), arrays


# (operator, case) -> why it has no native kernel. Every other case with a lowering must not decline.
DECLINES = {
    ("GlobalLpPool", "p 3"): "only p 1 and 2 have native kernels",
    ("Pow", "integer exponent"): "dtype int64 has no native kernel",
    ("BatchNormalization", "from the caller"): "scale, B, mean and var are not all constant",
}


INTERPRETED = [p for p in parameters(_lowered) if _interpreted(*p.values)]


def test_most_cases_are_interpreted() -> None:
    assert len(INTERPRETED) > 300
    assert DECLINES.keys() <= {(operator.name, case.name) for operator, case in (p.values for p in INTERPRETED)}


@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize(("operator", "case"), INTERPRETED)
def test_lowering_computes_the_definition(operator: Operator, case: Case, gap: int) -> None:
    context, arrays = _context(operator, case, gap)
    assert operator.lower is not None
    reason = operator.lower(context)  # type: ignore[arg-type]
    assert reason == DECLINES.get((operator.name, case.name))
    if reason:
        assert not context.kernels, "a lowering that declines emits nothing"
        return
    with np.errstate(all="ignore"):
        found = operator.reference(context.attributes, *arrays)
    expected = found[0] if isinstance(found, tuple) else found
    np.testing.assert_allclose(read(context.out), expected, **FLOAT32_OF_FLOAT64)
    for a, t in zip(arrays, context.inputs):
        if a is not None and t is not None and a.dtype == np.float32:
            np.testing.assert_array_equal(read(t), a)
    left = context.out.buffer.data[~context.out.buffer.own]
    assert np.isnan(left).all(), "the gaps are untouched"


def _keeps_shape(operator: Operator, case: Case) -> bool:
    """Whether input 0 has the shape of the output, so that the output may take its place."""
    context, _ = _context(operator, case, 0)
    return context.inputs[0] is not None and context.inputs[0].shape == context.out.shape


@pytest.mark.parametrize(
    ("operator", "case"), [p for p in INTERPRETED if p.values[0].elementwise and _keeps_shape(*p.values)]
)
def test_elementwise_operators_may_overwrite_input_0(operator: Operator, case: Case) -> None:
    context, arrays = _context(operator, case, 0)
    first = context.inputs[0]
    assert first is not None
    context.out = first
    assert operator.lower is not None
    reason = operator.lower(context)  # type: ignore[arg-type]
    assert reason == DECLINES.get((operator.name, case.name))
    if reason:
        return
    with np.errstate(all="ignore"):
        found = operator.reference(context.attributes, *arrays)
    np.testing.assert_allclose(read(first), found, **FLOAT32_OF_FLOAT64)


def test_a_chain_does_not_overwrite_an_operand_that_it_reads_again(rng: np.random.Generator) -> None:
    x, y = (rng.standard_normal((2, 3), dtype=np.float32) for _ in range(2))
    operator = registry["", "Sum"]
    held = place((2, 3), 0), place((2, 3), 0)
    fill(held[0], x)
    fill(held[1], y)
    node = Node("Sum", ["x", "y", "x"], ["z"])
    types: list[Any] = [TensorType.of(x)] * 3
    context = Context(node, {}, types, [held[0], held[1], held[0]], [None] * 3, held[0])
    assert operator.lower is not None
    assert operator.lower(context) is None  # type: ignore[arg-type]
    np.testing.assert_allclose(read(held[0]), x + y + x, **FLOAT32_OF_FLOAT64)


def test_concatenation_in_place_emits_nothing() -> None:
    out = place((2, 5), 0)
    parts = [_part(out, 0, 2), _part(out, 2, 3)]
    node = Node("Concat", ["a", "b"], ["y"], {"axis": 1})
    types: list[Any] = [TensorType(np.dtype(np.float32), p.shape) for p in parts]
    operator = registry["", "Concat"]
    context = Context(node, operator.bind(node), types, list(parts), [None, None], out)
    assert operator.lower is not None
    assert operator.lower(context) is None  # type: ignore[arg-type]
    assert context.kernels == []


def _part(whole: Any, start: int, length: int) -> Any:
    return type(whole)(whole.buffer, (whole.shape[0], length), whole.strides, whole.offset + start)


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [
        ((2, 3, 4), (12, 4, 1), ((24,), [(1,)])),
        ((2, 3, 4), (24, 4, 1), ((2, 12), [(24, 1)])),
        ((2, 1, 4), (9, 77, 1), ((2, 4), [(9, 1)])),
        ((2, 3), (0, 0), ((6,), [(0,)])),
        ((1, 1), (5, 5), ((1,), [(1,)])),
        ((), (), ((1,), [(1,)])),
        ((3, 0, 2), (1, 1, 1), ((0,), [(1,)])),
    ],
)
def test_collapse(shape: tuple[int, ...], strides: tuple[int, ...], expected: Any) -> None:
    assert collapse(shape, strides) == expected


def test_collapse_needs_a_single_stride_for_every_operand() -> None:
    assert collapse((2, 3), (3, 1), (0, 1)) == ((2, 3), [(3, 1), (0, 1)])


def test_collapse_declines_more_than_six_dimensions() -> None:
    assert collapse((2,) * 7, tuple(3**k for k in range(7))) is None
    assert collapse((2,) * 7, tuple(2**k for k in reversed(range(7)))) == ((128,), [(1,)])
