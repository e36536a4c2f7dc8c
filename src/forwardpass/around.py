"""What a model has around its forward pass: pictures and labels, measures of its answers, other formats."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import onnx

    from .graph import Graph
    from .labels import Classes
    from .metrics import Measures, Metric
    from .run import Model

__all__ = ["Around"]


class Around:
    """The methods of a model that its calls do not need; each imports what it needs when it is called."""

    if TYPE_CHECKING:
        graph: Graph

    # ---- pictures

    def with_preprocessing(self, mode: str = "none", *, input: str | None = None, **settings: Any) -> Model:  # noqa: A002
        """The model for pictures of any size: uint8 [N, height, width, channels] in the place of an input.

        Resizing, cropping and normalising become nodes of the graph, which are saved with it.

        Parameters
        ----------
        mode
            "none": 0 to 255; "unit": 0 to 1; "tf", "torch" or "caffe": those of `keras.applications`.
        input
            The input that takes the pixels; by default the first one.
        **settings
            Of `forwardpass.preprocess.Preprocessing`: size, fit, shorter, interpolation, antialias, scale, mean, std,
            channels. By default pictures are stretched to the size of the input, smoothed as Pillow does.

        Raises
        ------
        InputError
            Settings that make no sense, or an input that takes no pictures.
        """
        from .preprocess.prefix import with_preprocessing
        from .preprocess.settings import Preprocessing

        model = cast("Model", self)
        return model.like(with_preprocessing(self.graph, Preprocessing.of(mode, **settings), input))

    @property
    def labels(self) -> list[str] | None:
        """The names of the classes in their order, of the metadata; None where there are none.

        Set them to a list, or to a dict of class number to name; `save` and `to_onnx` keep them.
        """
        from .labels import labels_of

        return labels_of(self.graph.metadata)

    @labels.setter
    def labels(self, labels: Sequence[str] | Mapping[int, str]) -> None:
        from .labels import KEY, labels_text

        graph = self.graph.copy()  # the caller's own keeps what it has
        graph.metadata[KEY] = labels_text(labels)
        self.graph = graph

    def classify(self, image: Any, *, top: int = 5) -> Classes | list[Classes]:
        """The most probable classes of a picture.

        Parameters
        ----------
        image
            A path, the bytes of a file, a picture of Pillow's (these need Pillow), or an array: one picture, or a
            batch of them.
        top
            How many classes.

        Returns
        -------
        Classes, or a list of them for a batch
            Pairs of a label and its probability, best first. Without `labels` the label is the number of the class.
            An output that is no Softmax counts as logits.

        Raises
        ------
        InputError
            The model does not give one row of scores for a picture, or takes none: see `with_preprocessing`.
        FileError, UnsupportedError
            The picture cannot be read, or Pillow is not installed.
        """
        from .preprocess.classify import classify

        return classify(cast("Model", self), image, top)

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
