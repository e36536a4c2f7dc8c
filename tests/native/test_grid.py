"""GridSample and RoiAlign at places inside, outside and far away."""

from __future__ import annotations

import numpy as np
import pytest
from judged import judge
from planned import run

from cases import graph_of
from forwardpass import _native
from forwardpass.errors import InputError
from forwardpass.ops import Case, load_all, registry


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("spatial", [(9,), (5, 17), (1, 6), (3, 4, 5)])
def test_grid_sample(spatial: tuple[int, ...], mode: str, padding: str, align: int) -> None:
    rng = np.random.default_rng(0)
    grid = rng.uniform(-1.5, 1.5, (2, *[3, 4, 7][-len(spatial) :], len(spatial))).astype(np.float32)
    grid.reshape(-1)[:4] = 9, -40, -1, 1
    judge("GridSample", ((2, 3, *spatial), grid), mode=mode, padding_mode=padding, align_corners=align)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_points_that_are_nowhere(mode: str, padding: str) -> None:
    grid = np.array([[[[np.nan, 0], [3e38, -3e38], [0, np.nan]]]], np.float32)
    if padding != "reflection":
        grid[0, 0, 1] = np.inf, -np.inf
    judge("GridSample", (np.ones((1, 2, 4, 5), np.float32), grid), mode=mode, padding_mode=padding)


@pytest.mark.parametrize("half", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 1, 3])
@pytest.mark.parametrize("channels", [1, 16, 35])
def test_roi_align(channels: int, ratio: int, mode: str, half: str) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(-4, 22, (9, 2, 2)).astype(np.float32)
    rois = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    rois[0] = 3, 3, 3, 3
    rois[1] = 9, 9, 2, 2
    judge("RoiAlign", ((2, channels, 17, 19), rois, rng.integers(0, 2, 9)), mode=mode, sampling_ratio=ratio,
          spatial_scale=0.75, output_height=3, output_width=5, coordinate_transformation_mode=half)  # fmt: skip


@pytest.mark.parametrize(
    ("rois", "image"), [([0, 0, 5, 5], 2), ([0, 0, 5, 5], -1), ([0, np.nan, 5, 5], 0), ([0, 0, 3e38, 5], 0)]
)
def test_regions_that_are_nowhere_are_reported(rois: list[float], image: int) -> None:
    load_all()
    case = Case(((2, 3, 8, 8), np.zeros((1, 4), np.float32), np.zeros(1, np.int64)))
    graph, values = graph_of(registry["", "RoiAlign"], case)
    values.update(in1=np.array([rois], np.float32), in2=np.array([image]))
    for isa in _native.available_isas():
        with pytest.raises(InputError, match="out of range"):
            run(graph, values, isa)
