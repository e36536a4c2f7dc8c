"""Workers: processes of their own that answer commands, one line of JSON each, and sleep in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

__all__ = ["Process", "WorkerError", "environment", "private_stdout", "script_command", "serve", "worker_command"]

Answer: TypeAlias = "Callable[[Mapping[str, Any]], None]"
Commands: TypeAlias = "Mapping[str, Callable[..., Mapping[str, Any]]]"

_FOLDER = Path(__file__).parent
_SHARE = """
import importlib.util, sys
folder = sys.argv[1]
del sys.argv[:2]
sys.path[:] = [p for p in sys.path if p]
spec = importlib.util.spec_from_file_location(
    "forwardpass_bench", folder + "/__init__.py", submodule_search_locations=[folder])
module = sys.modules["forwardpass_bench"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""
"""Makes this folder the package `forwardpass_bench`, and nothing beside it importable: what else lies there may be made
for another interpreter."""
_WORKER = _SHARE + "from forwardpass_bench.worker import main\nmain(sys.argv)\n"
_SCRIPT = (
    _SHARE
    + """
import os, runpy
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
)


class WorkerError(Exception):
    """A worker died or did not answer in time; the message is the last it wrote."""


def worker_command(python: str, *arguments: str) -> list[str]:
    """The command that runs `worker.main` in an interpreter."""
    return [python, "-c", _WORKER, str(_FOLDER), *arguments]


def script_command(python: str, script: str, *arguments: str) -> list[str]:
    """The command that runs a script, which can import this folder as `forwardpass_bench`."""
    return [python, "-c", _SCRIPT, str(_FOLDER), script, *arguments]


def environment(threads: int) -> dict[str, str]:
    """Thread pools of the size that was asked for, and no telemetry."""
    pools = ("OMP", "OPENBLAS", "MKL", "BLIS")
    return {**os.environ, **{f"{p}_NUM_THREADS": str(threads) for p in pools}, "ORT_DISABLE_TELEMETRY": "1"}


class Process:
    """A worker, seen from its parent.

    Parameters
    ----------
    command
        What to run; it answers once by itself when it is ready.
    folder
        For its error messages.
    threads
        For the environment.
    patience
        Seconds to wait for an answer.

    Attributes
    ----------
    first
        The answer that it gave by itself.

    Raises
    ------
    WorkerError
        It died or did not answer.
    """

    def __init__(self, command: Sequence[str], folder: Path, threads: int, patience: float = 120.0) -> None:
        self.patience, self.errors = patience, folder / "stderr.txt"
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(threads),
            )
        try:
            self.first = self._answer()
        except WorkerError:
            self.close()
            raise

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        watchdog = threading.Timer(self.patience, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        if line:
            return dict(json.loads(line))
        code = self.process.wait()
        text = self.errors.read_text(errors="replace").strip().splitlines() or [f"exit code {code}"]
        raise WorkerError(text[-1])

    def ask(self, *words: object) -> dict[str, Any]:
        """The answer to a command: its name and its arguments, none of which has a tab.

        Raises
        ------
        WorkerError
            The worker died of it or did not answer.
        """
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # the answer tells why
            print(*words, sep="\t", file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End it, by force if it does not end by itself."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


# ---- the worker's side


def private_stdout() -> Answer:
    """A function that answers the parent; whoever prints from now on, in C as well, prints to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: Mapping[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    return answer


def serve(
    answer: Callable[[Mapping[str, Any]], None], commands: Mapping[str, Callable[..., Mapping[str, Any]]]
) -> None:
    """Answer commands, which are lines of stdin: a name and its arguments, tabs between. A closed stdin ends it."""
    for line in sys.stdin:
        name, *arguments = line.rstrip("\n").split("\t")
        answer(commands.get(name, _unknown)(*arguments))


def _unknown(*arguments: str) -> NoReturn:
    raise ValueError("unknown command")
