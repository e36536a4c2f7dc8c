"""Every kernel on every ISA, alone.

    pytest bench/kernels --benchmark-only [-k "brgemm or softmax"] [--benchmark-json FILE]

Before it is timed a kernel's result is compared with the scalar one, which must have the same bits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from work import OtherKernels

from cases import Case, cases_of
from forwardpass import _native


@cache
def _reference(case: Case) -> bytes:
    """What comes out on the ISA nearest to the scalar one that has the kernel."""
    for isa in reversed(_native.available_isas()):
        try:
            work = case.prepare(isa)
        except OtherKernels:
            continue
        work.call()
        return work.y.tobytes()
    raise AssertionError("no ISA has the kernel")


CASES = [case for kernel in _native.kernel_names() for case in cases_of(kernel)]


@pytest.mark.parametrize("isa", _native.available_isas())
@pytest.mark.parametrize("case", CASES, ids=[f"{c.kernel}-{c.label}" for c in CASES])
def test_kernel(benchmark: Any, case: Case, isa: str) -> None:
    try:
        work = case.prepare(isa)
    except OtherKernels as other:
        pytest.skip(str(other))
    work.call()
    assert work.y.dtype.kind != "f" or np.isfinite(work.y).all()
    if case.portable:
        assert work.y.tobytes() == _reference(case), "not the bits of the scalar kernel"
    benchmark.group = f"{case.kernel} {case.label}"
    benchmark.extra_info.update(kernel=case.kernel, case=case.label, isa=isa, flops=case.flops, bytes=case.nbytes)
    benchmark(work.call)
    if benchmark.stats is not None:  # timing may be switched off
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["gb_per_s"] = case.nbytes / seconds * 1e-9
        if case.flops:
            benchmark.extra_info["gflops"] = case.flops / seconds * 1e-9
