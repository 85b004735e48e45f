"""SIGINT and SIGTERM at a random moment of a data stage: to the stage, and to its whole group, as Ctrl-C does.

Must hold: no process is left after 5 s, no traceback once the stage has begun (its imports take a third of a second),
and the next run goes on to the same bytes.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from faults.project import Project, mixed_corpus
from faults.result import Result, must

FULL = 100
_GONE_SECONDS = 5.0


def processes_in(folder: Path) -> list[int]:
    """Processes whose working directory is `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if os.readlink(entry) == str(folder):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """One project, one stage, stopped again and again."""
    result = Result()
    project = Project((workdir / "project").resolve(), mixed_corpus(workdir / "corpus"))
    project.set(manifest={"clips_per_shard": 2}, execution={"workers": 2})
    project.stage("manifest")
    start = time.monotonic()
    project.stage("decode")
    lock = project.folder / "data/.locks/decode.lock"
    seconds, good = time.monotonic() - start, project.hashes("data/decoded")
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        kind, whole = (signal.SIGINT, signal.SIGTERM)[number % 2], number % 4 >= 2
        after = float(rng.uniform(0.02, 1.0)) * seconds
        for path in [
            *(project.folder / "data/.reuse/decode").rglob("*.*"),
            *(project.folder / "data/decoded").glob("*"),
        ]:
            path.unlink()
        with result.attempt(number, f"{kind.name} to {'all' if whole else 'the stage'} after {after:.2f} s"):
            process = project.start("python", "-m", "stages.decode")
            time.sleep(after)
            begun = lock.exists() and lock.read_text() == str(process.pid)
            (os.killpg if whole else os.kill)(process.pid, kind)
            asked = time.monotonic()
            output, _ = process.communicate(timeout=60)
            while (left := processes_in(project.folder)) and time.monotonic() - asked < _GONE_SECONDS:
                time.sleep(0.05)
            must(not left, f"left after {_GONE_SECONDS} s: {left}")
            must(not begun or "Traceback" not in output, output)  # before that, it is Python's own, of an import
            result.facts["begun"] = int(result.facts.get("begun", 0)) + begun
            project.stage("decode")
            must(project.hashes("data/decoded") == good, "other bytes than those of an undisturbed run")
    return result
