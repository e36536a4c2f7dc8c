"""Sequences piece by piece: the same as the whole, states that are found, kept, copied and given back."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Maker
from small_graphs import F32, mlp

import forwardpass as fp
from forwardpass.builder import GRU, LSTM, Dense, Input, Network, Sequential
from forwardpass.dtypes import BFLOAT16
from forwardpass.errors import InputError
from forwardpass.graph import Node, TensorType
from forwardpass.run import Model
from forwardpass.stream import pair_states
from tolerance import REAL_MODEL


def denoiser(kind: Any = GRU, units: int = 24) -> Network:
    """Features of frames of 10 ms, two recurrent layers, and a gain for each feature."""
    x = Input((None, 22), name="features")
    a = Dense(units, activation="tanh")(x)
    b = kind(units, return_sequences=True)(a)
    c = kind(2 * units, return_sequences=True)(b)
    return Network(x, Dense(22, activation="sigmoid")(c), name="denoiser").init(3)


def causal(taps: int = 5) -> Model:
    """A convolution that keeps its last inputs itself, as stateful exports have it: y and the cache for next time."""
    m = Maker(dtype=F32)
    x, cache = m.input("frame", 1, 3, "time"), m.input("cache_in", 1, 3, taps - 1)
    joined = m("Concat", cache, x, axis=2)
    y = m("Relu", m("Conv", joined, m.const((4, 3, taps)), m.const((4,))), out="y")
    ends = m.ints(-(taps - 1)), m.ints(np.iinfo(np.int64).max), m.ints(2)
    m("Slice", joined, *ends, out="cache_out")
    return Model(m.graph(y, "cache_out"))


def cached_attention() -> Model:
    """One query to all keys so far: a state that grows."""
    m = Maker(dtype=F32)
    x, past = m.input("x", "N", 1, 8), m.input("past_key", "N", "length", 8)
    keys = m("Concat", past, x, axis=1, out="present_key")
    scores = m("Softmax", m("MatMul", x, m("Transpose", keys, perm=[0, 2, 1])), axis=-1)
    return Model(m.graph(m("MatMul", scores, keys, out="y"), keys))


@pytest.mark.parametrize("kind", [GRU, LSTM])
@pytest.mark.parametrize("size", [1, 3])
def test_frames_are_the_whole_sequence(kind: Any, size: int, isa: str, rng: np.random.Generator) -> None:
    model = Model(denoiser(kind), isa=isa)
    x = rng.standard_normal((2, 12, 22), dtype=np.float32)
    stream = model.stream()
    parts = [stream.push(x[:, k : k + size]) for k in range(0, 12, size)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), model(x))


def test_reset_starts_again(rng: np.random.Generator) -> None:
    stream = Model(denoiser()).stream()
    x = rng.standard_normal((5, 1, 1, 22), dtype=np.float32)
    first = [stream.push(f) for f in x]
    assert not np.array_equal(stream.push(x[0]), first[0])
    stream.reset()
    assert stream.states == {}
    for f, want in zip(x, first):
        np.testing.assert_array_equal(stream.push(f), want)


def test_a_copy_goes_on_by_itself(rng: np.random.Generator) -> None:
    stream = Model(denoiser()).stream()
    x = rng.standard_normal((6, 1, 1, 22), dtype=np.float32)
    for f in x[:3]:
        stream.push(f)
    other = stream.copy()
    kept = stream.states
    a = [other.push(f) for f in x[3:]]
    for k, v in stream.states.items():
        np.testing.assert_array_equal(v, kept[k])
    for f, want in zip(x[3:], a):
        np.testing.assert_array_equal(stream.push(f), want)


def test_states_can_be_given(rng: np.random.Generator) -> None:
    stream = Model(denoiser()).stream()
    x = rng.standard_normal((4, 1, 1, 22), dtype=np.float32)
    want = [stream.push(f) for f in x[:2]]
    held = stream.states
    want += [stream.push(f) for f in x[2:]]
    stream.reset(**held)
    for f, w in zip(x[2:], want[2:]):
        np.testing.assert_array_equal(stream.push(f), w)
    name = next(iter(stream.pairs))
    with pytest.raises(InputError, match="unknown state 'nothing'"):
        stream.reset(nothing=x)
    with pytest.raises(InputError, match="wrong shape"):
        stream.reset(**{name: np.zeros((1, 1, 1), np.float32)})


def test_causal_convolution(rng: np.random.Generator) -> None:
    model = causal()
    stream = model.stream()
    assert stream.pairs == {"cache_in": "cache_out"}
    x = rng.standard_normal((1, 3, 20), dtype=np.float32)
    whole, _ = model(x, np.zeros((1, 3, 4), np.float32))
    stream.reset(cache_in=np.zeros((1, 3, 4)))
    parts = [stream.push(x[:, :, k : k + 1]) for k in range(20)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole)


def test_a_cache_grows(rng: np.random.Generator) -> None:
    model = cached_attention()
    stream = model.stream()
    x = rng.standard_normal((2, 6, 8), dtype=np.float32)
    for k in range(6):
        y = stream.push(x[:, k : k + 1])
        want, keys = model(x[:, k : k + 1], x[:, :k])
        np.testing.assert_array_equal(y, want)
        np.testing.assert_array_equal(stream.states["past_key"], keys)


def test_several_inputs_and_outputs(rng: np.random.Generator) -> None:
    m = Maker(dtype=F32)
    a, b, h = m.input("a", 1, 4), m.input("b", 1, 4), m.input("h0", 1, 4)
    s = m("Add", m("Add", a, b), h, out="hn")
    model = Model(m.graph(m("Neg", s, out="minus"), s, m("Mul", a, b, out="product")))
    stream = model.stream()
    assert (list(stream.inputs), list(stream.outputs)) == (["a", "b"], ["minus", "product"])
    total = np.zeros((1, 4), np.float32)
    for _ in range(4):
        x, y = rng.standard_normal((2, 1, 4), dtype=np.float32)
        total = (x + y) + total
        made = stream.push(b=y, a=x)
        np.testing.assert_array_equal(made.minus, -total)
        np.testing.assert_array_equal(made.product, x * y)


def test_a_failed_push_changes_nothing(rng: np.random.Generator) -> None:
    m = Maker(dtype=F32)
    table = m.const((4, 3))
    m.inputs["token"] = TensorType(np.dtype(np.int64), (1,))
    h = m.input("h_in", 1, 3)
    s = m("Add", m("Gather", table, "token"), h, out="h_out")
    stream = Model(m.graph(m("Neg", s, out="y"), s)).stream()
    for _ in range(3):  # the checked path, then the fast one
        stream.push(np.array([1]))
        before = stream.states["h_in"]
        for bad in (np.array([9]), np.array([[1]]), np.array([0.5])):
            with pytest.raises(InputError):
                stream.push(bad)
        np.testing.assert_array_equal(stream.states["h_in"], before)


def traced_peak(units: int, x: np.ndarray[Any, Any]) -> int:
    """Most bytes that a push holds beyond what is there before."""
    stream = Model(denoiser(units=units), threads=1).stream()
    for _ in range(3):
        stream.push(x)
    peaks = []
    tracemalloc.start()
    try:
        for _ in range(50):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            stream.push(x)
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return min(peaks)  # others' objects may come in between


def test_a_push_allocates_no_states(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 1, 22), dtype=np.float32)
    small, large = traced_peak(16, x), traced_peak(512, x)
    assert abs(large - small) < 512  # the states of the large one are 2048 and 4096 bytes
    stream = Model(denoiser(), threads=1).stream()
    kept = [stream.push(x) for _ in range(5)]
    assert len({a.ctypes.data for a in kept}) == 5


def late_outputs(*more: str) -> Model:
    """hn = x + h, and where hn is not zero: of a size that only its values tell."""
    m = Maker(dtype=F32)
    s = m("Add", m.input("x", 2, 3), m.input("h", 2, 3), out="hn")
    places = m("Cast", m("NonZero", s), to=1, out="y")
    return Model(m.graph(places, s, *[m("Neg", s, out=name) for name in more]))


@pytest.mark.parametrize("more", [(), ("minus",)])
def test_outputs_whose_size_depends_on_data(more: tuple[str, ...]) -> None:
    stream, total = late_outputs(*more).stream(), np.zeros((2, 3), np.float32)
    one = np.ones((2, 3), np.float32)
    for x in (np.eye(2, 3, dtype=np.float32), 0 * one, one, one, -3 * one, 0 * one):
        total += x
        made = stream.push(x)
        y = made.y if more else made
        np.testing.assert_array_equal(y, np.array(np.nonzero(total), np.float32))
        np.testing.assert_array_equal(stream.states["h"], total)
        if more:
            np.testing.assert_array_equal(made.minus, -total)


def test_states_of_types_that_numpy_lacks() -> None:
    m = Maker(dtype=F32)
    m.inputs["h"] = TensorType(BFLOAT16, (1, 3))
    s = m("Add", m.input("x", 1, 3), m("Cast", "h", to=1))
    model = Model(m.graph(m("Neg", s, out="y"), m("Cast", s, to=16, out="hn")))
    stream, x = model.stream(), np.float32([[1, 2, 3]])
    for k in range(1, 5):
        np.testing.assert_array_equal(stream.push(x), -k * x)


PAIRS = [
    (["x", "h", "c"], ["y", "hn", "cn"], {"h": "hn", "c": "cn"}),
    (["input", "state", "sr"], ["output", "stateN"], {"state": "stateN"}),
    (
        ["ids", "past_key_values.0.key", "past_key_values.0.value", "past_key_values.10.key"],
        ["logits", "present.0.key", "present.0.value", "present.10.key"],
        {
            "past_key_values.0.key": "present.0.key",
            "past_key_values.0.value": "present.0.value",
            "past_key_values.10.key": "present.10.key",
        },
    ),
    (["x", "conv_cache_in", "gru_in"], ["y", "gru_out", "conv_cache_out"],
     {"conv_cache_in": "conv_cache_out", "gru_in": "gru_out"}),
    (["frame", "prev_state"], ["enhanced", "next_state"], {"prev_state": "next_state"}),
    (["x", "h0", "c0"], ["y", "h_n", "c_n"], {"h0": "h_n", "c0": "c_n"}),
    (["x", "initial_h"], ["Y", "Y_h"], {"initial_h": "Y_h"}),
    (["audio_in", "h_in"], ["audio_out", "h_out"], {}),  # which of them is a frame?
    (["input"], ["output"], {}),
    (["x", "layer_0_h"], ["y", "layer_1_h"], {}),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "outputs", "want"), PAIRS)
def test_pairs(inputs: list[str], outputs: list[str], want: dict[str, str]) -> None:
    t = TensorType(F32, (1, 4))
    assert pair_states(dict.fromkeys(inputs, t), dict.fromkeys(outputs, t)) == want


def test_pairs_need_equal_types() -> None:
    x, a, b = (TensorType(F32, s) for s in ((1, 9), (1, 4), (1, 5)))
    wide = TensorType(np.dtype(np.int64), (1, 4))
    assert pair_states({"x": x, "h": a}, {"y": x, "hn": a}) == {"h": "hn"}
    assert pair_states({"x": x, "h": a}, {"y": x, "hn": b}) == {}
    assert pair_states({"x": x, "h": a}, {"y": x, "hn": wide}) == {}


def test_names_decide_nothing_where_pairs_are_given(rng: np.random.Generator) -> None:
    m = Maker(dtype=F32)
    x, old = m.input("x", 1, 4), m.input("apples", 1, 4)
    s = m("Add", x, old, out="pears")
    model = Model(m.graph(m("Neg", s, out="y"), s))
    with pytest.raises(InputError, match="no output is known") as e:
        model.stream()
    assert "model.stream({" in e.value.hint
    stream = model.stream({"apples": "pears"})
    a = rng.standard_normal((1, 4), dtype=np.float32)
    stream.push(a)
    np.testing.assert_array_equal(stream.push(a), -(a + a))
    for bad in ({"apples": "pear"}, {"apple": "pears"}, {}, {"x": "y", "apples": "pears"}):
        with pytest.raises(InputError):
            model.stream(bad)


def test_what_mixes_steps_is_refused() -> None:
    backwards = Sequential([Input((None, 4)), GRU(3, go_backwards=True, return_sequences=True)]).init(0)
    with pytest.raises(InputError, match="runs backwards"):
        Model(backwards).stream()
    graph = denoiser().graph()
    reader = next(n for n in graph.nodes if "features" in n.inputs)
    graph.nodes.insert(0, Node("Softmax", ["features"], ["mixed"], {"axis": 1}))
    reader.inputs[reader.inputs.index("features")] = "mixed"
    with pytest.raises(InputError, match="looks at several steps"):
        Model(graph).stream()
    with pytest.raises(InputError, match="no output is known"):
        Model(mlp()).stream()


def speech(models: Path) -> np.ndarray[Any, Any]:
    """The frames of a recording with a second of silence around it: 64 samples of the frame before, and 512 new."""
    with np.load(models / "silero_vad/expected.npz") as expected:
        return expected["X"]


@pytest.mark.parametrize("name", ["silero_vad_16k_op15", "silero_vad_16k_sequence"])
def test_speech_detector(name: str, models: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    with np.load(models / "silero_vad/expected.npz") as expected:
        want = expected["silero_vad"]
    model = fp.load(models / f"silero_vad/{name}.onnx")
    stream = model.stream()
    rate = {"sr": np.array(16000)} if "sr" in stream.inputs else {}
    got = np.array([np.ravel(stream.push(input=f[None], **rate))[0] for f in speech(models)])
    np.testing.assert_allclose(got, want, rtol=0, atol=REAL_MODEL)
    assert got[:30].max() < 0.009
    assert (got > 0.5).mean() == pytest.approx(0.497, abs=0.01)


def test_speech_detector_frame_by_frame_is_the_sequence(models: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    model = fp.load(models / "silero_vad/silero_vad_16k_sequence.onnx")
    frames, zero = speech(models), np.zeros((1, 1, 128), np.float32)
    whole = model(frames, zero, zero)
    stream = model.stream()
    got = np.concatenate([stream.push(f[None]) for f in frames])
    np.testing.assert_array_equal(got, whole.speech_probs)
    np.testing.assert_array_equal(stream.states["h"], whole.hn)
    np.testing.assert_array_equal(stream.states["c"], whole.cn)
