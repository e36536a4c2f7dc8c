"""Graphs that were saved after the passes: the same bits as the original, and no harm from private operators."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_models import edited
from hypothesis import HealthCheck, Phase, given, seed, settings

pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")

from exported import same_bits

import forwardpass as fp
from forwardpass import passes
from forwardpass.cli import main
from forwardpass.data import digits, path
from forwardpass.errors import Error
from forwardpass.formats import npz
from forwardpass.formats.onnx import import_model
from forwardpass.graph import PRIVATE_DOMAINS, Graph
from forwardpass.ops.evaluate import evaluate, is_pure
from forwardpass.passes import optimized_view
from networks import NETWORKS, build, sample
from onnx_graphs import Drawn, onnx_graphs
from tolerance import NETWORK

GRAPHS = 150


def again(graph: Graph, file: Path) -> Graph:
    """The graph that is read from the file of the optimised one, for which the passes have nothing left to do."""
    fp.save(graph, file, optimized=True)
    found = npz.read(file)
    fp.save(found, file, optimized=True)
    assert npz.to_bytes(found) == file.read_bytes()
    return found


@pytest.mark.parametrize("precision", ["float32", "portable", "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, precision: str, isa: str, tmp_path: Path) -> None:
    network = build(name)
    graph, x = network.graph(), sample(network, 3)
    found, wanted = (
        fp.Model(g, precision=precision, isa=isa, threads=2)(x) for g in (again(graph, tmp_path / "m.npz"), graph)
    )
    same_bits(found, wanted)


def test_real_models(models: Path, tmp_path: Path) -> None:
    for file in ("efficientnet_lite0/efficientnet_lite0", "basic_pitch/nmp", "silero_vad/silero_vad_16k_op15"):
        model = fp.load(models / f"{file}.onnx")
        case = next(iter(sorted((models / file).parent.glob(f"cases/{Path(file).name}.*.npz"))))
        with np.load(case) as arrays:
            feeds = {k.removeprefix("in:"): arrays[k] for k in arrays.files if k.startswith("in:")}
        same_bits(fp.Model(again(model.graph, tmp_path / "m.npz")).run(feeds), model.run(feeds))


def test_random_graphs(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    @seed(7)
    @settings(
        max_examples=GRAPHS,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(onnx_graphs((21,)))
    def every(drawn: Drawn) -> None:
        graph = import_model(drawn.model)
        if not all(is_pure(n) for n in graph.nodes):
            return
        fp.save(graph, tmp_path / "m.npz", optimized=True)
        found = npz.read(tmp_path / "m.npz")
        same_bits(fp.Model(found, threads=1).run(drawn.feeds), fp.Model(graph, threads=1).run(drawn.feeds))
        seen.update({n.domain for n in found.nodes})

    with np.errstate(all="ignore"):
        every()
    assert seen["nhwc"] > 0, seen


def test_the_embedded_networks_are_saved_so() -> None:
    """They load sooner, and this fails where an operator that they hold got another revision."""
    for name in ("digits_cnn.npz", "digits_mlp.npz"):
        assert npz.read(path(name)).optimized_by == fp.__version__
        model = fp.load(path(name))
        assert not fp.Model(model.graph).log.fired(), "the passes have nothing left to do"
        assert PRIVATE_DOMAINS & {n.domain for n in model.graph.nodes}


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The graphs that the passes are given."""
    seen: list[Graph] = []

    def walked(graph: Graph, *args: Any, **more: Any) -> Any:
        seen.append(graph)
        return optimized_view(graph, *args, **more)

    monkeypatch.setattr(passes, "optimized_view", walked)
    return seen


def test_the_passes_are_left_out(tmp_path: Path, walks: list[Graph]) -> None:
    network = build("branches")
    x = sample(network, 3)
    fp.save(network, tmp_path / "m.npz", optimized=True)
    walks.clear()
    model = fp.load(tmp_path / "m.npz")
    found = model(x)
    assert not walks
    assert not model.log
    copy = fp.Model(model.graph)
    assert len(walks) == 1, "a copy may have been changed"
    same_bits([found, found], [copy(x), fp.Model(network)(x)])


@pytest.mark.parametrize("version", ["", "0.0.9", "1"])
def test_those_of_another_version_are_not(version: str, tmp_path: Path, walks: list[Graph]) -> None:
    network = build("cifar cnn")
    graph = network.graph()
    graph.optimized_by = version
    npz.write(graph, tmp_path / "m.npz")
    assert npz.read(tmp_path / "m.npz").optimized_by == version
    model = fp.load(tmp_path / "m.npz")
    assert len(walks) == 1
    assert model.log.fired()


def test_what_only_claims_to_be_optimised_is_right_too(tmp_path: Path) -> None:
    network = build("branches")
    x = sample(network, 2)
    graph = network.graph()
    graph.optimized_by = fp.__version__
    npz.write(graph, tmp_path / "m.npz")
    np.testing.assert_allclose(fp.load(tmp_path / "m.npz")(x), fp.Model(network)(x), **NETWORK)


def test_a_version_is_text(tmp_path: Path) -> None:
    graph = build("mlp 8-5-1").graph()
    graph.optimized_by = "x"
    npz.write(graph, tmp_path / "m.npz")

    def change(document: Any, entries: Any) -> None:
        document["optimized"] = 1

    (tmp_path / "m.npz").write_bytes(edited((tmp_path / "m.npz").read_bytes(), change))
    with pytest.raises(fp.FileError, match="wrong kind of value"):
        fp.load(tmp_path / "m.npz")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = build("cifar cnn")
    fp.save(network, tmp_path / "m.npz")
    fp.save(network, tmp_path / "wanted.npz", optimized=True)
    assert main(["convert", str(tmp_path / "m.npz"), str(tmp_path / "o.npz"), "--optimize"]) == 0
    assert (tmp_path / "o.npz").read_bytes() == (tmp_path / "wanted.npz").read_bytes()
    assert main(["convert", str(tmp_path / "o.npz"), str(tmp_path / "o.onnx")]) == 1
    assert "export the graph that the passes were given" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "m.npz"), str(tmp_path / "o.onnx"), "--optimize"]) == 1
    assert "--optimize: only an .npz file can be optimised" in capsys.readouterr().err
    assert not (tmp_path / "o.onnx").exists()


def _mutants(document: Any, rng: np.random.Generator) -> None:
    """Change one attribute, input or output of one node."""
    node = document["nodes"][rng.integers(len(document["nodes"]))]
    kind = rng.integers(3)
    attributes = node.get("attributes")
    if kind == 0 and attributes:
        key = sorted(attributes)[rng.integers(len(attributes))]
        values: list[Any] = [0, -1, 1, 7, 1 << 40, -(1 << 62), [], [0, 0], [1, 1], [3, 1 << 33], [-1, 2], "Relu", 0.5]
        attributes[key] = values[rng.integers(len(values))]
    elif kind == 1:
        names = [*document["constants"], *(o for n in document["nodes"] for o in n["outputs"]), "pixels", ""]
        node["inputs"][rng.integers(len(node["inputs"]))] = names[rng.integers(len(names))]
    else:
        one, other = rng.integers(len(document["nodes"]), size=2)
        document["nodes"][one]["op"] = document["nodes"][other]["op"]
        document["nodes"][one]["domain"] = document["nodes"][other].get("domain", "")


def test_changed_private_operators_do_no_harm(tmp_path: Path) -> None:
    """One error, or what the definitions of the operators give."""
    written, file, rng = path("digits_cnn.npz").read_bytes(), tmp_path / "m.npz", np.random.default_rng(3)
    x = digits()[0][:2, :, :, None].astype(np.float32)
    ends: Counter[str] = Counter()
    for _ in range(400):
        file.write_bytes(edited(written, lambda document, _: _mutants(document, rng)))
        try:
            model = fp.load(file, threads=1)
            found = model(x)
        except Error as error:
            ends[type(error).__name__] += 1
            continue
        (wanted,) = evaluate(model.graph, {"pixels": x}).values()
        np.testing.assert_allclose(found, wanted, **NETWORK)
        ends["ran"] += 1
    assert min(ends["ran"], ends["FileError"] + ends["GraphError"] + ends["InputError"]) > 20, ends
