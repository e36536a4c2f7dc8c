"""Whole networks against other engines, one `forwardpass bench` after another, into one report.

    python bench/suite.py [--only mobilenet,lstm] [--against onnxruntime,openvino,torch,mnn] [--threads 1]
                          [--models FOLDER] [-o bench/results/NAME.json]

The networks of model_files.py are made when they are missing; the real models are those of `--models` or of
FORWARDPASS_MODELS, with the inputs of their first case. What is done is written after each network. Exits with 1 where
an engine was wrong or failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.cli import make_parser
from forwardpass.cli.bench_page import make_page
from forwardpass.console import make_console
from model_files import NETWORKS, write

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forwardpass" / "networks"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description="Time whole networks against other engines.")
    words = {"type": lambda text: [t for t in text.split(",") if t], "metavar": "A,B", "default": []}
    p.add_argument("--only", **words, help="networks whose names contain one of these")
    p.add_argument("--against", default="onnxruntime,openvino,torch,mnn", help="engines, as of `forwardpass bench`")
    p.add_argument("--threads", default="1", help="default 1")
    p.add_argument("--precision", default="float32", help="of forwardpass, default float32")
    p.add_argument("--rounds", default="5", help="turns per engine, default 5")
    p.add_argument("--seconds", default="0.3", help="per turn, default 0.3")
    p.add_argument("--python", action="append", default=[], metavar="ENGINE=EXE", help="the interpreter with an engine")
    p.add_argument("--networks", type=Path, default=CACHE, help=f"where the networks' files are kept, default {CACHE}")
    p.add_argument("--models", type=Path, default=os.environ.get("FORWARDPASS_MODELS"), help="folder of real models")
    p.add_argument("-o", "--output", type=Path, help="report.json; report.html is written beside it")
    p.add_argument("--list", action="store_true", help="print the networks")
    return p


def real_models(folder: Path | None) -> dict[str, Path]:
    """Name -> file of the ONNX models that come with a case."""
    if folder is None:
        return {}
    files = sorted(folder.glob("*/*.onnx"))
    return {f"{f.parent.name}/{f.stem}": f for f in files if (f.parent / "cases" / f"{f.stem}.0.npz").exists()}


def inputs_of(file: Path, folder: Path) -> Iterator[str]:
    """The inputs of the model's first case, as words of the command line; their files go to a folder."""
    with np.load(file.parent / "cases" / f"{file.stem}.0.npz", allow_pickle=False) as case:
        for k, key in enumerate(k for k in case.files if k.startswith("in:")):
            path = folder / f"{file.parent.name}-{file.stem}-{k}.npy"
            np.save(path, case[key])
            yield f"--input={key.removeprefix('in:')}={path}"


def bench(words: list[str], console: Any) -> dict[str, Any]:
    """The report of one `forwardpass bench`."""
    args = make_parser().parse_args(["bench", *words])
    report: dict[str, Any] = args.work(args, console)
    return report


def merged(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Two reports as one; machine and settings are those of the first."""
    if not whole:
        return part
    for key in ("results", "ceilings", "comparison"):
        whole[key] = (whole[key] or []) + (part[key] or [])
    return {**whole, "ok": whole["ok"] and part["ok"]}


def save(report: dict[str, Any], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    output.with_suffix(".html").write_text(make_page(report), encoding="utf-8")


def main() -> int:
    args = parser().parse_args()
    real = real_models(args.models)
    names = [n for n in [*NETWORKS, *real] if not args.only or any(word in n for word in args.only)]
    console = make_console()
    if args.list or not names:
        console.line("\n".join([*NETWORKS, *real]))
        return 0 if args.list else 2
    common = [f"--{k}={getattr(args, k)}" for k in ("against", "threads", "precision", "rounds", "seconds")]
    common += [f"--python={p}" for p in args.python]
    whole: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="forwardpass-suite-") as folder:
        for name in names:
            console.heading(name)
            if name in real:
                words = [str(real[name]), *inputs_of(real[name], Path(folder))]
            else:
                words = [str(write(args.networks, name)), f"--batch={','.join(map(str, NETWORKS[name][1]))}"]
            part = bench([*words, *common], console)
            for result in part["results"]:
                result["model"], result["file"] = name, Path(result["file"]).name
            whole = merged(whole, part)
            if args.output:
                save(whole, args.output)
    return 0 if whole["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
