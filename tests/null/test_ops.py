"""Every operator's NumPy definition and shape rule, on every case, against ONNX and onnxruntime."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
from judge import check_judge, newest_opset

from cases import graph_of, parameters
from forwardpass.graph import TensorType
from forwardpass.ops import Case, Operator, evaluate, infer_types, registry
from forwardpass.ops.conv import convolve
from tolerance import ERF_FLOAT64, EXACT, FLOAT32_OF_FLOAT64, ONNX_FLOAT32, ONNX_FLOAT64

PUBLIC = parameters(lambda operator: operator.domain == "")

# Where ONNX's evaluator departs from the text of the standard; onnxruntime is the judge there.
_OVERHANG = "shares the overhang of ceil_mode between both ends"
_BORDER = "moves the point to the border, and not the pixels around it"
_LRN = "normalises as many channels as there are images"
_WITH_LENGTHS = ("lengths", "lengths of both directions")
NOT_IN_EVALUATOR = {
    ("MaxPool", "overlap"): "counts indices with the strides of the output",
    ("MaxPool", "lower"): "ignores auto_pad where the indices are asked for",
    ("MaxPool", "3-D"): "reads behind the image where the indices are asked for",
    ("LpPool", "ceil"): _OVERHANG,
    ("LpPool", "ceil and pads"): _OVERHANG,
    ("GlobalLpPool", "*"): "has no GlobalLpPool",
    ("MaxRoiPool", "*"): "has no MaxRoiPool",
    ("SimplifiedLayerNormalization", "*"): "has no SimplifiedLayerNormalization",
    ("ConvTranspose", "groups"): "writes one channel per group",
    ("Resize", "nearest round_prefer_ceil"): "divides by the float32 next to 0.4 in float64, which just misses the tie",
    ("GridSample", "cubic border"): _BORDER,
    ("GridSample", "cubic border aligned"): _BORDER,
    ("GlobalAveragePool", "no images"): "divides by the number of images",
    ("GlobalMaxPool", "1-D"): "reduces the last two dimensions, whatever the rank",
    ("GlobalMaxPool", "3-D"): "reduces the last two dimensions, whatever the rank",
    ("LogSoftmax", "large values"): "takes the logarithm of a softmax that is 0",
    ("Flatten", "no rows"): "deduces a dimension from 0 elements",
    ("Pad", "crop"): "has no negative pads",
    ("Softsign", "scalar"): "has no Softsign of a scalar",
    ("GatherElements", "part of the data"): "takes indices of whole dimensions only",
    ("ReduceLogSumExp", "large values"): "subtracts infinity from infinity",
    ("Mean", "four"): "adds in place, so that the first operand cannot be broadcast",
    ("LpNormalization", "p 1"): "sums values and not magnitudes",
    ("LRN", ""): _LRN,
    ("LRN", "parameters"): _LRN,
    ("LRN", "many channels"): _LRN,
    ("LRN", "wider than the channels"): _LRN,
    **{(op, name): "ignores sequence_lens" for op in ("RNN", "GRU", "LSTM") for name in _WITH_LENGTHS},
    **{(op, "clip"): "ignores clip" for op in ("RNN", "GRU", "LSTM")},
    ("LSTM", "coupled gates"): "ignores input_forget",
}
_ERF = "computes erf in float32"
_COORDINATES = "computes coordinates in float32"
NOT_IN_FLOAT64 = {
    ("Cast", "halves"): "rounds to float16, which a definition that runs in float64 does not",
    **{("Erf", name): _ERF for name in ("", "scalar", "halves", "wide")},
    **{("Gelu", name): _ERF for name in ("", "scalar", "halves", "wide")},
    ("CausalConvWithState", "*"): "computes silu in float32",
    ("GridSample", "linear*"): _COORDINATES,
    ("GridSample", "cubic*"): _COORDINATES,
    ("GridSample", "3-D"): _COORDINATES,
    ("Resize", "cubic*"): "computes cubic weights in float32",
    **{("HardSwish", name): "rounds 1/6 to float32" for name in ("", "scalar", "halves", "wide")},
    ("LinearAttention", "*"): "computes LinearAttention in float32",
    ("GroupNormalization", "*"): "obeys stash_type, which says float32",
    ("MeanVarianceNormalization", "*"): "refuses to add its constant 1e-9, which is of float32, to float64",
}
# The first of the outputs that stash_type makes float32 in float64 too; ONNX's evaluator does not round them.
STASHED = {"LayerNormalization": 1}
# What onnxruntime does not have, or does otherwise; ONNX's evaluator is the judge there.
_WITH_NANS = ("NaN", "last NaN", "NaN in columns")
_BLUESTEIN = "is less exact where the length is no power of two"
NOT_IN_ONNXRUNTIME = {
    ("LinearAttention", "*"): "has no LinearAttention",
    ("Swish", "*"): "has no Swish",
    ("CausalConvWithState", "*"): "has no CausalConvWithState",
    ("DFT", "longer, odd"): _BLUESTEIN,
    ("STFT", "odd window"): _BLUESTEIN,
    ("SwiGLU", "*"): "has no SwiGLU",
    ("BitCast", "to bool"): "has no BitCast to bool",
    ("EyeLike", "bool"): "has no EyeLike of bools",
    ("SpaceToDepth", "CRD"): "has no mode of SpaceToDepth",
    ("Split", "empty"): "does not split 0 elements into parts",
    **{("TopK", name): "has no order of NaN" for name in ("NaN", "NaN, smallest")},
    **{(op, name): "has no order of NaN" for op in ("ArgMax", "ArgMin") for name in _WITH_NANS},
}


# The last opset by which onnxruntime has an operator that means the same in the newest one.
OLDER_IN_ONNXRUNTIME = {"GlobalLpPool": 21, "MaxRoiPool": 21, "RoiAlign": 21}


def _exception(table: dict[tuple[str, str], str], operator: Operator, case: Case) -> str | None:
    """Why a judge is not asked; `*` stands for any end of a case's name."""
    return next(
        (why for (op, names), why in table.items() if op == operator.name and fnmatchcase(case.name, names)), None
    )


def _node_model(operator: Operator, case: Case, opset: int) -> Any:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    helper = onnx.helper
    graph, _ = graph_of(operator, case)
    node = graph.nodes[0]
    attributes = {k: _attribute(v) for k, v in case.attributes.items()}
    made = helper.make_node(operator.name, node.inputs, node.outputs, **attributes)
    arrays = {f"in{k}": a for k, a in enumerate(case.draw()) if a is not None}
    inputs = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for k, a in arrays.items()
    ]
    types = infer_types(graph)
    outputs = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(types[k].dtype), None) for k in graph.outputs
    ]
    model = helper.make_model(
        helper.make_graph([made], "tested", inputs, outputs),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )
    return model, arrays


def _rounded(operator: Operator, case: Case) -> Case:
    """The case with its numbers as an ONNX file holds them, which is in float32."""
    bound = {k: v for k, v in {**operator.attributes, **case.attributes}.items() if isinstance(v, float)}
    rounded = {k: float(np.float32(v)) for k, v in bound.items()}
    return Case(case.inputs, {**case.attributes, **rounded}, case.name, case.constants)


def _attribute(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        from onnx import numpy_helper

        return numpy_helper.from_array(value)
    return value


def _quiet(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


def _ours(operator: Operator, case: Case, dtype: Any = None) -> list[np.ndarray]:
    graph, inputs = graph_of(operator, case)
    return list(evaluate(graph, inputs, dtype=dtype).values())


def _compare(found: list[np.ndarray], expected: list[Any], limits: dict[str, float]) -> None:
    assert len(found) == len(expected)
    for y, z in zip(found, expected):
        z = np.asarray(z)
        assert y.shape == z.shape
        assert y.dtype == z.dtype
        np.testing.assert_allclose(y, z, **(limits if y.dtype.kind == "f" else EXACT))


@pytest.mark.parametrize(("operator", "case"), PUBLIC)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_definition_agrees_with_onnx(operator: Operator, case: Case, dtype: str) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    evaluator = pytest.importorskip("onnx.reference", reason="onnx is not installed (extra [test])").ReferenceEvaluator
    departure = _exception(NOT_IN_EVALUATOR, operator, case)
    wide = dtype == "float64"
    if wide:
        departure = departure or _exception(NOT_IN_FLOAT64, operator, case)
        case = _rounded(operator, case)
    found = _ours(operator, case, dtype if wide else None)

    def compare() -> None:
        model, arrays = _node_model(operator, case, onnx.defs.onnx_opset_version())
        if wide:
            arrays = {k: a.astype(dtype) if a.dtype == np.float32 else a for k, a in arrays.items()}
        with np.errstate(all="ignore"):
            expected = evaluator(model).run(None, arrays)
        if wide:
            expected = [e.astype(dtype) if np.asarray(e).dtype == np.float32 else e for e in expected]
        exact = STASHED.get(operator.name, len(found)) if wide else 0
        _compare(found[:exact], expected[:exact], ONNX_FLOAT64)
        _compare(found[exact:], expected[exact:], ONNX_FLOAT32)

    check_judge(compare, departure)


@pytest.mark.parametrize(("operator", "case"), PUBLIC)
def test_definition_agrees_with_onnxruntime(operator: Operator, case: Case) -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    opset = OLDER_IN_ONNXRUNTIME.get(operator.name) or newest_opset()
    if operator.name in OLDER_IN_ONNXRUNTIME:  # it may not have had the defaults that it has now
        case = Case(case.inputs, {**operator.attributes, **case.attributes}, case.name, case.constants)
    found = _ours(operator, case)

    def compare() -> None:
        model, arrays = _node_model(operator, case, opset)
        session = ort.InferenceSession(model.SerializeToString(), _quiet(ort), providers=["CPUExecutionProvider"])
        _compare(found, session.run(None, arrays), ONNX_FLOAT32)

    check_judge(compare, _exception(NOT_IN_ONNXRUNTIME, operator, case))


@pytest.mark.parametrize("name", OLDER_IN_ONNXRUNTIME)
def test_operators_are_as_old_in_onnxruntime_as_the_table_says(name: str) -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra [test])")
    operator = registry["", name]
    model, _ = _node_model(operator, operator.cases[0], OLDER_IN_ONNXRUNTIME[name] + 1)
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.NotImplemented):
        ort.InferenceSession(model.SerializeToString(), _quiet(ort), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("table", [NOT_IN_EVALUATOR, NOT_IN_FLOAT64, NOT_IN_ONNXRUNTIME])
def test_every_exception_is_of_a_case(table: dict[tuple[str, str], str]) -> None:
    cases = [(operator.name, case.name) for operator, case in (p.values for p in PUBLIC)]
    assert not [k for k in table if not any(name == k[0] and fnmatchcase(case, k[1]) for name, case in cases)]


def test_every_public_case_has_a_judge() -> None:
    unjudged = [
        (operator.name, case.name)
        for operator, case in (p.values for p in PUBLIC)
        if _exception(NOT_IN_EVALUATOR, operator, case) and _exception(NOT_IN_ONNXRUNTIME, operator, case)
    ]
    assert not unjudged


@pytest.mark.parametrize(("operator", "case"), parameters())
def test_inferred_types_are_those_of_the_results(operator: Operator, case: Case) -> None:
    graph, inputs = graph_of(operator, case)
    results = evaluate(graph, inputs)
    static = infer_types(graph)
    for name, y in results.items():
        shape = static[name].shape
        if shape is not None and None not in shape:
            assert static[name] == TensorType.of(y)
        else:
            assert _fits(static[name], y)
            # Only what decides the shape may leave it unknown: axes, pads or a shape that a call supplies.
            assert any(v.dtype.kind in "iu" for v in inputs.values())


@pytest.mark.parametrize(("operator", "case"), parameters())
@pytest.mark.parametrize("unknown", ["sizes", "names", "rank"])
def test_inferred_types_of_unknown_shapes_fit(operator: Operator, case: Case, unknown: str) -> None:
    graph, inputs = graph_of(operator, case)
    results = evaluate(graph, inputs)
    types: dict[str, TensorType] = {}
    for name, x in inputs.items():
        shape: Any = None
        if unknown == "sizes":
            shape = (None,) * x.ndim
        elif unknown == "names":
            shape = tuple(f"d{d}" for d in x.shape)
        types[name] = TensorType(x.dtype, shape)
    found = infer_types(graph, types)
    for name, y in results.items():
        assert _fits(found[name], y)


def _fits(found: TensorType, y: np.ndarray) -> bool:
    """Whether the array can have the type. The name d7 stands for the size 7."""
    if found.dtype != y.dtype or found.shape is None:
        return found.dtype == y.dtype
    known = [int(d[1:]) if isinstance(d, str) else d for d in found.shape]
    return len(known) == y.ndim and all(d is None or d == size for d, size in zip(known, y.shape))


@pytest.mark.parametrize(("operator", "case"), parameters())
def test_definition_in_float32_is_near_float64(operator: Operator, case: Case) -> None:
    graph, _ = graph_of(operator, case)
    types = infer_types(graph)
    exact = [
        y.astype(types[name].dtype) if y.dtype == np.float64 else y
        for name, y in zip(graph.outputs, _ours(operator, case, np.float64))
    ]
    _compare(_ours(operator, case), exact, FLOAT32_OF_FLOAT64)


@pytest.mark.parametrize(("operator", "case"), parameters())
def test_definition_leaves_its_inputs_alone(operator: Operator, case: Case) -> None:
    arrays = case.draw()
    before = [None if a is None else a.copy() for a in arrays]
    for a in arrays:
        if a is not None:
            a.flags.writeable = False
    with np.errstate(all="ignore"):
        operator.reference({**operator.attributes, **case.attributes}, *arrays)
    for a, b in zip(arrays, before):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("operator", "case"), parameters(lambda o: (o.domain, o.name) == ("nhwc", "Conv")))
def test_channels_last_conv_is_conv_with_an_epilogue(operator: Operator, case: Case) -> None:
    x, w, bias, residual, scale = (*case.draw(), None, None, None)[:5]
    assert x is not None
    assert w is not None
    attributes = {**operator.attributes, **case.attributes}
    x = x if scale is None else x * scale
    images = x if attributes["channels_first"] else np.moveaxis(x, -1, 1)
    y = np.moveaxis(convolve(attributes, images, np.moveaxis(w, (-1, -2), (0, 1)), bias), 1, -1)
    if residual is not None:
        y = y + residual
    bounds = (attributes["alpha"], attributes["beta"])
    expected = {
        "": lambda v: v,
        "Relu": lambda v: np.maximum(v, 0),
        "Clip": lambda v: np.clip(v, *bounds),
        "HardSwish": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
    }[attributes["activation"]](y)
    _compare(_ours(operator, case), [np.asarray(expected, np.float32)], ONNX_FLOAT32)


@pytest.mark.parametrize(("operator", "case"), parameters(lambda o: o.domain == "nhwc" and "Pool" in o.name))
def test_channels_last_pools_are_the_pools(operator: Operator, case: Case) -> None:
    (x,) = case.draw()
    assert x is not None
    public = registry["", operator.name]
    known = {k: v for k, v in case.attributes.items() if k in public.attributes}
    moved = Case((np.ascontiguousarray(np.moveaxis(x, -1, 1)),), known)
    expected = np.moveaxis(_ours(public, moved)[0], 1, -1)
    _compare(_ours(operator, case), [expected], ONNX_FLOAT32)


def test_linear_is_a_product_with_an_epilogue(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((4, 7)), rng.standard_normal((7, 5))
    bias, residual = rng.standard_normal(5), rng.standard_normal((4, 5))
    operator = registry["fused", "Linear"]
    attributes = {**operator.attributes, "activation": "LeakyRelu", "alpha": 0.25}
    z = x @ w + bias + residual
    y = operator.reference(attributes, x, w, bias, residual)
    np.testing.assert_allclose(y, np.where(z < 0, 0.25 * z, z), **ONNX_FLOAT64)


def test_scale_shift(rng: np.random.Generator) -> None:
    x, scale, shift = rng.standard_normal((2, 3)), rng.standard_normal(3), rng.standard_normal(3)
    y = registry["fused", "ScaleShift"].reference({"activation": "", "alpha": 0.0, "beta": 0.0}, x, scale, shift)
    np.testing.assert_allclose(y, x * scale + shift, **ONNX_FLOAT64)


def test_erf_is_exact_to_an_ulp() -> None:
    from forwardpass.ops.activations import erf

    # Values of A&S table 7.1, with more digits from the series in exact arithmetic.
    points = np.array([0.0, 0.5, 1.0, 2.0, 3.0, -1.0, np.inf, -np.inf])
    exact = [0, 0.5204998778130465, 0.8427007929497149, 0.9953222650189527, 0.9999779095030014]
    np.testing.assert_allclose(erf(points), [*exact, -exact[2], 1, -1], **ERF_FLOAT64)
    assert np.isnan(erf(np.array([np.nan]))[0])
