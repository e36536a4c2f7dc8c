"""PyTorch's files of programs written by hand: TorchScript's archives, and those of `torch.export.save`."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch_files import name, pickled, storage, tensor, text

__all__ = ["BIAS", "KERNEL", "NET", "instance", "package", "package_entries", "script", "script_entries"]

KERNEL = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
BIAS = np.array([1, -2, 0.5], np.float32)

NET = """class Linear(Module):
  __parameters__ = ["weight", "bias", ]
  __buffers__ = []
  weight : Tensor
  bias : Tensor
  training : bool
  out_features : Final[int] = 3
  def forward(self: __torch__.Linear,
    input: Tensor) -> Tensor:
    bias = self.bias
    weight = self.weight
    return torch.linear(input, weight, bias)
class Net(Module):
  __parameters__ = []
  __buffers__ = []
  one : __torch__.Linear
  def forward(self: __torch__.Net,
    x: Tensor,
    slope: float=0.10000000000000001) -> Tensor:
    one = self.one
    if torch.ne(torch.dim(x), 2):
      ops.prim.RaiseException("expected 2 axes", "builtins.ValueError")
    else:
      pass
    return torch.leaky_relu((one).forward(x, ), slope)
"""


def instance(kind: str, **attributes: bytes) -> bytes:
    """An object of a class of the archive."""
    module, _, last = kind.rpartition(".")
    return name(module, last) + b")\x81}(" + b"".join(text(k) + v for k, v in attributes.items()) + b"ub"


def script_entries(code: str, more: Mapping[str, bytes] = {}, constants: bytes = b")") -> dict[str, bytes]:
    """What is in the archive of a module `Net`, which has a layer `one`, beside its attributes."""
    weights = {
        "weight": tensor(storage("FloatStorage", "0", 12), (3, 4)),
        "bias": tensor(storage("FloatStorage", "1", 3), (3,)),
        "training": b"\x89",
    }
    return {
        "data.pkl": pickled(instance("__torch__.Net", one=instance("__torch__.Linear", **weights), **more)),
        "data/0": KERNEL.tobytes(),
        "data/1": BIAS.tobytes(),
        "constants.pkl": pickled(constants),
        "code/__torch__.py": code.encode(),
        "version": b"3\n",
    }


def _archive(entries: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for entry, raw in entries.items():
            archive.writestr(f"net/{entry}", raw)
    return file.getvalue()


def script(code: str = NET, more: Mapping[str, bytes] = {}, **changed: bytes) -> bytes:
    """The archive, with some entries changed: `code___torch__` for `code/__torch__.py` and the like by keyword."""
    names = {"data_pkl": "data.pkl", "constants_pkl": "constants.pkl"}
    return _archive({**script_entries(code, more), **{names.get(k, k): v for k, v in changed.items()}})


def _meta(shape: Sequence[int]) -> dict[str, Any]:
    strides = [int(np.prod(shape[k + 1 :])) for k in range(len(shape))]
    return {
        "dtype": 7,
        "sizes": [{"as_int": d} for d in shape],
        "strides": [{"as_int": s} for s in strides],
        "storage_offset": {"as_int": 0},
    }


def _node(op: str, output: str, **inputs: Any) -> dict[str, Any]:
    arguments = [{"name": k, "arg": v, "kind": 1} for k, v in inputs.items()]
    return {"target": f"torch.ops.aten.{op}.default", "inputs": arguments, "outputs": [{"as_tensor": {"name": output}}]}


def _tensor(value: str) -> dict[str, Any]:
    return {"as_tensor": {"name": value}}


def package_entries() -> dict[str, Any]:
    """The entries of a program, those of JSON as values."""
    size = {"as_expr": {"expr_str": "Symbol('s7', positive=True, integer=True)", "hint": {"as_int": 2}}}
    held = [("parameter", "p_weight", "weight"), ("parameter", "p_bias", "bias")]
    graph = {
        "nodes": [
            _node("linear", "y", input=_tensor("x"), weight=_tensor("p_weight"), bias=_tensor("p_bias")),
            _node("relu", "z", self=_tensor("y")),
        ],
        "tensor_values": {
            "x": {"dtype": 7, "sizes": [size, {"as_int": 4}]},
            "y": {"dtype": 7, "sizes": [size, {"as_int": 3}]},
            "z": {"dtype": 7, "sizes": [size, {"as_int": 3}]},
        },
        "sym_int_values": {},
    }  # fmt: skip
    signature = {
        "input_specs": [
            *({kind: {"arg": {"name": value}, f"{kind}_name": target}} for kind, value, target in held),
            {"user_input": {"arg": _tensor("x")}},
        ],
        "output_specs": [{"user_output": {"arg": _tensor("z")}}],
    }
    config = {
        name: {"path_name": f"weight_{k}", "is_param": True, "use_pickle": False, "tensor_meta": _meta(array.shape)}
        for k, (name, array) in enumerate({"weight": KERNEL, "bias": BIAS}.items())
    }
    return {
        "models/model.json": {"graph_module": {"graph": graph, "signature": signature}},
        "data/weights/model_weights_config.json": {"config": config},
        "data/weights/weight_0": KERNEL.tobytes(),
        "data/weights/weight_1": BIAS.tobytes(),
        "archive_format": b"pt2",
    }


def package(entries: Mapping[str, Any]) -> bytes:
    """The file."""
    return _archive({k: v if isinstance(v, bytes) else json.dumps(v).encode() for k, v in entries.items()})
