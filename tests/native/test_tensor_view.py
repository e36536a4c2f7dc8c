"""What the native module accepts as the memory of a tensor: sizes that overflow, gaps, foreign layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forwardpass._native import Program, run_kernel

REFUSED = r"an array|differs in type, shape or layout"
COPY = {"rank": 1, "shape": [6], "in_stride": [1], "out_stride": [1]}


def copy_program(source: Any) -> Program:
    """A program that copies six floats: an input, or a constant."""
    program = Program(1)
    program.add_input("x", "float32", [2, 3])
    program.add_output("y", "float32", [2, 3])
    program.add_step("scalar", "copy_f32", COPY, [source], ("output", 0, 0), [(0, 6)], True)
    program.finish(0)
    return program


def values() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    ("type_name", "shape"),
    [
        ("float32", (1 << 62, 2)),  # elements that 64 bits cannot count
        ("float32", (1 << 32, 1 << 32)),
        ("float64", (1 << 60,)),  # bytes that they cannot
        ("bool", (1 << 62, 2)),
        ("float32", (-1, 3)),
        ("float32", (1,) * 65),
        ("float33", (2,)),
        ("", (2,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("add", ["add_input", "add_output"])
def test_a_shape_that_no_tensor_can_have(add: str, type_name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"no tensor can have the shape of 'x'|unknown element type"):
        getattr(Program(1), add)("x", type_name, shape)


@pytest.mark.parametrize(
    ("type_name", "shape"),
    [
        ("float32", (1 << 62, 1 << 62, 0)),  # no elements: the other sizes do not count
        ("float64", ((1 << 60) - 1,)),
        ("bool", ((1 << 63) - 1,)),
        ("int8", ()),
        ("uint16", (1,) * 64),
    ],
    ids=str,
)
def test_a_shape_at_the_limit(type_name: str, shape: tuple[int, ...]) -> None:
    Program(1).add_input("x", type_name, shape)


def test_a_program_runs_on_its_own_layout() -> None:
    x, y = values(), np.zeros((2, 3), np.float32)
    times, fault, _ = copy_program(("input", 0, 0)).run_profiled([x], [y])
    assert len(times) == 1
    assert times[0] >= 0
    assert fault == 0
    assert np.array_equal(x, y)


WRONG = {
    "another dtype": lambda a: a.astype(np.float64),
    "an integer of that size": lambda a: a.astype(np.int32),
    "another shape": lambda a: a.reshape(3, 2).copy(),
    "another rank": lambda a: a.ravel(),
    "a gap": lambda a: np.zeros((2, 6), np.float32)[:, ::2],
    "Fortran order": np.asfortranarray,
    "reversed": lambda a: a[::-1],
    "big-endian": lambda a: a.astype(">f4"),
    "misaligned": lambda a: np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3),
    "objects": lambda a: a.astype(object),
    "complex": lambda a: a.astype(np.complex64),
    "no array": lambda a: a.tolist(),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_program_refuses_other_layouts(wrong: str) -> None:
    x, y = values(), np.full((2, 3), -1, np.float32)
    given: Any = WRONG[wrong](x)
    program = copy_program(("input", 0, 0))
    with pytest.raises(ValueError, match=REFUSED):
        program.run_profiled([given], [y])
    with pytest.raises(ValueError, match=REFUSED):
        program.run_profiled([x], [given])
    assert (y == -1).all()


def test_outputs_are_writeable_and_complete() -> None:
    program, x, y = copy_program(("input", 0, 0)), values(), np.zeros((2, 3), np.float32)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="not writeable"):
        program.run_profiled([x], [y])
    for inputs, outputs in (([], [x]), ([x], []), ([x, x], [x])):
        with pytest.raises(ValueError, match="one array per input and output"):
            program.run_profiled(inputs, outputs)


def test_sizes_of_one_and_of_nothing_have_any_strides() -> None:
    program = Program(1)
    program.add_input("x", "float32", [1, 3])
    program.add_input("nothing", "float32", [0, 4])
    program.add_output("y", "float32", [1, 3])
    program.add_step("scalar", "copy_f32", {**COPY, "shape": [3]}, [("input", 0, 0)], ("output", 0, 0), [(0, 3)], True)
    program.finish(0)
    x, nothing, y = np.asfortranarray(values()[:1]), np.zeros((4, 0), np.float32).T, np.zeros((1, 3), np.float32)
    program.run_profiled([x, nothing], [y])
    assert y.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("wrong", ["a gap", "Fortran order", "reversed", "big-endian", "misaligned"])
def test_constants_are_dense(wrong: str) -> None:
    given: Any = WRONG[wrong](values())
    with pytest.raises(ValueError, match="not contiguous"):
        copy_program((given, 0))
    y = np.zeros((2, 3), np.float32)
    copy_program((values(), 0)).run_profiled([values()], [y])
    assert np.array_equal(y, values())


@pytest.mark.parametrize("wrong", ["big-endian", "misaligned", "objects", "complex", "no array"])
def test_a_kernel_refuses_what_it_cannot_read(wrong: str) -> None:
    x, y = values(), np.zeros((2, 3), np.float32)
    given: Any = WRONG[wrong](x)
    with pytest.raises(ValueError, match=REFUSED):
        run_kernel("scalar", "copy_f32", COPY, [given], y, 0, 6)
    with pytest.raises(ValueError, match=REFUSED):
        run_kernel("scalar", "copy_f32", COPY, [x], given, 0, 6)


def test_a_kernel_takes_strides_from_its_parameters() -> None:
    wide, y = np.arange(12, dtype=np.float32), np.zeros(6, np.float32)
    run_kernel("scalar", "copy_f32", {**COPY, "in_stride": [2]}, [wide[::2]], y, 0, 6)
    assert y.tolist() == [0, 2, 4, 6, 8, 10]
