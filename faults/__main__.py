"""Faults by the hundred: python -m faults [NAME...] [--count N] [--seed S] [--first N] [--list]

Without --count each family is run as often as docs/reliability.md promises, which takes hours. What was tried goes into
metrics/faults.json, the families that were not run stay as they are. Each failure is printed with the number that
repeats it: python -m faults media --seed 0 --first 4711 --count 1.

Status: 0 nothing was lost; 1 something was.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from faults.project import ROOT

RESULTS = ROOT / "metrics/faults.json"
NAMES = (
    *("media", "bombs", "injection", "names", "kills", "signals", "disk", "training", "flips", "duplicates"),
    *("invariance", "models", "server", "fuzzing"),
)


def commit() -> str:
    """Short name of the commit, with a + where the code differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "stages", "app") else "")


def run(name: str, count: int | None, seed: int, first: int) -> dict[str, Any]:
    """Run one family; what came of it, as metrics/faults.json has it."""
    module = importlib.import_module(f"faults.{name}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"faults-{name}-") as folder:
        result = module.run(module.FULL if count is None else count, seed, Path(folder), first)
    for failure in result.failures:
        print(f"{name}: {failure}")
    record = {"tried": result.tried, "failed": result.failed, "seconds": round(time.monotonic() - start)}
    extra = {"skipped": result.skipped} if result.skipped else {}
    return {**record, "full": module.FULL, "seed": seed, "commit": commit(), **result.facts, **extra}


def merge(records: dict[str, Any]) -> None:
    """Put the records into metrics/faults.json beside those of the other families."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(known | records, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them by default")
    parser.add_argument("--count", type=int, help="how many faults of each; by default as many as are promised")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"expected names of {', '.join(NAMES)}, received {', '.join(sorted(unknown))}")
    failed = 0
    for name in options.names or NAMES:
        record = run(name, options.count, options.seed, options.first)
        print(f"{name}: {json.dumps(record)}", flush=True)
        merge({name: record})
        failed += record["failed"]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
