"""Training killed at a random moment, a third of the times while a checkpoint is being written, then run again.

The rest in turn: SIGKILL to the stage's group and to the stage alone, SIGTERM and SIGINT. Every fourth is hit again on
its way to the end, and every fifth is the stage `article`, which trains by the same code.

Must hold: after each kill the checkpoint is absent or whole; the next run goes on from it; in the end weights, settings
and learning curves are, byte for byte, those of an undisturbed run, and neither a checkpoint nor an unfinished file
stays.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from faults.project import Project, feature_project
from faults.result import Result, must
from stages.learning.checkpoint import load_checkpoint

FULL = 50
HOW = ("SIGKILL to all", "SIGKILL", "write", "SIGTERM", "SIGINT", "write")
OUTS = {"train": ("models/model", "metrics/train"), "article": ("models/article",)}
CHECKPOINTS = {"train": "data/.checkpoints", "article": "data/.checkpoints/article"}
_EPOCHS = 4
_WRITES_TRIED = 4  # a kill that was meant for a write may come too late: the run after it is hit again


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """One project with images of stripes; the stage is killed and run again for each fault."""
    result = Result(facts={"kills": 0, "inside_a_write": 0})
    project = feature_project((workdir / "project").resolve())
    project.set(train={"epochs": _EPOCHS, "average_momentum": 0.9}, article={"epochs": _EPOCHS})
    good: dict[str, dict[str, str]] = {}
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        stage, how = "article" if number % 5 == 4 else "train", HOW[number % len(HOW)]
        if stage not in good:
            project.stage(stage)
            good[stage] = project.hashes(*OUTS[stage])
        for path in [path for out in OUTS[stage] for path in (project.folder / out).rglob("*") if path.is_file()]:
            path.unlink()
        with result.attempt(number, f"{stage}, {how}"):
            for _ in range(2 if number % 4 == 3 else 1):
                _hit(project, stage, how, rng, result)
            _finish(project, stage)
            must(project.hashes(*OUTS[stage]) == good[stage], "other bytes than those of an undisturbed run")
            left = [path for path in (project.folder / "data/.checkpoints").rglob("*") if path.is_file()]
            left += project.folder.rglob("*.tmp")
            must(not left, f"left behind: {left[:2]}")
    return result


def _hit(project: Project, stage: str, how: str, rng: np.random.Generator, result: Result) -> None:
    """Start the stage and end it in mid-work; what it leaves must be whole."""
    folder = project.folder / CHECKPOINTS[stage]
    kind = signal.SIGKILL if how == "write" else signal.Signals[how.split()[0]]
    for _ in range(_WRITES_TRIED if how == "write" else 1):
        process = project.start("python", "-m", f"stages.{stage}")
        # 0: while it starts, which takes the most of the time; the last: while the model is saved
        number = int(rng.integers(1 if how == "write" else 0, _EPOCHS + 1))
        _wait_for_a_write(folder, process, number)
        time.sleep(float(rng.uniform(0, 0.01 if how == "write" else 0.3 if number else 6)))
        running = process.poll() is None
        if running:
            (os.killpg if how in ("write", "SIGKILL to all") else os.kill)(process.pid, kind)
        output, _ = process.communicate(timeout=120)
        must("Traceback" not in output, output[-500:])
        must(process.returncode in ({0, -kind, 128 + kind} if running else {0}), f"status {process.returncode}")
        result.facts["kills"] = int(result.facts["kills"]) + (process.returncode != 0)
        for path in folder.glob("*.npz"):
            must(load_checkpoint(path), f"a checkpoint that cannot be read: {path.name}")
        inside = any(folder.glob(".*.tmp"))
        result.facts["inside_a_write"] = int(result.facts["inside_a_write"]) + inside
        if inside or process.returncode == 0:
            return


def _wait_for_a_write(folder: Path, process: subprocess.Popen[str], number: int) -> None:
    """Until this run writes its checkpoint `number` (from 1), or has ended."""
    mine, writing = f".{process.pid}.tmp", False
    while number and process.poll() is None:
        seen = False
        with suppress(FileNotFoundError):
            seen = any(name.endswith(mine) for name in os.listdir(folder))
        number -= seen and not writing
        writing = seen
        if number:
            time.sleep(0.0005)


def _finish(project: Project, stage: str) -> None:
    """Run it to its end; it must take up the checkpoint that is there."""
    states = [load_checkpoint(path) for path in (project.folder / CHECKPOINTS[stage]).glob("*.npz")]
    output = project.stage(stage)
    for state in states:
        must(state and f"going on after epoch {state.epoch} " in output, f"began anew: {output[-300:]}")
