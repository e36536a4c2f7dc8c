"""`forwardpass doctor`: what a report of a bug or of a slow model needs to say about the machine."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import Any

from ..console import Console
from ..text import human_bytes

__all__ = ["HELP", "add_arguments", "run"]

HELP = "tell CPU, ISAs, threads, containers, memory and versions, and test the installation"
_PACKAGES = ("onnx", "onnxruntime", "ml_dtypes", "rich", "pillow", "protobuf", "threadpoolctl")
_ENVIRONMENT = ("FORWARDPASS_", "OMP_", "OPENBLAS_", "MKL_", "KMP_", "GOMP_", "MALLOC_", "LD_PRELOAD", "NO_COLOR")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-test", action="store_true", help="do not run the embedded networks")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    report: dict[str, Any] = {
        "versions": _versions(),
        "system": _system(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_ENVIRONMENT)},
        "memory": _memory(),
    }
    problems: list[str] = []
    try:
        report |= _native()
    except ImportError as error:
        report |= {"cpu": None, "isas": [], "threads": None}
        problems.append(f"the compiled modules cannot be imported: {error}")
    else:
        problems += _slow(report)
        report["tests"] = [] if args.no_test else _tests(report["isas"], console, problems)
    report |= {"problems": problems, "ok": not problems}
    _show(console, report)
    return report


def _versions() -> dict[str, str | None]:
    from importlib import metadata

    from .. import __version__

    found: dict[str, str | None] = {
        "forwardpass": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
    }
    for name in ("numpy", *_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _system() -> dict[str, Any]:
    libc = " ".join(filter(None, platform.libc_ver()))
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "libc": libc,
        "executable_bits": 64 if sys.maxsize > 2**32 else 32,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "hypervisor": "hypervisor" in (_text("/proc/cpuinfo") or ""),
    }


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _memory() -> dict[str, Any]:
    lines = (line.split() for line in (_text("/proc/meminfo") or "").splitlines())
    found = {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}
    chosen = _text("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "total": 1024 * found.get("MemTotal", 0) or None,
        "available": 1024 * found.get("MemAvailable", 0) or None,
        "transparent_huge_pages": chosen.partition("[")[2].partition("]")[0] if chosen else None,
        "huge_pages": found.get("HugePages_Total"),
        "huge_page_size": 1024 * found.get("Hugepagesize", 0) or None,
        "cgroup_limit": _cgroup("memory.max", "memory", "memory.limit_in_bytes"),
    }


def _limit(setting: str | None) -> str:
    """A setting of a control group in words: version 1 says -1 or a very large number where there is no limit."""
    if setting is None:
        return "-"
    number = int(setting) if setting.lstrip("-").isdecimal() else 0
    return "none" if setting.startswith("max") or number < 0 or number >= 1 << 60 else setting


def _cgroup(file: str, controller: str, old_file: str) -> str | None:
    """A setting of this process's control group, of version 2 or 1: of the nearest group that has it."""
    for line in (_text("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base, name = ("/sys/fs/cgroup", file) if not controllers else (f"/sys/fs/cgroup/{controller}", old_file)
        for group in (Path(path), *Path(path).parents):
            found = _text(f"{base}{group}/{name}")
            if found is not None:
                return found
    return None


def _native() -> dict[str, Any]:
    from .. import _native as native
    from ..errors import ConfigError
    from ..explanation import show_config

    try:
        config = show_config()
    except ConfigError as error:  # a variable of the environment is wrong
        raise ImportError(str(error)) from None
    host = native.detect_host()
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "cpu": {"brand": config.cpu, "caches": config.caches, "logical": os.cpu_count(), "affinity": affinity},
        "isas": config.isas,
        "isa": config.isa,
        "threads": {"default": config.threads, "reason": config.threads_reason, "host": dict(host)},
        "cgroup_cpu": _cgroup("cpu.max", "cpu", "cpu.cfs_quota_us"),
        "precisions": config.precisions,
        "sanitize": config.sanitize,
    }


def _slow(report: dict[str, Any]) -> list[str]:
    """What makes models slow here, though nothing is broken."""
    found = []
    if report["sanitize"]:
        found.append(f"the compiled modules were built with sanitizers ({report['sanitize']})")
    if report["isa"] == "scalar" and len(report["isas"]) > 1:
        found.append("no vector ISA is in use")
    return found


def _tests(isas: list[dict[str, Any]], console: Console, problems: list[str]) -> list[dict[str, Any]]:
    """The embedded networks on every ISA, against their definitions in float64."""
    import numpy as np

    from .. import data
    from ..formats import load_graph
    from ..ops.evaluate import evaluate
    from ..run import Model

    names = [i["name"] for i in isas if i["available"]]
    found = []
    with console.progress("testing", 2 * len(names)) as advance:
        for kind in ("cnn", "mlp"):
            graph = load_graph(data.path(f"digits_{kind}.npz"))
            ((name, wanted),) = graph.inputs.items()
            x = data.digits()[0][:16].reshape(16, *(wanted.shape or ())[1:]).astype(np.float32)
            (expected,) = evaluate(graph, {name: x}, dtype=np.float64).values()
            for isa in names:
                error = float(np.abs(Model(graph, threads=1, isa=isa)(x) - expected).max())
                ok = error < 1e-5
                found.append({"network": f"digits_{kind}", "isa": isa, "error": error, "ok": ok})
                if not ok:
                    problems.append(f"digits_{kind} is wrong on {isa}: error {error:.1e}")
                advance(len(found))
    return found


def _show(console: Console, report: dict[str, Any]) -> None:
    versions = ", ".join(f"{k} {v}" for k, v in report["versions"].items() if v)
    absent = ", ".join(k for k, v in report["versions"].items() if not v)
    console.line(versions, strong=True)
    system = report["system"]
    rows: list[tuple[str, object]] = [("not installed", absent or "-"), ("system", system["platform"])]
    rows += [("libc", system["libc"] or "-"), ("virtual machine", "yes" if system["hypervisor"] else "not seen")]
    if system["load_average"]:
        rows.append(("load average", "  ".join(f"{v:.2f}" for v in system["load_average"])))
    rows.append(("frequency governor", system["governor"] or "-"))
    rows += _memory_rows(report["memory"])
    if report["cpu"]:
        rows += _cpu_rows(report)
    rows += [(f"${k}", v) for k, v in report["environment"].items()]
    console.table(["", "here"], rows)
    console.heading("ISAs")
    states = [
        (i["name"], "in use" if i["name"] == report.get("isa") else "available" if i["available"] else i["why_not"])
        for i in report["isas"]
    ]
    console.table(["ISA", "state"], states)
    for test in report.get("tests", ()):
        state = "right" if test["ok"] else "WRONG"
        console.line(f"  {test['network']} on {test['isa']}: {state}, error {test['error']:.1e}")
    console.line()
    for problem in report["problems"]:
        console.line(f"problem: {problem}")
    console.line("no problem was found" if report["ok"] else "see the problems above", strong=True)


def _memory_rows(memory: dict[str, Any]) -> list[tuple[str, object]]:
    def size(key: str) -> str:
        return human_bytes(memory[key]) if memory[key] else "-"

    pages = f"transparent: {memory['transparent_huge_pages'] or '-'}; reserved: {memory['huge_pages'] or 0}"
    return [
        ("memory", f"{size('total')}, available {size('available')}; cgroup limit {_limit(memory['cgroup_limit'])}"),
        ("huge pages", f"{pages} of {size('huge_page_size')}"),
    ]


def _cpu_rows(report: dict[str, Any]) -> list[tuple[str, object]]:
    cpu, threads = report["cpu"], report["threads"]
    caches = ", ".join(f"{k} {human_bytes(v)}" for k, v in cpu["caches"].items() if v)
    allowed = "-" if cpu["affinity"] is None else f"{len(cpu['affinity'])} of {cpu['logical']} CPUs"
    return [
        ("CPU", f"{cpu['brand'] or 'unknown'} ({caches})"),
        ("affinity", allowed),
        ("cgroup CPU quota", _limit(report["cgroup_cpu"])),
        ("threads", f"{threads['default']} ({threads['reason']})"),
        ("physical cores", threads["host"].get("physical_cores") or "-"),
    ]
