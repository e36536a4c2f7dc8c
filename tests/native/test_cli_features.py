"""`forwardpass features`: names of layers, their maps, and the picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import as_json, called

import forwardpass as fp
from forwardpass.cli.maps import is_channels_last, planes
from forwardpass.graph import Graph, Node, TensorType

F32 = np.dtype(np.float32)


def edges(folder: Path) -> tuple[Path, Path]:
    """A model of two convolutions, the first of which finds edges to the right, and a picture with one."""
    kernels = np.zeros((2, 1, 3, 3), np.float32)
    kernels[0, 0] = [[-1, 0, 1]] * 3
    kernels[1, 0, 1, 1] = 1
    second = np.ones((3, 2, 1, 1), np.float32)
    nodes = [
        Node("Transpose", ["x"], ["first"], {"perm": [0, 3, 1, 2]}),
        Node("Conv", ["first", "k"], ["c"], {"pads": [1, 1, 1, 1]}, name="block/edges"),
        Node("Relu", ["c"], ["r"], name="block/relu"),
        Node("Conv", ["r", "s"], ["d"], name="mix"),
        Node("Transpose", ["d"], ["last"], {"perm": [0, 2, 3, 1]}, name="back"),
        Node("GlobalAveragePool", ["d"], ["y"], name="pool"),
    ]
    graph = Graph({"x": TensorType(F32, ("N", 8, 6, 1))}, ["y"], nodes, {"k": kernels, "s": second})
    fp.save(graph, folder / "m.npz")
    picture = np.zeros((1, 8, 6, 1), np.float32)
    picture[:, :, 3:] = 1
    np.save(folder / "x.npy", picture)
    return folder / "m.npz", folder / "x.npy"


def test_layers_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, image = edges(tmp_path)
    status, report = as_json(capsys, "features", model, image)
    assert status == 0
    assert report["layers"] == {
        "first": [1, 1, 8, 6], "block/edges": [1, 2, 8, 6], "block/relu": [1, 2, 8, 6], "mix": [1, 3, 8, 6],
        "back": [1, 8, 6, 3],
    }  # fmt: skip
    _, out, _ = called(capsys, "features", model, image)
    assert "block/relu   1 x 2 x 8 x 6" in out


@pytest.mark.parametrize("name", ["block/relu", "relu", "r"])
def test_maps_of_a_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    model, image = edges(tmp_path)
    status, report = as_json(capsys, "features", model, image, "--layer", name)
    assert status == 0
    assert (report["value"], report["shape"]) == ("r", [1, 2, 8, 6])
    edge, same = report["maps"]
    assert edge == {"channel": 0, "min": 0, "max": 3, "mean": pytest.approx(2 * (6 * 3 + 2 * 2) / 48)}
    assert same == {"channel": 1, "min": 0, "max": 1, "mean": 0.5}
    _, out, _ = called(capsys, "features", model, image, "--layer", name)
    assert "2 maps of [1, 2, 8, 6]" in out


def test_channels_are_where_the_layer_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, image = edges(tmp_path)
    for name, count in (("back", 3), ("mix", 3), ("first", 1), ("x", 1)):
        _, report = as_json(capsys, "features", model, image, "--layer", name)
        assert len(report["maps"]) == count, name
    graph = fp.load(model).graph
    assert [is_channels_last(graph, v) for v in ("x", "first", "r", "d", "last")] == [True, False, False, False, True]
    image_last = np.arange(24).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(planes(image_last, "v", True)[1], image_last[0, :, :, 1])
    np.testing.assert_array_equal(planes(image_last, "v", False)[1], image_last[0, 1])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--layer", "block/rely"], "did you mean 'block/relu'"),
        (["--layer", "rely"], "did you mean 'relu'"),
        (["--layer", "nothing like it"], "without --layer, all are listed"),
        (["--layer", "r", "-o", "maps.txt"], "unknown kind of file: expected .png or .svg or .pdf"),
        (["-o", "maps.png"], "no layer to draw"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    status, out, err = called(capsys, "features", *edges(tmp_path), *words)
    assert (status, out) == (1, "")
    assert text in err


def test_values_that_are_no_images(tmp_path: Path) -> None:
    for value in (np.zeros((2, 3)), np.zeros((1, 0, 2, 2)), np.full((1, 1, 2, 2), "a", object), [1]):
        with pytest.raises(fp.InputError, match="the values of this layer are no images"):
            planes(value, "v", False)  # type: ignore[arg-type]


def test_without_matplotlib(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.backends.backend_agg", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    status, _, err = called(capsys, "features", *edges(tmp_path), "--layer", "r", "-o", tmp_path / "a.png")
    assert status == 1
    assert "drawing needs matplotlib (pip install forwardpass[plot])" in err


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One panel per map, bright where the map is large."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra [plot])")
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed (extra [cli])")
    target = tmp_path / "maps.png"
    assert called(capsys, "features", *edges(tmp_path), "--layer", "r", "-o", target, "--maps", 1)[0] == 0
    with image.open(target) as drawn:
        pixels: Any = np.asarray(drawn.convert("RGB"), np.int64)
    bright = (pixels[..., 0] > 240) & (pixels[..., 1] > 220) & (pixels[..., 2] < 60)  # the end of viridis
    dark = (pixels[..., 0] < 80) & (pixels[..., 1] < 20) & (pixels[..., 2] > 60)  # its beginning
    assert bright.sum() > 500
    assert 1.4 < dark.sum() / bright.sum() < 4  # 4 of 6 columns are 0, and 6 of 8 rows of the others are 3
    for kind in (".svg", ".pdf"):
        assert called(capsys, "features", *edges(tmp_path), "--layer", "r", "-o", tmp_path / f"m{kind}")[0] == 0
        assert (tmp_path / f"m{kind}").stat().st_size > 1000
