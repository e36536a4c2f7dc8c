"""What the times mean: ratios to rivals, rates, fractions of what the machine can do; and the table."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path
from typing import Any

from contenders import family
from forwardpass.bench.peak import Peak, human
from problems import Case

TITLES = "problem,>batch,>threads,contender,>median us,>best us,>p99 us,>GFLOP/s,of ceiling,>vs fastest other"
COLUMNS = TITLES.split(",")


def sample(found: dict[str, dict[str, Any]], case: Case, peak: Peak) -> None:
    """Measure once more the ceilings that this case is compared with, as warm as the case has left the machine."""
    for isa, threads in {(_isa(v, peak), v["threads"]) for v in found.values() if v["status"] == "ok"}:
        peak.fma(isa, again=True)
        if threads == 1:
            peak.read(case.network.weight_bytes, isa, again=True)


def _isa(times: dict[str, Any], peak: Peak) -> str:
    """The one that the contender uses; the machine's best where it does not say."""
    return times.get("details", {}).get("isa") or peak.isas[0]


def is_compute_bound(case: Case, peak: Peak) -> bool:
    """Whether the multiplications of a call take longer than reading its weights, both at the best rate of one core."""
    nbytes = case.network.weight_bytes
    return case.flops / peak.fma(peak.isas[0])["median"] > nbytes / peak.read(nbytes)["median"]


def annotate(found: dict[str, dict[str, Any]], case: Case, peak: Peak | None) -> None:
    """Add to every entry that has times: `gflops`, `ceiling` where `peak` is given, and `rival` where there is one."""
    done = {name: v for name, v in found.items() if v["status"] == "ok"}
    for name, v in done.items():
        v["gflops"] = case.flops / v["median_us"] * 1e-3
        if peak is not None:
            v["ceiling"] = ceiling(case, v, peak)
        others = {k: o for k, o in done.items() if family(k) != family(name)}
        if others:
            rival = min(others, key=lambda k: others[k]["median_us"])
            # Round by round, so that a machine that slows down for a while slows both.
            ratios = [theirs / own for theirs, own in zip(others[rival]["rounds_us"], v["rounds_us"])]
            v["rival"] = {"name": rival, "ratio": statistics.median(ratios), "rounds": ratios}


def ceiling(case: Case, times: dict[str, Any], peak: Peak) -> dict[str, Any]:
    """The shortest time that this machine allows, and the fraction of its speed that was reached.

    A call has to do its multiplications, and has to read its weights. The longer of the two is the ceiling: all FMAs
    at the measured rate of the ISA (times the threads), or reading as many bytes as the weights have at the measured
    rate for just that footprint. The second is left out with several threads. `level_fraction` compares with the cache
    level that holds the weights instead.

    Like is compared with like, since the clock of a processor moves: medians with medians (`fraction`), and the best
    moment of the contender with the best one of the ceiling (`best_fraction`). And since it moves with what runs, too,
    and is highest in a loop that never touches memory, `turn_fraction` compares with FMA loops in between the calls.
    """
    isa = _isa(times, peak)
    threads, nbytes = times["threads"], case.network.weight_bytes
    rate = peak.fma(isa)
    fma_us = case.flops / (rate["median"] * threads) * 1e-3
    best_us = case.flops / (rate["best"] * threads) * 1e-3
    result: dict[str, Any] = {"isa": isa, "fma_us": fma_us, "kind": "FMA", "us": fma_us}
    if threads == 1:
        level = peak.level_of(nbytes)
        result["level"] = level
        read = peak.read(nbytes, isa)
        result["read_us"] = nbytes / read["median"] * 1e-3
        bandwidth = peak.read(peak.levels[level]["footprint"], isa)["median"]
        result["level_fraction"] = nbytes / bandwidth * 1e-3 / times["median_us"]
        if result["read_us"] > fma_us:
            result.update(kind=f"{level} read", us=result["read_us"])
            best_us = nbytes / read["best"] * 1e-3
    result["fraction"] = result["us"] / times["median_us"]
    result["best_fraction"] = best_us / times["best_us"]
    if result["kind"] == "FMA" and "in_turn" in times:
        result["turn_fraction"] = times["in_turn"]["fraction"]
    return result


def row(problem: str, batch: int, threads: int, name: str, v: dict[str, Any]) -> list[str]:
    """A line of the table, for `COLUMNS`."""
    start = [problem, str(batch), str(threads), name]
    if v["status"] != "ok":
        message = "not installed" if v["status"] == "missing" else f"{v['status'].upper()}: {v['message']}"
        return [*start, "-", "-", "-", "-", message, "-"]
    limit = v.get("ceiling")
    rival = v.get("rival")
    return [
        *start,
        digits(v["median_us"]),
        digits(v["best_us"]),
        digits(v["single_us"]["p99"]),
        f"{v['gflops']:.1f}" if v["gflops"] >= 0.1 else f"{v['gflops']:.2g}",
        _of_ceiling(limit) if limit else "",
        f"{rival['ratio']:.2f}x {rival['name']}" if rival else "",
    ]


def _of_ceiling(limit: dict[str, Any]) -> str:
    alone = f"{100 * limit['fraction']:.0f} % ({100 * limit['best_fraction']:.0f}) of {limit['isa']} {limit['kind']}"
    return alone + (f", {100 * limit['turn_fraction']:.0f} % in turn" if "turn_fraction" in limit else "")


def digits(microseconds: float) -> str:
    """Three or more significant digits, no exponent."""
    decimals = 3 if microseconds < 10 else 2 if microseconds < 100 else 1 if microseconds < 1000 else 0
    return f"{microseconds:,.{decimals}f}"


def machine() -> dict[str, Any]:
    """What was measured on, how busy it was, and which commit."""
    from forwardpass.cli import bench_report

    return {**bench_report.machine(), "commit": _commit()}


def _commit() -> str:
    """Of the checkout that these scripts are in; with a plus sign where it was changed since."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def header(machine: dict[str, Any], settings: dict[str, Any], versions: dict[str, str]) -> list[str]:
    """Machine, versions and settings in a few lines."""
    caches = ", ".join(f"{k} {human(v)}" for k, v in machine["caches"].items() if v)
    engines = ", ".join(f"{k} {v}" for k, v in versions.items())
    rounds = f"{settings['rounds']} rounds of {settings['seconds']} s in turn"
    build = f"forwardpass {machine['forwardpass']} at {machine['commit'] or 'no commit'}"
    lines = [
        f"{machine['cpu'] or 'unknown CPU'}, {machine['cpus']} CPUs ({caches}), ISAs {', '.join(machine['isas'])}",
        f"Python {machine['python']}, {engines or 'NumPy ' + machine['numpy']}; {machine['system']}",
        f"{build}, precision {settings['precision']}; {rounds}",
    ]
    if machine["load_average"] > 0.5:
        lines.append(f"the machine is not idle (load average {machine['load_average']:.1f}): trust ratios, not times")
    return lines


def peak_lines(peak: Peak) -> list[str]:
    """The ceilings, the medians of their repeats."""
    rates = ", ".join(f"{isa} {peak.fma(isa)['median']:.0f}" for isa in peak.isas)
    reads = ", ".join(f"{k} {peak.read(v['footprint'])['median']:.0f}" for k, v in peak.levels.items())
    return [f"one thread: FMA {rates} GFLOP/s; read {reads} GB/s"]
