"""The benchmark runner: it verifies before it times, it says so when a contender is wrong, and its JSON is whole."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import forwardpass

BENCH = Path(__file__).parents[2] / "bench"
pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="the benchmarks are not part of this installation")

CONTENDER = """
import numpy as np
from contenders import Options, Ready
from network import forward

def version():
    return "1"

def setup(network, x, options):
    {setup}
    return Ready(call, (x,), lambda y: y)
"""
HONEST = "call = lambda x: forward(network, x)"
WRONG = "call = lambda x: forward(network, x) * np.float32(1.001)"
SHAPE = "call = lambda x: forward(network, x)[0]"
NAN = "call = lambda x: np.full((len(x), 1), np.nan, np.float32)"
DIES = "raise RuntimeError('no such engine here')"
EXITS = "import os; os._exit(3)"
MISSING = "import a_module_that_does_not_exist as missing"
# Right once, as an engine is that keeps its first result in a buffer that it overwrites.
LATER_WRONG = "seen = []\n    call = lambda x: forward(network, x) * np.float32(1 + (seen.append(1) or len(seen) > 1))"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`bench/run.py`, with the package that the tests import."""
    folder = str(Path(forwardpass.__file__).parents[1])
    paths = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, str(BENCH / "run.py"), "--no-peak", "--only", "mlp_8_5_1", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=environment)


def contender(folder: Path, name: str, setup: str) -> Path:
    file = folder / f"{name}.py"
    file.write_text(CONTENDER.format(setup=setup))
    return file


def results(folder: Path, *arguments: object) -> tuple[int, dict[str, Any], str]:
    """Exit code, contenders of the only result, and what was printed."""
    file = folder / "bench.json"
    done = run("--rounds", 1, "--seconds", 0.01, "--json", file, *arguments)
    assert file.exists(), done.stderr
    found = json.loads(file.read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert found["schema"] == 1
    (only,) = found["results"]
    return done.returncode, only, done.stdout


def test_all_that_is_installed(tmp_path: Path) -> None:
    code, result, table = results(tmp_path)
    assert code == 0, table
    assert (result["problem"], result["batch"], result["threads"]) == ("mlp_8_5_1", 1, 1)
    assert (result["flops"], result["weight_bytes"]) == (2 * (8 * 5 + 5), 4 * (8 * 5 + 5 + 5 + 1))
    entries = result["contenders"]
    assert {"forwardpass", "forwardpass_into", "numpy"} <= entries.keys()
    for name, v in entries.items():
        assert v["status"] == "ok", (name, v)
        assert name in table
        assert 0 < v["best_us"] <= v["median_us"]
        assert v["single_us"]["p50"] <= v["single_us"]["p99"] <= v["single_us"]["p99.9"]
        assert len(v["rounds_us"]) == 1
        assert math.isclose(v["gflops"], result["flops"] / v["median_us"] * 1e-3)
        assert not v["rival"]["name"].startswith(name.partition("_")[0])
    assert entries["numpy"]["version"] == np.__version__
    assert entries["forwardpass"]["details"]["fallbacks"] == {}


@pytest.mark.parametrize(
    ("setup", "message"),
    [(WRONG, "relative error"), (SHAPE, "float32[1] instead of float32[1, 1]"), (NAN, "not finite")],
    ids=["wrong", "shape", "nan"],
)
def test_a_wrong_contender_is_not_timed(tmp_path: Path, setup: str, message: str) -> None:
    files = [contender(tmp_path, "honest", HONEST), contender(tmp_path, "liar", setup)]
    code, result, table = results(tmp_path, "--contenders", ",".join(map(str, files)))
    assert code == 1
    assert result["contenders"]["honest"]["status"] == "ok"
    liar = result["contenders"]["liar"]
    assert liar["status"] == "wrong"
    assert "before timing" in liar["message"]
    assert message in liar["message"]
    assert "median_us" not in liar
    assert "WRONG" in table
    assert "rival" not in result["contenders"]["honest"], "a wrong contender is no rival"


def test_a_contender_that_is_wrong_later_is_found_out(tmp_path: Path) -> None:
    code, result, _ = results(tmp_path, "--contenders", contender(tmp_path, "later", LATER_WRONG))
    assert code == 1
    assert result["contenders"]["later"]["status"] == "wrong"
    assert "after timing" in result["contenders"]["later"]["message"]
    assert "median_us" not in result["contenders"]["later"]


@pytest.mark.parametrize(
    ("setup", "message"), [(DIES, "no such engine here"), (EXITS, "exit code 3")], ids=["raises", "exits"]
)
def test_a_contender_that_fails_is_reported(tmp_path: Path, setup: str, message: str) -> None:
    files = [contender(tmp_path, "broken", setup), contender(tmp_path, "honest", HONEST)]
    code, result, table = results(tmp_path, "--contenders", ",".join(map(str, files)))
    assert code == 1
    assert result["contenders"]["broken"]["status"] == "failed"
    assert message in result["contenders"]["broken"]["message"]
    assert result["contenders"]["honest"]["status"] == "ok"
    assert "FAILED" in table


def test_a_contender_that_is_not_installed_is_no_failure(tmp_path: Path) -> None:
    file = contender(tmp_path, "absent", HONEST)
    file.write_text(file.read_text().replace('return "1"', MISSING))
    code, result, table = results(tmp_path, "--contenders", f"numpy,{file}")
    assert code == 0
    assert result["contenders"]["absent"]["status"] == "missing"
    assert "not installed" in table


def test_every_isa_is_an_entry(tmp_path: Path) -> None:
    isas = forwardpass._native.available_isas()
    code, result, table = results(tmp_path, "--contenders", "forwardpass", "--isa", ",".join(isas))
    assert code == 0, table
    assert {k: v["details"]["isa"] for k, v in result["contenders"].items()} == {f"forwardpass:{i}": i for i in isas}


@pytest.mark.parametrize("arguments", [("--contenders", "nobody"), ("--only", "nothing")])
def test_an_unknown_name_lists_those_there_are(arguments: tuple[str, str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert arguments[1] in done.stderr
    assert "numpy" in done.stderr or "gemm" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_problems_mean_what_the_engine_computes() -> None:
    """Every problem builds; its reference has the size that its layers promise."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np\n"
        "from problems import load_problems\n"
        "for p in load_problems().values():\n"
        "    case = p.case(2)\n"
        "    assert case.x.dtype == np.float32 and len(case.x) == 2, p.name\n"
        "    assert case.reference.dtype == np.float64 and np.isfinite(case.reference).all(), p.name\n"
        "    assert case.flops > 0 and case.network.weight_bytes > 0, p.name\n"
        "    print(p.name)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(forwardpass.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(BENCH)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert {"gemm_1024", "cifar_cnn", "digits_cnn"} <= set(done.stdout.split())


def test_what_asv_follows_runs() -> None:
    """bench/asv.conf.json names a folder that exists, whose benchmarks run for all of their parameters."""
    settings = json.loads((BENCH / "asv.conf.json").read_text(encoding="utf-8"))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import networks\n"
        "for name in networks.Networks.params:\n"
        "    made = networks.Networks()\n"
        "    made.setup(name)\n"
        "    for way in (made.time_call, made.time_run_into, made.time_first_call):\n"
        "        way(name)\n"
        "    assert made.track_arena(name) >= 0\n"
        "    print(name)\n"
        "exec(networks.Start().timeraw_import())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(forwardpass.__file__).parents[1])}
    command = [sys.executable, "-c", script, str(BENCH / settings["benchmark_dir"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "cifar cnn" in done.stdout.splitlines()


def test_the_chart_shows_what_the_report_says(tmp_path: Path) -> None:
    def engine(*rounds: float) -> dict[str, Any]:
        return {"status": "ok", "version": "1.2", "rounds_us": list(rounds)}

    def result(model: str, batch: int, **engines: Any) -> dict[str, Any]:
        return {"model": model, "batch": batch, "threads": 1, "engines": engines}

    missing = {"status": "missing", "message": "not installed"}
    results = [
        result("one", 1, forwardpass=engine(1.0, 2.0, 4.0), rival=engine(3.0, 6.0, 40.0), absent=missing),
        result("<two>", 1, forwardpass=engine(10.0), rival=engine(7.0), other=engine(2000.0)),
        result("eight", 8, forwardpass=engine(1.0), rival=engine(2.0)),
    ]
    (tmp_path / "report.json").write_text(json.dumps({"machine": {"cpu": "a CPU"}, "results": results}))
    command = [sys.executable, str(BENCH / "chart.py"), str(tmp_path / "report.json"), "-o", str(tmp_path / "c.svg")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    root = ElementTree.parse(tmp_path / "c.svg").getroot()
    titles = [t.text for t in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [
        "one: rival takes 3.00 times as long",
        "<two>: rival takes 0.70 times as long",
        "<two>: other takes 200.00 times as long",
    ]
    words = " ".join(t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "a CPU, batch 1, 1 thread" in words
    assert "rival 1.2" in words
    assert "absent" not in words
    (tmp_path / "report.json").write_text(json.dumps({"machine": {"cpu": ""}, "results": []}))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_the_suite_writes_one_report_of_all_networks(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    environment = {**os.environ, "PYTHONPATH": str(Path(forwardpass.__file__).parents[1])}
    environment.pop("FORWARDPASS_MODELS", None)
    words = ["--only", "mlp-8,gru", "--against", "", "--rounds", "1", "--seconds", "0.01"]
    words += ["--networks", str(tmp_path), "-o", str(tmp_path / "r.json")]
    command = [sys.executable, str(BENCH / "suite.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    found = {(r["model"], r["batch"]) for r in report["results"]}
    assert found == {("mlp-8-5-1", 1), ("mlp-8-5-1", 1024), ("gru-64-128-t32", 1), ("gru-64-128-t32", 16)}
    assert all(r["engines"]["forwardpass"]["error"] < 1e-5 for r in report["results"])
    assert "gru-64-128-t32" in (tmp_path / "r.html").read_text()


def _suite(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(forwardpass.__file__).parents[1])}
    environment.pop("FORWARDPASS_MODELS", None)
    command = [sys.executable, str(BENCH / "suite.py"), "--against", "", "--rounds", "1", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_suite_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    out = tmp_path / "r.json"
    common = ["--networks", str(tmp_path), "-o", str(out), "--seconds", "0.01"]
    assert _suite("--only", "mlp-8", "--prepare", *common).returncode == 0
    assert (tmp_path / "mlp-8-5-1.onnx").exists()
    assert not out.exists()
    assert _suite("--only", "mlp-8", *common).returncode == 0
    first = json.loads(out.read_text())["results"]
    done = _suite("--only", "mlp-8,mlp-16", "--resume", *common)
    assert done.returncode == 0, done.stderr
    whole = json.loads(out.read_text())["results"]
    assert whole[: len(first)] == first
    assert [r["model"] for r in whole[len(first) :]] == ["mlp-16-64-32-1"] * 2
    other = _suite("--only", "cifar", "--resume", *common[:-1], "0.02")
    assert other.returncode == 1
    assert "other settings" in other.stderr


def test_committed_charts_are_made_of_the_committed_reports(tmp_path: Path) -> None:
    """The pictures of bench/results, each of the report beside it, and the README's one among them."""
    charts = sorted((BENCH / "results").glob("*.svg"))
    for chart in charts:
        command = [sys.executable, str(BENCH / "chart.py"), str(chart.with_suffix(".json")), "-o", str(tmp_path / "c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "c").read_text() == chart.read_text(), f"{chart.name} is not that of its report"
    shown = re.findall(r"\]\((bench/results/[^)]*\.svg)\)", (BENCH.parent / "README.md").read_text())
    assert {BENCH.parent / path for path in shown} == set(charts)


@pytest.mark.parametrize("question", ["call", "memory", "shapes", "idle", "neighbours"])
def test_behaviour_answers(question: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    environment = {**os.environ, "PYTHONPATH": str(Path(forwardpass.__file__).parents[1])}
    words = ["--engines", "forwardpass", "--only", question, "--json", str(tmp_path / "a.json")]
    command = [sys.executable, str(BENCH / "behaviour.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["machine"]["forwardpass"] == forwardpass.__version__
    (answer,) = written[question].values()
    assert answer
    if question == "memory":
        assert answer["late_growth_mb"] < 100, answer


def test_every_kernel_has_cases_with_the_same_bits_on_every_isa() -> None:
    """What bench/kernels does before it times: a new kernel without a case, or a case that is out of date, fails."""
    environment = {**os.environ, "PYTHONPATH": str(Path(forwardpass.__file__).parents[1])}
    options = ["-n0", "-q", "-p", "no:cacheprovider", "--benchmark-disable", "-W", "default"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(BENCH / "kernels"), *options],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


def test_calls_and_the_fma_loop_take_turns() -> None:
    """The ceiling is measured between the calls that it is compared with, in their process."""
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from forwardpass.bench.peak import Loops, Peak\n"
        "from forwardpass.bench.timing import Timer\n"
        "try:\n"
        "    peak = Peak(3, 1.0)\n"
        "    library = peak.library\n"
        "except RuntimeError as error:\n"
        "    sys.exit(77)\n"
        "loops, order = Loops(library), []\n"
        "def burst():\n"
        "    order.append('burst')\n"
        "    return loops.fma_burst(peak.isas[-1], 1e6)\n"
        "timer = Timer(lambda: order.append('call'), ())\n"
        "found = timer.against(burst, 0.1)\n"
        "turns = [a for a, b in zip(order, [None, *order]) if a != b]\n"
        "try:\n"
        "    loops.fma('no such ISA', 1.0, 1)\n"
        "except RuntimeError:\n"
        "    unknown = True\n"
        "print(json.dumps([turns, found, peak.fma(peak.isas[0]), peak.read(1 << 16), unknown]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(forwardpass.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(BENCH)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode == 77:
        pytest.skip("no C++ compiler")
    assert done.returncode == 0, done.stderr
    turns, found, fma, read, unknown = json.loads(done.stdout)
    assert turns == ["call", "burst"] * len(found["rates"])
    assert len(found["means"]) == len(found["rates"]) >= 3
    assert min(found["means"] + found["rates"]) > 0
    assert 0 < fma["median"] <= fma["best"]
    assert 0 < read["median"] <= read["best"]
    assert unknown
