"""The arithmetic of windows that slide over images, shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import GraphError
from ..graph import Array, Dim
from ..records import record
from . import shapes
from .registry import Attributes

__all__ = ["AUTO_PAD", "WINDOW", "Window", "fold", "output_sizes", "window"]

AUTO_PAD = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
WINDOW = {"kernel_shape": None, "strides": None, "pads": None, "dilations": None}
"""Attributes that describe a window, and their defaults."""


@record(frozen=True, slots=True)
class Window:
    """A window over images of known size: per spatial dimension kernel, strides, dilations, pads, count."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """Pixels from the first to the last tap."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations))

    def taps(self, image: Array, fill: float) -> Array:
        """Every window's values.

        Parameters
        ----------
        image : [N, C, *spatial]
        fill
            What lies outside of the image.

        Returns
        -------
        Array [N, C, *out, *kernel]
            A view of a padded copy.
        """
        if 0 in self.out:
            return np.zeros((*image.shape[:2], *self.out, *self.kernel), image.dtype)
        widths = [(0, 0), (0, 0)]
        for size, o, s, e, b in zip(image.shape[2:], self.out, self.strides, self.extents, self.before):
            widths.append((b, max(0, (o - 1) * s + e - size - b)))
        padded = np.pad(image, widths, constant_values=fill)
        spatial = range(2, image.ndim)
        view = sliding_window_view(padded, self.extents, axis=tuple(spatial))
        steps = [slice(0, (o - 1) * s + 1, s) for o, s in zip(self.out, self.strides)]
        inner = [slice(None, None, d) for d in self.dilations]
        chosen = (slice(None), slice(None), *steps, *inner)
        return np.asarray(view[chosen])

    def counts(self, spatial: Sequence[int], include_pad: bool) -> Array:
        """How many taps of every window are inside the image, with `include_pad` inside the padded image."""
        total = np.ones((), np.int64)
        for axis, size in enumerate(spatial):
            starts = np.arange(self.out[axis]) * self.strides[axis] - self.before[axis]
            position = starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]
            low, high = (-self.before[axis], size + self.after[axis]) if include_pad else (0, size)
            inside = ((position >= low) & (position < high)).sum(1)
            total = np.multiply.outer(total, inside)
        return np.asarray(total)


def fold(
    columns: Array, strides: Sequence[int], dilations: Sequence[int], before: Sequence[int], size: Sequence[int]
) -> Array:
    """The sum of windows that overlap: what `Window.taps` takes apart, added up again.

    Parameters
    ----------
    columns : [N, C, *kernel, *counts]
        The values of every window.
    strides, dilations
        Steps between windows, and between the taps of a window.
    before
        How far the first window begins before the image.
    size
        The image's.

    Returns
    -------
    Array [N, C, *size]
    """
    rank = len(size)
    kernel, counts = columns.shape[2 : 2 + rank], columns.shape[2 + rank :]
    if 0 in counts:
        return np.zeros((*columns.shape[:2], *size), columns.dtype)
    room = []
    for k, c, s, d, b, o in zip(kernel, counts, strides, dilations, before, size):
        room.append(max((c - 1) * s + (k - 1) * d + 1, b + o))
    canvas = np.zeros((*columns.shape[:2], *room), columns.dtype)
    images = (slice(None), slice(None))
    for tap in np.ndindex(*kernel):
        at = tuple(slice(t * d, t * d + (c - 1) * s + 1, s) for t, d, c, s in zip(tap, dilations, counts, strides))
        canvas[images + at] += columns[images + tap]
    return np.asarray(canvas[images + tuple(slice(b, b + o) for b, o in zip(before, size))])


def _sizes(attributes: Attributes, rank: int, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    if min(kernel, default=1) < 1:
        raise GraphError("attribute 'kernel_shape' is wrong", expected="integers of at least 1", got=str(list(kernel)))
    strides = shapes.integers(attributes, "strides", rank, least=1, default=1)
    dilations = shapes.integers(attributes, "dilations", rank, least=1, default=1)
    pads = shapes.integers(attributes, "pads", 2 * rank, least=0, default=0)
    return strides, dilations, pads


def _count(size: int, extent: int, stride: int, before: int, after: int, ceil_mode: bool) -> int:
    room = size + before + after - extent
    if room < 0:
        raise GraphError(
            "the window is larger than the padded image",
            expected=f"at least {extent} pixels",
            got=f"{size} with pads {before} and {after}",
        )
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    # A window that would start in the padding behind the image is ignored.
    return count - 1 if (count - 1) * stride >= size + before else count


def window(attributes: Attributes, spatial: Sequence[int], kernel: Sequence[int], *, ceil_mode: bool = False) -> Window:
    """The window of a node over images of a known size.

    Raises
    ------
    GraphError
        Attributes of the wrong length or sign, or a window that does not fit into the image.
    """
    strides, dilations, before, after, out = _placed(attributes, spatial, kernel, ceil_mode)
    return Window(tuple(kernel), tuple(strides), tuple(dilations), tuple(before), tuple(after), tuple(out))


def _placed(
    attributes: Attributes, spatial: Sequence[int], kernel: Sequence[int], ceil_mode: bool
) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Strides, dilations, pads before and behind the image, and counts of windows."""
    rank = len(spatial)
    strides, dilations, pads = _sizes(attributes, rank, kernel)
    auto = shapes.choice(attributes, "auto_pad", AUTO_PAD) if "auto_pad" in attributes else "NOTSET"
    if auto == "VALID":
        pads = [0] * (2 * rank)
    before, after, out = pads[:rank], pads[rank:], []
    for axis, (size, taps, stride, dilation) in enumerate(zip(spatial, kernel, strides, dilations)):
        extent = (taps - 1) * dilation + 1
        if auto in ("NOTSET", "VALID"):
            out.append(_count(size, extent, stride, before[axis], after[axis], ceil_mode))
            continue
        count = -(-size // stride)
        total = max((count - 1) * stride + extent - size, 0)
        small = total // 2
        before[axis] = small if auto == "SAME_UPPER" else total - small
        after[axis] = total - before[axis]
        out.append(count)
    return strides, dilations, before, after, out


def output_sizes(
    attributes: Attributes, spatial: Sequence[Dim], kernel: Sequence[int], *, ceil_mode: bool = False
) -> tuple[Dim, ...]:
    """The output's spatial sizes, None where the input's is unknown. Raises as `window`."""
    known = tuple(d for d in spatial if isinstance(d, int))
    if len(known) == len(spatial):
        return tuple(_placed(attributes, known, kernel, ceil_mode)[-1])
    # Where a size is unknown, one that every window fits into: the attributes are checked all the same.
    dilations = shapes.integers(attributes, "dilations", len(spatial), default=1)
    large = max([1, *((k - 1) * d + 1 for k, d in zip(kernel, dilations))])
    sizes = [d if isinstance(d, int) else large for d in spatial]
    found = window(attributes, sizes, kernel, ceil_mode=ceil_mode)
    return tuple(o if isinstance(d, int) else None for d, o in zip(spatial, found.out))
