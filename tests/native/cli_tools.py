"""What the tests of the command line share: the command inside this process, small ONNX models, and pages."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardpass.cli import main
from forwardpass.data import path

CNN, MLP = str(path("digits_cnn.npz")), str(path("digits_mlp.npz"))
_VOID = {"meta", "input", "br", "link", "img"}
_SVG_LEAVES = {"path", "rect", "circle"}


def called(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `forwardpass words`."""
    status = main([str(w) for w in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    """Exit status and what `--json` printed, in which nothing may be that JSON does not have."""
    status, out, _ = called(capsys, *words, "--json")
    found = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert isinstance(found, dict)
    return status, found


def onnx_model(file: Path, nodes: list[tuple[str, list[str], list[str]]], size: int = 8, **more: Any) -> Path:
    """An ONNX model of square layers: `x` [N, size] -> the last output, with a constant `w` [size, size].

    `nodes` are operator, inputs and outputs; a node is called as its output in capitals.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra [test])")
    h, kind = onnx.helper, onnx.TensorProto.FLOAT
    made = [h.make_node(op.rpartition(".")[2], i, o, o[0].upper(), domain=op.rpartition(".")[0]) for op, i, o in nodes]
    w = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32) / np.float32(size**0.5)
    graph = h.make_graph(
        made,
        "small",
        [h.make_tensor_value_info("x", kind, more.get("shape", ["N", size]))],
        [h.make_tensor_value_info(nodes[-1][2][0], kind, None)],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    domains = sorted({n.domain for n in made} - {""})
    imports = [h.make_opsetid("", more.get("opset", 17)), *(h.make_opsetid(d, 1) for d in domains)]
    onnx.save(h.make_model(graph, opset_imports=imports, ir_version=8), file)
    return file


class Page(HTMLParser):
    """A page that must be well formed and need nothing from elsewhere."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = file.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(self.source)
        self.close()
        assert not self.open, f"left open: {self.open}"
        assert "http://" not in self.source
        assert "https://" not in self.source
        assert "url(" not in self.source
        assert "@import" not in self.source
        for tag, attributes in self.tags:
            assert tag not in ("link", "img", "iframe", "object", "embed"), tag
            assert not {"src", "href", "xlink:href"} & attributes.keys(), tag

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _SVG_LEAVES, f"<{tag}/> is not closed in HTML"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data

    def count(self, tag: str, **attributes: str) -> int:
        """How many such elements there are."""
        wanted = {k.rstrip("_"): v for k, v in attributes.items()}
        return sum(t == tag and all(a.get(k) == v for k, v in wanted.items()) for t, a in self.tags)
