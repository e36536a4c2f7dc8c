"""The edge where a caller's arrays come in: everything is validated here, once, and trusted inside."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .dtypes import STRING, decode, encode, from_foreign, is_narrow, name_of
from .errors import InputError, unknown
from .graph import Array, TensorType, Value
from .memory import is_dense

if TYPE_CHECKING:
    from .run import Model

__all__ = [
    "as_array",
    "as_mapping",
    "as_model",
    "as_ndarray",
    "as_shape",
    "as_tensor",
    "as_value",
    "bind_arguments",
    "bind_outputs",
    "bind_shapes",
    "by_name",
    "check_output",
    "check_shapes",
    "shape_of",
]


def as_model(model: Any) -> Model:
    """A model, as it is.

    Raises
    ------
    InputError
        It is none.
    """
    from .run import Model

    if isinstance(model, Model):
        return model
    hint = "forwardpass.Model(graph) makes one"
    raise InputError("not a model", where="model", expected="a Model", got=type(model).__name__, hint=hint)


def as_mapping(given: Any, where: str, expected: str) -> Mapping[Any, Any]:
    """A mapping, as it is.

    Raises
    ------
    InputError
        It is none.
    """
    if isinstance(given, Mapping):
        return given
    raise InputError("not a mapping", where=where, expected=expected, got=type(given).__name__)


def bind_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], inputs: Mapping[str, TensorType]
) -> dict[str, Any]:
    """The values of a call by input name.

    Raises
    ------
    InputError
        Too many, unknown, repeated or missing inputs.
    """
    names = list(inputs)
    if len(args) > len(names):
        raise InputError(
            "too many inputs", where="call", expected=f"{len(names)}: {', '.join(names)}", got=str(len(args))
        )
    bound = dict(zip(names, args))
    for name, value in kwargs.items():
        if name not in inputs:
            raise unknown("input", name, "call", names)
        if name in bound:
            raise InputError(f"input {name!r} is given twice", where="call", expected="once", got="twice")
        bound[name] = value
    missing = [n for n in names if n not in bound]
    if missing:
        raise InputError("missing inputs", where="call", expected=", ".join(names), got=", ".join(bound) or "none")
    return {n: bound[n] for n in names}


def by_name(given: Any, names: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tensors by name; a bare one is the first."""
    return given if isinstance(given, Mapping) or not names else {next(iter(names)): given}


def bind_shapes(given: Mapping[str, Sequence[int]], inputs: Mapping[str, TensorType]) -> dict[str, tuple[int, ...]]:
    """A shape for every input: the one given, else the input's own with 1 for what it leaves open.

    Raises
    ------
    InputError
        No mapping, an unknown input, or a shape that does not fit.
    """
    shapes = {k: as_shape(k, v) for k, v in as_mapping(given, "shapes", "input name -> shape").items()}
    for name in shapes:
        if name not in inputs:
            raise unknown("input", name, "shapes", inputs)
    for name, t in inputs.items():
        shapes.setdefault(name, tuple(d if isinstance(d, int) else 1 for d in t.shape or ()))
    check_shapes(shapes, inputs)
    return shapes


def bind_outputs(given: Any, outputs: Mapping[str, TensorType]) -> Mapping[str, Any]:
    """The caller's arrays by output name; a bare one is the first.

    Raises
    ------
    InputError
        Unknown or missing outputs.
    """
    targets = by_name(given, outputs)
    for name in targets:
        if name not in outputs:
            raise unknown("output", name, "run_into", outputs)
    if len(targets) < len(outputs):
        got = ", ".join(targets) or "none"
        raise InputError("missing outputs", where="run_into", expected=", ".join(outputs), got=got)
    return targets


def as_value(name: str, value: Any, wanted: TensorType) -> Value:
    """A value of the wanted type: an array by `as_array`, a list of them for a sequence, None for an empty optional.

    Raises
    ------
    InputError
        As `as_array`, or the value is no sequence or no map where the model wants one.
    """
    if not wanted.container:
        return as_array(name, value, wanted)
    outer, inner = wanted.container[0], TensorType(wanted.dtype, wanted.shape, wanted.container[1:])
    if outer == "optional":
        return None if value is None else as_value(name, value, inner)
    if outer == "map":
        if isinstance(value, Mapping):
            return dict(value)
    elif isinstance(value, (list, tuple)) and outer == "sequence":
        return [as_value(f"{name}[{k}]", v, inner) for k, v in enumerate(value)]
    raise InputError(f"not a {outer}", where=f"input {name!r}", expected=str(wanted), got=type(value).__name__)


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape that a plan is made for; () for values that are no arrays, since no plan depends on them."""
    return value.shape if isinstance(value, np.ndarray) else ()


def as_array(name: str, value: Any, wanted: TensorType) -> Array:
    """A value as a C-contiguous, aligned array of the wanted dtype, without a copy where it already is one.

    Anything that NumPy or DLPack can read is accepted: strided, read-only, misaligned and big-endian arrays, memory
    maps, lists. Integers and bools become floats and float64 becomes float32; floats never become integers, and
    integers only become narrower ones that hold them.

    Raises
    ------
    InputError
        A dtype or a value that does not convert, an object that is no array, or no memory for a copy.
    """
    if type(value) is np.ndarray and value.dtype == wanted.dtype and _is_plain(value.dtype) and is_dense(value):
        return value
    where = f"input {name!r}"
    array = np.asarray(as_ndarray(name, value))
    if is_narrow(wanted.dtype) or wanted.dtype == STRING:
        return _unusual(where, array, wanted)
    dtype = wanted.dtype.newbyteorder("=")
    if not _may_become(array.dtype, dtype):
        raise InputError("wrong dtype", where=where, expected=dtype.name, got=str(array.dtype))
    if dtype.kind in "iu" and array.size and not np.can_cast(array.dtype, dtype):
        limits, least, most = np.iinfo(dtype), array.min(), array.max()
        if least < limits.min or most > limits.max:
            expected = f"{dtype.name}, {limits.min} to {limits.max}"
            raise InputError("values out of range", where=where, expected=expected, got=f"{least} to {most}")
    try:
        with np.errstate(all="ignore"):
            return np.require(array, dtype, ["C", "A"])
    except MemoryError:
        raise InputError("not enough memory for a copy", where=where, got=str(TensorType.of(array))) from None


def _may_become(given: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Whether numbers of one dtype are taken for another one. Of integers the values decide, not the types: those of
    Python are int64 in an array."""
    integers = given.kind in "iu" and wanted.kind in "iu"
    return given.kind in "biufc" and (integers or np.can_cast(given, wanted, "same_kind"))


def _is_plain(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fiub" and dtype.isnative


def _unusual(where: str, array: Array, wanted: TensorType) -> Array:
    """An array of text, or of an element type that NumPy lacks; such take ordinary numbers too."""
    if wanted.dtype == STRING:
        if array.dtype.kind not in "UO" or (array.dtype.kind == "O" and not all(type(v) is str for v in array.flat)):
            raise InputError("wrong dtype", where=where, expected="text", got=str(array.dtype))
        return array.astype(object)
    array = from_foreign(array)
    if array.dtype == wanted.dtype:
        return np.require(array, requirements=["C", "A"])
    if array.dtype.kind not in "biuf":
        raise InputError("wrong dtype", where=where, expected=name_of(wanted.dtype), got=name_of(array.dtype))
    made = encode(array, wanted.dtype)
    if wanted.dtype[0].kind in "iu" and "int" in name_of(wanted.dtype) and not np.array_equal(decode(made), array):
        raise InputError("values out of range", where=where, expected=name_of(wanted.dtype), got=str(array.dtype))
    return made


def as_ndarray(name: str, value: Any, where: str = "") -> Array:
    """Whatever NumPy or DLPack can read as an array, without a copy where that is possible.

    Parameters
    ----------
    where
        What messages call it: the input of that name, if not given.

    Raises
    ------
    InputError
        The object is no array.
    """
    if isinstance(value, np.ndarray):
        return value
    where, kind = where or f"input {name!r}", type(value).__name__
    if value is None or isinstance(value, (str, bytes, dict)):
        raise InputError("not an array", where=where, expected="an array", got=kind)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except Exception as e:  # the object's own code ran, and may raise anything
        raise InputError(f"not an array: {e}", where=where, expected="an array", got=kind) from e


def as_shape(name: str, value: Any) -> tuple[int, ...]:
    """A shape that a caller gives for an input.

    Raises
    ------
    InputError
        It is no sequence of sizes.
    """
    try:
        shape = tuple(operator.index(d) for d in value)
    except TypeError:
        shape = (-1,)
    if any(d < 0 for d in shape):
        raise InputError("not a shape", where=f"input {name!r}", expected="a sequence of sizes", got=repr(value))
    return shape


def as_tensor(name: str, value: Any) -> Array:
    """An output that is to fill an array, as it is.

    Raises
    ------
    InputError
        It is a sequence, a map, or an empty optional.
    """
    if isinstance(value, np.ndarray):
        return value
    kind = "a sequence" if isinstance(value, list) else "a map" if isinstance(value, dict) else "an empty optional"
    raise InputError(
        f"the output is {kind}", where=f"output {name!r}", expected="an array", got=type(value).__name__,
        hint="call the model instead",
    )  # fmt: skip


def check_output(name: str, value: Any, wanted: TensorType, others: Sequence[Array]) -> Array:
    """A caller's array for an output, as it is; an array of ml_dtypes is one of the narrow type of that name.

    Raises
    ------
    InputError
        Its shape, dtype or memory layout does not fit, or it overlaps one of the other arrays.
    """
    where = f"output {name!r}"
    if not isinstance(value, np.ndarray):
        raise InputError("not an array", where=where, expected=str(wanted), got=type(value).__name__)
    got = TensorType.of(from_foreign(value))
    if got != wanted:
        raise InputError("wrong array", where=where, expected=str(wanted), got=str(got))
    flags = value.flags
    layout = {"writeable": flags.writeable, "aligned": flags.aligned, "C-contiguous": flags.c_contiguous}
    layout["of native byte order"] = value.dtype.isnative
    if not all(layout.values()):
        lacking = " and not ".join(k for k, v in layout.items() if not v)
        raise InputError("wrong memory layout", where=where, expected=", ".join(layout), got=f"not {lacking}")
    if any(np.may_share_memory(value, o) for o in others):
        raise InputError("the array overlaps an input or another output", where=where)
    return value


def check_shapes(shapes: Mapping[str, tuple[int, ...]], inputs: Mapping[str, TensorType]) -> None:
    """Compare shapes with the model's inputs; equal symbols must have equal sizes.

    Raises
    ------
    InputError
        Naming the input, the shape that was expected and the one given.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, t in inputs.items():
        given = shapes[name]
        if t.shape is None or t.container:
            continue
        where, wanted = f"input {name!r}", _text(t.shape)
        if len(given) != len(t.shape):
            hint = "add the batch dimension: x[None]" if len(given) + 1 == len(t.shape) else ""
            raise InputError("wrong rank", where=where, expected=wanted, got=_text(given), hint=hint)
        for axis, (size, dim) in enumerate(zip(given, t.shape)):
            if isinstance(dim, int) and dim != size:
                raise InputError(f"wrong size of axis {axis}", where=where, expected=wanted, got=_text(given))
            if isinstance(dim, str):
                known, other = sizes.setdefault(dim, (size, name))
                if known != size:
                    raise InputError(
                        f"size {dim!r} is {size} here but {known} in input {other!r}",
                        where=where, expected=wanted, got=_text(given),
                    )  # fmt: skip


def _text(shape: tuple[Any, ...]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
