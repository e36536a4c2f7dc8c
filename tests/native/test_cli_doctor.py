"""`forwardpass doctor`: what it says of the machine is so."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from cli_tools import as_json, called

import forwardpass as fp
from forwardpass import _native
from forwardpass.cli.doctor import _limit

pytestmark = pytest.mark.skipif(bool(_native.sanitize), reason="a build with sanitizers is a problem that it reports")


def test_it_says_what_the_package_says(capsys: pytest.CaptureFixture[str]) -> None:
    status, report = as_json(capsys, "doctor")
    config = fp.show_config()
    assert (status, report["problems"]) == (0, [])
    assert report["versions"]["numpy"] == np.__version__
    assert report["versions"]["forwardpass"] == fp.__version__
    assert report["threads"]["default"] == config.threads
    assert report["threads"]["reason"] == config.threads_reason
    assert [i["name"] for i in report["isas"]] == [i["name"] for i in config.isas]
    assert report["memory"]["total"] > report["memory"]["available"] > 0
    assert report["cpu"]["affinity"] == sorted(os.sched_getaffinity(0))


def test_the_networks_are_tested_on_every_isa(capsys: pytest.CaptureFixture[str]) -> None:
    _, report = as_json(capsys, "doctor")
    assert len(report["tests"]) == 2 * len(_native.available_isas())
    assert all(t["ok"] and t["error"] < 1e-5 for t in report["tests"])
    assert as_json(capsys, "doctor", "--no-test")[1]["tests"] == []


def test_text_names_isas_and_why_others_are_out(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = called(capsys, "doctor", "--no-test")
    assert status == 0
    for isa in _native.isas():
        assert isa["name"] in out
        if not isa["available"]:
            assert isa["why_not"] in out
    assert "huge pages" in out
    assert "no problem was found" in out


def test_a_package_without_its_compiled_modules_is_told() -> None:
    code = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'forwardpass._native':\n"
        "            raise ImportError('undefined symbol: nothing')\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from forwardpass.cli import main\n"
        "raise SystemExit(main(['doctor']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "undefined symbol: nothing" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_wrong_variable_of_the_environment_is_told() -> None:
    environment = {**os.environ, "FORWARDPASS_NUM_THREADS": "many"}
    command = [sys.executable, "-m", "forwardpass", "doctor", "--no-test"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 1
    assert "FORWARDPASS_NUM_THREADS" in done.stdout
    assert "many" in done.stdout


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (None, "-"),
        ("max", "none"),
        ("max 100000", "none"),
        ("-1", "none"),
        (str(2**63 - 4096), "none"),
        ("50000 100000", "50000 100000"),
        ("1073741824", "1073741824"),
    ],
)
def test_limits_in_words(setting: str | None, words: str) -> None:
    assert _limit(setting) == words
