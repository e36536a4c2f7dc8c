"""How tests of bad files look at a refusal."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from forwardpass.errors import Error
from forwardpass.formats import load_graph


def refusal(path: Path, kind: type[Error], *, memory: int, length: int) -> str:
    """The message of the error, after checking that it is of this kind, names the file, is shorter than `length`, and
    cost less than `memory` bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(Error) as e:
            load_graph(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(e.value) is kind, e.value
    assert peak < memory
    assert str(e.value).startswith(str(path))
    assert len(str(e.value)) < length
    return str(e.value)
