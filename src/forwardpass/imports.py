"""Models from the objects of other libraries, which the user has installed."""

from __future__ import annotations

from typing import Any

from .run import Model

__all__ = ["from_onnx", "from_sklearn", "from_torch"]


def from_onnx(source: Any, threads: int | None = None, precision: str = "float32") -> Model:
    """A model from ONNX. Needs the package onnx (`pip install forwardpass[onnx]`); what `save` writes does not.

    Parameters
    ----------
    source
        A path, the bytes of a file, or an `onnx.ModelProto`. External data is read for a path alone, from the
        folder of the model.
    threads, precision
        As for `Model`.

    Raises
    ------
    FileError
        The file cannot be read, is damaged or unsafe.
    GraphError
        The model is not valid.
    UnsupportedError
        Operators, types or versions that do not exist here: all operators at once; or onnx is not installed.
    """
    from .formats.onnx import graph_of

    return Model(graph_of(source), threads=threads, precision=precision)


def from_torch(
    source: Any,
    example_inputs: Any = None,
    *,
    dynamic_shapes: Any = None,
    threads: int | None = None,
    precision: str = "float32",
) -> Model:
    """A model from PyTorch, which must be installed; what `save` writes does not need it.

    Parameters
    ----------
    source
        A `torch.nn.Module` in evaluation mode, a `torch.export.ExportedProgram`, or a TorchScript module.
    example_inputs
        For a module: a tensor, or a tuple of them, to export it with.
    dynamic_shapes
        As for `torch.export.export`. By default the first axis of every input stays free where that can be.
    threads, precision
        As for `Model`.

    Raises
    ------
    UnsupportedError
        `torch.export` cannot export the module, or operators that are not known here: all of them at once; or PyTorch
        is not installed.
    InputError
        None of these, a module in training mode, or no example inputs.
    """
    from .formats.torch.source import graph_of_source

    return Model(graph_of_source(source, example_inputs, dynamic_shapes), threads=threads, precision=precision)


def from_sklearn(estimator: Any, *, threads: int | None = None, precision: str = "float32") -> Model:
    """A model from a fitted estimator of scikit-learn, which neither this nor what `save` writes imports.

    Its input `X` is float32. A predictor of classes gives `label` and, where it has `predict_proba`, `probabilities`;
    any other estimator gives `output`.

    Parameters
    ----------
    estimator
        A multi-layer perceptron, linear model, scaler, `PCA`, `TruncatedSVD`, `PolynomialFeatures`, or a `Pipeline`,
        `ColumnTransformer` or `FeatureUnion` of these.
    threads, precision
        As for `Model`.

    Raises
    ------
    InputError
        It is no estimator, or not fitted.
    UnsupportedError
        Kinds of estimators that are not known here, all at once.
    """
    from .formats.sklearn import graph_of

    return Model(graph_of(estimator), threads=threads, precision=precision)
