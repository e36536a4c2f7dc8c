"""threadpoolctl sees and limits the team of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import forwardpass

pytestmark = pytest.mark.frameworks  # scikit-learn brings it
pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")

SCRIPT = """
import os

import numpy as np
import threadpoolctl

import networks
from forwardpass.run import Model

def own():
    return [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "forwardpass"]

def count():
    return len(os.listdir("/proc/self/task"))

model = Model(networks.build("cifar cnn"))
(found,) = own()
assert found["num_threads"] == model.settings.threads == 3, found
assert found["version"]
x = np.random.default_rng(0).standard_normal((4, 32, 32, 3), dtype=np.float32)
before = count()
with threadpoolctl.threadpool_limits(1):
    assert own()[0]["num_threads"] == 1
    alone = model(x)
    assert count() == before, "threads in spite of the limit"
with threadpoolctl.threadpool_limits({"forwardpass": 2}):
    pair = model(x)
    some = count()
all_of_them = model(x)
assert own()[0]["num_threads"] == 3
assert before < some < count(), (before, some, count())
assert alone.tobytes() == pair.tobytes() == all_of_them.tobytes()
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_limits_hold_and_change_no_bit() -> None:
    paths = [str(Path(forwardpass.__file__).parents[1]), str(Path(__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "FORWARDPASS_NUM_THREADS": "3"}
    command = [sys.executable, "-c", SCRIPT]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert run.stdout == "done\n", run.stderr
