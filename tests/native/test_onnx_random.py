"""Random ONNX graphs: native, the NumPy definitions and onnxruntime agree.

`FORWARDPASS_RANDOM_GRAPHS` is the number of graphs, `FORWARDPASS_RANDOM_SEED` the first of their seeds.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")

import onnx  # noqa: E402
from judge import newest_opset  # noqa: E402
from onnx_deviations import deviation  # noqa: E402
from onnx_judge import Judge  # noqa: E402

import forwardpass as fp  # noqa: E402
from forwardpass import _native  # noqa: E402
from forwardpass.formats import npz  # noqa: E402
from forwardpass.formats.onnx import import_model  # noqa: E402
from forwardpass.ops import infer_types  # noqa: E402
from onnx_graphs import Drawn, onnx_graphs  # noqa: E402

GRAPHS = int(os.environ.get("FORWARDPASS_RANDOM_GRAPHS", "1000"))
FIRST_SEED = int(os.environ.get("FORWARDPASS_RANDOM_SEED", "0"))
PER_TEST = 50
BLOCKS = -(-GRAPHS // PER_TEST)


def _session(data: bytes) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def opsets() -> tuple[int, ...]:
    """Opsets of which each changed many operators, up to the newest that both packages have."""
    return (newest_opset(), newest_opset(), 21, 18, 17, 13, 11, 9, 7)


def _theirs(drawn: Drawn) -> list[Any] | str:
    """What onnxruntime gives, or why it does not."""
    for op, attributes, inputs in drawn.steps:
        reason = deviation(op, attributes, inputs)
        if reason:
            return reason
    try:
        session = _session(drawn.model.SerializeToString())
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error):
            return "not implemented"
        raise
    return list(session.run(None, drawn.feeds))


def check(drawn: Drawn) -> str:
    """Assert that all agree. Returns "agreed", or why onnxruntime was not asked."""
    onnx.checker.check_model(drawn.model, full_check=True)
    graph = import_model(drawn.model)
    judge = Judge(graph, drawn.feeds, drawn.exact, seed=len(drawn.feeds))
    types = infer_types(graph)
    for name in graph.outputs:
        own = judge.own[name]
        judge.check(name, own, "definitions")
        assert types[name].dtype == own.dtype
        shape = types[name].shape
        if shape is not None:
            assert len(shape) == own.ndim, f"inferred {types[name]}, got {own.shape}"
            assert all(not isinstance(d, int) or d == n for d, n in zip(shape, own.shape)), (name, shape, own.shape)
    before = {k: v.tobytes() for k, v in drawn.feeds.items()}
    model = fp.from_onnx(drawn.model, threads=drawn.threads)
    first = model.run(drawn.feeds)
    for name, array in first.items():
        judge.check(name, array, "native")
    for name, array in model.run(drawn.feeds).items():
        assert array.tobytes() == first[name].tobytes(), f"{name} differs in a second run"
    for name, array in fp.Model(npz.from_bytes(npz.to_bytes(graph)), threads=1).run(drawn.feeds).items():
        assert array.tobytes() == first[name].tobytes(), f"{name} differs after it was saved, or by the threads"
    for isa in _native.available_isas():
        for name, array in fp.Model(graph, threads=1, precision="portable", isa=isa).run(drawn.feeds).items():
            judge.check(name, array, f"native, {isa}")
    assert {k: v.tobytes() for k, v in drawn.feeds.items()} == before
    theirs = _theirs(drawn)
    if isinstance(theirs, str):
        return theirs
    for output, array in zip(drawn.model.graph.output, theirs):
        judge.check(output.name, array, "onnxruntime")
    return "agreed"


@pytest.mark.usefixtures("every_step_split")
@pytest.mark.parametrize("block", range(BLOCKS))
def test_all_agree(block: int) -> None:
    number = FIRST_SEED + block
    print(f"seed: {number} (FORWARDPASS_RANDOM_GRAPHS={PER_TEST} FORWARDPASS_RANDOM_SEED={number})")
    ends: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=PER_TEST,
        database=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(onnx_graphs(opsets()))
    def every(drawn: Drawn) -> None:
        ends[check(drawn)] += 1

    with np.errstate(all="ignore"):
        every()
    print(dict(ends))
    assert ends["agreed"] >= PER_TEST // 2, f"onnxruntime judged too few graphs: {dict(ends)}"


@settings(max_examples=60, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(onnx_graphs(opsets(), most=3))
def _count_errors_found(counts: Counter[bool], drawn: Drawn) -> None:
    """Count the outputs of which the judge tells that they are spoilt."""
    graph = import_model(drawn.model)
    judge = Judge(graph, drawn.feeds, drawn.exact, seed=0)
    for name in graph.outputs:
        own = judge.own[name]
        wrong = own + 1 if own.dtype.kind in "iu" else ~own if own.dtype.kind == "b" else own * own.dtype.type(1.01)
        if np.array_equal(wrong, own, equal_nan=own.dtype.kind == "f"):
            continue  # zeros, infinities, nothing at all
        try:
            judge.check(name, wrong, "spoilt")
        except AssertionError:
            counts[True] += 1
        else:
            counts[False] += 1


def test_judge_finds_errors_of_a_percent() -> None:
    """Limits that follow the conditioning of a graph are not so wide that everything fits."""
    counts: Counter[bool] = Counter()
    with np.errstate(all="ignore"):
        _count_errors_found(counts)
    assert counts[True] > 50
    assert counts[False] < 0.1 * counts[True], counts
