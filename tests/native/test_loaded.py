"""What a load takes along: with the module that loads, all that a plain model needs is there."""

from __future__ import annotations

import subprocess
import sys

_LOAD = """
import sys
import numpy as np
import forwardpass as fp
import forwardpass.run
from forwardpass.data import path
before = set(sys.modules)
model = fp.load(path("digits_cnn.npz"))
model(np.zeros((1, 8, 8, 1), np.float32))
assert set(sys.modules) == before, sorted(set(sys.modules) - before)
"""


def test_a_model_of_common_layers_is_loaded_and_run_without_imports() -> None:
    done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
