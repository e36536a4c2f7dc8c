"""PyTorch's modules, exported programs and TorchScript: the results of PyTorch itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_judge import F, check, cnn, judge, nn, of, seeded, torch

import forwardpass as fp
from forwardpass.formats import read_weights

pytestmark = pytest.mark.frameworks
few = settings(max_examples=12, deadline=None)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with seeded():
        yield


# ---- networks


def test_a_convolutional_network() -> None:
    module = cnn()
    model = check(module, torch.randn(2, 3, 33, 29))
    assert next(iter(model.inputs.values())).shape == ("N", 3, 33, 29)
    for batch in (1, 5):
        judge(model, module, torch.randn(batch, 3, 33, 29))


def test_an_example_of_one_leaves_the_batch_free() -> None:
    module = cnn()
    judge(check(module, torch.randn(1, 3, 33, 29)), module, torch.randn(4, 3, 33, 29))


def test_two_sizes_are_free() -> None:
    auto = torch.export.Dim.AUTO
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = check(module, torch.randn(2, 3, 9, 8), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    judge(model, module, torch.randn(3, 3, 12, 17))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("act", ["relu", "gelu"])
def test_a_transformer(first: bool, act: str) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 24, activation=act, batch_first=True, norm_first=first)
    module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    model = check(module, torch.randn(2, 7, 16))
    judge(model, module, torch.randn(5, 7, 16))


class Classifier(nn.Module):
    """Tokens to classes: embedding, positions, attention under a mask, the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(30, 12), nn.Parameter(torch.randn(9, 12))
        self.attention, self.norm = nn.MultiheadAttention(12, 3, batch_first=True), nn.LayerNorm(12)
        self.head = nn.Linear(12, 4)

    def forward(self, tokens: Any, padding: Any) -> Any:
        x = self.table(tokens) + self.places[: tokens.shape[1]]
        y, _ = self.attention(x, x, x, key_padding_mask=padding, need_weights=False)
        kept = (~padding).unsqueeze(-1).to(x.dtype)
        y = self.norm(x + y) * kept
        return F.log_softmax(self.head(y.sum(1) / kept.sum(1)), dim=-1)


def test_tokens_under_a_mask() -> None:
    tokens, padding = torch.randint(0, 30, (3, 9)), torch.zeros(3, 9, dtype=torch.bool)
    padding[1, 6:] = padding[2, 2:] = True
    check(Classifier(), tokens, padding)


@given(
    st.sampled_from(["LSTM", "GRU", "RNN"]),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(1, 7),
)
@few
def test_recurrent_layers(
    kind: str, layers: int, both: bool, first: bool, bias: bool, given_state: bool, n: int
) -> None:
    module = getattr(nn, kind)(4, 5, layers, bidirectional=both, batch_first=first, bias=bias)
    inputs = [torch.randn(2, n, 4)]
    state = torch.randn(layers * (2 if both else 1), 2 if first else n, 5)
    if given_state and kind != "LSTM":
        inputs.append(state)
    check(module, *inputs)


def test_cells() -> None:
    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.LSTMCell(4, 5), nn.GRUCell(5, 3), nn.RNNCell(3, 2)

        def forward(self, x: Any) -> Any:
            h, c = self.a(x)
            return self.c(self.b(h)), c

    check(Cells(), torch.randn(3, 4))


# ---- other ways in


def test_exported_programs() -> None:
    module, x = cnn().eval(), torch.randn(2, 3, 33, 29)
    program = torch.export.export(module, (x,))
    judge(fp.from_torch(program), module, x)
    judge(fp.from_torch(program.run_decompositions()), module, x)


def test_exported_files(tmp_path: Path) -> None:
    module, x = cnn().eval(), torch.randn(2, 3, 33, 29)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "net.pt2")
    judge(fp.from_torch(torch.export.load(tmp_path / "net.pt2")), module, x)
    judge(fp.load(tmp_path / "net.pt2"), module, x)


def test_traced_torchscript(tmp_path: Path) -> None:
    module, x = cnn().eval(), torch.randn(2, 3, 33, 29)
    torch.jit.save(torch.jit.trace(module, x), tmp_path / "net.pt")
    model = fp.from_torch(torch.jit.load(tmp_path / "net.pt"), x)
    judge(model, module, x)
    judge(model, module, torch.randn(5, 3, 33, 29))
    with pytest.raises(fp.FileError, match="TorchScript"):
        read_weights(tmp_path / "net.pt")


def test_scripted_torchscript() -> None:
    module = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)).eval()
    judge(fp.from_torch(torch.jit.script(module), torch.randn(2, 3, 8)), module, torch.randn(3, 3, 8))


def test_names_of_variables_say_nothing() -> None:
    class Misnamed(nn.Module):
        def forward(self, x):  # type: ignore[no-untyped-def]
            argmax = x.argmin(1)
            isnan = torch.isinf(x)
            triu = x.tril()
            return argmax, isnan, triu

    module, x = Misnamed().eval(), torch.randn(3, 3)
    x[1, 2] = torch.inf
    got, want = fp.from_torch(torch.jit.script(module), x)(x.numpy()), module(x)
    for value, expected in zip(got, want):
        np.testing.assert_array_equal(value, expected.numpy())


def test_torchscript_with_branches() -> None:
    class Branches(nn.Module):
        def forward(self, x):  # type: ignore[no-untyped-def]
            if bool(x.sum() > 0):
                return x * 2
            return x - 1

    with pytest.raises(fp.UnsupportedError, match="branches"):
        fp.from_torch(torch.jit.script(Branches().eval()), torch.ones(3))


def test_it_is_saved_and_needs_no_pytorch(tmp_path: Path) -> None:
    module, x = cnn().eval(), torch.randn(2, 3, 33, 29)
    model = fp.from_torch(module, x)
    fp.save(model, tmp_path / "net.npz")
    np.testing.assert_array_equal(fp.load(tmp_path / "net.npz")(x.numpy()), model(x.numpy()))


def test_half_precision_weights() -> None:
    module = nn.Linear(4, 3).to(torch.bfloat16).eval()
    model = fp.from_torch(module, torch.randn(2, 4, dtype=torch.bfloat16))
    (weights,) = [c for c in model.graph.constants.values() if c.shape == (4, 3)]
    assert weights.dtype.names == ("bfloat16",)


# ---- what is refused


def test_all_operators_that_are_not_known_are_named_at_once() -> None:
    module = of(lambda x: torch.linalg.inv(x) + torch.fft.fft(x).real.median(), 1)
    with pytest.raises(fp.UnsupportedError) as error:
        fp.from_torch(module.eval(), torch.eye(3) + 0.1)
    assert "median" in error.value.got
    assert "linalg" in error.value.got


def test_wrong_arguments() -> None:
    with pytest.raises(fp.InputError, match="training"):
        fp.from_torch(nn.Linear(2, 3).train(), torch.ones(1, 2))
    with pytest.raises(fp.InputError, match="example"):
        fp.from_torch(nn.Linear(2, 3).eval())
    with pytest.raises(fp.InputError, match="nothing that PyTorch runs"):
        fp.from_torch("net.pt2")
    with pytest.raises(fp.UnsupportedError, match="cannot export"):
        fp.from_torch(nn.Linear(2, 3).eval(), torch.ones(1, 5))
