"""Seconds that `import apportion` takes in a fresh interpreter, beside an interpreter that imports nothing.

    python benchmarks/import_time.py [--runs 20]

The two are run in turn; what is quoted is the median of the differences, pair by pair.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table


def seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    pairs = [(seconds("import apportion"), seconds("pass")) for _ in range(runs)]
    differences = sorted(ours - bare for ours, bare in pairs)
    result = {
        "benchmark": "import_time",
        "runs": runs,
        "import_s": statistics.median(differences),
        "low": differences[int(0.05 * runs)],
        "high": differences[min(runs - 1, int(0.95 * runs))],
        "bare_interpreter_s": statistics.median(bare for _, bare in pairs),
    }
    table = Table(title="import apportion, over a bare interpreter")
    for heading in ("median s", "5%", "95%", "bare interpreter s"):
        table.add_column(heading, justify="right")
    table.add_row(*(f"{result[key]:.3f}" for key in ("import_s", "low", "high", "bare_interpreter_s")))
    Console().print(table)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
