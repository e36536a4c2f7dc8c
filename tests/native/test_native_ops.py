"""Every operator's kernels, on every ISA: against the definition in float64, bit for bit across ISAs and threads."""

from __future__ import annotations

import numpy as np
import pytest
from planned import run

from cases import graph_of, parameters
from forwardpass.ops import Case, Operator, evaluate, registry
from forwardpass.plan import Declined
from tolerance import native

NATIVE = parameters(lambda operator: operator.lower is not None or operator.view)

# Cases without a native kernel for another reason than their dtype. Those of Attention want the scores, which those of
# test_attention.py, test_attention_microsoft.py and test_group_query.py do not.
DECLINED = {
    *(("Attention", c.name) for c in registry["", "Attention"].cases),
    *(("com.microsoft.MultiHeadAttention", c.name) for c in registry["com.microsoft", "MultiHeadAttention"].cases),
    *(("com.microsoft.GroupQueryAttention", c.name) for c in registry["com.microsoft", "GroupQueryAttention"].cases),
    ("OneHot", "integers"),
    ("GlobalLpPool", "p 3"),
    ("Trilu", "k from a call"),
    ("Pow", "integer exponent"),
    ("MatMul", "batches broadcast"),
    ("MatMul", "dot product"),
    ("MatMul", "vector times matrices"),
    ("MatMul", "matrices times vector"),
    ("BatchNormalization", "from the caller"),
    ("BatchNormalization", "training"),
    ("Split", "sizes from a call"),
    ("Tile", "repeats from a call"),
    ("CenterCropPad", "shape from a call"),
    ("TopK", "K from a call"),
    ("CumSum", "axis from a call"),
    ("CumProd", "axis from a call"),
    ("Mod", "truncated"),
    ("Mod", "float"),
    ("Mod", "float scalar"),
    ("Mod", "outer"),
    ("Mod", "empty"),
}


def _may_decline(operator: Operator, case: Case) -> bool:
    """Whether the case has no native kernel; every other case must run natively."""
    types = [a.dtype for k, a in enumerate(case.draw()) if a is not None and k not in case.constants]
    other = any(t != np.float32 for t in types) and not (operator.typed or operator.view)
    return other or (f"{operator.domain}.{operator.name}".lstrip("."), case.name) in DECLINED


def test_what_declines_is_a_case() -> None:
    assert {(f"{o.domain}.{o.name}".lstrip("."), c.name) for o, c in (p.values for p in NATIVE)} >= DECLINED


@pytest.mark.parametrize(("operator", "case"), NATIVE)
def test_native_equals_definition(operator: Operator, case: Case, isa: str) -> None:
    graph, inputs = graph_of(operator, case)
    if _may_decline(operator, case):
        with pytest.raises(Declined):
            run(graph, inputs, isa)
        return
    got = run(graph, inputs, isa)
    plain = all(y.dtype == np.float32 for y in got.values())
    want = evaluate(graph, inputs, dtype=np.float64 if plain else None)
    for name in got:
        assert got[name].shape == want[name].shape
        if got[name].dtype.kind == "f":
            np.testing.assert_allclose(got[name], want[name], **native(want[name]))
        else:
            assert got[name].dtype == want[name].dtype
            np.testing.assert_array_equal(got[name], want[name])
