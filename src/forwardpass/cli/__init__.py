"""The command `forwardpass`: one module per sub-command, found by the table `COMMANDS`.

To add one, write a module here with `HELP`, `add_arguments(parser)` and `run(args, console)`, and list it in
`COMMANDS`. Modules import NumPy and the engine inside `run`, so that `forwardpass --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import io
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol, cast

from .. import __version__
from ..console import Console, make_console
from ..errors import Error, suggest

__all__ = ["COMMANDS", "Command", "main", "make_parser"]

COMMANDS = (
    "demo",
    "run",
    "info",
    "features",
    "check",
    "convert",
    "profile",
    "verify",
    "view",
    "bench",
    "doctor",
    "completion",
)

OK, FAILED, INTERRUPTED = 0, 1, 130


class Command(Protocol):
    """What a sub-command's module has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace, console: Console) -> dict[str, Any]:
        """Do the work, say it on `console`, and return what `--json` prints instead.

        Where that has `ok` and it is false, the exit status is 1: the work is done, and its answer is no.

        Raises
        ------
        Error, OSError
            The work failed; becomes one line on stderr and exit status 1.
        """


class _Parser(argparse.ArgumentParser):
    """One whose usage errors come with the nearest name that it knows."""

    def error(self, message: str) -> NoReturn:
        given = re.search(r"invalid choice: '([^']*)'|unrecognized arguments: (\S+)", message)
        if given:
            choices = [c for a in self._actions if a.choices for c in a.choices]
            options = [o for a in self._actions for o in a.option_strings]
            option = given[2]  # None where it is a choice, which may be empty
            hint = suggest(given[1], choices) if option is None else suggest(option.partition("=")[0], options)
            message += f" ({hint})" if hint else ""
        super().error(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the base; what a sub-command does not know is its own error, and so shows its own usage."""
        found, extra = super().parse_known_args(args, namespace)
        if extra and not self._subparsers:
            self.error(f"unrecognized arguments: {' '.join(extra)}")
        return found, extra


def make_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands. A usage error exits with status 2, as argparse does."""
    parser = _Parser(prog="forwardpass", description="Neural-network inference on CPUs.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"forwardpass {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = cast(Command, importlib.import_module(f"{__name__}.{name}"))
        sub = commands.add_parser(name, help=module.HELP, description=module.HELP, allow_abbrev=False)
        module.add_arguments(sub)
        sub.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        sub.set_defaults(work=module.run)
    return parser


def _finite(value: Any) -> Any:
    """`value` with null for NaN and infinities, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escape_unencodable() -> None:
    """Have stdout and stderr escape what their encodings lack: names of files and nodes may hold anything."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`).

    Returns
    -------
    int
        0, or 1 where the work failed or its answer is no; a usage error raises SystemExit(2).
    """
    _escape_unencodable()
    args = make_parser().parse_args(argv)
    console = make_console(quiet=args.json)
    try:
        result = args.work(args, console)
        if args.json:
            import json

            print(json.dumps(_finite(result), indent=2, allow_nan=False))
        sys.stdout.flush()
        return OK if result.get("ok", True) else FAILED
    except BrokenPipeError:
        # The reader (`| head`) has gone; without this the flush at exit would complain on stderr.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Error, OSError) as problem:
        print(f"error: {' '.join(str(problem).split())}", file=sys.stderr)
        return FAILED
    except MemoryError as problem:
        told = f": {problem}" if str(problem) else ""
        print(f"error: this does not fit in memory{told}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
