"""From files and words of a command line to the arrays and shapes that a model takes.

Whatever is changed on the way (a batch dimension added, an image resized, a dtype converted) is reported as a
note: an input that a command silently reshaped is an answer nobody can trust.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, UnsupportedError, suggest
from ..preprocess.pictures import CHANNELS_TO_MODE, opened, picture_of

if TYPE_CHECKING:
    from ..graph import Array, Dim, TensorType

__all__ = ["ImageOptions", "assign", "fit", "read", "read_array", "read_image", "shapes", "types"]

Note = Callable[[str], None]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})


@dataclass(frozen=True)
class ImageOptions:
    """How pixels become values: 0..255 maps to 0..`maximum`, dark and light exchanged where `invert`."""

    maximum: float = 255.0
    invert: bool = False


def assign(files: Sequence[str], named: Sequence[str], inputs: Mapping[str, TensorType]) -> dict[str, str]:
    """Input name -> file, from positional `files` (in the model's order) and `named` ones (`name=file`).

    Raises
    ------
    InputError
        Too many or too few files, an unknown or repeated name, or no `=`.
    """
    chosen: dict[str, str] = {}
    for item in named:
        name, equals, file = item.partition("=")
        if not equals or not name or not file:
            raise InputError("not of the form name=file", where="--input", got=repr(item))
        if name not in inputs:
            raise _unknown("--input", name, name, inputs)
        if name in chosen:
            raise InputError("input given twice", where="--input", got=name)
        chosen[name] = file
    free = [name for name in inputs if name not in chosen]
    if len(files) > len(free):
        raise InputError("too many input files", expected=str(len(inputs)), got=str(len(files) + len(chosen)))
    chosen.update(zip(free, files, strict=False))
    missing = [name for name in inputs if name not in chosen]
    if missing:
        raise InputError(
            f"no file for input {', '.join(missing)}",
            hint=f"name the files in the order {', '.join(inputs)}, or use --input name=file",
        )
    return {name: chosen[name] for name in inputs}


def _unknown(option: str, name: str, got: str, inputs: Mapping[str, TensorType]) -> InputError:
    expected = f"one of {', '.join(inputs)}"
    return InputError("unknown input", where=option, expected=expected, got=got, hint=suggest(name, inputs))


def shapes(words: Sequence[str], inputs: Mapping[str, TensorType]) -> dict[str, tuple[int, ...]]:
    """Input name -> shape, from words such as `x=1,8,8,1`; the name may be left out where there is one input.

    Raises
    ------
    InputError
        An unknown name, or something that is not a list of sizes.
    """
    given: dict[str, tuple[int, ...]] = {}
    for word in words:
        name, equals, sizes = word.rpartition("=")
        if not equals and len(inputs) == 1:
            name = next(iter(inputs))
        if name not in inputs:
            raise _unknown("--shape", name, name or repr(word), inputs)
        parts = sizes.replace("x", ",").split(",")
        if not all(p.strip().isdecimal() for p in parts):
            raise InputError("not a shape", where="--shape", expected="sizes such as 1,8,8,1", got=repr(sizes))
        given[name] = tuple(int(p) for p in parts)
    return given


def types(words: Sequence[str]) -> dict[str, TensorType] | list[TensorType]:
    """The types of inputs, from words such as `x=N,3,224,224` or `tokens=int64:N,128`; in order where none has a name.

    Raises
    ------
    InputError
        Something that is not a type, or some words with a name and some without.
    """
    pairs = [(name, _type(text)) for name, _, text in (word.rpartition("=") for word in words)]
    named = dict(pairs)
    if set(named) == {""}:
        return [found for _, found in pairs]
    if "" in named or len(named) < len(pairs):
        raise InputError("inputs with and without a name, or one twice", where="--shape", got=", ".join(words))
    return named


def _type(text: str) -> TensorType:
    import numpy as np

    from ..formats.torch.objects import DTYPES
    from ..graph import TensorType

    kind, _, sizes = text.rpartition(":")
    dtype = DTYPES.get(kind) if kind else np.dtype(np.float32)
    parts = [p.strip() for p in sizes.split(",")] if sizes else []
    if dtype is None or not all(p.isdecimal() or p.isidentifier() for p in parts):
        raise InputError(
            "not the type of an input", where="--shape", expected="such as N,3,224,224 or int64:N,128", got=repr(text)
        )
    return TensorType(dtype, tuple(int(p) if p.isdecimal() else p for p in parts))


def read(path: Path, where: str, wanted: TensorType, options: ImageOptions, note: Note) -> Array:
    """The file as an array that fits the input `where` of type `wanted`: .npy, or an image through Pillow.

    Raises
    ------
    FileError, UnsupportedError, InputError
        The file cannot be read, Pillow is missing, or the input is no image.
    """
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return read_image(path, where, wanted, options, note)
    if suffix != ".npy":
        raise UnsupportedError("unknown kind of input file", where=str(path), expected=".npy or an image such as .png")
    return fit(read_array(path), where, wanted, note)


def read_array(path: Path) -> Array:
    """An array from a .npy file, read as strictly as those inside a model.

    Raises
    ------
    FileError
        Missing, no regular file, damaged, or of a dtype that no model takes.
    """
    from ..formats import files, npy

    with files.opened(path) as (file, _):
        content = file.read()
    return npy.parse(memoryview(content), str(path))


def fit(array: Array, where: str, wanted: TensorType, note: Note) -> Array:
    """`array` with a batch dimension and the dtype that `wanted` has, where only these are missing.

    What does not fit even so is left alone; the model's own check says what is wrong with it.
    """
    import numpy as np

    if wanted.shape is not None and array.ndim == len(wanted.shape) - 1 and _matches(array.shape, wanted.shape[1:]):
        array = array[np.newaxis]
        note(f"input {where}: added the batch dimension, shape {array.shape}")
    if array.dtype != wanted.dtype and _convertible(array.dtype, wanted.dtype):
        note(f"input {where}: converted {array.dtype.name} to {wanted.dtype.name}")
        array = array.astype(wanted.dtype)
    return array


def _matches(shape: Sequence[int], wanted: Sequence[Dim]) -> bool:
    return all(not isinstance(w, int) or w == s for s, w in zip(shape, wanted, strict=True))


def _convertible(source: object, target: object) -> bool:
    """Whether a conversion keeps the meaning: to another float width, or from whole numbers to floats."""
    import numpy as np

    have, want = np.dtype(source), np.dtype(target)  # type: ignore[call-overload]
    return bool(np.can_cast(have, want, "same_kind")) and have.kind in "biuf" and want.kind in "iuf"


def read_image(path: Path, where: str, wanted: TensorType, options: ImageOptions, note: Note) -> Array:
    """An image file in the size, channels and layout of the input `where`.

    Raises
    ------
    FileError
        No such file, no regular one, or not an image that Pillow can decode.
    UnsupportedError
        Pillow is not installed.
    InputError
        The input has no shape of an image.
    """
    import numpy as np

    from ..formats import files

    kind = picture_of(where, wanted)
    with files.opened(path):
        pass  # Pillow would wait for whoever writes into a pipe
    picture = opened(path, CHANNELS_TO_MODE[kind.channels])
    size = (kind.width or picture.width, kind.height or picture.height)
    if picture.size != size:
        from PIL import Image

        old = f"{picture.width} x {picture.height}"
        note(f"input {where}: resized {old} to {size[0]} x {size[1]} pixels")
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    values: Array = np.asarray(picture, np.float64).reshape(size[1], size[0], kind.channels)
    if options.invert:
        values = 255 - values
    values = values * (options.maximum / 255)
    if kind.layout == "flat":
        values = values.reshape(-1)
    elif kind.layout == "NCHW":
        values = values.transpose(2, 0, 1)
    if wanted.dtype.kind in "iu":
        values = np.rint(values)
    # The model itself rounds to types that NumPy lacks.
    return values[np.newaxis] if wanted.dtype.names else values[np.newaxis].astype(wanted.dtype)
