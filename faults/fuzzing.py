"""Generated and mutated params, manifests, users' tables, quarantines and shards, offered to their readers.

Must hold: each is read, or refused in words, as `stages.pipeline.stage_main` tells them; never another error,
a crash, more than 10 s of CPU time or 256 MB. A damaged shard that is read gives what was written.

A quarter of the inputs is drawn by hypothesis, the others are mutations of real files. Which of the readers a run is
for, and its input, follow from seed and number alone. All of it runs in a process of its own: where that dies, the
run that killed it is a failure, and another process goes on after it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from faults.fuzz_worker import CPU_SECONDS, PROGRESS, target_of
from faults.project import ROOT
from faults.result import Result

FULL = 1_000_000
_BATCH = 100_000  # runs of one process, then a fresh one


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """One core; about a millisecond for each run."""
    result, figures = Result(), Counter(map(target_of, range(first, first + count)))
    number, end = first, first + count
    while number < end:
        batch = min(_BATCH, end - number)
        with tempfile.TemporaryDirectory(dir=workdir) as folder:
            code, reached, lines = _process(Path(folder), seed, number, batch)
        for line in lines:
            found = json.loads(line)
            if isinstance(found, list):
                result.failures.append(f"{found[0]} {found[1]}")
                continue
            result.most("most_mb", found.pop("most_mb"))
            figures.update(found)
        if code:
            result.failures.append(f"{reached} {_end(code)}")
        number = reached + 1
    result.tried = count
    result.facts.update(figures)
    return result


def _process(folder: Path, seed: int, first: int, count: int) -> tuple[int, int, list[str]]:
    """Exit status of one worker, the number of its last run, and what it wrote.

    Raises
    ------
    RuntimeError
        It could not work at all.
    """
    progress = folder / PROGRESS
    progress.write_bytes(bytes(8))
    command = [sys.executable, "-m", "faults.fuzz_worker", str(seed), str(first), str(count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    with (folder / "lines").open("w+", encoding="utf-8") as lines, (folder / "errors").open("w+b") as errors:
        code = subprocess.run(command, cwd=folder, env=environment, stdout=lines, stderr=errors, check=False).returncode
        lines.seek(0)
        errors.seek(0)
        if code > 0:
            raise RuntimeError(f"the worker ended with status {code}: {errors.read()[-1000:].decode(errors='replace')}")
        return code, int.from_bytes(progress.read_bytes(), "little"), [line for line in lines if line.endswith("\n")]


def _end(code: int) -> str:
    name = signal.Signals(-code).name
    told = {"SIGXCPU": f": more than {CPU_SECONDS} s of CPU time", "SIGALRM": ": a hang"}
    return f"the process ended by {name}{told.get(name, '')}"
