"""Fitted estimators of scikit-learn: the same labels, probabilities and values from the graph."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from tolerance import REAL_MODEL

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [frameworks])")

from sklearn import linear_model, svm
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

pytestmark = pytest.mark.frameworks
Array = np.ndarray[Any, Any]
ROWS, COLUMNS = 120, 6


def data(seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, COLUMNS)) * [1, 2, 0.5, 1, 3, 1] + [0, 1, 0, -2, 0, 0]
    return x.astype(np.float32)


def classes(x: Array, count: int, names: str = "") -> Array:
    score = x[:, 0] + x[:, 1] * x[:, 2]
    places = np.searchsorted(np.quantile(score, np.linspace(0, 1, count + 1)[1:-1]), score)
    return np.array([f"{names}{k}" for k in places]) if names else places * 3 - 1


def fitted(estimator: Any, x: Array, y: Any = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few iterations are enough
        return estimator.fit(x.astype(np.float64), y)


def close(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=REAL_MODEL, atol=REAL_MODEL * max(1e-3, np.abs(want).max()))


SCALERS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    MinMaxScaler((-1, 2)),
    MinMaxScaler(clip=True),
    MaxAbsScaler(),
    RobustScaler(),
    RobustScaler(with_centering=False),
    RobustScaler(with_scaling=False),
    Normalizer("l1"),
    Normalizer("l2"),
    Normalizer("max"),
    Binarizer(threshold=0.3),
    PCA(3),
    PCA(4, whiten=True),
    TruncatedSVD(3, random_state=0),
    PolynomialFeatures(2),
    PolynomialFeatures(3, interaction_only=True, include_bias=False),
    FeatureUnion([("a", PCA(2)), ("b", StandardScaler())], transformer_weights={"b": 0.5}),
    make_pipeline(StandardScaler(), "passthrough", PCA(2), PolynomialFeatures(2)),
]


@pytest.mark.parametrize("estimator", SCALERS, ids=lambda e: repr(e)[:60])
def test_transformers(estimator: Any) -> None:
    x = data()
    fitted(estimator, x)
    new = data(1)
    new[0] = 0
    close(fp.from_sklearn(estimator)(new), estimator.transform(new.astype(np.float64)))


REGRESSORS = [
    linear_model.LinearRegression(),
    linear_model.LinearRegression(fit_intercept=False),
    linear_model.Ridge(),
    linear_model.Lasso(0.01),
    linear_model.ElasticNet(0.01),
    linear_model.SGDRegressor(random_state=0),
    svm.LinearSVR(random_state=0),
    MLPRegressor(hidden_layer_sizes=(7, 5), random_state=0, max_iter=30),
    MLPRegressor(hidden_layer_sizes=(7,), activation="tanh", random_state=0, max_iter=30),
]


OF_ONE_OUTPUT = (linear_model.SGDRegressor, svm.LinearSVR)


@pytest.mark.parametrize(
    ("estimator", "outputs"),
    [(e, n) for e in REGRESSORS for n in (1, 2) if n == 1 or not isinstance(e, OF_ONE_OUTPUT)],
    ids=repr,
)
def test_regressors(estimator: Any, outputs: int) -> None:
    x = data()
    y = np.stack([x[:, 0] * 2 + 1, x[:, 1] - x[:, 2]], 1)
    if outputs == 1:
        y = y[:, 0]
    fitted(estimator, x, y)
    close(fp.from_sklearn(estimator)(data(1)), estimator.predict(data(1).astype(np.float64)))


CLASSIFIERS = [
    linear_model.LogisticRegression(),
    linear_model.LogisticRegression(solver="newton-cg", fit_intercept=False),
    linear_model.RidgeClassifier(),
    linear_model.Perceptron(random_state=0),
    linear_model.SGDClassifier(random_state=0),
    linear_model.SGDClassifier(loss="log_loss", random_state=0),
    linear_model.SGDClassifier(loss="modified_huber", random_state=0),
    svm.LinearSVC(random_state=0),
    *(MLPClassifier((8, 5), a, random_state=0, max_iter=30) for a in ("identity", "logistic", "tanh", "relu")),
]


@pytest.mark.parametrize("names", ["", "class "], ids=["integers", "text"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=repr)
def test_classifiers(estimator: Any, count: int, names: str) -> None:
    x = data()
    fitted(estimator, x, classes(x, count, names))
    new = data(1)
    model = fp.from_sklearn(estimator)
    found = model.run({"X": new})
    want = estimator.predict(new.astype(np.float64))
    assert found["label"].tolist() == want.tolist()
    if "probabilities" in found:
        close(found["probabilities"], estimator.predict_proba(new.astype(np.float64)))
    else:
        huber = isinstance(estimator, linear_model.SGDClassifier) and estimator.loss == "modified_huber" and count > 2
        assert huber or not hasattr(estimator, "predict_proba")


def test_several_labels_at_once() -> None:
    x = data()
    y = np.stack([x[:, 0] > 0, x[:, 1] > 1], 1).astype(int)
    estimator = fitted(MLPClassifier((9,), random_state=0, max_iter=50), x, y)
    found = fp.from_sklearn(estimator).run({"X": x})
    np.testing.assert_array_equal(found["label"], estimator.predict(x))
    close(found["probabilities"], estimator.predict_proba(x.astype(np.float64)))


@pytest.mark.parametrize("remainder", ["drop", "passthrough", StandardScaler()], ids=str)
def test_columns(remainder: Any) -> None:
    x = data()
    parts = [("a", StandardScaler(), [0, 2]), ("b", PCA(2), slice(3, 6)), ("c", "passthrough", [2])]
    columns = ColumnTransformer(parts, remainder=remainder)
    estimator = fitted(make_pipeline(columns, linear_model.LogisticRegression()), x, classes(x, 3))
    found = fp.from_sklearn(estimator).run({"X": data(1)})
    np.testing.assert_array_equal(found["label"], estimator.predict(data(1)))
    close(found["probabilities"], estimator.predict_proba(data(1)))


def test_it_is_saved_and_needs_no_scikit_learn(tmp_path: Any) -> None:
    x = data()
    estimator = fitted(
        make_pipeline(StandardScaler(), MLPClassifier((4,), random_state=0, max_iter=9)), x, classes(x, 3)
    )
    model = fp.from_sklearn(estimator)
    fp.save(model, tmp_path / "model.npz")
    again = fp.load(tmp_path / "model.npz")
    for name, value in model.run({"X": x}).items():
        np.testing.assert_array_equal(again.run({"X": x})[name], value)


class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, x: Array, y: Any = None) -> Doubled:
        self.n_features_in_ = x.shape[1]
        return self

    def transform(self, x: Array) -> Array:
        return 2 * x


class OwnScaler(StandardScaler):
    def transform(self, x: Array, copy: bool | None = None) -> Array:
        return 2 * super().transform(x)


def test_all_that_is_not_known_is_named_at_once() -> None:
    x = data()
    steps = [("a", Doubled()), ("s", OwnScaler()), ("f", RandomForestClassifier(2, random_state=0))]
    estimator = fitted(Pipeline(steps), x, classes(x, 2))
    with pytest.raises(fp.UnsupportedError) as error:
        fp.from_sklearn(estimator)
    for name in ("Doubled", "OwnScaler", "RandomForestClassifier"):
        assert name in error.value.got


def test_functions_of_python_are_refused() -> None:
    estimator = fitted(make_pipeline(FunctionTransformer(np.log1p)), data())
    with pytest.raises(fp.UnsupportedError, match="function"):
        fp.from_sklearn(estimator)


@pytest.mark.parametrize("estimator", [StandardScaler(), make_pipeline(PCA(2)), MLPRegressor()], ids=repr)
def test_what_is_not_fitted_is_refused(estimator: Any) -> None:
    with pytest.raises(fp.InputError, match="not fitted"):
        fp.from_sklearn(estimator)


def test_what_is_no_estimator_is_refused() -> None:
    with pytest.raises(fp.InputError, match="not an estimator"):
        fp.from_sklearn(3)
