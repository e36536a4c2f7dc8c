"""PyTorch's files that ask for much, or are damaged: typed errors, in little time and memory."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import cheap_refusal
from torch_files import (
    CONTAINERS,
    FLOATS,
    VALUES,
    Read,
    dictionary,
    integer,
    legacy,
    mutated,
    name,
    pickled,
    reader,
    storage,
    tensor,
    text,
    zipped,
)

from calls import calls_of
from forwardpass.errors import Error, FileError
from forwardpass.formats.torch import containers, pickles

both = pytest.mark.parametrize("kind", CONTAINERS)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return reader(tmp_path / "weights.pth")


EPOCH = text("epoch") + integer(3)

# ---- work and memory

CALLS = 8
"""Of functions, per step that a pickle may take and byte of the file."""

BOMBS = {
    "one tuple of itself, again and again": b"N" + b"q\0h\0\x86" * 10_000,
    "a deep list": b"]" * 15_000 + b"a" * 14_999,
    "a deep tuple": b")" + b"\x85" * 15_000,
    "marks": b"(" * 30_000,
    "a memo far away": b"Nr\xff\xff\xff\xff" * 6_000,
    "long names": (b"X" + (1 << 16).to_bytes(4, "little") + b"a" * (1 << 16)) * 8,
    "copies of a list": b"]q\0(" + b"(K\1Nt" * 2000 + b"e0" + b"ccollections\nOrderedDict\n(h\0tR0" * 10_000,
    "many steps": b"N0" * 20_000,
}


@both
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs(bomb: str, kind: str, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_STEPS", 30_000)  # to be quick: what is traced takes ten times as long
    data = CONTAINERS[kind](BOMBS[bomb], VALUES.tobytes())
    limit = 64 * len(data) + (16 << 20)
    calls = calls_of(lambda: cheap_refusal(lambda: read(data), FileError, memory=limit, length=2000))
    assert calls < CALLS * (pickles.MAX_STEPS + len(data)), calls


def test_repeated_elements_have_a_limit_for_all(read: Read) -> None:
    each = containers.MAX_REPEATED_BYTES // 4 // 4
    value = dictionary({f"w{k}": tensor(FLOATS, (each,), (0,)) for k in range(5)})
    with pytest.raises(FileError, match="larger than its storage"):
        read(zipped(value, {"0": VALUES.tobytes()}))


# ---- damage

SAMPLE = {
    "one.weight": tensor(FLOATS, (3, 4)),
    "one.bias": tensor(storage("HalfStorage", "1", 4), (2, 2), (1, 2)),
    "two": tensor(storage("LongStorage", "2", 3), (3,)),
}
SAMPLE_DATA = {"0": VALUES.tobytes(), "1": bytes(8), "2": bytes(24)}


def sample(kind: str) -> bytes:
    value = b"}(" + EPOCH + text("state_dict") + dictionary(SAMPLE) + b"u"
    if kind == "zip":
        return zipped(value, SAMPLE_DATA)
    counts = {"0": 12, "1": 4, "2": 3}
    return legacy(value, {k: (counts[k], raw) for k, raw in SAMPLE_DATA.items()})


@both
def test_the_sample_is_sound(kind: str, read: Read) -> None:
    assert list(read(sample(kind))) == list(SAMPLE)


@both
def test_cut_short(kind: str, read: Read) -> None:
    data = sample(kind)
    for end in range(0, len(data), 3):
        with pytest.raises(Error):
            read(data[:end])


OPCODES = [bytes([code]) for code in b"(.tRQcq\x8a\x8b\xff\0Xb"]


def refusals(data: bytes, read: Read, seed: int) -> int:
    """How many of 1,000 damaged files are refused. The others give arrays."""
    rng, refused = random.Random(seed), 0
    for _ in range(1000):
        try:
            found = read(mutated(data, rng, OPCODES))
        except Error:
            refused += 1
        else:
            assert all(isinstance(v, np.ndarray) for v in found.values())
    return refused


@both
def test_damaged(kind: str, read: Read) -> None:
    assert refusals(sample(kind), read, 0) > 300


# ---- TorchScript: programs, which are never run from a file

PLANTED = "open({!r}, 'w').write('ran')\n"


def script(folder: Path) -> bytes:
    """An archive as `torch.jit.save` lays it out, whose code would write a file."""
    planted = PLANTED.format(str(folder / "planted")).encode()
    module = name("builtins", "exec") + b"(" + text(planted.decode()) + b"tR"
    more = {
        "constants.pkl": pickled(b")"),
        "code/__torch__.py": b"class Net(Module):\n  def forward(self, x):\n    " + planted,
        "code/__torch__.py.debug_pkl": pickled(module),
    }
    return zipped(dictionary(SAMPLE), SAMPLE_DATA, more=more)


def test_torchscript_is_refused(read: Read, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"a TorchScript archive, not weights alone .*load\(path, inputs="):
        read(script(tmp_path))
    assert not (tmp_path / "planted").exists()


def test_damaged_torchscript(read: Read, tmp_path: Path) -> None:
    """Whatever is damaged, no code of it runs; where the mark of a program is lost, what is left are weights."""

    def read_and_look(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
        try:
            return read(data)
        finally:
            assert not (tmp_path / "planted").exists()

    assert refusals(script(tmp_path), read_and_look, 1) > 900
