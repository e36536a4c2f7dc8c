"""Whole networks against other engines, one `forwardpass bench` after another, into one report.

    python bench/suite.py [--only mobilenet,lstm] [--against onnxruntime,openvino,torch,mnn] [--threads 1]
                          [--models FOLDER] [-o bench/results/NAME.json] [--resume]

The networks of model_files.py are made when they are missing, or before with `--prepare`; the real models are those of
`--models` or of FORWARDPASS_MODELS, with the inputs of their first case. What is done is written after each network,
and `--resume` goes on from there, with the same settings. Exits with 1 where forwardpass was wrong or failed; other
engines are listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import forwardpass as fp
from forwardpass.cli import make_parser
from forwardpass.cli.bench_page import make_page
from forwardpass.console import make_console
from model_files import NETWORKS, write

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forwardpass" / "networks"

OWN = "forwardpass"


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
    p.add_argument(
        "--resume", action="store_true", help="keep the networks that the output has, and measure the others"
    )
    p.add_argument("--prepare", action="store_true", help="make the files of the networks, and measure nothing")
    p.add_argument("--list", action="store_true", help="print the networks")
    return p


def real_models(folder: Path | None) -> dict[str, Path]:
    """Name -> file of the ONNX models that come with a case."""
    if folder is None:
        return {}
    files = [f for f in sorted(folder.glob("*/*.onnx")) if (f.parent / "cases" / f"{f.stem}.0.npz").exists()]
    count = Counter(f.parent for f in files)
    return {f.parent.name if count[f.parent] == 1 else f"{f.parent.name}/{f.stem}": f for f in files}


def inputs_of(file: Path, folder: Path) -> Iterator[str]:
    """The inputs of the model's first case, as words of the command line; their files go to a folder.

    Where the first dimension of all inputs is the batch, the first sample alone is taken.
    """
    kinds = fp.load(file).inputs
    batched = all(t.shape and not isinstance(t.shape[0], int) for t in kinds.values())
    with np.load(file.parent / "cases" / f"{file.stem}.0.npz", allow_pickle=False) as case:
        for k, key in enumerate(k for k in case.files if k.startswith("in:")):
            path = folder / f"{file.parent.name}-{file.stem}-{k}.npy"
            np.save(path, case[key][:1] if batched else case[key])
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


def rounded(value: Any) -> Any:
    """With five significant digits, which is more than is measured; NaN and infinities, which JSON lacks, as null."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def save(report: dict[str, Any], output: Path) -> None:
    """Write the report, a line per result, and its page."""
    output.parent.mkdir(parents=True, exist_ok=True)
    kept = rounded(report)
    lines = ",\n".join(json.dumps(r) for r in kept["results"])
    head = json.dumps({k: v for k, v in kept.items() if k != "results"}, indent=1)
    part = output.with_suffix(".part")
    part.write_text(f'{head[:-2]},\n "results": [\n{lines}\n]}}\n', encoding="utf-8")
    part.replace(output)  # an interrupt leaves the old one or the new one
    output.with_suffix(".html").write_text(make_page(report), encoding="utf-8")


def earlier(args: argparse.Namespace) -> dict[str, Any]:
    """The report to go on with, or an empty one."""
    if not (args.resume and args.output and args.output.exists()):
        return {}
    report: dict[str, Any] = json.loads(args.output.read_text(encoding="utf-8"))
    told = {"rounds": int(args.rounds), "seconds": float(args.seconds)}
    if any(report["settings"][k] != v for k, v in told.items()):
        sys.exit(f"{args.output} was measured with other settings: {report['settings']}")
    return report


def words_of(name: str, args: argparse.Namespace, real: dict[str, Path], folder: Path) -> list[str]:
    """The network's file, and its batches or inputs."""
    if name in real:
        return [str(real[name]), *inputs_of(real[name], folder)]
    return [str(write(args.networks, name)), f"--batch={','.join(map(str, NETWORKS[name][1]))}"]


def main() -> int:
    args = parser().parse_args()
    real = real_models(args.models)
    names = [n for n in [*NETWORKS, *real] if not args.only or any(word in n for word in args.only)]
    console = make_console()
    if args.list or not names:
        console.line("\n".join([*NETWORKS, *real]))
        return 0 if args.list else 2
    if args.prepare:
        console.line("\n".join(str(write(args.networks, n)) for n in names if n in NETWORKS))
        return 0
    common = [f"--{k}={getattr(args, k)}" for k in ("against", "threads", "precision", "rounds", "seconds")]
    common += [f"--python={p}" for p in args.python]
    whole = earlier(args)
    done = {r["model"] for r in whole.get("results", [])}
    names = [n for n in names if n not in done]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="forwardpass-suite-") as folder:
        for k, name in enumerate(names):
            console.heading(f"{name} ({k + 1} of {len(names)}, after {time.monotonic() - start:.0f} s)")
            part = bench([*words_of(name, args, real, Path(folder)), *common], console)
            for result in part["results"]:
                result["model"], result["file"] = name, Path(result["file"]).name
            whole = merged(whole, part)
            if args.output:
                save(whole, args.output)
    own = [v["status"] for r in whole["results"] for k, v in r["engines"].items() if k.partition(":")[0] == OWN]
    return int("wrong" in own or "failed" in own)


if __name__ == "__main__":
    sys.exit(main())
