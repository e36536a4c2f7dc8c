"""What the tests of PyTorch share: how results are compared, and a network of the usual parts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import forwardpass as fp
from tolerance import REAL_MODEL

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [frameworks])")
nn, F = torch.nn, torch.nn.functional

Array = np.ndarray[Any, Any]


@contextmanager
def seeded() -> Iterator[None]:
    """PyTorch warns of its own deprecated parts, and seeds come from here."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def flat(value: Any) -> list[Array]:
    if isinstance(value, (tuple, list)):
        return [a for v in value for a in flat(v)]
    return [value.detach().numpy()]


def close(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if want.dtype.kind == "f":
        finite = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
        np.testing.assert_allclose(got, want, rtol=0, atol=REAL_MODEL * finite)
    else:
        np.testing.assert_array_equal(got, want)


def judge(model: fp.Model, module: Any, *inputs: Any) -> None:
    """The model must give what the module gives."""
    with torch.no_grad():
        want = flat(module(*inputs))
    found = model(*(i.numpy() for i in inputs))
    found = list(found) if len(want) > 1 else [found]
    assert len(found) == len(want)
    for got, expected in zip(found, want):
        close(got, expected)


def check(module: Any, *inputs: Any, **options: Any) -> fp.Model:
    model = fp.from_torch(module.eval(), inputs, **options)
    judge(model, module, *inputs)
    return model


class Residual(nn.Module):
    def __init__(self, channels: int, act: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)
        self.act = act

    def forward(self, x: Any) -> Any:
        return self.act(x + self.norm(self.conv(x)))


class Squeezed(nn.Module):
    """Squeeze and excitation, as in MobileNetV3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Any) -> Any:
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.up(F.relu(self.down(scale))))


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def of(function: Callable[..., Any], count: int) -> Any:
    """A module of `count` arguments, since exporting names them."""
    if count == 1:

        class One(Of):
            def forward(self, x: Any) -> Any:
                return self.function(x)

        return One(function)

    class Two(Of):
        def forward(self, x: Any, y: Any) -> Any:
            return self.function(x, y)

    return Two(function)


def cnn() -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU6(inplace=True),
        Residual(8, nn.Hardswish()),
        nn.Conv2d(8, 8, 5, padding="same", groups=8),
        Squeezed(8),
        nn.MaxPool2d(3, 2, 1),
        Residual(8, nn.SiLU()),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(8, 5),
        nn.Softmax(dim=1),
    )
