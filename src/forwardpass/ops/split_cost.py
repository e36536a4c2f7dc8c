"""What products on matrix tiles cost, and where they pay: estimates for `lower_split`."""

from __future__ import annotations

import math
from functools import lru_cache

from .lower_linear import MOST_KEPT
from .lower_winograd import pooled_cycles

__all__ = ["BLOCK", "PANEL", "RESIDENT_BYTES", "ROWS", "pays", "pools_faster", "positions_of", "splits_beside"]

BLOCK = 32
"""Products of a step along K."""
PANEL = 16
"""Columns of a tile."""
ROWS = 16
"""Most rows of a tile."""
RESIDENT_BYTES = 1 << 20
"""Of a split operand that stays in L2 until it is multiplied."""

# Nanoseconds on one core, for estimates; only their ratios count.
_FMA = 1 / 88
"""Per product of float32."""
_FMA_WEIGHTS = 0.015
"""Per byte of weights that FMA reads beside its products."""
_FMA_GROUPS = 4.0
"""More, per pixel and panel of a group, whose sums are short."""
_WEIGHTS = 0.075
"""Per byte of weights that tiles read."""
_WEIGHTS_LARGE = 0.055
"""The same for 4 MiB and more, which NumPy asks large pages for."""
_FLOATS = 0.04
"""The same for weights that are split beside the products."""
_WRITE = 0.06
"""Per byte of a result that does not stay in L2."""
_FLOAT_TILES = 7
"""Most tiles of pixels of an image beside whose products weights are split: more wait little for weights."""
_FLOAT_BYTES = 2 << 20
"""Of terms of weights from which on that pays: fewer stay in L2."""
_FINISH = 28.0
"""Per tile of sums that goes to memory."""
_FINISH_3 = 70.0
"""The same with three terms: of 64 channels on 56 x 56, FMA makes 256 faster."""
_ZEROS = 0.84
"""The part of the time of products that is left where most weights are zeros: the clock is higher."""
_SPLIT = 3.0
"""Per block that is split."""
_SPLIT_TERM = 2.0
"""Per term of it that is written and read again."""
_SPLIT_PART = 3.0
"""More, per block that has filling."""
_FINE = 8
"""Least channels of a group whose sums in three terms, six additions per tap, round no more than those of FMA."""
_CYCLES = 3.3
"""Per nanosecond."""
_GAIN = 0.9
"""The part of the time by FMA that tiles may take at most, since their operands take more memory."""


@lru_cache(maxsize=MOST_KEPT)
def positions_of(oh: int, ow: int, width: int, even: bool) -> tuple[int, int, int, int]:
    """(rows, positions per row, positions from one row of the output to the next, rows of a tile): with every row of
    the output on its own, or all of them as one row that has the border's columns in it. Of images of a width with the
    border; `even` where the steps are the same both ways."""
    choices = [(oh, ow, ow)]
    if even:
        choices.append((1, (oh - 1) * width + ow, width))
    found = [(rows, count, span, _tile_rows(count)) for rows, count, span in choices]
    return min(found, key=lambda f: f[0] * _tiles_time(f[1], f[3]))


@lru_cache(maxsize=MOST_KEPT)
def pays(
    terms: int,
    taps: int,
    even: bool,
    made: bool,
    height: int,
    width: int,
    channels: int,
    oh: int,
    ow: int,
    n: int,
    groups: int = 1,
    deep: int = 0,
) -> bool:
    """As `Products.pays`, for images [height, width, channels] with the border and outputs [oh, ow, n], and for
    `groups` of which two panels multiply `deep` blocks of channels."""
    if terms == 3 and channels // groups < _FINE and groups > 1:
        return False
    columns = -(-n // PANEL) * PANEL
    apart = groups * -(-n // groups // PANEL)  # panels
    products = taps * (channels // groups) * apart * PANEL
    fma = oh * ow * products * _FMA + 4 * products * _FMA_WEIGHTS
    zeros = 1.0
    if groups > 1:
        fma += oh * ow * apart * _FMA_GROUPS
        zeros = _ZEROS if channels // groups < BLOCK else 1.0
    nbytes = 4 * oh * ow * n
    # What has one term is mostly written in bfloat16.
    most = _GAIN * (fma + _write(nbytes)) - _write(nbytes // 2 if terms == 1 else nbytes)
    full, pixels = oh * ow / ROWS, 0 if made else height * width
    if _time(terms, taps, full, zeros * full * _product_time(ROWS), pixels, channels, columns, deep) >= most:
        return False  # not even if all tiles were full, and small layers shall not wait for the search
    tiles, time = _tiles(positions_of(oh, ow, width, even))
    return _time(terms, taps, tiles, zeros * time, pixels, channels, columns, deep) < most


def splits_beside(terms: int, weights: int, n: int, blocks: int, tiles: int) -> bool:
    """Whether weights, of so many bytes as terms, are float32 numbers in memory that are split beside the products of
    each image's tiles, which then wait for fewer bytes. Every two panels meet all of the tiles' blocks of channels, so
    that these have to stay in L2."""
    if terms != 3 or weights < _FLOAT_BYTES or n % (2 * PANEL):
        return False
    return tiles <= _FLOAT_TILES and tiles * ROWS * blocks * BLOCK * 2 * terms <= RESIDENT_BYTES


def _write(nbytes: int) -> float:
    return nbytes * _WRITE if nbytes > RESIDENT_BYTES else 0.0


def _time(
    terms: int, taps: int, tiles: float, time: float, pixels: int, channels: int, columns: int, deep: int = 0
) -> float:
    """Nanoseconds for one image on tiles, without writing the result.

    Parameters
    ----------
    tiles
        Of positions.
    time
        Nanoseconds of one product of each of them.
    pixels
        That are split.
    deep
        Blocks of channels that are multiplied, of groups; else 0.
    """
    blocks, whole = -(-channels // BLOCK), channels // BLOCK
    finish = _FINISH_3 if terms == 3 and not deep else _FINISH
    deep = deep or blocks
    products = time * (terms * (terms + 1) // 2 * taps * deep)
    split = pixels * (blocks * (_SPLIT + terms * _SPLIT_TERM) + (blocks - whole) * _SPLIT_PART)
    weights = taps * deep * BLOCK * columns * 2 * terms
    wait = weights * (_WEIGHTS if weights < 1 << 22 else _WEIGHTS_LARGE)
    if splits_beside(terms, weights, columns, blocks, math.ceil(tiles)):
        wait = weights * 2 / 3 * _FLOATS
    return columns // PANEL * (products + tiles * finish) + split + wait


def _tiles(positions: tuple[int, int, int, int]) -> tuple[int, float]:
    """How many tiles that makes, and the nanoseconds of one product of each."""
    rows, count, _, tile_m = positions
    return rows * -(-count // tile_m), rows * _tiles_time(count, tile_m)


def _tiles_time(positions: int, tile_m: int) -> float:
    """Nanoseconds of one product of tiles for all positions of a row."""
    return -(-positions // tile_m) * _product_time(tile_m)


def _product_time(tile_m: int) -> float:
    """Nanoseconds of a product of tiles; those of all rows take the fewest per row."""
    return max(4.6, 1.9 + 0.27 * tile_m)


@lru_cache(maxsize=MOST_KEPT)
def _tile_rows(positions: int) -> int:
    # Tiles of up to 10 rows take the same time: the smaller ones never win.
    rows = range(min(ROWS, max(positions, 1)), min(9, max(positions, 1) - 1), -1)
    return min(rows, key=lambda r: _tiles_time(positions, r))


@lru_cache(maxsize=MOST_KEPT)
def pools_faster(terms: int, height: int, width: int, channels: int, n: int) -> bool:
    """Whether Winograd's method, which then pools by 2 x 2, beats tiles for an output of one image."""
    padded = (height + 2, width + 2)
    tiles, time = _tiles(positions_of(height, width, padded[1], True))
    on_tiles = _time(terms, 9, tiles, time, math.prod(padded), channels, -(-n // PANEL) * PANEL)
    return pooled_cycles(height, width, channels, n) / _CYCLES < _GAIN * on_tiles
