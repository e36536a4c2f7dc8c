"""The example that explains predictions with the real shap and lime."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "explain_prediction.py"
pytestmark = [
    pytest.mark.skipif(not EXAMPLE.is_file(), reason="the examples are not part of this installation"),
    pytest.mark.filterwarnings("ignore"),  # of what the packages import
    pytest.mark.frameworks,
]


def example() -> Any:
    spec = importlib.util.spec_from_file_location("explain_prediction", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shap_finds_what_each_column_does() -> None:
    pytest.importorskip("shap", reason="shap is not installed")
    found = example().columns()
    np.testing.assert_allclose(found["shap"], found["exact"], rtol=0, atol=1e-2)


def test_lime_finds_the_red_square() -> None:
    pytest.importorskip("lime", reason="lime is not installed")
    found = example().regions()
    red = found["picture"][..., 0] > 200
    assert found["label"] == "red"
    assert (found["mask"] & red).sum() > 0.8 * red.sum()
    assert (found["mask"] & ~red).sum() < 0.35 * found["mask"].sum()


def test_the_models_are_right_without_any_package() -> None:
    module = example()
    row = np.float32([[1, 2, 3, -1]])
    chance = 1 / (1 + np.exp(-(row @ module.WEIGHTS)))
    np.testing.assert_allclose(module.table_model()(row)[:, 0], chance, rtol=1e-5)
    picture = np.zeros((10, 20, 3), np.uint8)
    picture[..., 2] = 255
    assert module.picture_model().classify(picture)[0][0] == "blue"
