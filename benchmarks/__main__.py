"""All benchmarks, or those that are named: `python -m benchmarks [NAME...] [--source FOLDER]`.

Each result goes into benchmarks/results.json with the machine and the commit it was measured on; benchmarks/results.md
is made from all of them. The others' results stay as they are.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import inspect
import json
import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results.json"
PAGE = ROOT / "benchmarks/results.md"
NAMES = ("data_path", "disk", "changes", "scale", "manifest", "train", "predict")


def machine() -> str:
    """Processor, cores, memory, Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{models[0] if models else platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{gigabytes:.0f} GB, Python {platform.python_version()}"
    )


def commit() -> str:
    """Short name of the commit, with a + where the working folder differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "stages", "app") else "")


def page(results: dict[str, dict[str, object]]) -> str:
    parts = [
        "# Benchmarks",
        "Written by `make bench`; each benchmark's own head says what is compared with what. CPU seconds are user and "
        "system seconds of whole process trees.",
    ]
    for name in NAMES:
        if name in results:
            record = results[name]
            text = importlib.import_module(f"benchmarks.{name}").section(record["result"])
            parts += [text, f"<sub>{record['machine']}; commit {record['commit']}, {record['date']}</sub>"]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--source", type=Path, help="MP3 clips, <language>/<name>.mp3 (the demo corpus)")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(NAMES)):
        parser.error(f"expected names among {', '.join(NAMES)}; received {', '.join(unknown)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in arguments.names or NAMES:
        print(f"{name} ...", flush=True)
        measure = importlib.import_module(f"benchmarks.{name}").measure
        takes_source = arguments.source and "source" in inspect.signature(measure).parameters
        result = measure(source=arguments.source.resolve()) if takes_source else measure()
        today = datetime.date.today().isoformat()
        results[name] = {"machine": machine(), "commit": commit(), "date": today, "result": result}
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        PAGE.write_text(page(results))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
