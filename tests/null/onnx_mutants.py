"""Damaged ONNX models: bytes and fields of good ones changed at random. Run as a program it imports them in little
memory and time; a second program so that the limits hold for nothing else.

    python onnx_mutants.py MODEL FIRST COUNT
"""

from __future__ import annotations

import collections
import contextlib
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx_models import MODELS, external

from forwardpass import Error
from forwardpass.formats.onnx import read
from forwardpass.graph import Graph, TensorType
from forwardpass.ops import evaluate, infer_types, load_all

EXTRA_BYTES = 200 << 20
SECONDS = 2.0
LARGEST = 10_000
"""Elements of a value, or rounds of a loop, up to which a model is run."""

NUMBERS = (0, 1, -1, 2, 3, 127, 255, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
WORDS = ("", "x", "y", "Loop", "If", "Scan", "Constant", "Reshape", "ConstantOfShape", "local", "../x", "/etc/passwd")


def mutant(name: str, seed: int, folder: Path) -> bytes:
    """The damaged model of a seed."""
    rng = random.Random(seed)
    made = external(folder) if name == "external" else MODELS[name]()
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        _change_field(made, rng)
    data = bytearray(made.SerializeToString())
    for _ in range(rng.choice((0, 1, 1, 2, 8)) if seed % 2 else 0):
        _change_bytes(data, rng)
    return bytes(data)


def _change_bytes(data: bytearray, rng: random.Random) -> None:
    if not data:
        return
    at, length = rng.randrange(len(data)), rng.choice((1, 2, 5, 40))
    kind = rng.randrange(6)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        del data[at : at + length]
    elif kind == 3:
        data[at:at] = data[at : at + length]
    elif kind == 4:
        data[at : at + length] = rng.choice((b"\0", b"\xff", b"\x7f")) * length
    else:
        other = rng.randrange(len(data))
        data[at : at + length] = data[other : other + length]


def messages(message: Any) -> Iterator[Any]:
    """A message and all messages inside of it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if is_list(value) else (value,):
                yield from messages(item)


def is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes))


def _change_field(made: onnx.ModelProto, rng: random.Random) -> None:
    parts = list(messages(made))
    message = rng.choice(parts)
    fields = message.ListFields()
    if not fields:
        return
    field, value = rng.choice(fields)
    kind = rng.randrange(5)
    if kind == 0:
        message.ClearField(field.name)
    elif is_list(value):
        _change_list(value, parts, rng, field.message_type is not None)
    elif field.message_type is not None:
        same = [m for m in parts if field.message_type == m.DESCRIPTOR]
        copied = type(value)()
        copied.CopyFrom(rng.choice(same))
        value.CopyFrom(copied)
    else:
        with contextlib.suppress(ValueError):  # beyond the range of the field
            setattr(message, field.name, _other(value, parts, rng))


def _change_list(values: Any, parts: list[Any], rng: random.Random, of_messages: bool) -> None:
    at, kind = rng.randrange(len(values)), rng.randrange(4)
    if kind == 0:
        del values[at]
    elif kind == 1 and of_messages:
        copied = type(values[at])()
        copied.CopyFrom(rng.choice([m for m in parts if m.DESCRIPTOR == values[at].DESCRIPTOR]))
        values.add().CopyFrom(copied)
    elif of_messages:
        kept = [type(v).FromString(v.SerializeToString()) for v in values]
        rng.shuffle(kept)
        del values[:]
        values.extend(kept)
    elif kind == 1:
        values.append(values[at])
    else:
        with contextlib.suppress(ValueError):
            values[at] = _other(values[at], parts, rng)


def _other(value: Any, parts: list[Any], rng: random.Random) -> Any:
    """Another value of the type that a field may have."""
    if isinstance(value, bytes):
        return value[: rng.randrange(len(value) + 1)] + rng.choice((b"", b"\xff\xfe", b"\0" * 9))
    if isinstance(value, str):
        texts = [v for m in parts for _, v in m.ListFields() if isinstance(v, str)]
        return rng.choice((rng.choice(WORDS), rng.choice(texts or ["x"])))
    if isinstance(value, float):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    return rng.choice((value + rng.choice((-1, 1)), rng.choice(NUMBERS)))


# ---- the program


def _small(graph: Graph, types: dict[str, TensorType]) -> bool:
    """Whether running it takes little: sizes are known and small, and loops are short."""
    for node in graph.nodes:
        if node.op == "Loop":
            count = graph.constants.get(node.inputs[0])
            if count is None or count.size != 1 or int(count.ravel()[0]) > LARGEST:
                return False
        if any(isinstance(v, Graph) and not _small(v, {}) for v in node.attributes.values()):
            return False
    return all(t.container or (t.is_known and int(np.prod(t.sizes, dtype=object)) <= LARGEST) for t in types.values())


def attempt(path: Path) -> str:
    """Import a model and run its definitions. Returns what came of it."""
    graph = read(path)
    given = {
        k: TensorType(t.dtype, tuple(d if isinstance(d, int) else 2 for d in t.shape or ()), t.container)
        for k, t in graph.inputs.items()
    }
    types = infer_types(graph, given)
    if not _small(graph, types) or any(t.container for t in given.values()):
        return "imported"
    evaluate(graph, {k: np.zeros(t.sizes, t.dtype) for k, t in given.items()})
    return "ran"


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def main(name: str, first: int, count: int) -> None:
    load_all()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(mutant(name, 0, path.parent))
        found: collections.Counter[str] = collections.Counter()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_BYTES, resource.RLIM_INFINITY))
        signal.signal(signal.SIGALRM, _too_slow)
        for seed in range(first, first + count):
            path.unlink()
            path.write_bytes(mutant(name, seed, path.parent))
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            start = time.process_time()
            try:
                found[attempt(path)] += 1
            except Error as error:
                found["a long message" if len(str(error)) > 5000 else type(error).__name__] += 1
            except BaseException as error:
                raise SystemExit(f"{name}, seed {seed}: {type(error).__name__}: {error}\n{_trace(error)}") from None
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert time.process_time() - start < SECONDS, f"seed {seed}"
    print(*(f"{k}={v}" for k, v in found.items()))


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-12:])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
