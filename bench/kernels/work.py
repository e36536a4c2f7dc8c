"""A kernel with operands, made ready to be timed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from forwardpass import _native
from forwardpass._call import Bound
from forwardpass.config import settings
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.memory import aligned_empty
from forwardpass.plan import make_plan

Array = npt.NDArray[Any]
MAX_RANK = 6
ELEMENTS = 1 << 15


@dataclass(frozen=True)
class Work:
    """One kernel on one ISA, ready: `call` fills `y`."""

    call: Callable[[], None]
    y: Array


@dataclass(frozen=True)
class Case:
    """A kernel with operands.

    Attributes
    ----------
    prepare
        ISA -> the work.
    flops
        Multiplications and additions, 0 where the kernel has none to speak of.
    nbytes
        Of the operands that change from call to call: read plus written.
    portable
        Whether the output has the same bits on every ISA; packed weights have the ISA's own layout.
    """

    kernel: str
    label: str
    prepare: Callable[[str], Work]
    flops: int = 0
    nbytes: int = 0
    portable: bool = True


def normal(*shape: int) -> Array:
    """The same values for the same shape, on a cache line."""
    out = aligned_empty(shape)
    out[...] = np.random.default_rng(shape).standard_normal(shape, dtype=np.float32)
    return out


def direct(
    kernel: str, label: str, params: dict[str, Any], inputs: Sequence[Array], shape: tuple[int, ...], units: int
) -> Case:
    """A kernel with its parameter block written out."""

    def prepare(isa: str) -> Work:
        y = aligned_empty(shape)
        y[...] = 0  # what a kernel leaves alone, such as the inside of a border
        program = _native.Program(1)
        program.add_output("y", y.dtype.name, shape)
        program.add_step(isa, kernel, params, [(x, 0) for x in inputs], ("output", 0, 0), [(0, units)], True)
        program.finish(0)
        bound = Bound(program, [], [(y.dtype, shape)], False, lambda step: AssertionError(f"no fault of step {step}"))
        return Work(lambda: bound.run([], [y]), y)

    nbytes = 4 * int(np.prod(shape)) + sum(x.nbytes for x in inputs)
    return Case(kernel, label, prepare, nbytes=nbytes)


class OtherKernels(Exception):  # noqa: N818 - of an ISA that goes another way
    """On this ISA the node runs by other kernels."""


def planned(
    kernel: str,
    label: str,
    node: Node,
    given: Mapping[str, Array],
    constants: Mapping[str, Array],
    *,
    beside: Collection[str] = (),
    precision: str = "float32",
) -> Case:
    """A kernel as the planner calls it for a node; the plan must be that kernel, and those `beside` it."""
    types = {k: TensorType.of(x) for k, x in given.items()}
    shapes = {k: x.shape for k, x in given.items()}
    graph = Graph(types, node.outputs, [node], constants)

    def plan(isa: str) -> Any:
        found = make_plan(graph, shapes, settings(1, precision, isa), {})
        kernels = {s.kernel for s in found.steps}
        if kernel not in kernels or kernels - {kernel, *beside}:
            raise OtherKernels(f"{node.op} runs by {', '.join(sorted(kernels))} on {isa}")
        return found

    def prepare(isa: str) -> Work:
        found = plan(isa)
        inputs, bound = list(given.values()), found.bound
        outputs = [np.empty(t.sizes, t.dtype) for t in found.outputs.values()]
        return Work(lambda: bound.run(inputs, outputs), outputs[0])

    plans = (_try(plan, isa) for isa in reversed(_native.available_isas()))
    some = next(filter(None, plans), None)  # of an ISA that has the kernel; not every machine has one
    nbytes = sum(x.nbytes for x in given.values()) + sum(t.nbytes for t in (some.outputs if some else {}).values())
    return Case(kernel, label, prepare, some.flops if some else 0, nbytes)


def _try(plan: Callable[[str], Any], isa: str) -> Any:
    try:
        return plan(isa)
    except OtherKernels:
        return None
