"""PyTorch: traced, frozen and optimised for inference, without gradients; the input is a tensor already."""

from __future__ import annotations

from typing import Any

from network import Array, Dense, Flatten, Layer, MaxPool, Network, pads_of
from onnx_model import channels_first, channels_first_layers, channels_last, conv_kernel

from . import Options, Ready


def version() -> str:
    import torch

    return str(torch.__version__)


def setup(network: Network, x: Array, options: Options) -> Ready:
    import torch

    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    modules = [m for layer in channels_first_layers(network, x.shape) for m in _modules(layer)]
    module = torch.nn.Sequential(*modules).eval()
    tensor = torch.from_numpy(channels_first(x))
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(module, tensor)))
    return Ready(frozen, (tensor,), lambda y: channels_last(y.numpy()))


def _modules(layer: Layer) -> list[Any]:
    import torch
    from torch import nn

    if isinstance(layer, Flatten):
        return [nn.Flatten()]
    if isinstance(layer, MaxPool):
        return [nn.MaxPool2d(layer.size)]
    made: Any
    if isinstance(layer, Dense):
        made = nn.Linear(*layer.kernel.shape, bias=layer.bias is not None)
        kernel = layer.kernel.T.copy()
    else:
        top, left, bottom, right = pads_of(layer)
        assert (top, left) == (bottom, right), "PyTorch pads both sides alike"
        kernel = conv_kernel(layer.kernel)
        groups = layer.kernel.shape[2] if layer.kernel.ndim == 3 else 1
        inputs, filters = kernel.shape[1] * groups, kernel.shape[0]
        made = nn.Conv2d(inputs, filters, tuple(kernel.shape[2:]), padding=(top, left), groups=groups)
    made.weight = nn.Parameter(torch.from_numpy(kernel))
    if layer.bias is not None:
        made.bias = nn.Parameter(torch.from_numpy(layer.bias))
    activations = {"relu": nn.ReLU(), "sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(-1)}
    return [made, activations[layer.activation]] if layer.activation else [made]
