"""The ceilings of one core of this machine: FMA rate per ISA, and read bandwidth of caches and memory.

python bench/peak.py [--quick] [--json FILE] [--footprint BYTES ...]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from forwardpass.bench.peak import LEVELS, Peak, human


def table(found: dict[str, Any]) -> list[str]:
    """The figures as lines of text."""
    lines = [f"{'FMA, float32':<26}{'median':>10}{'best':>10}  GFLOP/s"]
    for isa, v in found["fma"].items():
        lines.append(f"  {isa:<24}{v['median']:>10.1f}{v['best']:>10.1f}")
    lines += ["", f"{'read':<26}{'median':>10}{'best':>10}  GB/s"]
    for level, values in found["read"].items():
        label = f"{level} ({human(values['footprint'])})" if level in LEVELS else level
        for isa in [i for i in found["fma"] if i in values]:
            v = values[isa]
            lines.append(f"  {label:<17}{isa:<7}{v['median']:>10.1f}{v['best']:>10.1f}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the FMA rate and the read bandwidth of one core.")
    parser.add_argument("--quick", action="store_true", help="a fraction of a second per figure is enough")
    parser.add_argument("--footprint", type=int, nargs="*", default=[], help="measure reading so many bytes, too")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, '-' for stdout instead of the table")
    args = parser.parse_args()
    peak = Peak(*(5, 2.0) if args.quick else ())
    try:
        found = peak.to_dict()
        for nbytes in args.footprint:
            found["read"][human(nbytes)] = {
                "footprint": nbytes, **{isa: peak.read(nbytes, isa) for isa in peak.isas},
            }  # fmt: skip
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    if args.json != "-":
        print("\n".join(table(found)))
    if args.json:
        text = json.dumps(found, indent=1)
        print(text) if args.json == "-" else Path(args.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
