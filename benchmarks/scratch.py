"""Scratch projects to measure in: a copy of the stages with a dataset, and processes with their CPU time."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
DATA_STAGES = ("manifest", "decode", "resample", "logmel", "resize")


@dataclass(frozen=True)
class Run:
    """CPU seconds of a process and all its children, seconds on the clock, and what it wrote."""

    cpu: float
    wall: float
    output: str


def run(folder: Path, *command: str) -> Run:
    """Run a command in the folder, each library with one thread; a failure ends the benchmark."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, **threads, "PATH": path, "CI": "true"}, capture_output=True, text=True
    )
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    output = result.stdout + result.stderr
    if result.returncode:
        sys.exit(f"{' '.join(command)} ended with status {result.returncode}:\n{output[-2000:]}")
    return Run(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, output)


def stage(folder: Path, name: str) -> Run:
    return run(folder, sys.executable, "-m", f"stages.{name}")


def prepare(folder: Path, dataset: str, **execution: Any) -> None:
    """Stages, graph and params; the dataset's path is relative to the folder."""
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "data/.gitignore"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    write_params(folder, dataset, **execution)


def write_params(folder: Path, dataset: str, **execution: Any) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["dataset"] = dataset
    params["manifest"] |= {"max_reject_fraction": 0.0}
    params["execution"] |= {"reuse_gb": 1000.0, **execution}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def start_dvc(folder: Path) -> None:
    """Make the folder a repository of Git and DVC, with this project's settings."""
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
