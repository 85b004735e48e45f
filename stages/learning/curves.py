"""Learning curves in metrics/train: DVCLive where it can run, a plain table where it cannot."""

from __future__ import annotations

import csv
import logging
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from stages.pipeline.files import write_json

log = logging.getLogger(__name__)

FOLDER = Path("metrics/train")
# the names that DVCLive gives its plots: metrics/train/plots/metrics/<split>/<what>.tsv
NAMES = {
    "train_loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "validation_loss": "validation/loss",
    "validation_accuracy": "validation/accuracy",
    "learning_rate": "learning_rate",
}


def _has_commit() -> bool:
    """DVCLive fails in a repository without a commit, and outside one it has nothing to add."""
    try:
        command = ["git", "rev-parse", "--verify", "-q", "HEAD"]
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


class Curves:
    """`with Curves() as curves: curves.add(record)` once an epoch; `finish` writes the summary.

    Both ways write the same files, so dvc.yaml's plots hold in either case.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._live: Any = None

    def __enter__(self) -> Curves:
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(self._folder.rglob("*.tsv")):
            old.unlink()
        if not _has_commit():
            log.info("no git commit yet, so DVCLive is left out; the curves are written as plain tables")
            return self
        os.environ.setdefault("DVC_STUDIO_OFFLINE", "true")  # nothing is sent anywhere
        logging.getLogger("dvclive").setLevel(logging.ERROR)
        try:
            from dvclive.live import Live

            self._live = Live(str(self._folder), dvcyaml=None, save_dvc_exp=False, report=None)
        except Exception as error:
            log.warning("DVCLive does not start (%s); the curves are written as plain tables", error)
        return self

    def add(self, record: dict[str, float]) -> None:
        """One epoch's numbers; those that are unknown are left out."""
        step = int(record["epoch"])
        for key, name in NAMES.items():
            if key not in record:
                continue
            if self._live is not None:
                self._live.step = step
                self._live.log_metric(name, record[key])
            else:
                self._append(name, step, record[key])

    def _append(self, name: str, step: int, value: float) -> None:
        path = self._folder / "plots" / "metrics" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
            if new:
                writer.writerow(["step", name.rpartition("/")[2]])
            writer.writerow([step, value])

    def finish(self, summary: dict[str, Any]) -> None:
        """Write metrics.json, in place of DVCLive's own."""
        if self._live is not None:
            self._live.end()
            self._live = None
        write_json(self._folder / "metrics.json", summary)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.end()
