"""Arguments that several commands share."""

from __future__ import annotations

import argparse

__all__ = ["add_engine_arguments", "positive"]


def positive(text: str) -> int:
    """An argument type: a whole number from 1 on."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return value


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """`--threads` and `--precision`, which go to `forwardpass.load` as they are."""
    parser.add_argument("--threads", type=positive, metavar="N", help="threads to run on (default: what the CPU has)")
    parser.add_argument("--precision", default="float32", help="float32 (default), portable, fast or bfloat16")
