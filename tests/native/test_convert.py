"""`forwardpass convert`: ONNX models as files that need NumPy alone and compute the same."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import forwardpass as fp
from forwardpass.cli import main
from forwardpass.data import path
from forwardpass.graph import Graph, Node, TensorType

F32 = np.dtype(np.float32)

ALONE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("onnx", "google", "ml_dtypes"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
import numpy as np
import forwardpass as fp
model, inputs, outputs = sys.argv[1:]
with np.load(inputs) as given:
    found = fp.load(model, threads=1).run(dict(given))
np.savez(outputs, **found)
assert not {"onnx", "google", "ml_dtypes"} & sys.modules.keys()
"""


def alone(model: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a model file in a process in which onnx cannot be imported."""
    given, found = model.with_suffix(".in.npz"), model.with_suffix(".out.npz")
    np.savez(given, **inputs)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(model), str(given), str(found)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with np.load(found) as arrays:
        return dict(arrays)


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        assert found[name].tobytes() == value.tobytes(), name


def small_model(target: Path) -> Path:
    """An If whose branches read a weight around them, and weights in bfloat16."""

    def info(name: str, code: int, shape: Any) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, code, shape)

    weights = [
        numpy_helper.from_array(np.float32([[1, 2], [3, 4], [5, 6]]), "w"),
        helper.make_tensor("half", TensorProto.BFLOAT16, [2], [0.5, -2.0]),
    ]
    then = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["r"])], "then", [], [info("r", 1, None)])
    other = [helper.make_node("Cast", ["half"], ["c"], to=1), helper.make_node("Mul", ["m", "c"], ["r"])]
    other.insert(0, helper.make_node("MatMul", ["x", "w"], ["m"]))
    branches = {"then_branch": then, "else_branch": helper.make_graph(other, "else", [], [info("r", 1, None)])}
    nodes = [helper.make_node("If", ["flag"], ["r0"], **branches), helper.make_node("Relu", ["r0"], ["y"])]
    inputs = [info("flag", TensorProto.BOOL, []), info("x", 1, ["N", 3])]
    graph = helper.make_graph(nodes, "small", inputs, [info("y", 1, ["N", 2])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), target)
    return target


@pytest.mark.parametrize("flag", [True, False])
def test_a_model_with_bodies(tmp_path: Path, flag: bool, rng: np.random.Generator) -> None:
    source, target = small_model(tmp_path / "m.onnx"), tmp_path / "m.npz"
    assert main(["convert", str(source), str(target)]) == 0
    inputs = {"flag": np.array(flag), "x": rng.standard_normal((4, 3)).astype(np.float32)}
    wanted = fp.load(source, threads=1).run(inputs)
    half = np.float32([1, 1]) if flag else np.float32([0.5, -2])
    weight = np.float32([[1, 2], [3, 4], [5, 6]])
    np.testing.assert_allclose(wanted["y"], np.maximum(inputs["x"] @ weight * half, 0), rtol=1e-5, atol=1e-6)
    same(alone(target, inputs), wanted)


REAL = (
    "mlp_digits_sklearn/mlp_digits",
    "digit_cnn_torch/digit_cnn",
    "magika/model",
    "silero_vad/silero_vad_16k_op15",
    "g2p_en_gru/g2p_encoder",
    "minilm_int8/model",
)


@pytest.mark.parametrize("name", REAL)
def test_real_models(models: Path, tmp_path: Path, name: str) -> None:
    source, target = models / f"{name}.onnx", tmp_path / "m.npz"
    if not source.exists():
        pytest.skip(f"FORWARDPASS_MODELS has no {name}.onnx")
    assert main(["convert", str(source), str(target)]) == 0
    first = sorted((source.parent / "cases").glob(f"{source.stem}.*.npz"))[0]
    with np.load(first) as case:
        inputs = {k.removeprefix("in:"): case[k] for k in case.files if k.startswith("in:")}
    same(alone(target, inputs), fp.load(source, threads=1).run(inputs))


@pytest.mark.parametrize("flag", [True, False])
def test_to_onnx_and_back(tmp_path: Path, flag: bool, rng: np.random.Generator) -> None:
    source, between, target = small_model(tmp_path / "m.onnx"), tmp_path / "m.npz", tmp_path / "again.onnx"
    assert main(["convert", str(source), str(between)]) == 0
    assert main(["convert", str(between), str(target)]) == 0
    onnx.checker.check_model(str(target), full_check=True)
    inputs = {"flag": np.array(flag), "x": rng.standard_normal((4, 3)).astype(np.float32)}
    same(fp.load(target, threads=1).run(inputs), fp.load(source, threads=1).run(inputs))
    assert fp.load(between).to_onnx(target) is None
    same(fp.load(target, threads=1).run(inputs), fp.load(source, threads=1).run(inputs))
    message = fp.load(between).to_onnx()
    assert message.SerializeToString() == target.read_bytes()


def test_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = small_model(tmp_path / "m.onnx"), tmp_path / "m.npz"
    assert main(["convert", str(source), str(target)]) == 0
    out = capsys.readouterr().out
    for part in ("small", "If", "MatMul", "native kernels", "by its NumPy definition", f"wrote {target}", "->"):
        assert part in out
    assert main(["convert", str(source), str(target), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["operators"] == {"MatMul": 2, "If": 1, "Relu": 1, "Cast": 1, "Mul": 1}
    assert (report["source_bytes"], report["target_bytes"]) == (source.stat().st_size, target.stat().st_size)
    assert (report["parameters"], report["bytes"]) == (8, 28)
    assert report["inputs"]["flag"] == {"dtype": "bool", "shape": []}
    (other,) = report["by_definition"]
    assert (other["operator"], other["count"]) == ("If", 1)
    assert report["native_nodes"] + 1 == report["nodes_after_optimisation"]


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    """By bytes, so that it moves where there is one large array among small ones."""
    source = small_model(tmp_path / "m.onnx")
    seen: list[tuple[int, int]] = []
    graph = fp.load(source).graph
    from forwardpass.formats import npz

    npz.write(graph, tmp_path / "m.npz", lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0
    assert (tmp_path / "m.npz").read_bytes() == npz.to_bytes(graph)


def test_an_old_file_is_replaced_even_by_itself(tmp_path: Path) -> None:
    target = tmp_path / "m.npz"
    target.write_text("something else")
    assert main(["convert", str(path("digits_cnn.npz")), str(target), "--optimize"]) == 0
    assert target.read_bytes() == path("digits_cnn.npz").read_bytes()
    assert main(["convert", str(target), str(target), "--optimize"]) == 0
    assert target.read_bytes() == path("digits_cnn.npz").read_bytes()


def test_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = small_model(tmp_path / "m.onnx"), tmp_path / "m.npz"
    target.write_text("old")
    damaged, unknown = tmp_path / "damaged.onnx", tmp_path / "unknown.onnx"
    damaged.write_bytes(source.read_bytes()[:-20])
    graph = helper.make_graph([helper.make_node("Nothing", [], ["y"])], "g", [], [onnx.ValueInfoProto(name="y")])
    onnx.save(helper.make_model(graph), unknown)
    for words, text in (
        ([str(damaged), str(target)], "damaged.onnx"),
        ([str(unknown), str(target)], "Nothing"),
        ([str(tmp_path / "none.onnx"), str(target)], "none.onnx"),
        ([str(source), str(tmp_path / "no folder" / "m.npz")], "cannot write"),
    ):
        assert main(["convert", *words]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert text in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""
    assert target.read_text() == "old"
    with pytest.raises(SystemExit) as e:
        main(["convert", str(source), str(tmp_path / "m.onnx2")])
    assert e.value.code == 2
    assert "expected a path that ends in .npz" in capsys.readouterr().err


def test_without_the_package_onnx(tmp_path: Path) -> None:
    source = small_model(tmp_path / "m.onnx")
    code = "import sys; sys.modules['onnx'] = None\nfrom forwardpass.cli import main\nraise SystemExit(main())"
    words = ["convert", str(source), str(tmp_path / "m.npz")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 1
    assert "pip install 'forwardpass[onnx]'" in done.stderr
    assert not (tmp_path / "m.npz").exists()


def test_info_and_run_take_onnx_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = small_model(tmp_path / "m.onnx")
    np.save(tmp_path / "flag.npy", np.array(True))
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    assert main(["info", str(source), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["parameters"], report["operators"]["MatMul"]) == (8, 2)
    assert main(["run", str(source), str(tmp_path / "flag.npy"), str(tmp_path / "x.npy"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["outputs"]["y"]["values"] == [9, 12, 9, 12]


def _save(target: Path, op: str, inputs: list[Any], outputs: list[Any], **attributes: Any) -> str:
    node = helper.make_node(op, [i.name for i in inputs], [o.name for o in outputs], **attributes)
    onnx.save(helper.make_model(helper.make_graph([node], "g", inputs, outputs)), target)
    return str(target)


def test_run_shows_outputs_that_are_no_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = helper.make_tensor_value_info
    np.save(tmp_path / "x.npy", np.float32([[1.5], [2]]))
    x, given = info("x", 1, ["N", 1]), str(tmp_path / "x.npy")
    listed = helper.make_value_info("y", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None)))
    models = {
        "sequence": (_save(tmp_path / "a.onnx", "SplitToSequence", [x], [listed], axis=0), "float32[1, 1]"),
        "string[2, 1]": (_save(tmp_path / "b.onnx", "Cast", [x], [info("y", 8, None)], to=8), "1.5"),
        "bfloat16[2, 1]": (_save(tmp_path / "c.onnx", "Cast", [x], [info("y", 16, None)], to=16), ""),
        "bool[2, 1]": (_save(tmp_path / "d.onnx", "Cast", [x], [info("y", 9, None)], to=9), "True"),
    }
    for kind, (file, shown) in models.items():
        assert main(["run", file, given]) == 0
        out = capsys.readouterr().out
        assert f"y: {kind}" in out
        assert shown in out
        assert main(["run", file, given, "--json"]) == 0
        json.loads(capsys.readouterr().out)
        assert main(["info", file]) == 0
        capsys.readouterr()
    for kind in ("sequence", "string[2, 1]"):
        assert main(["run", models[kind][0], given, "--output", str(tmp_path / "y.npy")]) == 1
        assert "only arrays of numbers can be saved" in capsys.readouterr().err


def test_pickled_models(tmp_path: Path, rng: np.random.Generator) -> None:
    model = fp.load(small_model(tmp_path / "m.onnx"), threads=1)
    again = pickle.loads(pickle.dumps(model))
    for flag in (True, False):
        inputs = {"flag": np.array(flag), "x": rng.standard_normal((4, 3)).astype(np.float32)}
        same(again.run(inputs), model.run(inputs))
    strings = Graph(
        {"s": TensorType(np.dtype(object), ("N",), ("sequence",))},
        ["y"],
        [Node("ConcatFromSequence", ["s"], ["y"], {"axis": 0})],
        name="strings",
    )
    again = pickle.loads(pickle.dumps(fp.Model(strings)))
    assert again.inputs == strings.inputs
