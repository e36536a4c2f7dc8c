"""MLPerf's load generator drives a model through the adapter, in all four scenarios."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_graphs import mlp, two_outputs

from forwardpass.bench.loadgen import SCENARIOS, run
from forwardpass.errors import ConfigError, UnsupportedError
from forwardpass.run import Model

SHORT = {"min_duration_ms": 50, "min_query_count": 20, "server_target_qps": 200.0, "offline_expected_qps": 200.0}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(mlp(), threads=1)


@pytest.fixture(scope="module")
def samples() -> list[np.ndarray]:
    return list(np.random.default_rng(0).standard_normal((12, 1, 8), dtype=np.float32))


@pytest.fixture
def _loadgen() -> None:
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")


@pytest.mark.usefixtures("_loadgen")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_performance(scenario: str, model: Model, samples: list[np.ndarray]) -> None:
    found = run(model, samples, scenario, settings=SHORT)
    assert found["Scenario"] == SCENARIOS[scenario]
    assert found["Mode"] == "PerformanceOnly"
    assert "Result is" in found


@pytest.mark.usefixtures("_loadgen")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_accuracy_logs_every_output(scenario: str, model: Model, samples: list[np.ndarray], tmp_path: Path) -> None:
    assert run(model, samples, scenario, accuracy=True, settings=SHORT, logs=tmp_path) == {}
    entries = json.loads((tmp_path / "mlperf_log_accuracy.json").read_text())
    assert {e["qsl_idx"] for e in entries} == set(range(len(samples)))
    for entry in entries:
        assert bytes.fromhex(entry["data"]) == model(samples[entry["qsl_idx"]]).tobytes()


@pytest.mark.usefixtures("_loadgen")
def test_inputs_by_name_and_several_outputs() -> None:
    samples: list[Any] = [{"a": np.ones((1, 4), np.float32), "b": np.full((1, 4), k, np.float32)} for k in range(4)]
    assert run(Model(two_outputs()), samples, "offline", settings=SHORT)["Scenario"] == "Offline"


@pytest.mark.usefixtures("_loadgen")
def test_wrong_settings(model: Model, samples: list[np.ndarray]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'offline'"):
        run(model, samples, "ofline")
    with pytest.raises(ConfigError, match="did you mean 'server_target_qps'"):
        run(model, samples, "server", settings={"server_target_qp": 1.0})


def test_without_loadgen(model: Model, samples: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(UnsupportedError, match="pip install mlcommons-loadgen"):
        run(model, samples, "offline")
