"""Model: a graph that is ready to be called, and `load`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import formats
from ._call import Caller
from .around import Around
from .cache import Cache
from .config import settings
from .errors import InputError, suggest
from .formats import npz as npz  # most models are such files, and their load shall import nothing
from .graph import Array, Graph, TensorType
from .inputs import (
    as_mapping,
    as_tensor,
    as_value,
    bind_arguments,
    bind_outputs,
    bind_shapes,
    by_name,
    check_output,
    check_shapes,
    shape_of,
)
from .ops.evaluate import infer_types
from .plan import Plan, Settings
from .plan.hybrid import AnyPlan, Hybrid
from .prepared import Prepared, of_file
from .records import record
from .result import public, result_type
from .sources import as_graph

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .profile import Profile
    from .report import MemoryPlan, Summary
    from .stream import Stream

__all__ = ["Model", "load"]

_MAX_VARIANTS = 4


class Model(Caller, Around):
    """A neural network that is ready to run.

    Call it with its inputs: `y = model(x)`. One output comes as an array, several as a named tuple. Any number of
    threads may call one model at the same time.

    Parameters
    ----------
    graph
        A `Graph`, or anything with a method `graph()` that makes one, such as a builder network.
    threads
        Threads per call. By default FORWARDPASS_NUM_THREADS, else the smallest of CPU affinity, cgroup quota and
        physical cores. The result does not depend on it.
    precision
        "float32" (default), "portable" (the same bits on every CPU), "fast" or "bfloat16".

    Attributes
    ----------
    graph : Graph
        As it was given.
    optimized : Graph
        After the passes; `log` says what they did.
    inputs, outputs : dict of str to TensorType
        Symbolic dimensions are names such as "N".

    Raises
    ------
    GraphError, UnsupportedError
        The graph is not valid, or uses an operator that does not exist here.
    ConfigError
        A setting that is unknown or not available.
    """

    def __init__(
        self, graph: Any, *, threads: int | None = None, precision: str = "float32", isa: str | None = ""
    ) -> None:
        self._asked = (threads, precision, isa)
        self._file, self._pickle_by = "", "bytes"
        self.settings = settings(threads, precision, isa)
        if isinstance(graph, _File):
            self._file = os.path.abspath(os.fsdecode(graph.path))
            read = partial(graph.read, threads=self.settings.threads)
            self.graph, self._prepared = of_file(graph.path, self.settings, read)
        else:
            self.graph = as_graph(graph)
            self._prepared = Prepared(self.graph, self.settings)
        self.inputs: dict[str, TensorType] = dict(self.graph.inputs)
        self._outputs: dict[str, TensorType] | None = None
        self.optimized, self.log = self._prepared.optimized, self._prepared.log
        self._packed, self._plans = self._prepared.packed, self._prepared.plans
        self._variants: Cache[tuple[str, ...], Model] = Cache(
            partial(_variant, self.graph, self.settings), _MAX_VARIANTS
        )
        self._profile: Profile | None = None
        names = tuple(self.graph.outputs)
        self._set_names(tuple(self.inputs), names)
        if hasattr(sys.modules.get("threadpoolctl"), "register"):  # whoever imported it wants to see all teams
            from . import threadpool as threadpool
        self._tuple = result_type(names) if len(names) > 1 else None

    @property
    def outputs(self) -> dict[str, TensorType]:
        """Output name -> type."""
        if self._outputs is None:  # a call does not need it, and the first one shall not wait for it
            types = infer_types(self.graph)
            self._outputs = {o: types[o] for o in self.graph.outputs}
        return self._outputs

    # ---- plans

    def plan(self, shapes: Mapping[str, Sequence[int]] | None = None) -> AnyPlan:
        """The plan for the given input shapes, made now if it is new. It takes no memory for values before it runs.

        Parameters
        ----------
        shapes
            Input name -> shape. By default symbolic and unknown dimensions are 1.

        Raises
        ------
        InputError
            A shape that does not fit the model.
        """
        given = bind_shapes({} if shapes is None else shapes, self.inputs)
        return self._plans(tuple(given[k] for k in self.inputs))

    # ---- calls; the fast path is Caller's

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if not args and kwargs and kwargs.keys() == self.inputs.keys():
            return self(*[kwargs[name] for name in self.inputs])  # the fast path takes arguments in order
        return self.as_result(self.outputs_for(bind_arguments(args, kwargs, self.inputs)))

    def as_result(self, outputs: Sequence[Array]) -> Any:
        """What a call returns: the output itself, or a named tuple of several."""
        return outputs[0] if self._tuple is None else self._tuple(*outputs)

    def _checked(self, bound: Mapping[str, Any]) -> tuple[list[Any], AnyPlan]:
        values = {k: as_value(k, v, self.inputs[k]) for k, v in bound.items()}
        shapes = {k: shape_of(v) for k, v in values.items()}
        check_shapes(shapes, self.inputs)
        return list(values.values()), self._plans(tuple(shapes.values()))

    def outputs_for(self, bound: Mapping[str, Any]) -> list[Any]:
        """The outputs for a value of every input, in the order of the inputs."""
        arrays, plan = self._checked(bound)
        profile = self._profile
        if profile is not None:
            profile.count()
        if isinstance(plan, Hybrid):
            return [public(v) for v in plan.run(dict(zip(self.inputs, arrays)), profile)]
        outputs = plan.run(arrays, profile=profile)
        if profile is None:
            self._set_last(plan.bound)
        return outputs

    def _run_into(self, inputs: Any, outputs: Any) -> None:
        """The checked path of `run_into`."""
        arrays, plan = self._checked(bind_arguments((), by_name(inputs, self.inputs), self.inputs))
        targets = bind_outputs(outputs, self.outputs)
        profile = self._profile
        results: list[Array] = []
        types = plan.outputs
        if isinstance(plan, Hybrid):
            # Before the outputs are looked at: their shapes may only be known now.
            results = plan.run(dict(zip(self.inputs, arrays)), profile)
            types = {name: TensorType.of(as_tensor(name, r)) for name, r in zip(types, results)}
        checked: list[Array] = []
        for name in self.outputs:
            checked.append(check_output(name, targets[name], types[name], [*arrays, *checked]))
        for target, result in zip(checked, results):
            np.copyto(target, result if target.dtype == result.dtype else public(result))
        if isinstance(plan, Plan):
            plan.run(arrays, into=checked, profile=profile)
            if profile is None:
                self._set_last(plan.bound)
        if profile is not None:
            profile.count()

    def run(self, inputs: Mapping[str, Any], *, capture: Iterable[str] = ()) -> dict[str, Array]:
        """Run on inputs by name.

        Parameters
        ----------
        inputs
            Input name -> array.
        capture
            Names of intermediate values of `graph` to return too. The passes keep these values, so a captured run
            has its own plan; its results are the same to the accuracy of the model's precision.

        Returns
        -------
        dict of str to ndarray
            The outputs, then the captured values.

        Raises
        ------
        InputError
            An input or a captured name that does not exist, or an input that does not fit.
        """
        if not capture and isinstance(inputs, dict) and inputs.keys() == self.inputs.keys():
            found = self(*[inputs[name] for name in self.inputs])  # the fast path takes arguments in order
            return dict(zip(self.graph.outputs, (found,) if self._tuple is None else found))
        bound = bind_arguments((), as_mapping(inputs, "inputs", "input name -> array"), self.inputs)
        model = self._variants(names) if (names := _names(capture)) else self
        return dict(zip(model.outputs, model.outputs_for(bound)))

    def like(self, graph: Any) -> Model:
        """Another graph as a model with the settings of this one."""
        return _like(graph, self.settings)

    def predict(self, x: Any, *, batch_size: int = 32, progress: bool = False) -> Any:
        """Run on a long array in batches along the first axis.

        Parameters
        ----------
        x
            The input, or input name -> array.
        batch_size
            Rows per run. The result does not depend on it.
        progress
            Show a progress display.

        Returns
        -------
        ndarray or named tuple
            As a call, for all rows.
        """
        from .predict import predict

        return predict(self, x, batch_size, progress)

    def stream(self, states: Mapping[str, str] | None = None) -> Stream:
        """The model for a sequence that comes piece by piece: its states stay inside of what this returns.

        Parameters
        ----------
        states
            State input -> the output that is its next value. By default they are found by their names: h and hn,
            state and stateN, `past_*` and `present_*`, `*_in` and `*_out` and the like. A model that has none, but
            forward recurrent layers, gets inputs and outputs for theirs.

        Raises
        ------
        InputError
            No states are found, or those given do not exist or do not fit, or the network cannot run piece by piece.
        """
        from .stream import Stream

        return Stream(self, states)

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """A call on a thread of a pool that all models share: a future of what the call would have returned or raised.

        The inputs must stay as they are until it is done.
        """
        from .futures import submit

        return submit(self, *args, **kwargs)

    async def arun(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """A call that is awaited: the event loop goes on while it runs on a thread, as with `submit`.

        Raises
        ------
        TimeoutError
            No result after `timeout` seconds. A call that has begun is not stopped then, but nobody hears of it.
        """
        from asyncio import wrap_future

        from .futures import result_within, submit

        return await result_within(wrap_future(submit(self, *args, **kwargs)), timeout)

    # ---- insight

    def summary(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Summary:
        """Inputs, outputs and nodes, each with its output shape, its parameters and how it runs."""
        from .report import Summary

        return Summary(self, shapes)

    def memory_plan(self, shapes: Mapping[str, Sequence[int]] | None = None) -> MemoryPlan:
        """The bytes that the model takes for the given input shapes, known before it runs."""
        from .report import MemoryPlan

        return MemoryPlan(self.plan(shapes))

    def profile(self) -> Profile:
        """A context in which calls of this model are timed step by step: `with model.profile() as p: model(x)`."""
        from .profile import Profile

        return Profile(self)

    def __repr__(self) -> str:
        def show(tensors: Mapping[str, TensorType]) -> str:
            return ", ".join(f"{k}: {t}" for k, t in tensors.items())

        s = self.settings
        return (
            f"<Model {self.graph.name or 'unnamed'}({show(self.inputs)}) -> {show(self.outputs)}; "
            f"{s.precision}, {s.isa}, {s.threads} thread{'s' if s.threads > 1 else ''}>"
        )

    def _repr_html_(self) -> str:
        from .report import model_html

        return model_html(self)

    @property
    def pickle_by(self) -> str:
        """How the model is pickled: by "bytes" (default), with its weights, or by "path": as the path of the file that
        it was loaded from and the file's SHA-256. The second is small, and processes share the memory of the weights;
        the file must then be there, and be the same, where the pickle is read."""
        return self._pickle_by

    @pickle_by.setter
    def pickle_by(self, way: str) -> None:
        from .pickling import check

        self._pickle_by = check(way, self._file)

    def __reduce__(self) -> Any:
        from .pickling import reduce

        return reduce(self, self._pickle_by, self._file, self._asked)


@record(frozen=True, slots=True, eq=False)
class _File:
    """A file in the place of a graph."""

    path: str | os.PathLike[str]
    read: Callable[..., Graph]


def _like(graph: Any, settings: Settings) -> Model:
    return Model(graph, threads=settings.threads, precision=settings.precision, isa=settings.isa)


def _names(capture: Any) -> tuple[str, ...]:
    """The names of values, each once."""
    try:
        return tuple(dict.fromkeys([capture] if isinstance(capture, str) else capture))
    except TypeError:
        raise InputError("not names", where="capture", expected="names of values", got=repr(capture)) from None


def _variant(graph: Graph, settings: Settings, names: tuple[str, ...]) -> Model:
    """A model with more outputs. No method, so that no cycle keeps memory until a garbage collection."""
    values = graph.producers().keys() | graph.inputs.keys() | graph.constants.keys()
    for n in names:
        if n not in values:
            raise InputError(f"unknown value {n!r}", where="capture", got=str(n), hint=suggest(n, values))
    graph = graph.copy()
    graph.outputs += [n for n in names if n not in graph.outputs]
    return _like(graph, settings)


def load(
    path: str | os.PathLike[str], threads: int | None = None, precision: str = "float32", *, inputs: Any = None
) -> Model:
    """Load a model file: `.npz`, `.onnx`, `.keras`, `.h5`, `.tflite`, TorchScript's `.pt`, `.pt2`. No code of it runs.

    Parameters
    ----------
    path
        The file. The weights of an `.npz` model are memory-mapped. Another load of it with the same settings, while a
        model of it lives, takes next to no time and memory: such models share all but their `graph`.
    threads, precision
        As for `Model`.
    inputs
        For TorchScript, which does not say them: the shapes of the inputs, by name or in order. Names in a shape are
        axes that stay free; a shape means float32, a `TensorType` any type, an array is an example with a free batch.

    Raises
    ------
    FileError
        The file cannot be read, is damaged or unsafe.
    InputError
        `inputs` are missing, wrong, or given for a format that says them itself.
    UnsupportedError
        Its format or an operator is not supported.
    ConfigError
        A setting that is unknown or not available.
    """
    read = partial(formats.load_graph, path)  # with `inputs`, the file alone does not say what the model is
    return Model(_File(path, read) if inputs is None else read(inputs=inputs), threads=threads, precision=precision)
