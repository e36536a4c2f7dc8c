"""Every operator of PyTorch that is known here, as PyTorch calculates it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_judge import F, check, judge, nn, of, seeded, torch

pytestmark = pytest.mark.frameworks
few = settings(max_examples=12, deadline=None)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with seeded():
        yield


# ---- layers


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.booleans(),
)
@few
def test_convolutions(
    rank: int, kernel: int, stride: int, padding: int, dilation: int, groups: int, bias: bool, transposed: bool
) -> None:
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{rank}d")
    module = kind(4, 8, kernel, stride, padding, dilation=dilation, groups=groups, bias=bias)
    sizes = [9, 8, 7][:rank]
    if transposed and any((s - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 < 1 for s in sizes):
        return
    check(module, torch.randn(2, 4, *sizes))


@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.booleans(), st.booleans())
@few
def test_pools(rank: int, kernel: int, stride: int, padding: int, ceil: bool, counted: bool) -> None:
    padding = min(padding, kernel // 2)
    x = torch.randn(2, 3, *[9, 8][:rank])
    check(getattr(nn, f"MaxPool{rank}d")(kernel, stride, padding, ceil_mode=ceil), x)
    check(getattr(nn, f"AvgPool{rank}d")(kernel, stride, padding, ceil_mode=ceil, count_include_pad=counted), x)


@given(st.integers(1, 9), st.integers(1, 9))
@few
def test_adaptive_pools(height: int, width: int) -> None:
    check(nn.AdaptiveAvgPool2d((height, width)), torch.randn(2, 3, 9, 8))
    if 9 % height == 0 and 8 % width == 0:
        check(nn.AdaptiveMaxPool2d((height, width)), torch.randn(2, 3, 9, 8))


NORMS = [
    nn.LayerNorm(6),
    nn.LayerNorm((5, 6), elementwise_affine=False),
    nn.GroupNorm(2, 4),
    nn.InstanceNorm2d(4, affine=True),
    nn.BatchNorm2d(4, affine=False),
    nn.RMSNorm(6, eps=1e-6),
]


@pytest.mark.parametrize("module", NORMS, ids=repr)
def test_normalizations(module: Any) -> None:
    check(module, torch.randn(2, 4, 5, 6))


ACTIVATIONS = [
    *(nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(-0.5, 0.7), nn.SiLU(), nn.Mish()),
    *(nn.GELU(), nn.GELU("tanh"), nn.ELU(0.7), nn.CELU(1.3), nn.SELU(), nn.LeakyReLU(0.2), nn.PReLU(4)),
    *(nn.Sigmoid(), nn.LogSigmoid(), nn.Tanh(), nn.Softplus(), nn.Softplus(2.0), nn.Softsign(), nn.Tanhshrink()),
    *(nn.Softmax(1), nn.LogSoftmax(-1), nn.GLU(1), nn.Threshold(0.1, -2.0), nn.PixelShuffle(2), nn.ChannelShuffle(2)),
    *(nn.ZeroPad2d((1, 0, 2, 1)), nn.ConstantPad2d(1, 3.5), nn.ReflectionPad2d(2), nn.ReplicationPad2d((2, 1, 0, 3))),
]


@pytest.mark.parametrize("module", ACTIVATIONS, ids=repr)
def test_activations(module: Any) -> None:
    check(module, torch.randn(2, 4, 5, 6) * 2)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [2, 0.7, 1.5, (9, 4)], ids=str)
def test_resizing(mode: str, align: bool, size: Any) -> None:
    if mode == "nearest" and align:
        return
    more = {} if mode == "nearest" else {"align_corners": align}
    given = {"size": size} if isinstance(size, tuple) else {"scale_factor": size}
    check(nn.Upsample(**given, mode=mode, **more), torch.randn(2, 3, 10, 6))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda x: (x * 2 - 1, 3 - x, x / 3, x**3, x.pow(0.5 + 0 * 2), x // 0.5, x % 0.7, -x, x.square()),
    "elementary": lambda x: (
        x.exp(),
        x.abs().log(),
        x.abs().sqrt(),
        x.sin(),
        x.cos(),
        x.tanh(),
        x.erf(),
        x.abs().rsqrt(),
    ),
    "near one": lambda x: ((x / 1e4).expm1(), (x / 1e4).abs().log1p(), x.expm1(), x.abs().log1p()),
    "rounding": lambda x: (x.round(), x.floor(), x.ceil(), x.trunc(), torch.div(x, 0.3, rounding_mode="trunc")),
    "comparisons": lambda x: (x > 0, x <= 0.5, x != x, (x > 0) & (x < 1), ~(x > 0), torch.maximum(x, -x)),
    "choices": lambda x: (torch.where(x > 0, x, 0.1 * x), x.clamp(-0.5), x.clamp(max=0.3), x.masked_fill(x < 0, -9.0)),
    "sums": lambda x: (x.sum(), x.sum(1), x.mean((0, 2), keepdim=True), x.amax(-1), x.amin((1, 2)), x.prod(1)),
    "spreads": lambda x: (x.std(1), x.var((1, 2), unbiased=False), torch.var_mean(x, 2), x.norm(dim=1), x.logsumexp(2)),
    "places": lambda x: (x.argmax(1), x.argmin(-1), x.argmax(), *x.max(2), *x.min(1, keepdim=True), *x.sort(1)),
    "largest": lambda x: (*x.topk(2), *x.topk(2, 1, largest=False)),
    "any and all": lambda x: ((x > 1).any(), (x > -3).all(1), (x > 0).sum(), (x > 0).float().mean()),
    "shapes": lambda x: (x.flatten(1), x.view(x.size(0), -1), x.reshape(-1, 6), x.permute(2, 0, 1), x.transpose(1, 2)),
    "axes": lambda x: (
        x.unsqueeze(1),
        x[:, :1].squeeze(1),
        x.unsqueeze(-1).expand(-1, -1, -1, 3),
        x.unflatten(2, (2, 3)),
    ),
    "parts": lambda x: (
        x[:, 1:3],
        x[..., ::2],
        x[:, -1],
        x.chunk(3, 2),
        x.split([1, 3], 1),
        x.unbind(1),
        x.narrow(2, 1, 3),
    ),
    "joins": lambda x: (
        torch.cat([x, x * 2], 1),
        torch.stack([x, -x], -1),
        x.repeat(1, 2, 1),
        x.roll(2, 1),
        x.flip(1, 2),
    ),
    "picks": lambda x: (
        x[:, [2, 0]],
        x[:, [0, 1], [2, 3]],
        x.index_select(2, torch.tensor([5, 0])),
        x.tril(),
        x.cumsum(1),
    ),
    "types": lambda x: (
        x.to(torch.int32),
        (x * 3).int() // 2,
        (x > 0) * 2,
        x.double() + 1,
        x.int() / 2,
        x.long() + 0.5,
    ),
    "made": lambda x: (
        torch.zeros_like(x),
        x.new_ones(2, 3),
        torch.arange(6) + x,
        torch.full((2,), 3.0),
        x + torch.eye(6)[0],
    ),
    "products": lambda x: (
        x @ x.mT,
        torch.einsum("nij,nkj->nik", x, x),
        torch.bmm(x, x.mT),
        F.linear(x, torch.ones(2, 6)),
    ),
    "less common": lambda x: (
        *(
            torch.addcmul(x, x, x, value=2),
            torch.addcdiv(x, x, x.exp()),
            x.lerp(-x, 0.3),
            x.fmod(0.7),
            x.log2().isnan(),
        ),
        *(
            x.repeat_interleave(2, 1),
            x.movedim(0, 2),
            x.tile(2, 1),
            torch.baddbmm(x.mT @ x, x.mT, x, alpha=0.5, beta=2),
        ),
        *(x.exp2(), torch.std_mean(x, 1)[0], F.pixel_unshuffle(x.view(-1, 1, 4, 6), 2), F.softmax(x, 1, torch.float64)),
        *((x > 0) ^ (x < 1), x.int() & 3, ~x.int(), x.int() % 3, -x.int() // 2, torch.logical_not(x), x.triu(1)),
        *(x.gather(1, (x > 0).long()), F.rms_norm(x, (6,)), F.instance_norm(x), F.adaptive_avg_pool1d(x, 4)),
    ),
    "attention": lambda x: (
        F.scaled_dot_product_attention(x, x, x),
        F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
    ),
}


@pytest.mark.parametrize("what", FUNCTIONS)
def test_functions(what: str) -> None:
    module = of(FUNCTIONS[what], 1)
    x = torch.randn(3, 4, 6)
    model = check(module, x)
    judge(model, module, torch.randn(5, 4, 6))


DTYPES = ["float32", "float64", "int32", "int64", "uint8", "bool"]


@pytest.mark.parametrize("one", DTYPES)
@pytest.mark.parametrize("other", DTYPES)
def test_types_of_results(one: str, other: str) -> None:
    """Tensors with and without axes, and numbers, meet by PyTorch's rules."""
    x = torch.ones(3, dtype=getattr(torch, one))
    y = torch.ones((), dtype=getattr(torch, other))
    check(of(lambda x, y: (x + y, y * x, x.unsqueeze(0) + y.reshape(1), x * 2, y + 1.5, x / y, x == y), 2), x, y)
