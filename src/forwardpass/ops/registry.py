"""What an operator is: attributes, shape rule, NumPy definition, test cases, and its way to kernel steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import GraphError, UnsupportedError, suggest
from ..graph import Array, Node, TensorType, Value
from ..records import field, record
from .catalog import CATALOG, load

__all__ = [
    "REQUIRED",
    "Attributes",
    "Case",
    "Constants",
    "Lowering",
    "Operator",
    "Tensor",
    "Types",
    "find",
    "operator",
    "operator_names",
    "registry",
    "supported",
]

Attributes = Mapping[str, Any]
FLOAT = np.dtype(np.float32)
REQUIRED = object()
"""As the default of an attribute: it must be given."""

Types = Sequence["TensorType | None"]
Constants = Sequence["Value"]


@record(slots=True, eq=False)
class Tensor:
    """Where a value lives in a plan. Strides and offset count elements, not bytes."""

    buffer: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def contiguous(self) -> bool:
        """C order without holes."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides)):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Lowering(Protocol):
    """What plan/planner.py gives to an operator's `lower`: the node's tensors, and a place to put steps."""

    @property
    def node(self) -> Node: ...

    @property
    def attributes(self) -> Attributes:
        """The node's, with defaults."""

    @property
    def types(self) -> Types:
        """The types of the inputs, shapes known; None where an input is absent."""

    @property
    def outputs(self) -> Sequence[TensorType]:
        """The types of the outputs."""

    @property
    def panel(self) -> int:
        """Columns of a packed panel of B on the ISA in use."""

    @property
    def tile_panels(self) -> tuple[int, ...]:
        """Most panels of a register tile of brgemm of 1, 2, ... rows on the ISA in use."""

    @property
    def approximate(self) -> bool:
        """Whether the precision allows results that are less accurate than sequential sums."""

    @property
    def half_weights(self) -> bool:
        """Whether weights may be kept as bfloat16 numbers."""

    @property
    def terms(self) -> int:
        """bfloat16 terms that the operands of a product on matrix tiles are split in; 0 where there are no tiles, or
        the precision does not allow them."""

    @property
    def threads(self) -> int:
        """Threads that the plan may use."""

    @property
    def steps(self) -> Sequence[Any]:
        """Those of the nodes before, and of this one so far."""

    def declared(self, index: int) -> TensorType | None:
        """What the model says of an input, whatever a call brings: what follows from it is the same for every row and
        every padding. None where it is absent, or nothing is known."""

    def input(self, index: int) -> Tensor | None:
        """The tensor of an input; None where it is absent. Constants have a tensor too."""

    def constant(self, index: int) -> Array | None:
        """The value of an input that is a constant, else None."""

    def output(self, index: int = 0) -> Tensor: ...

    def tensor(self, array: Array, shape: tuple[int, ...] | None = None) -> Tensor:
        """A tensor over an array, to be an input of a step: one that `packed` gave, or one of this plan alone. One that
        follows from sizes is made by `tracked.call`, and its shape is given."""

    def has_output(self, index: int) -> bool:
        """Whether anybody reads the output."""

    def temporary(self, shape: tuple[int, ...], dtype: np.dtype[Any] = FLOAT) -> Tensor:
        """Contiguous memory that lives for this node only."""

    def padded(self, image: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
        """The NHWC image such that its border of `pads` (top, left, bottom, right) lies around it in memory,
        filled with zeros: the image itself where the plan keeps a border for it, else a copy."""

    def packed(self, key: tuple[Any, ...], make: Callable[[], Array]) -> Array:
        """Data made once per model from constants (packed weights), shared by its plans. Never of a size that a call
        decides: they are kept as long as the model."""

    def pack_b(self, b: Array) -> Array:
        """Constant B [batch, K, N] float32, or one B whose rows are [parts, rows of a part] of any strides -> packed
        panels, made by `pack_b_f32` of the ISA in use."""

    def pack_half(self, b: Array) -> Array:
        """As `pack_b`, of bfloat16 numbers."""

    def pack_split(self, b: Array, *, floats: bool = False) -> Array:
        """Constant B [taps, K, N] float32 -> tiles of `terms` terms, or of `floats` alone, made by `pack_split_f32`."""

    def pack_winograd(self, w: Array, rows: int, cols: int, columns: int) -> Array:
        """Constant W [3, 3, C, N] float32 -> weights of the products of tiles of rows x cols outputs, in slices of so
        many columns: whole panels."""

    def step(
        self,
        kernel: str,
        params: dict[str, Any],
        inputs: Sequence[Tensor | None],
        output: Tensor,
        *,
        units: int,
        grain: int = 1,
        flops: int = 0,
        products: Any = None,
    ) -> None:
        """Append a kernel call. `params` are the fields of its block in csrc/kernels/params.def; an array
        stands for its address and is kept alive. `units` is the size of the kernel's range, cut at multiples
        of `grain`. `products` are those of matrix tiles, for who lets them read their operand elsewhere."""


@record(frozen=True, slots=True)
class Case:
    """One example of an operator, run by the tests against ONNX's own evaluator and on every ISA."""

    inputs: tuple[Any, ...]
    """Arrays, shapes from which `draw` makes float32 values, or None for an absent optional input."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    constants: tuple[int, ...] = ()
    """Which inputs are constants in a model: weights, axes, pads. The others are what a call supplies."""

    def draw(self, seed: int = 0) -> list[Array | None]:
        """The inputs as arrays: standard normal float32 values where the case has only a shape."""
        rng = np.random.default_rng(seed)

        def make(given: Any) -> Array | None:
            if given is None:
                return None
            if isinstance(given, tuple):
                return np.asarray(rng.standard_normal(given, dtype=np.float32), dtype=np.float32)
            return np.asarray(given)

        return [make(i) for i in self.inputs]


@record(frozen=True, slots=True)
class Operator:
    """An operator.

    Attributes
    ----------
    attributes
        Name -> default; `REQUIRED` where there is none.
    arity
        Least and most inputs; most is None for variadic ones.
    infer
        `(attributes, input types, input constants) -> output types`. Dimensions may be unknown.
    reference
        `(attributes, *arrays) -> array or tuple of arrays`: the NumPy definition. It keeps the dtype of its
        inputs, so float64 inputs give the float64 reference of the tests. Never changes its inputs.
    lower
        `(lowering) -> None, or why not`: emits kernel steps. An operator without one runs by its definition.
    view
        Output 0 is input 0's memory under another shape; the planner copies only where it must.
    elementwise
        Output 0 has the strides of any layout, and may share the memory of input 0.
    strided
        `lower` accepts tensors whose outer dimensions have gaps (the last dimension is always dense).
    typed
        `lower` looks after dtypes and all outputs itself. Without it, it is only asked where all outputs are float32
        and nobody reads any but the first.
    narrow
        `reference` takes and gives arrays of the narrow types of dtypes.py itself. Without it they are decoded
        before, and encoded after.
    pure
        Equal inputs give equal outputs. Random operators do not, and are never folded into constants.
    """

    name: str
    domain: str
    attributes: Mapping[str, Any]
    arity: tuple[int, int | None]
    infer: Callable[[Attributes, Types, Constants], list[TensorType]]
    reference: Callable[..., Any]
    lower: Callable[[Lowering], str | None] | None
    cases: tuple[Case, ...]
    view: bool
    elementwise: bool
    strided: bool
    typed: bool
    narrow: bool
    pure: bool

    def bind(self, node: Node) -> dict[str, Any]:
        """The node's attributes with defaults filled in.

        Raises
        ------
        GraphError
            Too few or too many inputs, an unknown attribute, or a missing one.
        """
        low, high = self.arity
        given = len(node.inputs)
        while given and not node.inputs[given - 1]:
            given -= 1
        if given < low or (high is not None and given > high):
            most = "or more" if high is None else f"to {high}"
            raise GraphError("wrong number of inputs", where=node.label, expected=f"{low} {most}", got=str(given))
        if not all(node.inputs[:low]):
            raise GraphError("a required input is absent", where=node.label)
        bound = {**self.attributes, **node.attributes}
        if len(bound) > len(self.attributes):
            unknown = next(k for k in bound if k not in self.attributes)
            known = ", ".join(self.attributes) or "none"
            hint = suggest(unknown, self.attributes)
            raise GraphError(f"unknown attribute {unknown!r}", where=node.label, expected=f"one of: {known}", hint=hint)
        for k, v in bound.items():
            if v is REQUIRED:
                raise GraphError(f"attribute {k!r} is missing", where=node.label)
        return bound


registry: dict[tuple[str, str], Operator] = {}
"""(domain, name) -> operator. Filled by importing the modules of this package."""


def operator(
    name: str,
    *,
    infer: Callable[[Attributes, Types, Constants], list[TensorType]],
    reference: Callable[..., Any],
    attributes: Mapping[str, Any] | None = None,
    arity: tuple[int, int | None] = (1, 1),
    domain: str = "",
    lower: Callable[[Lowering], str | None] | None = None,
    cases: Sequence[Case] = (),
    view: bool = False,
    elementwise: bool = False,
    strided: bool = False,
    typed: bool = False,
    narrow: bool = False,
    pure: bool = True,
) -> Operator:
    """Make an operator and put it into the registry."""
    made = Operator(
        name,
        domain,
        dict(attributes or {}),
        arity,
        infer,
        reference,
        lower,
        tuple(cases),
        view,
        elementwise,
        strided,
        typed,
        narrow,
        pure,
    )
    registry[domain, name] = made
    return made


def operator_names(domain: str) -> list[str]:
    """The operators of a domain, loaded or not."""
    listed = {n for _, d, names in CATALOG if d == domain for n in names.split()}
    return sorted(listed | {n for d, n in registry if d == domain})


def find(node: Node) -> Operator:
    """The operator of a node.

    Raises
    ------
    UnsupportedError
        There is none of that name and domain.
    """
    key = (node.domain, node.op)
    if key not in registry and not load(*key):
        hint = suggest(node.op, operator_names(node.domain))
        raise UnsupportedError(f"unknown operator {node.qualified}", where=node.label, hint=hint)
    return registry[key]


def supported(domain: str, name: str) -> bool:
    """Whether there is an operator of that name."""
    return (domain, name) in registry or load(domain, name)
