"""Weights that PyTorch itself saves: read bit for bit, and brought into the layouts of the builder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_judge import close, cnn, nn, seeded, torch

import forwardpass as fp
from forwardpass.builder import (
    GRU,
    LSTM,
    BatchNormalization,
    Bidirectional,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    Input,
    MaxPool2D,
    ReLU,
    Sequential,
    SimpleRNN,
)
from forwardpass.formats import read_weights

pytestmark = pytest.mark.frameworks


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with seeded():
        yield


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool", "complex64"])
def test_saved_tensors(dtype: str, zipped: bool, tmp_path: Path) -> None:
    x = (torch.randn(4, 6) * 3).to(getattr(torch, dtype))
    saved = {"a": x, "t": x.t(), "part": x[1:, ::2], "again": x, "scalar": x[0, 0], "none": x[:0], "p": 3, "text": "x"}
    torch.save({"epoch": 2, "model": saved}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "w.pth")
    assert list(found) == [k for k, v in saved.items() if isinstance(v, torch.Tensor)]
    for name, array in found.items():
        want = saved[name].contiguous()
        assert array.shape == want.shape
        raw = (
            want.view(torch.uint8 if dtype == "uint8" else torch.int16).numpy() if dtype == "bfloat16" else want.numpy()
        )
        assert np.ascontiguousarray(array).tobytes() == raw.tobytes()


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "float8_e4m3fn", "float8_e5m2"])
def test_saved_tensors_of_newer_types(dtype: str, tmp_path: Path) -> None:
    x = torch.randint(0, 100, (3, 4)).to(getattr(torch, dtype))
    torch.save({"x": x}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt")["x"].tobytes() == x.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("zipped", [True, False])
def test_whole_modules_are_refused(zipped: bool, tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3), tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(fp.FileError, match=r"state_dict"):
        read_weights(tmp_path / "w.pt")


def test_training_checkpoints(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    whole = {"epoch": 1, "state_dict": module.state_dict(), "optimizer": optimizer.state_dict(), "loss": torch.ones(())}
    torch.save(whole, tmp_path / "last.ckpt")
    found = read_weights(tmp_path / "last.ckpt")
    assert list(found) == list(module.state_dict())


def image_pair() -> tuple[Any, Any, Any]:
    module = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 12, 3, groups=6)),
        *(nn.MaxPool2d(2), nn.Conv2d(12, 8, 1, groups=2, bias=False), nn.Flatten(), nn.ReLU(), nn.Linear(72, 5)),
    )
    layers = [Conv2D(6, 3, padding="same"), BatchNormalization(epsilon=1e-5), ReLU()]
    layers += [DepthwiseConv2D(3, depth_multiplier=2), MaxPool2D(2), Conv2D(8, 1, groups=2, use_bias=False)]
    layers += [Flatten(), ReLU(), Dense(5)]
    network = Sequential([Input((8, 8, 3)), *layers])
    module[1].running_mean.uniform_(-1, 1)
    return module, network, torch.randn(4, 3, 8, 8)


def sequence_pair(kind: str, both: bool) -> tuple[Any, Any, Any]:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = getattr(nn, kind)(4, 5, batch_first=True, bidirectional=bool(both))
            self.head = nn.Linear(10 if both else 5, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.cells(x)[0])

    layer = {"LSTM": LSTM, "GRU": GRU, "RNN": SimpleRNN}[kind](5, return_sequences=True)
    return Net(), Sequential([Input((6, 4)), Bidirectional(layer) if both else layer, Dense(3)]), torch.randn(2, 6, 4)


PAIRS = {
    "images": image_pair,
    **{
        f"{k} {both}": lambda k=k, both=both: sequence_pair(k, both)
        for k in ("LSTM", "GRU", "RNN")
        for both in (False, True)
    },
}


@pytest.mark.parametrize("what", PAIRS)
def test_weights_on_the_builder(what: str, tmp_path: Path) -> None:
    module, network, x = PAIRS[what]()
    module.eval()
    torch.save(module.state_dict(), tmp_path / "w.pth")
    network.set_weights(tmp_path / "w.pth")
    given = x.permute(0, 2, 3, 1) if x.dim() == 4 else x
    with torch.no_grad():
        close(network.model()(given.contiguous().numpy()), module(x).numpy())
    again = {k: v.numpy() for k, v in module.state_dict().items()}
    for name, array in network.get_weights().items():
        np.testing.assert_array_equal(array, network.set_weights(again).get_weights()[name])


def test_safetensors_as_the_package_writes_them(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="safetensors is not installed (extra [frameworks])")
    from safetensors.torch import save_file

    state = {k: v.contiguous() for k, v in cnn().state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors")
    assert found.keys() == state.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, state[name].numpy())
