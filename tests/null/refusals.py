"""How tests of bad files look at a refusal."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forwardpass.errors import Error
from forwardpass.formats import load_graph

__all__ = ["cheap_refusal", "refusal"]


def cheap_refusal(read: Callable[[], Any], kind: type[Error], *, memory: int, length: int) -> Error:
    """The error, after checking that it is of this kind, shorter than `length`, and cost less than `memory` bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(Error) as e:
            read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(e.value) is kind, e.value
    assert peak < memory
    assert len(str(e.value)) < length
    return e.value


def refusal(path: Path, kind: type[Error], *, memory: int, length: int) -> str:
    """The message of the error for a file, which also names the file."""
    message = str(cheap_refusal(lambda: load_graph(path), kind, memory=memory, length=length))
    assert message.startswith(str(path))
    return message
