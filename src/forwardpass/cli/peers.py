"""Those that `verify` compares a model with: each gives the values of any names of the graph for the same inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import Error, UnsupportedError

if TYPE_CHECKING:
    from ..graph import Graph
    from ..run import Model

__all__ = ["Judge", "Onnxruntime", "Peer", "Tested"]


class Peer(Protocol):
    """Who computes values of a graph."""

    name: str

    def values(self, names: Sequence[str]) -> dict[str, Any]:
        """The values of these names, without those that it does not have."""

    def known(self) -> set[str]:
        """The names whose values it can give."""


class Tested:
    """The model under test. Values in the middle are captured, which keeps them from being fused away."""

    name = "forwardpass"

    def __init__(self, model: Model, inputs: Mapping[str, Any]) -> None:
        self.model, self.inputs = model, inputs

    def known(self) -> set[str]:
        return set(self.model.graph.producers())

    def values(self, names: Sequence[str]) -> dict[str, Any]:
        middle = [n for n in names if n not in self.model.graph.outputs]
        found = self.model.run(self.inputs, capture=middle)
        return {n: found[n] for n in names}


class Judge:
    """The definitions in NumPy, in float64. What it cannot compute, it gives nothing for.

    Attributes
    ----------
    why_not
        Why there are no values, where there are none.
    """

    name = "reference"

    def __init__(self, graph: Graph, inputs: Mapping[str, Any]) -> None:
        self.graph, self.inputs, self.why_not = graph, inputs, ""

    def known(self) -> set[str]:
        return set(self.graph.producers())

    def values(self, names: Sequence[str]) -> dict[str, Any]:
        import numpy as np

        from ..ops.evaluate import evaluate

        try:
            return evaluate(self.graph, self.inputs, outputs=names, dtype=np.float64)
        except Error as error:
            self.why_not = str(error)
            return {}


class Onnxruntime:
    """onnxruntime on the same file.

    Raises
    ------
    UnsupportedError
        It or the package onnx is not installed, or the file is no ONNX model.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, inputs: Mapping[str, Any], threads: int) -> None:
        if path.suffix.lower() != ".onnx":
            hint = "use --against reference, or the ONNX file that it was made from"
            raise UnsupportedError("onnxruntime reads ONNX models alone", where=str(path), hint=hint)
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            missing = f"the package {error.name}"
            raise UnsupportedError(f"--against onnxruntime needs {missing}", hint=f"pip install {error.name}") from None
        self.version = str(onnxruntime.__version__)
        self.path, self.threads, self.inputs = path, threads, dict(inputs)
        self.model = onnx.load(str(path), load_external_data=False)
        self._names = {o for n in self.model.graph.node for o in n.output if o}

    def known(self) -> set[str]:
        return set(self._names)

    def values(self, names: Sequence[str]) -> dict[str, Any]:
        from ..bench.engines.onnxruntime import session

        own = [o.name for o in self.model.graph.output]
        extra = [n for n in names if n not in own and n in self._names]
        wanted = [n for n in names if n in own or n in extra]
        try:
            made = session(self._with(extra) if extra else str(self.path), self.threads)
            return dict(zip(wanted, made.run(wanted, self.inputs)))
        except Exception as error:  # its own exceptions have no common base that is public
            raise UnsupportedError("onnxruntime cannot run it", where=str(self.path), got=str(error)[:300]) from None

    def _with(self, names: Iterable[str]) -> str | bytes:
        """The model with more outputs; its external data is read, since bytes have no folder."""
        import onnx

        model = onnx.load(str(self.path))
        model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
        return bytes(model.SerializeToString())
