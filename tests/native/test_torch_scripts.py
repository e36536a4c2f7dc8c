"""Files of TorchScript and of `torch.export.save`, read without PyTorch: the results of PyTorch itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_torch_layers import ACTIVATIONS, FUNCTIONS, NORMS
from torch_judge import F, cnn, judge, nn, of, seeded, torch

import forwardpass as fp
from forwardpass.cli import main
from forwardpass.formats.torch.aten import OPERATORS
from forwardpass.formats.torch.torchscript.schemas import bound
from forwardpass.formats.torch.torchscript.values import Cell

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
]
few = settings(max_examples=10, deadline=None)
ranks = st.integers(1, 3)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The tracer sees PyTorch's layers, and not the one operator that it has for a whole one of them."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with seeded():
        yield
    torch.backends.mha.set_fastpath_enabled(fused)


def traced(module: Any, *inputs: Any) -> Any:
    return torch.jit.trace(module.eval(), inputs, check_trace=False)


def scripted(module: Any, *inputs: Any) -> Any:
    return torch.jit.script(module.eval())


def frozen(module: Any, *inputs: Any) -> Any:
    return torch.jit.freeze(torch.jit.script(module.eval()))


WAYS = {"traced": traced, "scripted": scripted, "frozen": frozen, "exported": None}


def check(way: str, folder: Path, module: Any, *inputs: Any) -> fp.Model:
    """The model of a file, which gives what PyTorch gives that has loaded the same file."""
    if way == "exported":
        path = folder / "net.pt2"
        program = torch.export.export(module.eval(), inputs)
        torch.export.save(program, path)
        model = fp.load(path)
        judge(model, module, *inputs)
        return model
    path = folder / "net.pt"
    torch.jit.save(WAYS[way](module, *inputs), path)  # type: ignore[misc]
    model = fp.load(path, inputs=[x.numpy() for x in inputs])
    loaded = torch.jit.load(path)
    judge(model, loaded if hasattr(loaded, "forward") else module, *inputs)
    return model


every = pytest.mark.parametrize("way", WAYS)
both = pytest.mark.parametrize("way", ["traced", "exported"])


@every
@pytest.mark.parametrize("module", [*NORMS, *ACTIVATIONS], ids=repr)
def test_layers(way: str, module: Any, tmp_path: Path) -> None:
    check(way, tmp_path, module, torch.randn(2, 4, 5, 6) * 2)


@both
@pytest.mark.parametrize("what", FUNCTIONS)
def test_functions(way: str, what: str, tmp_path: Path) -> None:
    check(way, tmp_path, of(FUNCTIONS[what], 1), torch.randn(3, 4, 6))


@every
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.sampled_from([1, 2, 4]), st.booleans(), st.booleans()
)
@few
def test_convolutions(
    way: str, tmp_path_factory: pytest.TempPathFactory, rank: int, kernel: int, stride: int, groups: int, bias: bool,
    transposed: bool,
) -> None:  # fmt: skip
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{rank}d")
    module = kind(4, 8, kernel, stride, 0 if kernel == 1 else 1, groups=groups, bias=bias)
    check(way, tmp_path_factory.mktemp("conv"), module, torch.randn(2, 4, *[9, 8, 7][:rank]))


@every
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.booleans())
@few
def test_pools(
    way: str, tmp_path_factory: pytest.TempPathFactory, rank: int, kernel: int, stride: int, ceil: bool
) -> None:
    x, folder = torch.randn(2, 3, *[9, 8][:rank]), tmp_path_factory.mktemp("pool")
    check(way, folder, getattr(nn, f"MaxPool{rank}d")(kernel, stride, kernel // 2, ceil_mode=ceil), x)
    check(way, folder, getattr(nn, f"AvgPool{rank}d")(kernel, stride, kernel // 2, ceil_mode=ceil), x)
    check(way, folder, getattr(nn, f"AdaptiveAvgPool{rank}d")(3), x)


@every
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [2.0, 0.7, (9, 4)], ids=str)
def test_resizing(way: str, mode: str, size: Any, tmp_path: Path) -> None:
    given = {"size": size} if isinstance(size, tuple) else {"scale_factor": size}
    check(way, tmp_path, nn.Upsample(**given, mode=mode), torch.randn(2, 3, 10, 6))


class Recurrent(nn.Module):
    def __init__(self, kind: str, layers: int, both: bool, first: bool) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(4, 5, layers, bidirectional=both, batch_first=first)

    def forward(self, x):  # type: ignore[no-untyped-def]
        y, _ = self.layer(x)
        return y * 2


@every
@given(st.sampled_from(["LSTM", "GRU", "RNN"]), st.integers(1, 2), st.booleans(), st.booleans())
@few
def test_recurrent_layers(
    way: str, tmp_path_factory: pytest.TempPathFactory, kind: str, layers: int, both: bool, first: bool
) -> None:
    check(way, tmp_path_factory.mktemp("rnn"), Recurrent(kind, layers, both, first), torch.randn(2, 3, 4))


@every
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_alone(way: str, kind: str, tmp_path: Path) -> None:
    """PyTorch gives such a module two forms of `forward`, one for packed sequences."""
    check(way, tmp_path, getattr(nn, kind)(4, 5, 2), torch.randn(2, 3, 4))


@every
def test_a_transformer(way: str, tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 24, activation="gelu", batch_first=True)
    check(way, tmp_path, nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(2, 7, 16))


@pytest.mark.parametrize("act", ["relu", "gelu"])
@pytest.mark.parametrize("first", [False, True])
def test_layers_that_pytorch_fuses(act: str, first: bool, tmp_path: Path) -> None:
    """What a trace without gradients has of a transformer, and of attention alone."""
    torch.backends.mha.set_fastpath_enabled(True)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x):  # type: ignore[no-untyped-def]
            return self.layer(x, x, x, need_weights=False)[0]

    layer = nn.TransformerEncoderLayer(16, 4, 24, activation=act, batch_first=True, norm_first=first)
    for module in (nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), Attention()):
        with torch.no_grad():
            script = traced(module, torch.randn(2, 7, 16))
            assert "_native_multi_head" in str(script.inlined_graph) or "_layer_fwd" in str(script.inlined_graph)
            torch.jit.save(script, tmp_path / "net.pt")
        model = fp.load(tmp_path / "net.pt", inputs=("N", "T", 16))
        judge(model, module, torch.randn(3, 5, 16))


@both
def test_a_convolutional_network(way: str, tmp_path: Path) -> None:
    module = cnn()
    model = check(way, tmp_path, module, torch.randn(2, 3, 33, 29))
    if way != "exported":  # which fixes the batch where it is not told otherwise
        judge(model, module, torch.randn(5, 3, 33, 29))


class Changing(nn.Module):
    """Tensors that are changed in place, and looked at by other names before and after."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        y = x * 2
        z = y.relu_()
        y.add_(1)
        w = y.view(2, -1)
        w.mul_(3)
        return z, w, F.relu(w, inplace=True)


class Lost(nn.Module):
    """What was changed by its view is read again."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        y = x * 2
        y[:, 0].add_(1)
        return y


@pytest.mark.parametrize("way", ["traced", "scripted"])
def test_changes_in_place(way: str, tmp_path: Path) -> None:
    for module in (Changing(), Lost()):
        path = tmp_path / "net.pt"
        torch.jit.save(WAYS[way](module, torch.randn(2, 3)), path)  # type: ignore[misc]
        with pytest.raises(fp.UnsupportedError, match="changed by another name"):
            fp.load(path, inputs=(2, 3))

    class Kept(nn.Module):
        def forward(self, x):  # type: ignore[no-untyped-def]
            y = x * 2
            y.relu_()
            y.add_(1)
            return y

    check(way, tmp_path, Kept(), torch.randn(2, 3))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.scale = 0.5

    def forward(self, x, double: bool = True):  # type: ignore[no-untyped-def]
        assert x.dim() == 2
        assert x.size(1) == 4
        for k, layer in enumerate(self.layers):
            if k == 1:
                x = layer(x) + x
            else:
                x = torch.tanh(layer(x))
        parts = [x]
        while len(parts) < 3:
            parts.append(parts[-1] * self.scale)
        if double:
            parts = [p * 2 for p in parts]
        return torch.cat(parts, dim=1), {"sum": x.sum(1)}["sum"]


def test_branches_and_loops_on_what_is_known(tmp_path: Path) -> None:
    check("scripted", tmp_path, Branching(), torch.randn(3, 4))
    check("frozen", tmp_path, Branching(), torch.randn(3, 4))


def test_functions_of_torchscript() -> None:
    @torch.jit.script
    def function(x, y):  # type: ignore[no-untyped-def]
        return x @ y + 1

    x, y = torch.randn(3, 3), torch.randn(3, 4)
    judge(fp.from_torch(function, (x, y)), function, x, y)


# ---- the command


def test_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, x = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3)).eval(), torch.randint(0, 9, (2, 5))
    source, target = tmp_path / "net.pt", tmp_path / "net.npz"
    torch.jit.save(torch.jit.script(module), source)
    assert main(["convert", str(source), str(target)]) == 1
    assert "--shape input=" in capsys.readouterr().err
    for words in (["--shape", "input=int64:N,5"], ["--shape", "int64:N,5"]):
        assert main(["convert", str(source), str(target), *words]) == 0
        judge(fp.load(target), module, x)
    for words in (["--shape", "x=2,3"], ["--shape", "2;3"], ["--shape", "a=1", "--shape", "2"]):
        assert main(["convert", str(source), str(target), *words]) == 1
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "net.pt2")
    assert main(["convert", str(tmp_path / "net.pt2"), str(target)]) == 0
    judge(fp.load(target), module, x)


# ---- the arguments

RENAMED = {"cudnn_batch_norm", "swapaxes"}
"""Whose definitions have other names than PyTorch."""


def test_arguments_have_the_places_of_pytorch() -> None:
    """Every operator that is known here takes its arguments in the order of PyTorch's own schemas."""
    seen = 0
    for op in sorted({k.split(".")[0] for k in OPERATORS} - RENAMED):
        for schema in torch._C._jit_get_schemas_for_operator(f"aten::{op}"):
            tensors = [a for a in schema.arguments if "Tensor" in str(a.type)]
            names = [a.name for a in schema.arguments if not a.kwarg_only]
            if any(a.is_out for a in schema.arguments) or not tensors or "Dimname" in str(schema):
                continue
            if OPERATORS.get(f"{op}.{schema.overload_name or 'default'}") is None and op not in OPERATORS:
                continue
            values = [_sample(a) for a in schema.arguments if not a.kwarg_only]
            form = bound(op, values, {})
            if form is None:
                continue
            define = OPERATORS.get(f"{op}.{form[0]}") or OPERATORS[op]
            taken = {k: v for k, v in form[1].items() if k in inspect.signature(define).parameters}
            for name, value in taken.items():
                if name in names:
                    assert values[names.index(name)] is value, f"{schema}: {form}"
            seen += 1
    assert seen > 300


def _sample(argument: Any) -> Any:
    """A value of its own for an argument."""
    kind = str(argument.type)
    if "List" in kind:
        return [object()]
    if "Tensor" in kind:
        return Cell("x")  # type: ignore[arg-type]
    if "bool" in kind:
        return True
    if "int" in kind and "Optional" not in kind:
        return 1
    return object()
