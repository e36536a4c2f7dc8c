"""What programs use of the Python interface of onnxruntime, so that they change one import.

    import forwardpass.compat.onnxruntime as ort            # was: import onnxruntime as ort

Sessions, their options, bindings, values and errors have the names and the meaning that they have there. Everything
runs on the CPU. Options that are about onnxruntime's own ways are taken and of no effect: its graph optimizations,
memory patterns, arenas, log levels, and `inter_op_num_threads`. Where it converts nothing, neither does this: an input
of another element type is an error.

`SessionOptions.add_session_config_entry("forwardpass.precision", "fast")` chooses the precision of a session. Any file
that `forwardpass.load` opens is a model here.
"""

from __future__ import annotations

from ... import __version__
from .errors import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,  # noqa: A004 - its name there
    RuntimeException,
)
from .options import ExecutionMode, ExecutionOrder, GraphOptimizationLevel, RunOptions, SessionOptions
from .session import InferenceSession, ModelMetadata, NodeArg
from .values import IOBinding, OrtValue

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "Fail",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "ModelMetadata",
    "NoSuchFile",
    "NodeArg",
    "NotImplemented",
    "OrtValue",
    "RunOptions",
    "RuntimeException",
    "SessionIOBinding",
    "SessionOptions",
    "__version__",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
]

SessionIOBinding = IOBinding


def get_available_providers() -> list[str]:
    """The CPU alone."""
    return ["CPUExecutionProvider"]


get_all_providers = get_available_providers


def get_device() -> str:
    """CPU."""
    return "CPU"


def get_version_string() -> str:
    """The version of forwardpass."""
    return __version__


def get_build_info() -> str:
    """What this is."""
    return f"forwardpass {__version__}"


def set_seed(seed: int) -> None:
    """Of no effect: random operators have their seeds in the model."""


def set_default_logger_severity(level: int) -> None:
    """Of no effect: nothing is logged."""


def set_default_logger_verbosity(level: int) -> None:
    """Of no effect: nothing is logged."""


def disable_telemetry_events() -> None:
    """Of no effect: there is no telemetry."""


def enable_telemetry_events() -> None:
    """Of no effect: there is no telemetry."""
