"""Fixtures and options of all tests.

`FORWARDPASS_TEST_WITHOUT_NATIVE=1` makes the compiled modules unimportable and leaves out `tests/native`, to
prove that `tests/null` needs neither. `FORWARDPASS_MODELS` is the folder of the real models.
"""

from __future__ import annotations

import os
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import numpy as np
import pytest

WITHOUT_NATIVE = os.environ.get("FORWARDPASS_TEST_WITHOUT_NATIVE") == "1"

collect_ignore = []
if WITHOUT_NATIVE:
    # None makes `import` raise ModuleNotFoundError, as if the module had not been built.
    sys.modules["forwardpass._native"] = sys.modules["forwardpass._call"] = None  # type: ignore[assignment]
    collect_ignore.append("native")

# Keras would take TensorFlow, installed or not.
os.environ.setdefault("KERAS_BACKEND", next((b for b in ("torch", "jax") if find_spec(b)), "tensorflow"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="run the tests marked exhaustive too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exhaustive: takes minutes, and runs with --exhaustive only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--exhaustive"):
        return
    skip = pytest.mark.skip(reason="exhaustive: needs --exhaustive")
    for item in items:
        if item.get_closest_marker("exhaustive") is not None:
            item.add_marker(skip)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # At collection, and only for tests that ask for it: tests/null never gets here.
    if "isa" in metafunc.fixturenames:
        from forwardpass import _native

        metafunc.parametrize("isa", _native.available_isas())


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator whose seed is made from the test's name and parameters, printed when the test fails."""
    seed = zlib.crc32(request.node.name.encode())
    print(f"rng seed: {seed} (np.random.default_rng({seed}))")
    return np.random.default_rng(seed)


@pytest.fixture
def exhaustive(request: pytest.FixtureRequest) -> bool:
    """Whether --exhaustive was given: for tests that widen their grid with it."""
    return bool(request.config.getoption("--exhaustive"))


@pytest.fixture
def every_step_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share even the smallest step of a plan among the threads."""
    from forwardpass.plan import partition

    monkeypatch.setattr(partition, "_STEP_US", 0.0)
    monkeypatch.setattr(partition, "_PROGRAM_US", 0.0)
    monkeypatch.setattr(partition, "_PART", 0.0)


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of the real models."""
    folder = os.environ.get("FORWARDPASS_MODELS", "")
    if not folder:
        pytest.skip("FORWARDPASS_MODELS is not set to the folder of the real models")
    if not Path(folder).is_dir():
        pytest.fail(f"FORWARDPASS_MODELS: {folder} is not a folder")
    return Path(folder)
