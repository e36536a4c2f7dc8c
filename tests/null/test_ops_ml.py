"""ai.onnx.ml but for its trees: against onnxruntime, and where that has nothing against what the text says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from onnx_nodes import by_definition, by_onnxruntime, node_model, same

from forwardpass.errors import Error, GraphError, InputError
from forwardpass.graph import Node, TensorType
from forwardpass.ops import evaluate_node, infer_node
from tolerance import CLASSICAL_FLOAT32, EXACT

DOMAIN = "ai.onnx.ml"
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
RNG = np.random.default_rng(11)
X = RNG.standard_normal((7, 4)).astype(np.float32)
PROPER = RNG.uniform(0.02, 0.2, (7, 4)).astype(np.float32)
"""Of which sums of products with weights up to 1 are probabilities."""
NAN = np.float32(np.nan)
WORDS = np.array([["a", "b"], ["zz", "a"]], object)
WHOLE = np.array([[1, 5], [-3, 1]])


def draw(*shape: int) -> list[float]:
    return RNG.standard_normal(shape).ravel().tolist()


def run(op: str, inputs: Sequence[Any], **attributes: Any) -> list[Any]:
    names = [f"x{k}" for k in range(len(inputs))]
    return evaluate_node(Node(op, names, ["y"], attributes, DOMAIN, "the node"), inputs)


def agree(op: str, inputs: Sequence[Any], outputs: int = 1, version: int = 3, **attributes: Any) -> None:
    """The definition gives what onnxruntime gives, and the shape rule says so from shapes alone."""
    model = node_model(op, version, inputs, attributes, outputs=outputs, domain=DOMAIN)
    got = by_definition(model, inputs)
    for g, w in zip(got, by_onnxruntime(model, inputs), strict=True):
        same(g, w, CLASSICAL_FLOAT32)
    node = Node(op, [f"x{k}" for k in range(len(inputs))], [f"y{k}" for k in range(outputs)], attributes, DOMAIN)
    for g, found in zip(got, infer_node(node, [TensorType.of(i) for i in inputs])):
        if not found.container:
            assert found.shape is not None
            assert all(d in (None, size) for d, size in zip(found.shape, g.shape, strict=True))
            assert found.dtype == g.dtype


# ---- features

FEATURES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Scaler", [X], {"offset": [0.5], "scale": [2.0]}),
    ("Scaler", [X], {"offset": draw(4), "scale": draw(4)}),
    ("Scaler", [(9 * X).astype(np.int32)], {"offset": draw(4), "scale": draw(4)}),
    ("Scaler", [X.astype(np.float64)], {"offset": draw(4), "scale": draw(4)}),
    *(("Normalizer", [x], {"norm": n}) for n in ("MAX", "L1", "L2") for x in (X, X[0], WHOLE, np.zeros_like(X))),
    ("Imputer", [np.where(X > 0, NAN, X)], {"imputed_value_floats": draw(4), "replaced_value_float": np.nan}),
    ("Imputer", [np.where(X > 0, np.float32(0.1), X)], {"imputed_value_floats": [7.0], "replaced_value_float": 0.1}),
    ("Imputer", [WHOLE], {"imputed_value_int64s": [9, 8], "replaced_value_int64": 1}),
    ("Binarizer", [X], {"threshold": 0.25}),
    ("Binarizer", [np.array([[0.25, np.nextafter(np.float32(0.25), np.float32(1))]], np.float32)], {"threshold": 0.25}),
    ("OneHotEncoder", [WHOLE], {"cats_int64s": [1, 5, 7]}),
    ("OneHotEncoder", [WHOLE.astype(np.float32) + 0.5], {"cats_int64s": [1, 5, 7]}),
    ("OneHotEncoder", [WHOLE[0]], {"cats_int64s": [5, 1, 5], "zeros": 0}),
    ("OneHotEncoder", [WORDS], {"cats_strings": ["b", "a"]}),
    ("FeatureVectorizer", [X, X[:, :2]], {"inputdimensions": [4, 2]}),
    ("FeatureVectorizer", [X, X[:, :2]], {"inputdimensions": [2, 2]}),
    ("FeatureVectorizer", [X[0], X[1]], {"inputdimensions": [4, 4]}),
    ("ArrayFeatureExtractor", [X, np.array([0, 3, 0])], {}),
    ("ArrayFeatureExtractor", [X[0], np.array([2])], {}),
    ("ArrayFeatureExtractor", [X.reshape(1, 7, 4), np.array([[3], [1]])], {}),
    ("ArrayFeatureExtractor", [WORDS, np.array([1])], {}),
    ("CategoryMapper", [WORDS], {"cats_int64s": [3, 4], "cats_strings": ["a", "b"], "default_int64": -5}),
    ("CategoryMapper", [WHOLE], {"cats_int64s": [1, 5], "cats_strings": ["a", "b"], "default_string": "none"}),
    ("ZipMap", [X], {"classlabels_int64s": [4, 1, 9, 2]}),
    ("ZipMap", [X[0]], {"classlabels_strings": ["a", "b", "c", "d"]}),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(FEATURES)), ids=[f"{op}-{k}" for k, (op, _, _) in enumerate(FEATURES)])
def test_features(case: int) -> None:
    op, inputs, attributes = FEATURES[case]
    agree(op, inputs, **attributes)


# onnxruntime knows no NaN, and lets the first of equal keys win where the text says the last.
NUMBERS = {"floats": [0.5, -1.0, 3.0], "int64s": [5, 1, -3], "strings": ["a", "b", "c"]}
TENSORS = {
    "int16": np.array([5, 1, 5], np.int16),
    "float64": np.array([0.1, 1.0, np.nan]),
    "strings": np.array(["a", "b", "a"], object),
}
INPUTS = {
    "floats": np.array([[0.5, np.nan], [7.0, -1.0]], np.float32),
    "int64s": WHOLE,
    "strings": WORDS,
    "int16": WHOLE.astype(np.int16),
    "float64": np.array([0.1, np.nan, np.float32(0.1)]),
}


@pytest.mark.parametrize("values", NUMBERS)
@pytest.mark.parametrize("keys", NUMBERS)
def test_labels(keys: str, values: str) -> None:
    defaults = {"default_float": 2.5, "default_int64": -7, "default_string": "none"}
    agree("LabelEncoder", [INPUTS[keys]], **{f"keys_{keys}": NUMBERS[keys], f"values_{values}": NUMBERS[values]})
    given = {f"keys_{keys}": NUMBERS[keys], f"values_{values}": NUMBERS[values], **defaults}
    agree("LabelEncoder", [INPUTS[keys]], version=2, **given)


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("values", TENSORS)
@pytest.mark.parametrize("keys", TENSORS)
def test_labels_of_any_dtype(keys: str, values: str, default: bool) -> None:
    table = TENSORS[keys].tolist()
    attributes = {"keys_tensor": TENSORS[keys], "values_tensor": TENSORS[values]}
    otherwise: Any = {"int16": -1, "float64": 0.0, "strings": "_Unused"}[values]
    if default:
        attributes["default_tensor"] = TENSORS[values][1:2]
        otherwise = TENSORS[values][1]

    def found(v: Any) -> Any:
        equal = [k for k, key in enumerate(table) if key == v or (key != key and v != v)]
        return TENSORS[values][equal[-1]] if equal else otherwise

    want = np.array([found(v) for v in INPUTS[keys].ravel().tolist()], TENSORS[values].dtype)
    (got,) = run("LabelEncoder", [INPUTS[keys]], **attributes)
    same(got, want.reshape(INPUTS[keys].shape), EXACT)


# ---- linear models and support vectors


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("labels", ["ints", "strings"])
def test_linear_classifier(labels: str, classes: int, transform: str) -> None:
    weights = RNG.uniform(0.1, 1, (classes, 4)).ravel().tolist()
    names = [f"c{k}" for k in range(classes)] if labels == "strings" else [10 * k for k in range(classes)]
    attributes = {f"classlabels_{labels}": names, "post_transform": transform, "intercepts": [0.01] * classes}
    agree("LinearClassifier", [PROPER], 2, coefficients=weights, **attributes)


@pytest.mark.parametrize("transform", [t for t in TRANSFORMS if t != "PROBIT"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_linear_classifier_of_two_classes_with_one_score(dtype: Any, transform: str) -> None:
    attributes = {"coefficients": draw(4), "intercepts": [0.1], "classlabels_strings": ["no", "yes"]}
    agree("LinearClassifier", [(5 * X).astype(dtype)], 2, post_transform=transform, **attributes)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("targets", [1, 3])
def test_linear_regressor(targets: int, transform: str) -> None:
    weights = RNG.uniform(0.1, 1, (targets, 4)).ravel().tolist()
    given = {"intercepts": [0.02] * targets, "targets": targets, "post_transform": transform}
    agree("LinearRegressor", [PROPER], coefficients=weights, **given)
    agree("LinearRegressor", [PROPER[0]], coefficients=weights, **given)


def svm(classes: int, kernel: str, probabilities: bool, positive: bool) -> dict[str, Any]:
    counts = [2, 3, 1, 2][:classes]
    pairs = classes * (classes - 1) // 2
    weights = np.array(draw(classes - 1, sum(counts)))
    found: dict[str, Any] = {
        "vectors_per_class": counts,
        "support_vectors": draw(sum(counts), 4),
        "coefficients": (np.abs(weights) if positive else weights).tolist(),
        "rho": draw(pairs),
        "kernel_type": kernel,
        "kernel_params": [0.3, 0.2, 2.0],
        "classlabels_ints": [10 + k for k in range(classes)],
    }
    if probabilities:
        found |= {"prob_a": (-np.abs(draw(pairs))).tolist(), "prob_b": draw(pairs)}
    return found


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_svm_classifier(transform: str, classes: int, positive: bool, probabilities: bool) -> None:
    agree("SVMClassifier", [X], 2, post_transform=transform, **svm(classes, "RBF", probabilities, positive))


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_svm_kernels(kernel: str) -> None:
    agree("SVMClassifier", [X], 2, **svm(3, kernel, False, False))
    regression = {"kernel_type": kernel, "kernel_params": [0.3, 0.2, 2.0], "rho": [0.2], "n_supports": 5}
    for one_class in (0, 1):
        agree("SVMRegressor", [X], support_vectors=draw(5, 4), coefficients=draw(5), one_class=one_class, **regression)


def test_svm_without_support_vectors() -> None:
    parameters = {"kernel_params": [0.0, 0.0, 0.0], "rho": [0.2]}
    agree("SVMRegressor", [X], coefficients=draw(4), **parameters)
    agree("SVMClassifier", [X], 2, coefficients=draw(3, 4), classlabels_strings=["a", "b", "c"], **parameters)


# ---- maps

MAPS: list[tuple[str, dict[Any, Any], dict[str, Any], Any]] = [
    ("CastMap", {3: 1.5, 1: 2.25}, {}, np.array([[2.25, 1.5]], np.float32)),
    ("CastMap", {3: 1.5, 1: 2.25}, {"cast_to": "TO_INT64"}, np.array([[2, 1]])),
    ("CastMap", {3: 1.5, 1: 1e-7}, {"cast_to": "TO_STRING"}, np.array([["0.000000", "1.500000"]], object)),
    ("CastMap", {3: "1.5", 1: "2"}, {}, np.array([[2, 1.5]], np.float32)),
    ("CastMap", {3: "x", 1: "y"}, {"cast_to": "TO_STRING"}, np.array([["y", "x"]], object)),
    ("CastMap", {}, {}, np.zeros((1, 0), np.float32)),
    ("CastMap", {3: 1.5, 9: 2.0}, {"map_form": "SPARSE", "max_map": 5}, np.array([[0, 0, 0, 1.5, 0]], np.float32)),
    ("DictVectorizer", {"a": 4.0, "c": 8.0}, {"string_vocabulary": ["a", "c", "b"]}, np.array([[4, 8, 0]], np.float32)),
    ("DictVectorizer", {1: "x"}, {"int64_vocabulary": [0, 1]}, np.array([["", "x"]], object)),
    ("DictVectorizer", {"b": 7}, {"string_vocabulary": ["a", "b"]}, np.array([[0, 7]])),
    ("DictVectorizer", {1: np.float64(0.1)}, {"int64_vocabulary": [1]}, np.array([[0.1]])),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(MAPS)))
def test_maps(case: int) -> None:
    op, given, attributes, want = MAPS[case]
    (got,) = run(op, [given], **attributes)
    same(got, want, EXACT)


def test_zip_map_is_the_inverse_of_vectorising() -> None:
    keys = ["p", "q", "r", "s"]
    (maps,) = run("ZipMap", [X], classlabels_strings=keys)
    for row, found in zip(X, maps):
        (got,) = run("DictVectorizer", [found], string_vocabulary=keys)
        same(got, row[None], EXACT)


# ---- what is refused

BAD: dict[str, tuple[type[Error], str, list[Any], Mapping[str, Any]]] = {
    "scale": (GraphError, "Scaler", [X], {"scale": [1.0, 2.0]}),
    "norm": (GraphError, "Normalizer", [X], {"norm": "L3"}),
    "rank": (GraphError, "Normalizer", [X[None]], {}),
    "nothing to impute": (GraphError, "Imputer", [X], {"imputed_value_int64s": [1]}),
    "two tables": (GraphError, "OneHotEncoder", [WHOLE], {"cats_int64s": [1], "cats_strings": ["a"]}),
    "kind of categories": (GraphError, "OneHotEncoder", [WORDS], {"cats_int64s": [1]}),
    "unknown category": (InputError, "OneHotEncoder", [WHOLE], {"cats_int64s": [1], "zeros": 0}),
    "index": (InputError, "ArrayFeatureExtractor", [X, np.array([4])], {}),
    "sizes": (GraphError, "FeatureVectorizer", [X], {"inputdimensions": [1, 2]}),
    "no keys": (GraphError, "LabelEncoder", [WORDS], {"values_int64s": [1]}),
    "keys and values": (GraphError, "LabelEncoder", [WORDS], {"keys_strings": ["a"], "values_int64s": [1, 2]}),
    "kind of keys": (GraphError, "LabelEncoder", [X], {"keys_strings": ["a"], "values_int64s": [1]}),
    "strings": (GraphError, "LabelEncoder", [X], {"keys_strings": [1.5], "values_int64s": [1]}),
    "columns": (GraphError, "ZipMap", [X], {"classlabels_int64s": [1, 2]}),
    "no map": (GraphError, "CastMap", [X], {}),
    "negative key": (InputError, "CastMap", [{-1: 2.0}], {"map_form": "SPARSE", "max_map": 3}),
    "coefficients": (GraphError, "LinearRegressor", [X], {"coefficients": [1.0, 2.0]}),
    "intercepts": (GraphError, "LinearRegressor", [X], {"coefficients": [1.0] * 4, "intercepts": [1.0, 2.0]}),
    "transform": (GraphError, "LinearRegressor", [X], {"coefficients": [1.0] * 4, "post_transform": "TANH"}),
    "classes": (
        GraphError, "LinearClassifier", [X],
        {"coefficients": [1.0] * 12, "intercepts": [0.0] * 3, "classlabels_ints": [1, 2]},
    ),
    "support vectors": (
        GraphError, "SVMRegressor", [X],
        {"coefficients": [1.0], "support_vectors": [1.0] * 3, "n_supports": 1, "rho": [0.0]},
    ),
    "rho": (GraphError, "SVMClassifier", [X], {**svm(3, "RBF", False, False), "rho": [1.0]}),
    "probabilities": (GraphError, "SVMClassifier", [X], {**svm(3, "RBF", False, False), "prob_a": [1.0]}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_parameters_are_refused(name: str) -> None:
    kind, op, inputs, attributes = BAD[name]
    with pytest.raises(kind, match="the node"):
        run(op, inputs, **attributes)
