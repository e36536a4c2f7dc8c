"""Tree ensembles of ai.onnx.ml: against a walk written out node by node, against onnxruntime, and exported models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_nodes import by_definition, by_onnxruntime, imported, node_model, same

from forwardpass.errors import Error, GraphError, InputError
from forwardpass.graph import Node
from forwardpass.ops import evaluate, evaluate_node
from tolerance import CLASSICAL_FLOAT32, EXACT

DOMAIN = "ai.onnx.ml"
FEATURES = 3
GRID = np.linspace(-1, 1, 9).astype(np.float32)
"""Thresholds and features are drawn from few values, so that many are equal."""
COMPARE: dict[str, Any] = {
    "BRANCH_LEQ": lambda x, t: x <= t,
    "BRANCH_LT": lambda x, t: x < t,
    "BRANCH_GTE": lambda x, t: x >= t,
    "BRANCH_GT": lambda x, t: x > t,
    "BRANCH_EQ": lambda x, t: x == t,
    "BRANCH_NEQ": lambda x, t: x != t,
}
MODES = list(COMPARE)
Ensemble = dict[str, list[Any]]


def rows(rng: np.random.Generator, count: int = 40, *, missing: bool = False) -> Any:
    x = rng.choice(GRID, (count, FEATURES))
    x[: count // 4] = np.nextafter(x[: count // 4], np.float32(5))
    if missing:
        x[rng.random(x.shape) < 0.2] = np.nan
    return x


def grow(rng: np.random.Generator, modes: list[str], trees: int, depth: int) -> Ensemble:
    """Random trees; nodes are numbered anew in every tree."""
    found: Ensemble = {
        k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }

    def add(tree: int, level: int, counter: list[int]) -> int:
        own, place = counter[0], len(found["modes"])
        counter[0] += 1
        leaf = level == depth or (level and rng.random() < 0.2)
        entry = (
            tree,
            own,
            int(rng.integers(FEATURES)),
            "LEAF" if leaf else str(rng.choice(modes)),
            float(rng.choice(GRID)),
        )
        for key, value in zip(("treeids", "nodeids", "featureids", "modes", "values"), entry):
            found[key].append(value)
        found["truenodeids"].append(0)
        found["falsenodeids"].append(0)
        if not leaf:
            found["truenodeids"][place] = add(tree, level + 1, counter)
            found["falsenodeids"][place] = add(tree, level + 1, counter)
        return own

    for tree in range(trees):
        add(tree, 0, [0])
    found["missing_value_tracks_true"] = rng.integers(0, 2, len(found["modes"])).tolist()
    return found


def vote(rng: np.random.Generator, trees: Ensemble, targets: list[int], *, positive: bool = False) -> Ensemble:
    """A vote of every leaf for each of the targets."""
    found: Ensemble = {"treeids": [], "nodeids": [], "ids": [], "weights": []}
    for tree, node, mode in zip(trees["treeids"], trees["nodeids"], trees["modes"]):
        for target in targets if mode == "LEAF" else []:
            weight = float(np.float32(rng.uniform(0.02, 0.2) if positive else rng.standard_normal()))
            for key, value in zip(found, (tree, node, target, weight)):
                found[key].append(value)
    return found


def attributes_of(trees: Ensemble, votes: Ensemble, side: str) -> dict[str, Any]:
    return {f"nodes_{k}": v for k, v in trees.items()} | {f"{side}_{k}": v for k, v in votes.items()}


def leaves_of(trees: Ensemble, row: Any) -> list[tuple[int, int]]:
    """Tree and node of the leaf that a row reaches in every tree."""
    place = {key: k for k, key in enumerate(zip(trees["treeids"], trees["nodeids"]))}
    found = []
    for tree in sorted(set(trees["treeids"])):
        k = place[tree, 0]
        while trees["modes"][k] != "LEAF":
            value = row[trees["featureids"][k]]
            taken = COMPARE[trees["modes"][k]](value, np.float32(trees["values"][k]))
            taken = taken or (bool(trees["missing_value_tracks_true"][k]) and np.isnan(value))
            k = place[tree, trees["truenodeids" if taken else "falsenodeids"][k]]
        found.append((tree, trees["nodeids"][k]))
    return found


def scores_of(trees: Ensemble, votes: Ensemble, x: Any, targets: int, function: str) -> Any:
    y = np.zeros((len(x), targets))
    for k, row in enumerate(x):
        given: list[list[float]] = [[] for _ in range(targets)]
        for leaf in leaves_of(trees, row):
            for t, n, target, weight in zip(*votes.values()):
                if (t, n) == leaf:
                    given[target].append(weight)
        count = len(set(trees["treeids"]))
        reduce = {"SUM": sum, "AVERAGE": lambda w, n=count: sum(w) / n, "MIN": min, "MAX": max}[function]
        y[k] = [reduce(g) if g else 0.0 for g in given]
    return y


@pytest.mark.parametrize("modes", [MODES[:1], ["BRANCH_LT", "BRANCH_GTE"], ["BRANCH_EQ", "BRANCH_NEQ"], MODES])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("function", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regression(function: str, missing: bool, modes: list[str]) -> None:
    rng = np.random.default_rng(len(modes))
    trees = grow(rng, modes, 5, 4)
    votes, x = vote(rng, trees, [0, 2]), rows(rng, missing=missing)
    attributes = {**attributes_of(trees, votes, "target"), "n_targets": 3, "aggregate_function": function}
    (got,) = evaluate_node(Node("TreeEnsembleRegressor", ["x"], ["y"], attributes, DOMAIN), [x])
    same(got, scores_of(trees, votes, x, 3, function).astype(np.float32), CLASSICAL_FLOAT32)
    model = node_model("TreeEnsembleRegressor", 3, [x], attributes, domain=DOMAIN)
    same(by_definition(model, [x])[0], got, EXACT)
    # onnxruntime joins the trees of several comparisons differently where a feature is missing.
    if not missing or len(modes) == 1:
        same(got, by_onnxruntime(model, [x])[0], CLASSICAL_FLOAT32)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"])
@pytest.mark.parametrize("targets", [1, 3])
def test_regression_with_base_values_and_transform(targets: int, transform: str) -> None:
    rng = np.random.default_rng(7)
    trees = grow(rng, MODES[:1], 3, 3)
    votes, x = vote(rng, trees, list(range(targets)), positive=True), rows(rng)
    more = {"n_targets": targets, "post_transform": transform, "base_values": [0.1] * targets}
    model = node_model(
        "TreeEnsembleRegressor", 3, [x], {**attributes_of(trees, votes, "target"), **more}, domain=DOMAIN
    )
    same(by_definition(model, [x])[0], by_onnxruntime(model, [x])[0], CLASSICAL_FLOAT32)


def classified(trees: Ensemble, votes: Ensemble, x: Any, **more: Any) -> tuple[list[Any], list[Any]]:
    attributes = {**attributes_of(trees, votes, "class"), **more}
    model = node_model("TreeEnsembleClassifier", 3, [x], attributes, outputs=2, domain=DOMAIN)
    return by_definition(model, [x]), by_onnxruntime(model, [x])


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"])
@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("classes", [3, 5])
def test_classification(classes: int, base: bool, transform: str) -> None:
    rng = np.random.default_rng(classes)
    trees = grow(rng, MODES[:1], 4, 4)
    votes, x = vote(rng, trees, list(range(classes)), positive=True), rows(rng)
    more = {"base_values": [0.01 * k for k in range(classes)]} if base else {}
    names = [f"c{k}" for k in range(classes)]
    for got, want in zip(*classified(trees, votes, x, post_transform=transform, classlabels_strings=names, **more)):
        same(got, want, CLASSICAL_FLOAT32)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("base", [[], [0.03]])
@pytest.mark.parametrize("positive", [False, True])
def test_votes_for_the_first_of_two_classes_score_the_second(positive: bool, base: list[float], transform: str) -> None:
    rng = np.random.default_rng(3)
    trees = grow(rng, MODES[:1], 5, 3)
    votes, x = vote(rng, trees, [0], positive=positive), rows(rng)
    more = {"base_values": base} if base else {}
    found = classified(trees, votes, x, post_transform=transform, classlabels_int64s=[4, 8], **more)
    for got, want in zip(*found):
        same(got, want, CLASSICAL_FLOAT32)
    assert set(found[0][0].tolist()) == {4, 8}


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("positive", [False, True])
def test_votes_for_the_second_of_two_classes(positive: bool, transform: str) -> None:
    rng = np.random.default_rng(3)
    trees = grow(rng, MODES[:1], 4, 3)
    votes, x = vote(rng, trees, [1], positive=positive), rows(rng)
    for got, want in zip(*classified(trees, votes, x, post_transform=transform, classlabels_int64s=[4, 8])):
        same(got, want, CLASSICAL_FLOAT32)


def test_votes_for_both_of_two_classes_give_the_top_one() -> None:
    rng = np.random.default_rng(5)
    trees = grow(rng, MODES, 4, 3)
    votes, x = vote(rng, trees, [0, 1], positive=True), rows(rng)
    # The text's answer: onnxruntime takes the second class whenever its score is positive.
    (labels, scores), (_, want) = classified(trees, votes, x, classlabels_int64s=[4, 8])
    same(scores, want, CLASSICAL_FLOAT32)
    assert labels.tolist() == [[4, 8][k] for k in scores.argmax(1)]
    assert set(labels.tolist()) == {4, 8}


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
def test_other_dtypes(dtype: Any) -> None:
    rng = np.random.default_rng(9)
    trees = grow(rng, MODES[:1], 4, 4)
    votes, x = vote(rng, trees, [0, 1, 2]), (5 * rows(rng)).astype(dtype)
    for got, want in zip(*classified(trees, votes, x, classlabels_int64s=[1, 2, 3])):
        same(got, want, CLASSICAL_FLOAT32)


def test_double_thresholds_are_compared_in_double() -> None:
    third = 1 / 3
    nodes = {"treeids": [0] * 3, "nodeids": [0, 1, 2], "featureids": [0] * 3, "modes": ["BRANCH_LEQ", "LEAF", "LEAF"]}
    branches = {"truenodeids": [1, 0, 0], "falsenodeids": [2, 0, 0]}
    trees: dict[str, Any] = {**nodes, **branches, "values_as_tensor": np.array([third, 0, 0])}
    votes: dict[str, Any] = {
        "treeids": [0, 0],
        "nodeids": [1, 2],
        "ids": [0, 0],
        "weights_as_tensor": np.array([1.0, 2]),
    }
    x = np.array([[third], [np.nextafter(third, 1)]])
    attributes = {**attributes_of(trees, votes, "target"), "n_targets": 1}
    (got,) = evaluate_node(Node("TreeEnsembleRegressor", ["x"], ["y"], attributes, DOMAIN), [x])
    assert got.ravel().tolist() == [1.0, 2.0]


# ---- the form of opset 5


def modern(trees: Ensemble, votes: Ensemble, dtype: Any) -> dict[str, Any]:
    """The same trees as a TreeEnsemble of one vote per leaf."""
    inner = [k for k, mode in enumerate(trees["modes"]) if mode != "LEAF"]
    keys = list(zip(trees["treeids"], trees["nodeids"]))
    node = {keys[k]: n for n, k in enumerate(inner)}
    leaf = {key: n for n, key in enumerate(zip(votes["treeids"], votes["nodeids"]))}
    found: dict[str, Any] = {
        "nodes_featureids": [trees["featureids"][k] for k in inner],
        "nodes_modes": np.array([MODES.index(trees["modes"][k]) for k in inner], np.uint8),
        "nodes_splits": np.array([trees["values"][k] for k in inner], dtype),
        "nodes_missing_value_tracks_true": [trees["missing_value_tracks_true"][k] for k in inner],
        "tree_roots": [node[t, 0] for t in sorted(set(trees["treeids"]))],
        "leaf_targetids": votes["ids"],
        "leaf_weights": np.array(votes["weights"], dtype),
    }
    for side in ("true", "false"):
        to = [(trees["treeids"][k], trees[f"{side}nodeids"][k]) for k in inner]
        found[f"nodes_{side}leafs"] = [int(key in leaf) for key in to]
        found[f"nodes_{side}nodeids"] = [leaf[key] if key in leaf else node[key] for key in to]
    return found


@pytest.mark.parametrize("function", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tree_ensemble(dtype: Any, function: int) -> None:
    rng = np.random.default_rng(13)
    trees = grow(rng, MODES, 5, 4)
    votes, x = vote(rng, trees, [0]), rows(rng).astype(dtype)
    votes["ids"] = rng.integers(0, 2, len(votes["ids"])).tolist()
    attributes = {**modern(trees, votes, dtype), "n_targets": 2, "aggregate_function": function}
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    tensors = {k: onnx.numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attributes.items()}
    model = node_model("TreeEnsemble", 5, [x], tensors, domain=DOMAIN)
    (got,) = by_definition(model, [x])
    same(
        got, scores_of(trees, votes, x, 2, ["AVERAGE", "SUM", "MIN", "MAX"][function]).astype(dtype), CLASSICAL_FLOAT32
    )
    same(got, by_onnxruntime(model, [x])[0], CLASSICAL_FLOAT32)


# ---- what is refused


def stump() -> dict[str, Any]:
    trees = grow(np.random.default_rng(0), MODES[:1], 1, 1)
    return {**attributes_of(trees, vote(np.random.default_rng(0), trees, [0]), "target"), "n_targets": 1}


BAD: dict[str, tuple[type[Error], dict[str, Any]]] = {
    "a cycle": (GraphError, {"nodes_truenodeids": [0, 0, 0]}),
    "both branches": (GraphError, {"nodes_modes": ["BRANCH_LT"] * 3, "nodes_truenodeids": [1, 2, 1]}),
    "no such node": (GraphError, {"nodes_truenodeids": [9, 0, 0]}),
    "one id twice": (GraphError, {"nodes_nodeids": [0, 1, 1]}),
    "mode": (GraphError, {"nodes_modes": ["BRANCH_ABOUT", "LEAF", "LEAF"]}),
    "length": (GraphError, {"nodes_values": [1.0]}),
    "no nodes": (GraphError, {k: [] for k in stump() if k.startswith("nodes_")}),
    "target": (GraphError, {"target_ids": [0, 1]}),
    "vote of a branch": (GraphError, {"target_nodeids": [0, 2]}),
    "vote of nobody": (GraphError, {"target_nodeids": [1, 7]}),
    "base values": (GraphError, {"base_values": [1.0, 2.0]}),
    "feature": (InputError, {"nodes_featureids": [7, 0, 0]}),
    "negative feature": (GraphError, {"nodes_featureids": [-1, 0, 0]}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_trees_are_refused(name: str) -> None:
    kind, changes = BAD[name]
    node = Node("TreeEnsembleRegressor", ["x"], ["y"], {**stump(), **changes}, DOMAIN, "the node")
    with pytest.raises(kind, match="the node"):
        evaluate_node(node, [np.zeros((2, FEATURES), np.float32)])


def test_no_rows() -> None:
    node = Node("TreeEnsembleRegressor", ["x"], ["y"], stump(), DOMAIN)
    (got,) = evaluate_node(node, [np.zeros((0, FEATURES), np.float32)])
    assert got.shape == (0, 1)


# ---- exported models


def pipelines() -> dict[str, Any]:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [frameworks])")
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Binarizer, Normalizer, StandardScaler
    from sklearn.svm import SVC, SVR

    return {
        "logistic": make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        "forest": RandomForestClassifier(8, max_depth=5, random_state=0),
        "boosting": GradientBoostingClassifier(n_estimators=5, random_state=0),
        "support vectors": make_pipeline(Normalizer(), SVC()),
        "binarized": make_pipeline(Binarizer(threshold=0.1), LogisticRegression()),
        "regression": LinearRegression(),
        "boosted regression": GradientBoostingRegressor(n_estimators=5, random_state=0),
        "support vector regression": SVR(),
    }


NAMES = ["logistic", "forest", "boosting", "support vectors", "binarized"]
REGRESSIONS = ["regression", "boosted regression", "support vector regression"]


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore::FutureWarning")  # the converter reads what scikit-learn will drop
@pytest.mark.parametrize(
    ("name", "classes"), [*((n, c) for n in NAMES for c in (2, 3)), *((n, 0) for n in REGRESSIONS)]
)
def test_exported_pipelines(name: str, classes: int) -> None:
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed (extra [frameworks])")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((80, 4)).astype(np.float32)
    score = x @ rng.standard_normal(4)
    y = np.digitize(score, np.quantile(score, np.arange(1, classes) / classes)) if classes else score
    fitted = pipelines()[name].fit(x, y)
    model = skl2onnx.to_onnx(fitted, x[:1])
    got = evaluate(imported(model), {model.graph.input[0].name: x})
    first, *others = (got[o.name] for o in model.graph.output)
    if not classes:
        np.testing.assert_allclose(first[:, 0], fitted.predict(x), **CLASSICAL_FLOAT32)
        return
    assert first.tolist() == fitted.predict(x).tolist()
    assert others
    if hasattr(fitted, "predict_proba"):
        for found, want in zip(others[0], fitted.predict_proba(x)):
            np.testing.assert_allclose([found[k] for k in range(classes)], want, **CLASSICAL_FLOAT32)
