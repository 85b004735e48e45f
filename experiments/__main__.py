"""The article's claims as experiments, each cell with several seeds: `make experiments`.

    python -m experiments            # train what DVC's cache lacks, write docs/claims.json, then the report
    python -m experiments --report   # the report alone: docs/claims.md's tables and docs/images/claims.png

Each cell and seed is one `dvc exp run` of the evaluate stage in a clone of the last commit, data/.experiments, which
shares this repository's cache: your params, working folder and lock stay as they are, and a run that was interrupted
goes on where it was, since finished stages come from the cache. `dvc exp show` in that clone lists the experiments.
docs/claims.json is written after each of them.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.grids import SEEDS, SETTINGS, Value
from experiments.report import RESULTS, Run, write_report
from stages.pipeline.errors import PipelineError
from stages.pipeline.files import write_atomically

CLONE = Path("data/.experiments")
log = logging.getLogger("experiments")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments", description="The article's claims as experiments.")
    parser.add_argument("--report", action="store_true", help="train nothing, write the report of docs/claims.json")
    logging.basicConfig(level=logging.INFO, format="experiments: %(message)s")
    try:
        if not parser.parse_args(arguments).report:
            run_grids()
        write_report()
    except PipelineError as error:
        log.error("%s", error)
        return error.exit_code
    return 0


def run_grids(grids: Mapping[str, Mapping[str, Value]] = SETTINGS, seeds: Sequence[int] = SEEDS) -> None:
    """All cells with the first seed, then all with the next: an early stop leaves whole rounds.

    grids : cell -> dotted param -> value
    """
    clone = clone_of_head()
    runs: list[Run] = []
    total = len(seeds) * len(grids)
    for seed in seeds:
        for cell, settings in grids.items():
            runs.append(run_cell(clone, cell, seed, settings))
            write_runs(runs)
            log.info(
                "%d of %d: %s, seed %d: accuracy %.4f on %d test clips",
                len(runs), total, cell, seed, runs[-1].accuracy, runs[-1].n_clips,
            )  # fmt: skip


def clone_of_head(clone: Path = CLONE) -> Path:
    """A clone of this repository's last commit with this repository's cache.

    Raises
    ------
    PipelineError
        Git or DVC could not make it; it has said why.
    """
    if _output("git", "status", "--porcelain", "--untracked-files=no"):
        log.warning("the working folder has changes that are not committed; the experiments run the last commit")
    if not (clone / ".git").is_dir():
        clone.parent.mkdir(parents=True, exist_ok=True)
        _call("git", "clone", "-q", ".", str(clone))
    _call("git", "fetch", "-q", "origin", "HEAD", folder=clone)
    _call("git", "reset", "-q", "--hard", "FETCH_HEAD", folder=clone)
    _call("dvc", "config", "-q", "--local", "cache.dir", _output("dvc", "cache", "dir"), folder=clone)
    return clone


def run_cell(clone: Path, cell: str, seed: int, settings: Mapping[str, Value]) -> Run:
    """One experiment; its scores.

    Raises
    ------
    PipelineError
        DVC could not run it; it has said why.
    """
    name = f"{cell}-seed{seed}"
    # an experiment of this name is an earlier run's: DVC would refuse to write over it
    subprocess.run(["dvc", "exp", "remove", "-q", name], cwd=clone, capture_output=True, check=False)
    changes = [f"--set-param={key}={_override(value)}" for key, value in {**settings, "train.seed": seed}.items()]
    _call("dvc", "exp", "run", "--name", name, *changes, "evaluate", folder=clone)
    return read_run(clone, cell, seed)


def _override(value: Value) -> str:
    """As DVC's --set-param reads it: Hydra's syntax, which takes JSON but for quoted numbers."""
    return value if isinstance(value, str) else json.dumps(value)


def read_run(project: Path, cell: str, seed: int) -> Run:
    """What the evaluate and train stages have written."""
    scores = _read_json(project / "metrics/evaluate/metrics.json")
    training = _read_json(project / "metrics/train/metrics.json")
    groups: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    with (project / "metrics/evaluate/predictions.csv").open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            groups[row["group"]][0] += row["actual"] == row["predicted"]
            groups[row["group"]][1] += 1
    return Run(
        cell=cell,
        seed=seed,
        chance=scores["chance"],
        train_accuracy=training["train_accuracy"],
        validation_accuracy=training["validation_accuracy"],
        groups={name: (right, clips) for name, (right, clips) in sorted(groups.items())},
    )


def write_runs(runs: Sequence[Run], path: Path = RESULTS) -> None:
    """One line for each run, so that a difference shows in Git."""
    lines = ",\n  ".join(json.dumps(run.values(), ensure_ascii=False) for run in runs)
    with write_atomically(path) as handle:
        handle.write(f"[\n  {lines}\n]\n")


def _read_json(path: Path) -> Mapping[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _call(*command: str, folder: Path = Path()) -> None:
    done = subprocess.run(command, cwd=folder, check=False, stdout=sys.stderr)
    if done.returncode:
        raise PipelineError(
            f"`{' '.join(command[:4])} ...` in {folder.resolve()} ended with status {done.returncode}; its messages "
            "stand above"
        )


def _output(*command: str) -> str:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise PipelineError(
            f"`{' '.join(command)}` ended with status {done.returncode}; run from the root of a Git and DVC repository"
        )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
