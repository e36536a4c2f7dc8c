"""TorchScript's archives and exported programs, read without PyTorch: what they compute, and what is refused."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_files import mutated, name, pickled, storage, tensor, text
from torch_programs import BIAS, KERNEL, NET, instance, package, package_entries, script, script_entries

from forwardpass.errors import Error, FileError, InputError, UnsupportedError
from forwardpass.formats import load_graph
from forwardpass.formats.torch.torchscript import interpreter, source
from forwardpass.graph import Graph, TensorType
from forwardpass.ops.evaluate import evaluate

Read = Callable[..., Graph]
X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
LINEAR = X @ KERNEL.T + BIAS
FREE = {"x": ("N", 4)}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def load(data: bytes, inputs: Any = FREE, suffix: str = ".pt") -> Graph:
        path = tmp_path / f"net{suffix}"
        path.write_bytes(data)
        return load_graph(path, inputs=inputs)

    return load


def forward(body: str, arguments: str = "x: Tensor") -> str:
    """The code of a network whose `forward` is this."""
    lines = "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
    head, _, _ = NET.partition("  def forward(self: __torch__.Net")
    return f"{head}  def forward(self: __torch__.Net,\n    {arguments}) -> Tensor:\n{lines}"


def run(graph: Graph, *arrays: Any) -> Any:
    found = evaluate(graph, dict(zip(graph.inputs, arrays)))
    return found[graph.outputs[0]]


# ---- what it computes


def test_a_script(read: Read) -> None:
    graph = read(script())
    assert graph.inputs == {"x": TensorType(np.dtype(np.float32), ("N", 4))}
    assert set(graph.constants) >= {"one.bias"}
    np.testing.assert_allclose(run(graph, X), np.where(LINEAR < 0, 0.1 * LINEAR, LINEAR), rtol=1e-5, atol=1e-6)


def test_a_program(read: Read) -> None:
    for suffix in (".pt2", ".pt"):
        graph = read(package(package_entries()), None, suffix)
        assert graph.inputs == {"x": TensorType(np.dtype(np.float32), ("N", 4))}
        np.testing.assert_allclose(run(graph, X), np.maximum(LINEAR, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "given", [("N", 4), [("N", 4)], X, {"x": X}, TensorType(np.dtype(np.float32), ("N", 4))], ids=range(5)
)
def test_ways_to_say_the_inputs(given: Any, read: Read) -> None:
    assert read(script(), given).inputs == {"x": TensorType(np.dtype(np.float32), ("N", 4))}


BODIES = {
    "loop": ("y = x\nfor k in range(3):\n  y = torch.add(y, torch.mul(x, k))\nreturn y", 4 * X),
    "while": ("y = x\nk = 0\nwhile torch.lt(k, 3):\n  y = torch.add(y, x)\n  k = torch.add(k, 1)\nreturn y", 4 * X),
    "lists": ("parts = [x, x]\n_0 = torch.append(parts, x)\nreturn torch.cat(parts, 1)", np.concatenate([X] * 3, 1)),
    "sizes": ("n, c, = torch.size(x)\nreturn torch.view(x, [n, 2, torch.floordiv(c, 2)])", X.reshape(5, 2, 2)),
    "no axis is empty": ("if torch.eq(torch.size(x, 0), 0):\n  y = x\nelse:\n  y = torch.neg(x)\nreturn y", -X),
    "an assertion of what is not known": (
        "if torch.gt(torch.size(x, 0), 100):\n  ops.prim.RaiseException(\"large\")\nelse:\n  pass\nreturn torch.neg(x)",
        -X,
    ),
    "in place": ("_0 = torch.add_(x, 1)\nreturn torch.mul(x, 2)", 2 * (X + 1)),
    "in place, and what it gives": ("y = torch.neg_(torch.add(x, 0))\nreturn torch.mul_(y, 2)", -2 * X),
    "a constant": ("return torch.mul(x, CONSTANTS.c0)", X * 3),
    "an attribute": ("one = self.one\nreturn torch.mul(x, one.out_features)", X * 3),
    "a dict": ('d = {"a": x, "b": torch.neg(x)}\nreturn (d)["b"]', -X),
    "a number that is the answer": ("return torch.add(torch.zeros([2]), inf)", np.full(2, np.inf, np.float32)),
}  # fmt: skip


@pytest.mark.parametrize("what", BODIES)
def test_code(what: str, read: Read) -> None:
    body, want = BODIES[what]
    constants = {"constants_pkl": pickled(b"(" + tensor(storage("LongStorage", "0", 1), ()) + b"t")}
    data = {"constants/0": np.int64(3).tobytes()}
    np.testing.assert_allclose(run(read(script(forward(body), **constants, **data)), X), want, rtol=1e-6)


# ---- what is refused

REFUSED = {
    "a view that was changed": (
        "y = torch.view(x, [-1])\n_0 = torch.add_(x, 1)\nreturn y", UnsupportedError, "changed by another name",
    ),
    "what a view was changed of": (
        "y = torch.select(x, 1, 0)\n_0 = torch.add_(y, 1)\nreturn x", UnsupportedError, "changed by another name",
    ),
    "a parameter that is changed": (
        "one = self.one\n_0 = torch.add_(one.weight, 1)\nreturn x", UnsupportedError, "changes its parameters",
    ),
    "an attribute that is set": ("self.one = x\nreturn x", UnsupportedError, "changes its attributes"),
    "a branch on data": (
        "if bool(torch.gt(torch.sum(x), 0)):\n  y = x\nelse:\n  y = torch.neg(x)\nreturn y",
        UnsupportedError,
        "branches",
    ),
    "a loop on data": (
        "y = x\nwhile bool(torch.gt(torch.sum(y), 0)):\n  y = torch.sub(y, 1)\nreturn y", UnsupportedError, "loops",
    ),
    "operators that are not known": (
        "y = torch.unheard(x)\nreturn ops.mine.other(torch.relu(y))", UnsupportedError, r"mine\.other.*unheard",
    ),
    "an error": ('ops.prim.RaiseException("no such thing")\nreturn x', UnsupportedError, "no such thing"),
    "a name that is not there": ("return y", FileError, "without a value.*'?y"),
    "a function that is not there": ("return __torch__.other(x, )", FileError, "__torch__.other"),
    "an attribute that is not there": ("return self.two", FileError, "two"),
    "an argument too few": ("one = self.one\nreturn (one).forward()", FileError, "input"),
    "endless calls": ("return (self).forward(x, )", FileError, "deeply"),
    "an endless loop": ("k = 0\nwhile True:\n  k = torch.add(k, 1)\nreturn x", FileError, "too long"),
    "a large constant": ("return torch.zeros([100000, 100000])", UnsupportedError, "elements"),
    "a large integer": (
        "k = 3\nfor i in range(100):\n  k = torch.mul(k, k)\nreturn x", UnsupportedError, "too large",
    ),
    "a long list": (
        "k = [1, 2]\nfor i in range(20):\n  k = torch.add(k, k)\nreturn x", Error, "too long",
    ),
    "a list in a list": (
        "k = [x]\nfor i in range(60):\n  k = [k, k]\nreturn torch.cat(k)", FileError, "too long",
    ),
    "an index outside": ("return torch.add(x, ([1, 2])[7])", UnsupportedError, "__getitem__"),
    "an object that is made": ("return __torch__.Linear(x)", UnsupportedError, "object"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_code_that_is_refused(what: str, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "MAX_STEPS", 20_000)
    body, kind, said = REFUSED[what]
    with pytest.raises(kind, match=said) as error:
        read(script(forward(body)))
    assert "net.pt" in error.value.where


PLANTED = {
    "a call": "open({!r}, \"w\")",
    "an import": "__import__(\"os\").system({!r})",
    "a statement": "import os",
    "a text that is run": "eval({!r})",
    "a class of Python": "().__class__.__base__.__subclasses__()",
    "a function": "(lambda: open({!r}))()",
    "an operator": "x + 1",
    "a text with code": "f\"{{open({!r})}}\"",
    "a deep bracket": "(" * 5000 + "x" + ")" * 5000,
    "a long chain": "x" + ".a" * 5000,
    "a chain of calls": "x" + "(y)" * 5000,
    "a chain of indices": "x" + "[0]" * 5000,
    "a chain of signs": "- " * 5000 + "1",
    "a chain of differences": "1" + " -1" * 5000,
    "a chain of choices": "x" + " if y else z" * 5000,
    "a comment": "x  # nothing",
    "a long text": '\"\"\"x\"\"\"',
    "a null": "x\0",
    "a long number": "1" * 10_000,
    "half a bracket": "(x",
}  # fmt: skip


@pytest.mark.parametrize("what", PLANTED)
def test_no_code_runs(what: str, read: Read, tmp_path: Path) -> None:
    planted = PLANTED[what].format(str(tmp_path / "planted")) if "{" in PLANTED[what] else PLANTED[what]
    with pytest.raises((FileError, UnsupportedError)):
        read(script(forward(f"y = {planted}\nreturn x")))
    assert not (tmp_path / "planted").exists()


def test_a_pickle_with_code(read: Read, tmp_path: Path) -> None:
    ran = tmp_path / "planted"
    call = name("builtins", "open") + b"(" + text(str(ran)) + text("w") + b"tR"
    state = instance("__torch__.Net", one=b"N")
    for pickle, said in [
        (instance("__torch__.Net", one=call), "builtins.open"),
        (state[:-1] + b"0" + text("state") + b"b", "state"),
        (name("__torch__", "Net") + b"(K\1t\x81", "no object"),
        (name("__torch__", "Net") + b")R", "calls a class"),
        (name("collections", "OrderedDict") + b")\x81", "no object"),
        (call, "builtins.open"),
        (b"K\1", "not a TorchScript"),
    ]:
        with pytest.raises(FileError, match=said):
            read(script(data_pkl=pickled(pickle)))
    assert not ran.exists()


def test_wrong_inputs(read: Read) -> None:
    with pytest.raises(InputError, match=r"does not say the shapes.*inputs=\{'x': \('N', .*--shape x=N,"):
        read(script(), None)
    with pytest.raises(InputError, match="expected x, slope, got y"):
        read(script(), {"y": (2, 4)})
    with pytest.raises(InputError, match="not the inputs"):
        read(script(), [(2, 4)] * 3)
    for wrong in (3, [3.5], {"x": None}, {"x": (-1, 4)}):
        with pytest.raises(InputError):
            read(script(), wrong)
    with pytest.raises(UnsupportedError, match="expected 2 axes"):
        read(script(), {"x": (2, 3, 4)})
    with pytest.raises(InputError, match="itself"):
        read(package(package_entries()), FREE, ".pt2")
    with pytest.raises(UnsupportedError, match="set_weights"):
        read(b"\x80\x02.", None)
    with pytest.raises(UnsupportedError, match=r"of torch\.export\.save"):
        read(b"\x80\x02.", None, ".pt2")


def test_damaged_programs(read: Read) -> None:
    def changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
        entries = copy.deepcopy(package_entries())
        change(entries)
        return package(entries)

    def graph(entries: dict[str, Any]) -> Any:
        return entries["models/model.json"]["graph_module"]["graph"]

    def meta(entries: dict[str, Any]) -> Any:
        return entries["data/weights/model_weights_config.json"]["config"]["weight"]["tensor_meta"]

    for change, kind, said in [
        (lambda e: e.pop("data/weights/weight_0"), FileError, "weight_0"),
        (lambda e: e.pop("data/weights/model_weights_config.json"), FileError, "list of tensors"),
        (lambda e: e.update({"data/weights/weight_0": b"1234"}), FileError, "beyond its storage"),
        (lambda e: meta(e).update(storage_offset={"as_int": 9}), FileError, "beyond its storage"),
        (lambda e: meta(e)["sizes"][0].update(as_int=-1), FileError, "shape"),
        (lambda e: meta(e).update(dtype=99), UnsupportedError, "element type"),
        (lambda e: graph(e)["nodes"].pop(0), FileError, "nothing made"),
        (lambda e: graph(e)["nodes"][0].update(target="torch.ops.aten.new.Form"), UnsupportedError, r"new\.Form"),
        (lambda e: graph(e)["nodes"][0].update(target="os.system"), UnsupportedError, r"os\.system"),
        (lambda e: graph(e)["nodes"][1]["inputs"][0]["arg"].update(as_graph={}), UnsupportedError, "kind of argument"),
        (lambda e: graph(e)["tensor_values"].pop("x"), FileError, "without a type"),
    ]:  # fmt: skip
        with pytest.raises(kind, match=said):
            read(changed(change), None, ".pt2")


# ---- damage


TOKENS = [b"(", b")", b"[", b"-", b".", b'"', b"\n", b"  ", b"9", b"self", b"torch.", b"{"]


@pytest.mark.parametrize("kind", ["script", "program"])
@pytest.mark.parametrize("inside", [False, True], ids=["file", "entries"])
def test_damage(kind: str, inside: bool, read: Read) -> None:
    """1,000 files with damage anywhere, and 1,000 with damage inside of what a checksum would protect."""
    rng, refused = random.Random(5), 0
    entries = script_entries(NET) if kind == "script" else package_entries()
    whole = package(entries)
    for _ in range(1000):
        if inside:
            changed = rng.choice([e for e in entries if not e.startswith(("data/0", "data/1"))])
            raw = entries[changed] if isinstance(entries[changed], bytes) else json.dumps(entries[changed]).encode()
            data = package({**entries, changed: mutated(raw, rng, TOKENS)})
        else:
            data = mutated(whole, rng, TOKENS)
        try:
            graph = read(data, FREE if kind == "script" else None, ".pt" if kind == "script" else ".pt2")
        except Error:
            refused += 1
        else:
            graph.verify()
    assert refused > (400 if inside else 900)


def test_limits_of_the_code(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 100)
    with pytest.raises(FileError, match="too much code"):
        read(script())
