"""Freshly made TensorFlow functions, converted by TensorFlow, against its own interpreter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import forwardpass as fp
from tolerance import NETWORK

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900), pytest.mark.frameworks]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed (extra [tensorflow])")

Array = np.ndarray[Any, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
some = settings(max_examples=4, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
SMALL, BOOLS, PADDINGS = st.integers(1, 3), st.booleans(), st.sampled_from(["SAME", "VALID"])


def converted(function: Callable[[Any], Any], shape: tuple[int | None, ...], samples: Array | None = None) -> bytes:
    """The file of a function of one tensor; of int8, where there are samples of what it is called with."""
    spec = tf.TensorSpec(shape, tf.float32, name="x")
    module = tf.Module()
    traced = tf.function(lambda x: {"y": function(x)}, input_signature=[spec]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], module)
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([s[None]] for s in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    made: bytes = converter.convert()
    return made


def interpreted(data: bytes, x: Array) -> Array:
    # Its own kernels, and not those of a delegate.
    kind = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    judge = tf.lite.Interpreter(model_content=data, experimental_op_resolver_type=kind)
    (given,), (found,) = judge.get_input_details(), judge.get_output_details()
    judge.resize_tensor_input(given["index"], x.shape)
    judge.allocate_tensors()
    judge.set_tensor(given["index"], x)
    judge.invoke()
    result: Array = judge.get_tensor(found["index"])
    return result


def loaded(data: bytes) -> fp.Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(data)
        return fp.load(path, threads=1)


def check(function: Callable[[Any], Any], shape: tuple[int, ...], *, low: float = -2, batch: bool = True) -> fp.Model:
    """The results of the interpreter, for a batch that is free and for a row alone."""
    x = np.random.default_rng(0).uniform(low, 2, (3, *shape)).astype(np.float32)
    data = converted(function, (None if batch else 3, *shape))
    model, want = loaded(data), interpreted(data, x)
    found = model(x)
    assert found.shape == want.shape
    assert found.dtype == want.dtype
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(found, want, rtol=NETWORK["rtol"], atol=NETWORK["atol"] * scale)
    if batch:
        np.testing.assert_array_equal(model(x[:1])[0], found[0])
    return model


def constant(*shape: int) -> Any:
    return tf.constant(np.random.default_rng(1).standard_normal(shape).astype(np.float32))


ACTIVATIONS: list[Callable[[Any], Any]] = [
    *(tf.nn.relu, tf.nn.relu6, tf.nn.tanh, tf.nn.sigmoid, tf.nn.elu, tf.nn.gelu, tf.nn.softmax, tf.nn.log_softmax),
    *(tf.abs, tf.exp, tf.floor, tf.math.ceil, tf.sin, tf.cos, tf.square, tf.negative, tf.sign, tf.round, tf.nn.silu),
    lambda x: tf.nn.gelu(x, approximate=True),
    lambda x: tf.nn.leaky_relu(x, 0.3),
    lambda x: x * tf.nn.relu6(x + 3) / 6,
    lambda x: tf.nn.l2_normalize(x, -1),
    lambda x: tf.maximum(tf.minimum(x, 1.0), -1.0),
]


@pytest.mark.parametrize("k", range(len(ACTIVATIONS)))
def test_functions_of_one_value(k: int) -> None:
    check(ACTIVATIONS[k], (4, 5))


@pytest.mark.parametrize("function", [tf.math.log, tf.sqrt, tf.math.rsqrt, lambda x: x**1.5], ids=range(4))
def test_functions_of_positive_values(function: Any) -> None:
    check(function, (4, 5), low=0.1)


@some
@given(st.data())
def test_convolutions(data: st.DataObject) -> None:
    draw = data.draw
    taps, stride, padding = (draw(SMALL), draw(SMALL)), draw(SMALL), draw(PADDINGS)
    dilation = draw(SMALL) if stride == 1 else 1
    kind, activation = (
        draw(st.sampled_from(["plain", "grouped", "depthwise"])),
        draw(st.sampled_from([None, tf.nn.relu6])),
    )
    channels = 2 if kind == "grouped" else 4
    kernel = constant(*taps, 4, 2) if kind == "depthwise" else constant(*taps, channels, 6)

    def layer(x: Any) -> Any:
        if kind == "depthwise":
            y = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], padding, dilations=[dilation] * 2)
        else:
            y = tf.nn.conv2d(x, kernel, stride, padding, dilations=dilation)
        y = tf.nn.bias_add(y, constant(y.shape[-1]))
        return activation(y) if activation else y

    check(layer, (9, 8, 4))


@some
@given(st.data())
def test_transposed_convolutions(data: st.DataObject) -> None:
    draw = data.draw
    taps, stride, padding = (draw(SMALL), draw(SMALL)), draw(SMALL), draw(PADDINGS)
    sizes = [s * stride if padding == "SAME" else (s - 1) * stride + max(t, stride) for s, t in zip((5, 4), taps)]

    def layer(x: Any) -> Any:
        shape = tf.stack([tf.shape(x)[0], *sizes, 3])
        return tf.nn.conv2d_transpose(x, constant(*taps, 3, 4), shape, stride, padding)

    check(layer, (5, 4, 4))
    check(
        lambda x: tf.nn.conv2d_transpose(x, constant(*taps, 3, 4), [3, *sizes, 3], stride, padding),
        (5, 4, 4),
        batch=False,
    )


@some
@given(st.data())
def test_pools(data: st.DataObject) -> None:
    draw = data.draw
    taps, stride, padding = (draw(SMALL), draw(SMALL)), draw(SMALL), draw(PADDINGS)
    for pool in (tf.nn.max_pool2d, tf.nn.avg_pool2d):
        check(lambda x, pool=pool: pool(x, taps, stride, padding), (7, 8, 3))


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("mode", ["half", "align", "corner"])
def test_resizing(method: str, mode: str) -> None:
    kind = tf.compat.v1.image.resize_bilinear if method == "bilinear" else tf.compat.v1.image.resize_nearest_neighbor
    for sizes in ((10, 8), (3, 9)):
        check(
            lambda x, s=sizes: kind(x, s, align_corners=mode == "align", half_pixel_centers=mode == "half"), (5, 4, 2)
        )


SHAPES: dict[str, Callable[[Any], Any]] = {
    "reshape": lambda x: tf.reshape(x, [-1, 12]),
    "flatten": lambda x: tf.reshape(x, [tf.shape(x)[0], 24]),
    "transpose": lambda x: tf.transpose(x, [0, 2, 3, 1]),
    "concat": lambda x: tf.concat([x, x + 1, x * 2], 2),
    "stack": lambda x: tf.stack([x, x * 2], 2),
    "unstack": lambda x: tf.add_n(tf.unstack(x, axis=2)),
    "split": lambda x: tf.split(x, 2, axis=3)[1],
    "parts": lambda x: tf.split(x, [1, 2], axis=2)[1],
    "cut": lambda x: x[:, 1:, ::-1, 1:3],
    "one place": lambda x: x[:, -1, tf.newaxis, 0:2],
    "pad": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 0], [2, 0]], constant_values=3),
    "mirror": lambda x: tf.pad(x, [[0, 0], [1, 0], [2, 1], [0, 0]], "REFLECT"),
    "tile": lambda x: tf.tile(x, [1, 2, 1, 3]),
    "gather": lambda x: tf.gather(x, [1, 0, 1], axis=1),
    "where": lambda x: tf.where(x > 0.5, x, x * x),
    "mean": lambda x: tf.reduce_mean(x, [1, 2]),
    "sums": lambda x: tf.reduce_sum(x, 3, keepdims=True) * tf.reduce_max(x, 3, keepdims=True),
    "argmax": lambda x: tf.argmax(x, 2, output_type=tf.int32),
    "top": lambda x: tf.math.top_k(x, 2).values,
    "cumsum": lambda x: tf.cumsum(x, 2, exclusive=True),
    "depth to space": lambda x: tf.nn.depth_to_space(x, 2),
    "cast": lambda x: tf.cast(tf.cast(x, tf.int32), tf.float32) + tf.cast(x > 1, tf.float32),
    "one hot": lambda x: tf.one_hot(tf.argmax(x, 2), 3),
    "compare": lambda x: tf.logical_and(x >= 0.5, tf.logical_not(x < 1.0)),
    "batches and back": lambda x: tf.batch_to_space(
        tf.tanh(tf.space_to_batch(x, [2, 3], [[1, 1], [0, 3]])), [2, 3], [[0, 1], [1, 0]]
    ),
    "squeeze": lambda x: tf.squeeze(tf.expand_dims(x, 1), 1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_values_that_move(name: str) -> None:
    check(SHAPES[name], (2, 3, 4))


@some
@given(st.data())
def test_dense_layers(data: st.DataObject) -> None:
    draw = data.draw
    shape = tuple(draw(SMALL) for _ in range(draw(st.integers(1, 3))))
    w, b = constant(shape[-1], 5), constant(5)
    bias, relu = draw(BOOLS), draw(BOOLS)

    def layer(x: Any) -> Any:
        y = tf.tensordot(x, w, 1) if len(shape) > 1 else x @ w
        y = y + b if bias else y
        return tf.nn.relu(y) if relu else y

    check(layer, shape)


def test_products_of_two_inputs() -> None:
    check(lambda x: tf.matmul(x, x, transpose_b=True), (2, 3, 4))
    check(lambda x: tf.nn.softmax(tf.matmul(x, x, transpose_a=True)), (2, 3, 4))


def network() -> Callable[[Any], Any]:
    """A small network with a residual, a depthwise and a transposed convolution."""
    a, b, c, d = (
        constant(3, 3, 3, 8) * 0.3,
        constant(3, 3, 8, 1) * 0.3,
        constant(1, 1, 8, 8) * 0.3,
        constant(32, 5) * 0.2,
    )

    def function(x: Any) -> Any:
        x = tf.nn.relu6(tf.nn.conv2d(x, a, 1, "SAME") + constant(8))
        y = tf.nn.conv2d(tf.nn.relu(tf.nn.depthwise_conv2d(x, b, [1, 1, 1, 1], "SAME")), c, 1, "SAME")
        x = tf.nn.avg_pool2d(tf.nn.relu(x + y), 2, 2, "VALID")
        x = tf.concat([tf.nn.max_pool2d(x, 2, 2, "VALID"), x[:, ::2, ::2]], -1)
        return tf.nn.softmax(tf.reshape(x, [tf.shape(x)[0], 64])[:, 16:48] @ d)

    return function


def test_a_network() -> None:
    model = check(network(), (8, 8, 3))
    assert (list(model.inputs), list(model.outputs)) == (["x"], ["y"])
    assert not fp.explain(model).fallbacks


def test_a_network_of_integers() -> None:
    """Against integer arithmetic, whose roundings in the middle are its own: the same to a few of 256 steps."""
    rng = np.random.default_rng(0)
    samples = rng.uniform(-2, 2, (30, 8, 8, 3)).astype(np.float32)
    data = converted(network(), (None, 8, 8, 3), samples)
    model = loaded(data)
    assert [str(t.dtype) for t in (*model.inputs.values(), *model.outputs.values())] == ["int8", "int8"]
    x = rng.integers(-128, 128, (40, 8, 8, 3)).astype(np.int8)
    want = np.concatenate([interpreted(data, row[None]) for row in x]).astype(np.int64)
    error = np.abs(model(x).astype(np.int64) - want)
    assert error.max() <= 4
    assert (error == 0).mean() > 0.5


def test_weights_of_fewer_bits() -> None:
    """Of int8 and of float16, with everything else in float32."""
    w = constant(40, 60)
    x = np.random.default_rng(0).standard_normal((4, 40)).astype(np.float32)
    for bits in (16, 8):
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [
                tf.function(
                    lambda x: {"y": x @ w}, input_signature=[tf.TensorSpec((None, 40), tf.float32)]
                ).get_concrete_function()
            ],
            tf.Module(),
        )
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16] if bits == 16 else []
        data = converter.convert()
        assert len(data) < 40 * 60 * 3
        found, exact = loaded(data)(x), x.astype(np.float64) @ w.numpy()
        assert np.abs(found - exact).max() < (0.02 if bits == 16 else 0.15) * np.abs(exact).max()


def test_convert(tmp_path: Path) -> None:
    from forwardpass.cli import main

    (tmp_path / "net.tflite").write_bytes(converted(network(), (None, 8, 8, 3)))
    assert main(["convert", str(tmp_path / "net.tflite"), str(tmp_path / "net.npz")]) == 0
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(fp.load(tmp_path / "net.npz")(x), fp.load(tmp_path / "net.tflite")(x))
