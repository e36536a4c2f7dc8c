"""Freshly made Keras models of every layer, saved in both formats, against Keras itself."""

from __future__ import annotations

import os
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import forwardpass as fp
from forwardpass.formats import keras as importer
from forwardpass.formats.keras.kinds import KINDS
from tolerance import NETWORK

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900), pytest.mark.frameworks]

pytest.importorskip("h5py", reason="h5py is not installed (extra [keras])")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras", reason="Keras is not installed (extra [frameworks])", exc_type=ImportError)
    from keras_graphs import GRAPHS
    from keras_layers import ACTIVATIONS, CHAINS

EXAMPLES = int(os.environ.get("FORWARDPASS_KERAS_EXAMPLES", "5"))
# Without shrinking: every try makes a model, and the seed says which it was.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
some = settings(max_examples=EXAMPLES, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))


def randomise(model: Any) -> None:
    """Weights that show where one is taken for another."""
    draw = np.random.default_rng(0)
    for weight in model.weights:
        values = draw.standard_normal(weight.shape) * 0.5
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path or "gamma" in weight.path else values)
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def array_of(tensor: Any) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = keras.ops.convert_to_numpy(tensor)
    return found


def check(model: Any, arrays: list[np.ndarray[Any, Any]], suffixes: tuple[str, ...] = (".keras", ".h5")) -> None:
    """The same results, under the names of Keras, for all samples together and one by one."""
    randomise(model)
    found = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    want = [array_of(y) for y in (found if isinstance(found, (list, tuple)) else [found])]
    given = dict(zip((i._keras_history.operation.name for i in model.inputs), arrays))
    for suffix in suffixes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{suffix}"
            model.save(path)
            ours = fp.load(path, threads=1)
        assert list(ours.inputs) == list(given)
        results = list(ours.run(given).values())
        assert [r.shape for r in results] == [w.shape for w in want]
        for got, expected in zip(results, want):
            scale = max(1.0, float(np.abs(expected).max(initial=0)))
            np.testing.assert_allclose(
                got, expected, rtol=NETWORK["rtol"], atol=NETWORK["atol"] * scale, err_msg=suffix
            )
        first = ours.run({k: v[:1] for k, v in given.items()})
        for got, whole in zip(first.values(), results):
            np.testing.assert_array_equal(got[0], whole[0])


@pytest.mark.parametrize("name", CHAINS)
@some
@given(data=st.data())
def test_chains(name: str, data: st.DataObject) -> None:
    shape, layers = CHAINS[name](data.draw)
    model = keras.Sequential([keras.Input(shape), *layers])
    check(model, [np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)])


@pytest.mark.parametrize("name", GRAPHS)
@some
@given(data=st.data())
def test_graphs(name: str, data: st.DataObject) -> None:
    check(*GRAPHS[name](data.draw))


def test_every_activation() -> None:
    x = keras.Input((3, 6))
    model = keras.Model(x, [keras.layers.Activation(name)(x) for name in ACTIVATIONS])
    check(model, [np.random.default_rng(3).standard_normal((3, 3, 6)).astype(np.float32)])


def kinds_of(value: Any) -> set[str]:
    """The classes of layers, and of those that they hold."""
    if isinstance(value, keras.Model):
        return {k for layer in value.layers for k in kinds_of(layer)}
    parts = ("layer", "forward_layer", "backward_layer", "cell", "cells")
    held = [getattr(value, p, None) for p in parts]
    flat = [part for h in held for part in (h if isinstance(h, (list, tuple)) else [h])]
    return {type(value).__name__}.union(*(kinds_of(f) for f in flat if isinstance(f, keras.layers.Layer)))


ELSEWHERE = {
    *("CuDNNGRU", "CuDNNLSTM", "ThresholdedReLU"),
    *("CustomScaleLayer", "LayerScale", "StochasticDepth"),
    *("RandomBrightness", "RandomSaturation", "RandomSharpness"),
}
"""Layers of Keras 2 alone, whose files `tests/null/test_keras_layers.py` has; those of some applications below; and
those that Keras 3.15 cannot save as `.h5`, which are dropped as the other layers of augmentation are."""


def drawn(make: Any) -> set[str]:
    """The classes of the layers that a strategy draws."""
    seen: set[str] = set()

    @settings(max_examples=60, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(data=st.data())
    def draw(data: st.DataObject) -> None:
        made = make(data.draw)
        found = [made[0]] if isinstance(made[0], keras.Model) else made[1]
        seen.update(k for one in found for k in kinds_of(one))

    draw()
    return seen


def test_every_layer_is_drawn() -> None:
    for path in Path(importer.__file__).parent.glob("layers_*.py"):
        import_module(f"{importer.__name__}.{path.stem}")
    layers = {k for k in KINDS if not k.startswith("ops.")}
    assert len(layers) > 80
    assert layers - ELSEWHERE - set().union(*map(drawn, (*CHAINS.values(), *GRAPHS.values()))) == set()


APPLICATIONS = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {"alpha": 0.75, "minimalistic": False},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {},
    "ResNet50": {},
    "ResNet50V2": {},
    "DenseNet121": {},
    "InceptionV3": {},
    "InceptionResNetV2": {},
    "NASNetMobile": {},
    "Xception": {},
    "VGG16": {},
    "ConvNeXtTiny": {},
}
SMALL = ("MobileNetV2", "EfficientNetB0")
"""Those that run without --exhaustive."""


@pytest.mark.parametrize(
    "name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.exhaustive) for n in APPLICATIONS]
)
def test_applications(name: str, tmp_path: Path) -> None:
    size = 224 if name == "NASNetMobile" else 96
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(size, size, 3), classes=7, **APPLICATIONS[name])
    images = np.random.default_rng(2).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    want = array_of(model(images))
    for suffix in (".keras", ".h5"):
        model.save(tmp_path / f"model{suffix}")
        got = fp.load(tmp_path / f"model{suffix}")(images)
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)
