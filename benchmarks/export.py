"""What one window costs in each exported format: seconds to load, milliseconds a window, on one thread.

    python benchmarks/export.py --json

- load       a file that was read before -> ready for the first window, after that window
- latency    samples of one full window -> probabilities, median and least; the formats take turns, so that what else
             the machine does meets all of them alike

Accuracy, size and distance from the pipeline stand beside them, as the export stage measured them
(metrics/export/table.csv). docs/export.md's table is filled from this.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/export.md"
_BLOCK = re.compile(r"(<!-- formats -->\n)(.*?)(<!-- /formats -->)", re.DOTALL)

# In a process of its own, in which TensorFlow has one thread from its start.
IN_PROCESS = """
import json, sys, time
from pathlib import Path
import stages.exporting
import numpy as np, onnxruntime, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
from stages.exporting.compare import litert_runner, onnx_runner, saved_model_runner
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
names = sys.argv[3:]
about = onnxruntime.InferenceSession(folder / "model.onnx").get_modelmeta().custom_metadata_map
window = json.loads(about["input"])
samples = (0.1 * np.random.default_rng(0).standard_normal((1, window["samples"]))).astype(np.float32)
lengths = np.array([window["samples"] - 2 * window["before"]])
def load(name):
    if name == "saved_model":
        return saved_model_runner(folder / name)
    return (onnx_runner if name.endswith(".onnx") else litert_runner)((folder / name).read_bytes(), 1)
loads, runners, took = {}, {}, {name: [] for name in names}
for name in names:
    start = time.perf_counter()
    runners[name] = load(name)
    runners[name](samples, lengths)
    loads[name] = time.perf_counter() - start
for _ in range(rounds):
    for name in names:
        start = time.perf_counter()
        runners[name](samples, lengths)
        took[name].append(time.perf_counter() - start)
print(json.dumps({"load": loads, "took": took}))
"""


def measure(
    rounds: int = 60, models: Path = ROOT / "models/export", table: Path = ROOT / "metrics/export/table.csv"
) -> dict[str, Any]:
    if not table.is_file() or not (models / "model.onnx").is_file():
        sys.exit(f"expected exported files in {models} and their scores in {table}; run `make repro` first")
    with table.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    names = [row["file"] for row in rows]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", IN_PROCESS, str(models), str(rounds), *names],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"a process failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    files = [
        row
        | {
            "load_seconds": round(found["load"][row["file"]], 3),
            "latency_ms": round(1000 * statistics.median(found["took"][row["file"]]), 1),
            "least_ms": round(1000 * min(found["took"][row["file"]]), 1),
        }
        for row in rows
    ]
    return {"rounds": rounds, "files": files, "seconds": round(time.monotonic() - started, 1)}


def lines(result: dict[str, Any]) -> list[str]:
    """The table."""
    clips, groups = result["files"][0]["n_clips"], result["files"][0]["n_groups"]
    out = [
        f"| file | MB | accuracy on {clips} clips of {groups} voices [95 % interval] | same answer as the pipeline | "
        "a probability differs by at most | loads in | a 10 s window, 1 thread: median (least) |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in result["files"]:
        accuracy, low, high = (f"{float(one[key]):.3f}" for key in ("accuracy", "accuracy_low", "accuracy_high"))
        out.append(
            f"| `{one['file']}` | {int(one['bytes']) / 1e6:.1f} | {accuracy} [{low}, {high}] | "
            f"{100 * float(one['same_answer']):.1f} % | {one['distance']} | {one['load_seconds']:.2f} s | "
            f"{one['latency_ms']:.1f} ms ({one['least_ms']:.1f}) |"
        )
    return out


def section(result: dict[str, Any]) -> str:
    """For results.md."""
    return "\n".join(["## Exported files", "", *lines(result)])


def filled(page: str, result: dict[str, Any]) -> str:
    """The text of docs/export.md with the table of what was measured."""
    return _BLOCK.sub(lambda block: "\n".join([block[1].rstrip("\n"), *lines(result), block[3]]), page)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--models", type=Path, default=ROOT / "models/export")
    parser.add_argument("--table", type=Path, default=ROOT / "metrics/export/table.csv")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.models.resolve(), arguments.table.resolve())
    print(json.dumps(result) if arguments.json else section(result))


if __name__ == "__main__":
    main()
