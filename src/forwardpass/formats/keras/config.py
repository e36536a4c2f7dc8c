"""The JSON of a Keras model: layers with their arguments, and how they are connected. Nothing here is ever executed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import FileError, UnsupportedError
from ...records import field, record
from ..archive import excerpt

__all__ = ["Layer", "Ref", "is_model", "parse_json", "references"]

MAX_BYTES = 32 << 20
MAX_DEPTH = 200
"""Of brackets in the text."""

ALIASES = {
    "AvgPool1D": "AveragePooling1D", "AvgPool2D": "AveragePooling2D", "AvgPool3D": "AveragePooling3D",
    "MaxPool1D": "MaxPooling1D", "MaxPool2D": "MaxPooling2D", "MaxPool3D": "MaxPooling3D",
    "GlobalAvgPool1D": "GlobalAveragePooling1D", "GlobalAvgPool2D": "GlobalAveragePooling2D",
    "GlobalAvgPool3D": "GlobalAveragePooling3D", "GlobalMaxPool1D": "GlobalMaxPooling1D",
    "GlobalMaxPool2D": "GlobalMaxPooling2D", "GlobalMaxPool3D": "GlobalMaxPooling3D",
    "Convolution1D": "Conv1D", "Convolution2D": "Conv2D", "Convolution3D": "Conv3D",
    "Convolution2DTranspose": "Conv2DTranspose", "Convolution3DTranspose": "Conv3DTranspose",
    "SeparableConvolution1D": "SeparableConv1D", "SeparableConvolution2D": "SeparableConv2D",
    "BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization", "Model": "Functional",
}  # fmt: skip
"""Other names of classes -> the usual ones."""
_MODELS = ("Functional", "Sequential")
_HOMES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")
_OPS = ("keras.src.ops", "keras.ops")


@record(frozen=True, slots=True)
class Ref:
    """A tensor: the output `tensor` of the call `node` of a layer."""

    layer: str
    node: int
    tensor: int


def parse_json(text: str | bytes, where: str) -> dict[str, Any]:
    """The object that a text says.

    Raises
    ------
    FileError
        It is too long, nested too deeply, or no JSON object.
    """
    if len(text) > MAX_BYTES:
        raise FileError("the text is too long", where=where, expected=f"<= {MAX_BYTES} bytes", got=str(len(text)))
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
        _check_depth(plain, where)
        found = json.loads(plain)
    except (ValueError, RecursionError) as error:
        raise FileError("not JSON", where=where, got=excerpt(error)) from error
    if not isinstance(found, dict):
        raise FileError("not a model", where=where, expected="a JSON object", got=type(found).__name__)
    return found


def _check_depth(text: str, where: str) -> None:
    """Brackets inside of strings count too, which only refuses texts that no model has."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise FileError("the text is nested too deeply", where=where, expected=f"at most {MAX_DEPTH} levels")


@record(slots=True, eq=False)
class Layer:
    """One layer as the file says it.

    Attributes
    ----------
    kind
        The class; operations of `keras.ops` are `ops.Name`.
    real
        The class as the file writes it, which names places of weights.
    name, config
        Its name and arguments.
    calls
        The entries of `inbound_nodes`.
    where
        What messages call it.
    bare
        Whether the file says neither where the class comes from nor what every layer has: `.h5` files of Keras 3
        write operations so.
    """

    kind: str
    real: str
    name: str
    config: dict[str, Any]
    calls: list[Any] = field(default_factory=list)
    build: dict[str, Any] = field(default_factory=dict)
    where: str = ""
    bare: bool = False

    @classmethod
    def of(cls, entry: Any, where: str) -> Layer:
        """Check one entry of `layers`, or a layer inside of another's arguments."""
        if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
            raise FileError(
                "not a layer", where=where, expected="an object with a class_name", got=excerpt(repr(entry))
            )
        real = entry["class_name"]
        config = entry.get("config")
        if real == "Sequential" and isinstance(config, list):  # as Keras wrote it before 2.2
            config = {"name": "sequential", "layers": config}
        if not isinstance(config, dict):
            raise FileError(f"a {excerpt(real)} without arguments", where=where, expected="config")
        name = config.get("name") or entry.get("name") or real.lower()
        if not isinstance(name, str) or len(name) > 4096 or not name.isprintable():
            raise FileError("not a name", where=where, got=excerpt(repr(name)))
        place = f"{where}: layer {excerpt(name)!r} ({excerpt(real)})"
        kind = _kind(entry, real)
        calls = entry.get("inbound_nodes") or []
        build = entry.get("build_config") or {}
        if not isinstance(calls, list) or not isinstance(build, dict):
            raise FileError("the calls are wrong", where=place, expected="a list", got=type(calls).__name__)
        bare = entry.get("module") is None and "trainable" not in config
        return cls(kind, real, name, config, calls, build, place, bare)

    # ---- arguments

    def error(self, key: str, expected: str, got: Any) -> FileError:
        return FileError(f"argument {key!r} is wrong", where=self.where, expected=expected, got=excerpt(repr(got)))

    def unsupported(self, message: str, **fields: str) -> UnsupportedError:
        return UnsupportedError(message, where=self.where, **fields)

    def integer(self, key: str, default: int | None = None, least: int = 1) -> int:
        value = self.config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
            raise self.error(key, f"an integer >= {least}", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.config.get(key, default)
        if isinstance(value, dict):  # Keras writes NumPy scalars as {"class_name": ..., "config": {"value": ...}}
            value = (value.get("config") or {}).get("value") if isinstance(value.get("config"), dict) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.error(key, "a number", value)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key, default)
        if value is None:
            return default
        if not isinstance(value, (bool, int)):
            raise self.error(key, "true or false", value)
        return bool(value)

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        value = self.config.get(key, default)
        if value not in choices:
            raise self.error(key, f"one of {', '.join(choices)}", value)
        return str(value)

    def integers(self, key: str, count: int, default: Any = None, least: int = 1) -> list[int]:
        """`count` integers, from one or from a list."""
        value = self.config.get(key)
        value = default if value is None else value
        values = value if isinstance(value, (list, tuple)) else [value] * count
        good = all(isinstance(v, int) and not isinstance(v, bool) and least <= v < 2**31 for v in values)
        if len(values) != count or not good:
            raise self.error(key, f"{count} integers >= {least}", value)
        return list(values)

    def axes(self, key: str, rank: int, default: Any = -1) -> list[int]:
        """Axes counted from 0, sorted."""
        value = self.config.get(key, default)
        values = value if isinstance(value, list) else [value]
        good = all(isinstance(v, int) and not isinstance(v, bool) and -rank <= v < rank for v in values)
        if not values or not good or len({v % rank for v in values}) != len(values):
            raise self.error(key, f"axes of {rank} dimensions", value)
        return sorted(v % rank for v in values)

    @property
    def channels_first(self) -> bool:
        return self.choice("data_format", ("channels_last", "channels_first"), "channels_last") == "channels_first"

    def child(self, key: str) -> Layer:
        """A layer among the arguments."""
        return Layer.of(self.config.get(key), self.where)

    def layers(self) -> list[Layer]:
        """The layers of a model or of stacked cells."""
        entries = self.config.get("layers")
        if not isinstance(entries, list):
            raise self.error("layers", "a list", entries)
        return [Layer.of(entry, self.where) for entry in entries]


def _kind(entry: dict[str, Any], real: str) -> str:
    """The class in a normal form; a class from elsewhere keeps where it comes from, which no table knows."""
    module, registered = entry.get("module"), entry.get("registered_name")
    if module is not None:
        if not isinstance(module, str) or not any(module == h or module.startswith(f"{h}.") for h in _HOMES):
            return f"{excerpt(module)}.{real}"
        if any(module == h or module.startswith(f"{h}.") for h in _OPS):
            return f"ops.{real}"
    if isinstance(registered, str) and ">" in registered:
        return registered
    return ALIASES.get(real, real)


def is_model(layer: Layer) -> bool:
    return layer.kind in _MODELS


def references(value: Any, where: str) -> list[Ref]:
    """The tensors that `input_layers` or `output_layers` name, in order, whatever lists or objects hold them."""
    return list(_references(value, where))


def _references(value: Any, where: str) -> Iterator[Ref]:
    if isinstance(value, dict):
        value = [value[k] for k in sorted(value)]
    if not isinstance(value, list):
        raise FileError("not a tensor", where=where, expected="[layer, call, output]", got=excerpt(repr(value)))
    if len(value) >= 3 and isinstance(value[0], str):
        yield reference(value, where)
    else:
        for item in value:
            yield from _references(item, where)


def reference(value: Any, where: str) -> Ref:
    """One tensor from its [layer, call, output]."""
    if (
        not isinstance(value, list)
        or len(value) < 3
        or not isinstance(value[0], str)
        or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value[1:3])
    ):
        raise FileError("not a tensor", where=where, expected="[layer, call, output]", got=excerpt(repr(value)))
    return Ref(value[0], value[1], value[2])
