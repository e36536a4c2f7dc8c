"""`forwardpass bench`: it verifies before it times, its figures belong together, and it knows a regression."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import MLP, Page, as_json, called, onnx_model

from forwardpass.bench import engines, match, scenarios
from forwardpass.bench.engines import Options
from forwardpass.bench.match import Entry, Job, Schedule, run_match
from forwardpass.bench.process import Process, WorkerError
from forwardpass.bench.scenarios import SCENARIOS, serve_poisson
from forwardpass.bench.stats import error_of, percentiles, ratio, regressed
from forwardpass.cli.bench_report import compare
from forwardpass.cli.plots import COLOURS

NODES = [("MatMul", ["x", "w"], ["a"]), ("Tanh", ["a"], ["y"])]
QUICK = ("--rounds", "2", "--seconds", "0.02", "--no-peak")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_model(tmp_path / "small.onnx", NODES)


def check_figures(v: dict[str, Any], rounds: int) -> None:
    latency = v["latency_us"]
    order = [latency[k] for k in ("p50", "p90", "p99", "p99.9", "max")]
    assert order == sorted(order)
    assert order[0] > 0
    assert v["quantiles_us"] == sorted(v["quantiles_us"])
    assert len(v["rounds_us"]) == rounds
    assert v["best_us"] <= v["median_us"]
    assert min(v[k] for k in ("throughput", "cpu_seconds", "load_ms", "first_ms", "import_ms", "rss_mb")) > 0
    assert v["peak_mb"] >= v["rss_mb"] >= v["engine_mb"] > 1


def test_against_onnxruntime(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    files = tmp_path / "r.json", tmp_path / "r.html"
    words = ("bench", model, "--against", "onnxruntime", "--batch", "1,4", *QUICK, "-o", files[0], "-o", files[1])
    status, report = as_json(capsys, *words)
    assert (status, report["ok"], report["schema"]) == (0, True, 1)
    assert json.loads(files[0].read_text()) == report
    assert [(r["batch"], r["inputs"]) for r in report["results"]] == [(1, {"x": [1, 8]}), (4, {"x": [4, 8]})]
    for result in report["results"]:
        assert result["flops"] > 0
        assert list(result["engines"]) == ["forwardpass", "onnxruntime"]
        own, other = result["engines"].values()
        assert other["version"] == ort.__version__
        for v in (own, other):
            assert v["status"] == "ok"
            assert v["error"] < 1e-6
            check_figures(v, 2)
            assert v["metric"]["value"] == v["latency_us"]["p90"]
        assert own["rival"]["name"] == "onnxruntime"
        assert own["rival"]["low"] <= own["rival"]["ratio"] <= own["rival"]["high"]
        assert own["details"]["fallbacks"] == {}
    page = Page(files[1])
    assert page.count("meta", name="viewport") == 1
    assert "prefers-color-scheme: dark" in page.source
    assert page.count("svg") >= 4
    assert "onnxruntime" in page.texts["td"]


def test_precisions_are_entries_of_one_engine(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("bench", MLP, "--precision", "float32,portable", "--threads", "1,2", *QUICK)
    status, report = as_json(capsys, *words)
    assert status == 0
    assert [r["threads"] for r in report["results"]] == [1, 2]
    for result in report["results"]:
        assert set(result["engines"]) == {"forwardpass:float32", "forwardpass:portable"}
        assert all("rival" not in v for v in result["engines"].values()), "one engine is no rival of itself"


def test_an_engine_that_does_not_read_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    status, report = as_json(capsys, "bench", MLP, "--against", "onnxruntime", *QUICK)
    assert status == 0
    other = report["results"][0]["engines"]["onnxruntime"]
    assert other == {"status": "unable", "message": "does not read .npz files"}


def test_an_engine_that_is_not_installed(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "openvino.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "blocked"))
    words = ("bench", model, "--against", "openvino", "--batch", "1,2", *QUICK)
    status, out, err = called(capsys, *words)
    assert status == 1, "what was asked for was not done"
    assert out.count("missing: openvino is not installed (not here)") == 2
    assert err.count("pip install openvino, or --python openvino=EXE") == 1
    status, report = as_json(capsys, *words)
    assert (status, report["ok"]) == (1, False)
    assert report["results"][0]["engines"]["openvino"]["status"] == "missing"
    assert report["results"][0]["engines"]["forwardpass"]["status"] == "ok", "and is timed all the same"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--compare", "none.json"), "none.json"),
        (("--batch", "3"), "fixes"),
        (("--precision", "float3"), "float3"),
    ],
)
def test_what_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, str], part: str
) -> None:
    fixed = onnx_model(tmp_path / "fixed.onnx", NODES, shape=[2, 8])
    status, out, err = called(capsys, "bench", fixed, *words, *QUICK)
    assert status == 1
    assert part in out + err


def test_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("-o", "report.txt"), ("--threads", "0"), ("--scenario", "multistream"), ("--python", "no=python3")):
        with pytest.raises(SystemExit) as stop:
            called(capsys, "bench", MLP, *words)
        assert stop.value.code == 2


def test_an_unknown_engine(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        called(capsys, "bench", MLP, "--against", "onnxruntime,openvina")
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "expected one of" in said
    assert "did you mean 'openvino'?" in said


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_scenarios(capsys: pytest.CaptureFixture[str], model: Path, name: str) -> None:
    words = ("--scenario", name, "--rounds", "4", "--seconds", "0.05", "--no-peak", "--latency-bound", "1000")
    status, report = as_json(capsys, "bench", model, *words)
    assert status == 0
    (result,) = report["results"]
    v = result["engines"]["forwardpass"]
    assert result["batch"] == {"multi-stream": 8, "offline": 32}.get(name, 1)
    metric = v["metric"]["value"]
    if name == "multi-stream":
        assert metric == v["latency_us"]["p99"]
    elif name == "single-stream":
        assert metric == v["latency_us"]["p90"]
    else:
        assert metric == v["throughput"] > 0
    if name == "offline":
        check_figures(v, 4)


def test_a_multi_stream_query_is_8_calls_where_the_batch_is_fixed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fixed = onnx_model(tmp_path / "fixed.onnx", NODES, shape=[1, 8])
    _, report = as_json(capsys, "bench", fixed, "--scenario", "multi-stream", *QUICK)
    (result,) = report["results"]
    assert (result["calls_per_query"], result["batch"]) == (8, 1)


def test_only_what_is_worse_than_the_worst_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path
) -> None:
    old = tmp_path / "old.json"
    assert called(capsys, "bench", model, *QUICK, "-o", old)[0] == 0
    report = json.loads(old.read_text())

    def against(rounds: list[float]) -> tuple[int, list[dict[str, Any]]]:
        report["results"][0]["engines"]["forwardpass"]["rounds_us"] = rounds
        old.write_text(json.dumps(report))
        status, found = as_json(capsys, "bench", model, *QUICK, "--compare", old)
        return status, found["comparison"]

    status, (found,) = against([1e-6, 1e9])
    assert (status, found["regressed"]) == (0, False)
    status, (found,) = against([1e-6, 1e-5])
    assert (status, found["regressed"], found["worst_then_us"]) == (1, True, 1e-5)


def test_a_slower_rival_is_told_and_does_not_fail() -> None:
    def report(own: list[float], other: list[float]) -> dict[str, Any]:
        entry = {"status": "ok"}
        engines_ = {"forwardpass": {**entry, "rounds_us": own}, "onnxruntime": {**entry, "rounds_us": other}}
        return {"results": [{"model": "m", "batch": 1, "threads": 1, "scenario": "offline", "engines": engines_}]}

    own, other = compare(report([3, 4], [9, 8]), report([3, 5], [1, 2]))
    assert (own["slower"], own["regressed"]) == (False, False)
    assert (other["slower"], other["regressed"]) == (True, False)
    assert compare(report([1], [1]), {"results": []}) == []


def test_a_file_that_is_no_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    for text in ("{", "[]", '{"schema": 99, "results": []}'):
        file.write_text(text)
        status, _, err = called(capsys, "bench", MLP, "--compare", file, *QUICK)
        assert status == 1
        assert "report" in err


# ---- the package behind it


def job(file: Path, reference: dict[str, np.ndarray]) -> Job:
    return Job(file, {"x": np.ones((1, 8), np.float32)}, reference, 1e-3, SCENARIOS["single-stream"])


def test_a_wrong_result_is_not_timed(model: Path) -> None:
    entry = Entry("forwardpass", "forwardpass", Options())
    found = run_match(job(model, {"y": np.full((1, 8), 7.0)}), [entry], Schedule(1, 0.01, 0.01))["forwardpass"]
    assert found["status"] == "wrong"
    assert "before timing" in found["message"]
    assert "median_us" not in found


def test_an_engine_that_dies_is_reported(tmp_path: Path, model: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model.read_bytes()[:-5])
    entry = Entry("forwardpass", "forwardpass", Options())
    found = run_match(job(broken, {}), [entry], Schedule(1, 0.01, 0.01))["forwardpass"]
    assert found["status"] == "failed"
    assert "broken.onnx" in found["message"]


def test_the_first_engine_is_the_reference_where_there_is_none(model: Path) -> None:
    entry = Entry("forwardpass", "forwardpass", Options())
    found = run_match(job(model, {}), [entry], Schedule(1, 0.01, 0.01))["forwardpass"]
    assert (found["status"], found["error"]) == ("ok", 0)


def test_every_engine_has_its_four_names() -> None:
    known = {"forwardpass", "litert", "mnn", "ncnn", "onnxruntime", "openvino", "torch"}
    assert set(engines.engine_names()) == known
    assert len(known) <= COLOURS, "two would have one colour"
    for name in engines.engine_names():
        engine = engines.load_engine(name)
        assert callable(engine.version)
        assert callable(engine.load)
        assert ".onnx" in engine.READS
        assert engine.PACKAGES
    with pytest.raises(LookupError, match="onnxruntime"):
        engines.load_engine("nobody")


def test_a_worker_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    command = ["sleep", "60"]
    with pytest.raises(WorkerError, match="exit code"):
        Process(command, tmp_path, 1, patience=0.2)


def test_percentiles_are_values_that_were_seen() -> None:
    found = percentiles(list(range(1, 1001)))
    assert found == {"p50": 501, "p90": 901, "p99": 991, "p99.9": 1000, "max": 1000}
    assert percentiles([5.0]) == dict.fromkeys(found, 5.0)


def test_ratios_hold_the_truth_in_their_interval() -> None:
    source = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        noise = 1 + 0.05 * source.standard_normal((2, 15))
        found = ratio(noise[0].tolist(), (2 * noise[1]).tolist())
        assert found["low"] <= found["ratio"] <= found["high"]
        inside += found["low"] <= 2 <= found["high"]
    assert inside > 170
    assert ratio([1], [3]) == {"ratio": 3, "low": None, "high": None}
    assert ratio([1, 2, 3], [2, 4, 6]) == {"ratio": 2, "low": 2, "high": 2}


def test_regressions() -> None:
    assert regressed([5, 6], [3, 4])
    assert not regressed([4, 9], [3, 4])


def test_errors_of_outputs() -> None:
    y = {"y": np.array([1.0, -4.0])}
    assert error_of({"y": np.float32([1, -4])}, y) == (0, "")
    assert math.isclose(error_of({"y": np.float32([1, -3])}, y)[0], 0.25)
    assert error_of({}, y)[0] == math.inf
    assert "shape" in error_of({"y": np.float32([1])}, y)[1]
    assert error_of({"y": np.float32([1, np.nan])}, y)[0] == math.inf
    assert error_of({"i": np.array([1, 2])}, {"i": np.array([1, 3])})[0] == 0.5


class Clock:
    """Time that passes by what is done: a look at it takes 100 ns, a call `call_s`."""

    def __init__(self, call_s: float) -> None:
        self.now, self.call_s = 0.0, call_s

    def perf_counter(self) -> float:
        self.now += 1e-7
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def call(self) -> None:
        self.sleep(self.call_s)


def test_the_server_counts_from_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call longer than the time between arrivals falls behind, and latency grows by what it is longer."""

    def served(call_s: float, rate: float, seconds: float) -> list[int]:
        clock = Clock(call_s)
        monkeypatch.setattr(scenarios, "time", clock)
        return serve_poisson(clock.call, rate, seconds, 1)

    source, arrivals = random.Random(1), [0.0]
    while arrivals[-1] < 0.1:
        arrivals.append(arrivals[-1] + source.expovariate(1000.0))
    slow = served(0.004, 1000.0, 0.1)
    free, want = 0.0, []
    for arrival in arrivals[1 : len(slow) + 1]:
        free = max(free, arrival) + 0.004
        want.append(free - arrival)
    assert len(slow) > 20
    np.testing.assert_allclose(np.array(slow) / 1e9, want, atol=1e-4)  # the looks at the clock
    assert slow[-1] > 1e8, "given up when a query waits longer than the turn"
    assert 10 < len(fast := served(0.0, 200.0, 0.2)) < 100
    assert max(fast) < 1e6
    assert served(0.0, 200.0, 0.0) == []


def test_the_search_for_a_rate_closes_in() -> None:
    found = match._Search(job(Path("m"), {}))
    found.begin(1000.0)
    for _ in range(30):
        found.note([int(1e6 if found.rate < 600 else 1e9)])
    assert math.isclose(found.rate, 600, rel_tol=1e-3)
