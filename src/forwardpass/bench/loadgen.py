"""MLPerf's own load generator with a model of ours: the system under test and the library of samples that it asks for.

    from forwardpass.bench.loadgen import run

    found = run(fp.load("model.onnx"), samples, "server", settings={"server_target_qps": 200.0})
    print(found["Result is"])

It needs the package mlcommons-loadgen. `forwardpass bench --scenario` measures the same scenarios without it, in turn
with other engines.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..batcher import Batcher
from ..errors import ConfigError, UnsupportedError, suggest

if TYPE_CHECKING:
    from ..run import Model

__all__ = ["SCENARIOS", "run"]

SCENARIOS = {"single-stream": "SingleStream", "multi-stream": "MultiStream", "server": "Server", "offline": "Offline"}
"""Our name of a scenario -> the load generator's."""
_SUMMARY = "mlperf_log_summary.txt"


def run(
    model: Model,
    samples: Sequence[Any],
    scenario: str,
    *,
    accuracy: bool = False,
    max_batch: int = 32,
    max_delay: float = 0.001,
    settings: Mapping[str, Any] | None = None,
    logs: str | Path | None = None,
) -> dict[str, str]:
    """Run a test of MLPerf Inference.

    Parameters
    ----------
    samples
        Inputs of one call each: an array with a batch of 1, or input name -> array.
    scenario
        "single-stream", "multi-stream", "server" or "offline". The samples of queries of the last two are batched.
    accuracy
        Run every sample once, and log the outputs' bytes, instead of measuring.
    max_batch, max_delay
        As for `forwardpass.Batcher`.
    settings
        Fields of the load generator's `TestSettings`, such as `min_duration_ms` and `server_target_qps`.
    logs
        The folder for the load generator's logs; by default they are not kept.

    Returns
    -------
    dict of str to str
        The lines of its summary, such as "Result is" and "Samples per second"; empty in accuracy mode.

    Raises
    ------
    ConfigError
        A scenario or a setting that does not exist.
    UnsupportedError
        The package mlcommons-loadgen is not installed.
    """
    try:
        import mlperf_loadgen as lg
    except ImportError:
        hint = "pip install mlcommons-loadgen"
        raise UnsupportedError("needs the package mlcommons-loadgen", where="loadgen", hint=hint) from None
    if scenario not in SCENARIOS:
        hint, expected = suggest(scenario, SCENARIOS), ", ".join(SCENARIOS)
        raise ConfigError("unknown scenario", where="scenario", expected=expected, got=scenario, hint=hint)
    wanted = _settings(lg, scenario, accuracy, settings or {})
    with tempfile.TemporaryDirectory(prefix="forwardpass-loadgen-") as scratch:
        folder = Path(scratch if logs is None else logs)
        folder.mkdir(parents=True, exist_ok=True)
        log = lg.LogSettings()
        log.log_output.outdir = str(folder)
        with _system(lg, model, samples, scenario, max_batch, max_delay) as sut, _library(lg, len(samples)) as qsl:
            lg.StartTestWithLogSettings(sut, qsl, wanted, log)
        return {} if accuracy else _summary(folder / _SUMMARY)


def _settings(lg: Any, scenario: str, accuracy: bool, given: Mapping[str, Any]) -> Any:
    found = lg.TestSettings()
    found.scenario = getattr(lg.TestScenario, SCENARIOS[scenario])
    found.mode = lg.TestMode.AccuracyOnly if accuracy else lg.TestMode.PerformanceOnly
    known = [name for name in dir(found) if not name.startswith("_")]
    for name, value in given.items():
        if name not in known:
            raise ConfigError("unknown setting", where="settings", got=name, hint=suggest(name, known))
        setattr(found, name, value)
    return found


@contextmanager
def _library(lg: Any, count: int) -> Iterator[Any]:
    """The samples; all are in memory from the start."""
    made = lg.ConstructQSL(count, count, lambda indices: None, lambda indices: None)
    try:
        yield made
    finally:
        lg.DestroyQSL(made)


@contextmanager
def _system(
    lg: Any, model: Model, samples: Sequence[Any], scenario: str, max_batch: int, max_delay: float
) -> Iterator[Any]:
    """What answers queries: at once where the next one waits for the answer, else in batches."""
    feeds = [s if isinstance(s, Mapping) else {next(iter(model.inputs)): s} for s in samples]

    def answer(query: Any, result: Any) -> None:
        first = np.ascontiguousarray(result[0] if isinstance(result, tuple) else result)
        lg.QuerySamplesComplete([lg.QuerySampleResponse(query.id, first.ctypes.data, first.nbytes)])

    def call(queries: Sequence[Any]) -> None:
        for query in queries:
            answer(query, model(**feeds[query.index]))

    if scenario in ("single-stream", "multi-stream"):
        made = lg.ConstructSUT(call, lambda: None)
        yield made
        lg.DestroySUT(made)
        return

    failed: list[BaseException] = []
    with Batcher(model, max_batch, max_delay) as batcher:

        def ask(queries: Sequence[Any]) -> None:
            for query in queries:
                future = batcher.submit(**feeds[query.index])
                future.add_done_callback(lambda f, query=query: done(query, f))  # type: ignore[misc]

        def done(query: Any, future: Future[Any]) -> None:
            if error := future.exception():
                failed.append(error)
                lg.QuerySamplesComplete([lg.QuerySampleResponse(query.id, 0, 0)])  # or it would wait for ever
            else:
                answer(query, future.result())

        made = lg.ConstructSUT(ask, lambda: None)
        yield made
        lg.DestroySUT(made)
    if failed:
        raise failed[0]


def _summary(path: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon and value.strip()}
