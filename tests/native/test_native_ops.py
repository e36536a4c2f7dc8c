"""Every operator's kernels, on every ISA: against the definition in float64, bit for bit across ISAs and threads."""

from __future__ import annotations

import numpy as np
import pytest
from planned import run

from cases import graph_of, parameters
from forwardpass.ops import Case, Operator, evaluate
from forwardpass.plan import Declined
from tolerance import native

# Cases without a native kernel for another reason than their dtype.
DECLINED = {
    ("Clip", "bounds from the caller"),
    ("Pow", "integer exponent"),
    ("MatMul", "batches broadcast"),
    ("MatMul", "dot product"),
    ("MatMul", "vector times matrices"),
    ("MatMul", "matrices times vector"),
    ("BatchNormalization", "from the caller"),
    ("BatchNormalization", "training"),
    ("Dropout", ""),
    ("Dropout", "ratio"),
    ("Dropout", "training_mode off"),
}

NATIVE = parameters(lambda operator: operator.lower is not None or operator.view)


def _may_decline(operator: Operator, case: Case) -> bool:
    """Whether the case has no native kernel; every other case must run natively."""
    types = [a.dtype for k, a in enumerate(case.draw()) if a is not None and k not in case.constants]
    return any(t != np.float32 for t in types) or (operator.name, case.name) in DECLINED


@pytest.mark.parametrize(("operator", "case"), NATIVE)
def test_native_equals_definition(operator: Operator, case: Case, isa: str) -> None:
    graph, inputs = graph_of(operator, case)
    if _may_decline(operator, case):
        with pytest.raises(Declined):
            run(graph, inputs, isa)
        return
    got = run(graph, inputs, isa)
    want = evaluate(graph, inputs, dtype=np.float64)
    for name in got:
        assert got[name].shape == want[name].shape
        np.testing.assert_allclose(got[name], want[name], **native(want[name]))
