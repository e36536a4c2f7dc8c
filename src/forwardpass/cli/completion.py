"""`forwardpass completion`: a script by which a shell completes commands, options and their values."""

from __future__ import annotations

import argparse
from typing import Any

from ..console import Console

__all__ = ["HELP", "add_arguments", "run"]

HELP = "print a completion script for a shell"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from .shells import SHELLS

    parser.add_argument("shell", choices=sorted(SHELLS), metavar="SHELL", help=", ".join(sorted(SHELLS)))


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from . import make_parser
    from .shells import SHELLS, describe

    script = SHELLS[args.shell](describe(make_parser()))
    console.line(script)
    return {"shell": args.shell, "script": script}
