"""Model: a graph that is ready to be called. `load` and `save`."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from . import formats
from ._call import Bound, Caller
from .config import settings
from .errors import InputError
from .formats import npz
from .graph import Array, Graph, TensorType
from .hybrid import Hybrid
from .inputs import as_array, bind_arguments, check_shapes, suggest
from .ops.evaluate import infer_types
from .passes import optimize
from .plan import Declined, Plan, make_plan

if TYPE_CHECKING:
    from .profile import Profile
    from .report import MemoryPlan, Summary

__all__ = ["Model", "load", "save"]

_MAX_PLANS = 16
_MAX_VARIANTS = 4
_GIL_FLOPS = 400_000
"""Operations above which a run is long enough for other Python threads to profit from a released GIL."""

AnyPlan = Union[Plan, Hybrid]
Key = tuple[tuple[int, ...], ...]


class Model(Caller):  # type: ignore[misc]  # a Cython class without stubs
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
        "float32" (default), "portable" (the same bits on every CPU) or "fast".

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
        self, graph: Any, *, threads: int | None = None, precision: str = "float32", isa: str = ""
    ) -> None:
        if not isinstance(graph, Graph):
            graph = graph.graph()
        graph.verify()
        self.settings = settings(threads, precision, isa)
        self.graph: Graph = graph
        types = infer_types(graph)
        self.inputs: dict[str, TensorType] = dict(graph.inputs)
        self.outputs: dict[str, TensorType] = {o: types[o] for o in graph.outputs}
        self.optimized, self.log = optimize(graph, check=False)
        self._packed: dict[Any, Array] = {}
        self._plans: OrderedDict[Key, AnyPlan] = OrderedDict()
        self._bounds: dict[int, Bound] = {}
        self._variants: OrderedDict[tuple[str, ...], Model] = OrderedDict()
        self._lock = threading.RLock()
        self._profile: Profile | None = None
        self._set_names(tuple(self.inputs), tuple(self.outputs))
        self._tuple: Callable[..., Any] = namedtuple(  # type: ignore[misc]
            "Outputs", list(self.outputs), rename=True
        )

    # ---- plans

    def plan(self, shapes: Mapping[str, Sequence[int]] | None = None) -> AnyPlan:
        """The plan for the given input shapes, made now if it is new.

        Parameters
        ----------
        shapes
            Input name -> shape. By default symbolic and unknown dimensions are 1.

        Raises
        ------
        InputError
            A shape that does not fit the model.
        """
        given = {k: tuple(v) for k, v in (shapes or {}).items()}
        for name in given:
            if name not in self.inputs:
                raise InputError(f"unknown input {name!r}", where="shapes", hint=suggest(name, self.inputs))
        for name, t in self.inputs.items():
            given.setdefault(name, tuple(d if isinstance(d, int) else 1 for d in t.shape or ()))
        check_shapes(given, self.inputs)
        return self._plan_for({k: given[k] for k in self.inputs})

    def _plan_for(self, shapes: Mapping[str, tuple[int, ...]]) -> AnyPlan:
        key: Key = tuple(shapes[k] for k in self.inputs)
        with self._lock:
            found = self._plans.get(key)
            if found is None:
                found = self._make_plan(shapes)
                self._plans[key] = found
                if len(self._plans) > _MAX_PLANS:
                    _, old = self._plans.popitem(last=False)
                    self._bounds.pop(id(old), None)
            else:
                self._plans.move_to_end(key)
            return found

    def _make_plan(self, shapes: Mapping[str, tuple[int, ...]]) -> AnyPlan:
        try:
            plan = make_plan(self.optimized, shapes, self.settings, self._packed)
        except Declined as declined:
            return Hybrid(self.optimized, shapes, declined.reasons, self._runner)
        inputs = [plan.inputs[k].shape for k in self.inputs]
        outputs = [plan.outputs[k].shape for k in self.outputs]
        self._bounds[id(plan)] = Bound(plan.program, inputs, outputs, plan.flops > _GIL_FLOPS)
        return plan

    def _runner(self, graph: Graph) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
        """A function that runs a stretch of a hybrid plan, planned per shape, with this model's packed weights."""
        plans: OrderedDict[Key, tuple[Plan, Bound]] = OrderedDict()

        def run(values: Mapping[str, Array]) -> dict[str, Array]:
            arrays = [values[k] for k in graph.inputs]
            key = tuple(a.shape for a in arrays)
            if key not in plans:
                shapes = {k: a.shape for k, a in zip(graph.inputs, arrays)}
                plan = make_plan(graph, shapes, self.settings, self._packed)
                in_shapes, out_shapes = list(key), [plan.outputs[o].shape for o in graph.outputs]
                plans[key] = plan, Bound(plan.program, in_shapes, out_shapes, plan.flops > _GIL_FLOPS)
                if len(plans) > _MAX_PLANS:
                    plans.popitem(last=False)
            plan, bound = plans[key]
            outputs = _new_outputs(plan)
            bound.run(arrays, outputs)
            return dict(zip(graph.outputs, outputs))

        return run

    # ---- calls; the fast path is Caller's

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        results = self._evaluate(bind_arguments(args, kwargs, self.inputs))
        return results[0] if len(results) == 1 else self._tuple(*results)

    def _arrays(self, bound: Mapping[str, Any]) -> dict[str, Array]:
        arrays = {k: as_array(k, v, self.inputs[k]) for k, v in bound.items()}
        check_shapes({k: a.shape for k, a in arrays.items()}, self.inputs)
        return arrays

    def _evaluate(self, bound: Mapping[str, Any], outputs: list[Array] | None = None) -> list[Array]:
        """Validate, plan, run; into `outputs` where they are given."""
        arrays = self._arrays(bound)
        plan = self._plan_for({k: a.shape for k, a in arrays.items()})
        if isinstance(plan, Hybrid):
            results = list(plan.run(arrays).values())
            if outputs is None:
                # A definition may return a view of an input or of a constant.
                return [np.array(r, order="C") for r in results]
            for target, result in zip(outputs, results):
                np.copyto(target, result)
            return outputs
        native = self._bounds[id(plan)]
        results = _new_outputs(plan) if outputs is None else outputs
        inputs = list(arrays.values())
        if self._profile is not None:
            self._profile.record(plan, inputs, results)
        else:
            self._set_last(native)
            native.run(inputs, results)
        return results

    def _run_into(self, inputs: Any, outputs: Any) -> None:
        """The checked path of `run_into`."""
        given = inputs if isinstance(inputs, Mapping) else {next(iter(self.inputs)): inputs}
        arrays = self._arrays(bind_arguments((), given, self.inputs))
        targets = outputs if isinstance(outputs, Mapping) else {next(iter(self.outputs)): outputs}
        plan = self._plan_for({k: a.shape for k, a in arrays.items()})
        types = plan.outputs if isinstance(plan, Plan) else plan.types
        for name in targets:
            if name not in self.outputs:
                raise InputError(
                    f"unknown output {name!r}", where="run_into", hint=suggest(name, self.outputs)
                )
        checked = []
        for name in self.outputs:
            if name not in targets:
                raise InputError(
                    f"output {name!r} is missing", where="run_into", expected=", ".join(self.outputs)
                )
            checked.append(_check_output(name, targets[name], types[name], [*arrays.values(), *checked]))
        self._evaluate(arrays, checked)

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
        names = tuple(dict.fromkeys(capture))
        model = self._variant(names) if names else self
        results = model._evaluate(bind_arguments((), inputs, self.inputs))
        return dict(zip(model.outputs, results))

    def _variant(self, names: tuple[str, ...]) -> Model:
        """This model with more outputs."""
        with self._lock:
            found = self._variants.get(names)
            if found is None:
                values = (
                    self.graph.producers().keys() | self.graph.inputs.keys() | self.graph.constants.keys()
                )
                for n in names:
                    if n not in values:
                        raise InputError(f"unknown value {n!r}", where="capture", hint=suggest(n, values))
                graph = self.graph.copy()
                graph.outputs += [n for n in names if n not in graph.outputs]
                s = self.settings
                found = Model(graph, threads=s.threads, precision=s.precision, isa=s.isa)
                self._variants[names] = found
                if len(self._variants) > _MAX_VARIANTS:
                    self._variants.popitem(last=False)
            return found

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

    # ---- insight

    def summary(self) -> Summary:
        """Inputs, outputs and nodes, each with its output shape, its parameters and how it runs."""
        from .report import Summary

        return Summary(self)

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

    def __reduce__(self) -> Any:
        s = self.settings
        return _unpickle, (npz.to_bytes(self.graph), s.threads, s.precision)


def _unpickle(data: bytes, threads: int, precision: str) -> Model:
    return Model(npz.from_bytes(data), threads=threads, precision=precision)


def _new_outputs(plan: Plan) -> list[Array]:
    return [np.empty(t.shape, t.dtype) for t in plan.outputs.values()]  # type: ignore[arg-type]


def _check_output(name: str, value: Any, wanted: TensorType, others: Sequence[Array]) -> Array:
    where = f"output {name!r}"
    got = TensorType.of(value) if isinstance(value, np.ndarray) else type(value).__name__
    if not isinstance(value, np.ndarray) or value.dtype != wanted.dtype or value.shape != wanted.shape:
        raise InputError("wrong array", where=where, expected=str(wanted), got=str(got))
    if not value.flags.c_contiguous or not value.flags.aligned or not value.flags.writeable:
        raise InputError("the array is not writeable, aligned and C-contiguous", where=where)
    if any(np.may_share_memory(value, o) for o in others):
        raise InputError("the array overlaps an input or another output", where=where)
    return value


def load(path: str | os.PathLike[str], threads: int | None = None, precision: str = "float32") -> Model:
    """Load a model file.

    Parameters
    ----------
    path
        An `.npz` model. The weights are memory-mapped.
    threads, precision
        As for `Model`.

    Raises
    ------
    FileError
        The file cannot be read, is damaged or unsafe.
    UnsupportedError
        Its format or an operator is not supported.
    ConfigError
        A setting that is unknown or not available.
    """
    return Model(formats.load_graph(path), threads=threads, precision=precision)


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Save a model, a graph or a builder network as an `.npz` file that `load` and `numpy.load` open.

    Raises
    ------
    FileError
        The file cannot be written.
    """
    graph = model if isinstance(model, Graph) else model.graph
    npz.write(graph() if callable(graph) else graph, path)
