"""`InferenceSession`, and what it says of a model."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ...errors import Error, suggest
from ...graph import TensorType
from ...imports import from_onnx
from ...profile import Profile
from ...run import Model, load
from .errors import InvalidArgument, NoSuchFile, translate, translated
from .options import RunOptions, SessionOptions
from .values import IOBinding, OrtValue, type_text

__all__ = ["InferenceSession", "ModelMetadata", "NodeArg"]

_PROVIDER = "CPUExecutionProvider"
_OWN_METADATA = ("producer", "domain", "version", "description", "graph_description")


class NodeArg(NamedTuple):
    """An input or output; free dimensions are names, or None."""

    name: str
    shape: list[int | str | None]
    type: str

    @classmethod
    def of(cls, name: str, t: TensorType) -> NodeArg:
        return cls(name, list(t.shape or ()), type_text(t))


class ModelMetadata(NamedTuple):
    """What the file says of itself. The producer's version follows its name."""

    producer_name: str
    graph_name: str
    domain: str
    description: str
    graph_description: str
    version: int
    custom_metadata_map: dict[str, str]


class InferenceSession:
    """A model that is ready to run.

    Parameters
    ----------
    path_or_bytes
        A file, or the bytes of an ONNX model.
    sess_options
        `SessionOptions`.
    providers, provider_options
        Other providers than the CPU's are not there: a warning says so, as it would for onnxruntime.

    Raises
    ------
    NoSuchFile, InvalidProtobuf, InvalidGraph, NotImplemented, InvalidArgument
        The file, the model or an option is not right, or not supported.
    """

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike[str],
        sess_options: SessionOptions | None = None,
        providers: Sequence[str | tuple[str, dict[Any, Any]]] | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        self._options = sess_options or SessionOptions()
        self.set_providers(providers)
        threads = self._options.intra_op_num_threads or None
        precision = self._options._entries.get("forwardpass.precision", "float32")
        with translated():
            if isinstance(path_or_bytes, bytes):
                self._model: Model = from_onnx(path_or_bytes, threads=threads, precision=precision)
            elif not os.path.exists(path_or_bytes):
                raise NoSuchFile("no such file", where=os.fsdecode(path_or_bytes))
            else:
                self._model = load(path_or_bytes, threads=threads, precision=precision)
        self._inputs = [(k, None if t.container else t.dtype) for k, t in self._model.inputs.items()]
        self._started = time.time_ns()
        self._profile: Profile | None = self._model.profile().__enter__() if self._options.enable_profiling else None

    # ---- what it says

    def get_inputs(self) -> list[NodeArg]:
        """The inputs, in order."""
        return [NodeArg.of(k, t) for k, t in self._model.inputs.items()]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in order."""
        return [NodeArg.of(k, t) for k, t in self._model.outputs.items()]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """None: weights are constants."""
        return []

    def get_modelmeta(self) -> ModelMetadata:
        """Who made the model, and what it says of itself."""
        graph = self._model.graph
        own = {k: graph.metadata.get(k, "") for k in _OWN_METADATA}
        custom = {k: v for k, v in graph.metadata.items() if k not in _OWN_METADATA}
        version = 0
        with suppress(ValueError):
            version = int(own["version"])
        texts = own["description"], own["graph_description"]
        return ModelMetadata(own["producer"], graph.name, own["domain"], *texts, version, custom)

    def get_session_options(self) -> SessionOptions:
        """Those that it was made with."""
        return self._options

    def get_providers(self) -> list[str]:
        """The CPU."""
        return [_PROVIDER]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """No options."""
        return {_PROVIDER: {}}

    def set_providers(
        self, providers: Sequence[str | tuple[str, dict[Any, Any]]] | None = None, provider_options: Any = None
    ) -> None:
        """Take the CPU, and warn of any other."""
        for provider in providers or ():
            name = provider if isinstance(provider, str) else provider[0]
            if name != _PROVIDER:
                warnings.warn(f"the provider {name!r} is not available: the CPU runs it", UserWarning, stacklevel=3)

    def enable_fallback(self) -> None:
        """Of no effect."""

    def disable_fallback(self) -> None:
        """Of no effect."""

    # ---- runs

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: RunOptions | None = None
    ) -> list[Any]:
        """The outputs of these names, in their order; all for None.

        Raises
        ------
        InvalidArgument
            A name, shape or element type that does not fit.
        """
        try:  # not `with translated()`, which takes longer than a small network
            args = self._arguments(input_feed)
            if output_names:
                self._check_names(output_names)
                found = self._model.run(dict(zip(self._model.inputs, args)))
                return [found[n] for n in output_names]
            result = self._model(*args)
        except Error as error:
            raise translate(error) from error
        return [result] if len(self._model.graph.outputs) == 1 else list(result)

    def _arguments(self, feed: Mapping[str, Any]) -> list[Any]:
        args = []
        for name, dtype in self._inputs:
            if name not in feed:
                got = ", ".join(map(str, feed)) or "none"
                raise InvalidArgument("missing inputs", where="run", expected=", ".join(self._model.inputs), got=got)
            value = feed[name]
            if isinstance(value, OrtValue):
                value = value._value
            numbers = dtype is not None and dtype.names is None and dtype.kind != "O"
            if numbers and isinstance(value, np.ndarray) and value.dtype != dtype:
                where, expected = f"input {name!r}", str(dtype)
                raise InvalidArgument("wrong dtype", where=where, expected=expected, got=str(value.dtype))
            args.append(value)
        if len(feed) > len(args):
            name = next(n for n in feed if n not in self._model.inputs)
            hint, expected = suggest(name, self._model.inputs), ", ".join(self._model.inputs)
            raise InvalidArgument(f"unknown input {name!r}", where="run", expected=expected, got=str(name), hint=hint)
        return args

    def _check_names(self, names: Sequence[str]) -> None:
        outputs = self._model.graph.outputs
        for name in names:
            if name not in outputs:
                hint = suggest(name, outputs)
                raise InvalidArgument("no such output", where=str(name), expected=", ".join(outputs), hint=hint)

    def run_with_ort_values(
        self, output_names: Sequence[str] | None, input_dict_ort_values: Mapping[str, OrtValue], run_options: Any = None
    ) -> list[OrtValue]:
        """As `run`, of and as values."""
        return [OrtValue(v) for v in self.run(output_names, input_dict_ort_values)]

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[Any, Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Run on another thread, which then calls `callback(outputs, user_data, error)`; the error is "" for none."""
        from ...futures import submit

        def work() -> None:
            try:
                found: Any = self.run(output_names, input_feed)
            except Error as error:
                callback([], user_data, str(error))
            else:
                callback(found, user_data, "")

        submit(work)

    def io_binding(self) -> IOBinding:
        """Buffers for `run_with_iobinding`."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Run on bound buffers; nothing is allocated where all outputs have one."""
        iobinding._run()

    # ---- profiles

    def get_profiling_start_time_ns(self) -> int:
        """When the session was made."""
        return self._started

    def end_profiling(self) -> str:
        """Write a Chrome trace of the runs so far, and give its path; "" where `enable_profiling` was not set."""
        if self._profile is None:
            return ""
        self._profile.__exit__(None, None, None)
        path = f"{self._options.profile_file_prefix}{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
        self._profile.save_trace(path)
        self._profile = None
        return path
