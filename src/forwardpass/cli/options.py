"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ..errors import FileError

__all__ = ["add_engine_arguments", "check_output", "duration", "number", "positive", "share", "whole"]


def whole(text: str) -> int:
    """An argument type: a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def positive(text: str) -> int:
    """An argument type: a whole number from 1 on."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return value


def number(text: str) -> float:
    """An argument type: a finite number."""
    return _number(text, -math.inf, "a finite number")


def share(text: str) -> float:
    """An argument type: a finite number from 0 on, such as a tolerance."""
    return _number(text, 0.0, "a finite number from 0 on")


def duration(text: str) -> float:
    """An argument type: a finite number above 0. A time that is infinite or none at all would never end."""
    return _number(text, math.ulp(0.0), "a finite number above 0")


def _number(text: str, least: float, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value


def check_output(*files: Path | None) -> None:
    """Refuse files that cannot be written before the work that they are for.

    Raises
    ------
    FileError
        There is no such folder, or the file is a folder itself.
    """
    for file in files:
        if file is not None and not file.parent.is_dir():
            raise FileError("cannot be written", where=str(file), expected="a folder that exists", got=str(file.parent))
        if file is not None and file.is_dir():
            raise FileError("cannot be written", where=str(file), expected="a file", got="a folder")


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """`--threads` and `--precision`, which go to `forwardpass.load` as they are."""
    parser.add_argument("--threads", type=positive, metavar="N", help="threads to run on (default: what the CPU has)")
    parser.add_argument("--precision", default="float32", help="float32 (default), portable, fast or bfloat16")
