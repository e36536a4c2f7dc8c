"""What a model has around its forward pass: measures of its answers, other formats."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import onnx

    from .graph import Graph
    from .metrics import Measures, Metric
    from .run import Model

__all__ = ["Around"]


class Around:
    """The methods of a model that its calls do not need; each imports what it needs when it is called."""

    if TYPE_CHECKING:
        graph: Graph

    # ---- measures

    def evaluate(
        self,
        x: Any,
        y: Any,
        *,
        metrics: Iterable[str | Metric] = ("mean_squared_error",),
        batch_size: int = 32,
        progress: bool = False,
    ) -> Measures:
        """How good the model's answers are.

        Parameters
        ----------
        x
            The input, or input name -> array, as for `predict`.
        y
            What is right, row by row: values, one-hot rows, or class numbers, as the metrics ask for.
        metrics
            Names such as "accuracy" of `forwardpass.metrics`, or functions `(y_true, y_pred) -> one number per row`.
        batch_size
            Rows per run. The result does not depend on it.
        progress
            Show a progress display.

        Returns
        -------
        Measures
            Name -> number: the mean over all rows, summed in float64.

        Raises
        ------
        InputError
            An unknown metric, or answers that do not fit `y`.
        """
        from .metrics import evaluate

        return evaluate(cast("Model", self), x, y, metrics, batch_size, progress)

    # ---- formats

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> onnx.ModelProto | None:
        """Write the model, as it was before the passes, as an ONNX file. Needs the package onnx.

        The file is of the oldest opset from 17 on that has all its nodes, so that most tools read it.

        Parameters
        ----------
        path
            The file. Weights beyond the 2 GiB of one file go into a second one, `<path>.data`.

        Returns
        -------
        onnx.ModelProto or None
            The model where there is no path.

        Raises
        ------
        UnsupportedError
            What ONNX cannot hold; without a path, more than 2 GiB; or onnx is not installed.
        FileError
            The file cannot be written.
        """
        from .formats.onnx import export

        if path is None:
            return export.to_model(self.graph)
        export.write(self.graph, path)
        return None
