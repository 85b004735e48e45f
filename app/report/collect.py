"""Everything that the page shows, read from the working folder and from Git; what is not there is left out."""

from __future__ import annotations

import base64
import csv
import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.paired import Difference, paired_difference, read_predictions
from stages.pipeline.errors import ParamsError, PipelineError, StorageError
from stages.pipeline.yaml12 import load_yaml12

METRICS = Path("metrics")
SCORES = METRICS / "evaluate/metrics.json"
PREDICTIONS = METRICS / "evaluate/predictions.csv"
PICTURES = (
    "audit/probes.png",
    "evaluate/confusion.png",
    "evaluate/per_language.png",
    "evaluate/reliability.png",
    "evaluate/unknown.png",
    "robustness/robustness.png",
)
TABLES = (
    "audit/properties.csv",
    "audit/groups.csv",
    "evaluate/per_language.csv",
    "robustness/table.csv",
    "export/table.csv",
)
PACKAGES = ("numpy", "librosa", "soxr", "h5py", "keras", "tensorflow", "tensorflow-cpu", "scikit-learn", "dvc")
_COMPARED = ("accuracy", "macro_f1", "top3", "log_loss", "ece", "eer", "cavg", "cavg_min")


@dataclass(frozen=True)
class Row:
    """A value now and at the commit that it is compared with; `before` is None where there was none."""

    name: str
    now: Any
    before: Any


@dataclass
class Experiment:
    """scores : metrics/evaluate/metrics.json, {} where evaluate has not run. numbers : stage -> all its numbers.

    tables : "stage/name.csv" -> rows; pictures : "stage/name.png" -> data URI; curves : "loss" -> {"train": [...]}
    quarantine : (stage, rows, kept, {reason: count})
    """

    commit: str
    changed_files: int
    base: str
    scores: dict[str, Any]
    numbers: dict[str, dict[str, Any]]
    texts: dict[str, str]
    tables: dict[str, list[dict[str, str]]]
    pictures: dict[str, str]
    curves: dict[str, dict[str, list[float]]]
    quarantine: list[tuple[str, int, int, dict[str, int]]]
    params: list[Row]
    compared: list[Row]
    gain: Difference | None
    worst: list[dict[str, Any]]
    paths: dict[str, str]
    model: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)


def collect(base: str) -> Experiment:
    """What lies in the working folder.

    base : the commit to compare with; "" for the last one with other scores or params than these.

    Raises
    ------
    ParamsError
        There is no such commit.
    PipelineError
        Nothing was run yet.
    """
    if not any(METRICS.glob("*/*.json")):
        raise PipelineError(f"expected results in {METRICS.absolute()}, found none; run `make repro`")
    base = base or _other_commit()
    if base and _git("rev-parse", "--verify", "--quiet", f"{base}^{{commit}}") is None:
        raise ParamsError(f"expected a commit, branch or experiment as the base, received {base!r}")
    worst = _json(METRICS / "evaluate/worst.json")
    return Experiment(
        commit=_line("rev-parse", "--short", "HEAD"),
        changed_files=len(_line("status", "--porcelain", "--untracked-files=no").splitlines()),
        base=_line("log", "-1", "--format=%h, %cs: %s", base) if base else "",
        scores=_json(SCORES) or {},
        numbers=_numbers(),
        texts={
            str(path.relative_to(METRICS)): path.read_text(encoding="utf-8").strip()
            for path in (METRICS / "audit/verdict.txt", METRICS / "evaluate/summary.txt")
            if path.is_file()
        },
        tables={name: _rows(METRICS / name) for name in TABLES if (METRICS / name).is_file()},
        pictures={name: data_uri((METRICS / name).read_bytes()) for name in PICTURES if (METRICS / name).is_file()},
        curves=_curves(),
        quarantine=_quarantine(),
        params=_params(base),
        compared=_compared(base),
        gain=_gain(base),
        worst=worst or [],
        paths={row["id"]: row["path"] for row in _rows(Path("data/manifest.csv"))} if worst else {},
        model=_json(Path("models/calibrated/model.json")) or {},
        versions=_versions(),
    )


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists stay as they are."""
    if not isinstance(values, dict):
        return {prefix: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _git(*arguments: str) -> str | None:
    """Its output; None where it fails: no repository, no commit, no such file."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _line(*arguments: str) -> str:
    return (_git(*arguments) or "").strip()


def _other_commit() -> str:
    """The newest commit whose scores or params are not those of the working folder; "" where there is none."""
    here = [_text(SCORES), _text(Path("params.yaml"))]
    for commit in _line("log", "--format=%H", "-n", "50", "--", str(SCORES), "params.yaml").split():
        there = [_git("show", f"{commit}:{name}") for name in (SCORES, "params.yaml")]
        if there != here and there[0] is not None:
            return commit
    return ""


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _json(path: Path) -> Any:
    try:
        text = _text(path)
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path} is not what a stage writes: {error}; `dvc repro` writes it anew") from None


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _numbers() -> dict[str, dict[str, Any]]:
    order = ("manifest", "decode", "audit", "train", "calibrate", "evaluate", "robustness", "export")
    found: dict[str, dict[str, Any]] = {name: {} for name in order}
    for path in sorted([*METRICS.glob("*/metrics.json"), *METRICS.glob("*/summary.json")]):
        found.setdefault(path.parent.name, {}).update(flat(_json(path)))
    return {name: values for name, values in found.items() if values}


def _curves() -> dict[str, dict[str, list[float]]]:
    folder = METRICS / "train/plots/metrics"
    found: dict[str, dict[str, list[float]]] = {}
    for path in sorted(folder.glob("*/*.tsv")):
        with path.open(encoding="utf-8", newline="") as handle:
            values = [float(row[path.stem]) for row in csv.DictReader(handle, delimiter="\t")]
        found.setdefault(path.stem, {})[path.parent.name] = values
    return found


def _quarantine() -> list[tuple[str, int, int, dict[str, int]]]:
    found = []
    for stage in ("manifest", "decode", "resample", "logmel", "resize"):
        path = METRICS / stage / "summary.json"
        values = _json(path)
        if values is None:
            continue
        try:
            reasons = {str(reason): int(count) for reason, count in values["reasons"].items()}
            found.append((stage, int(values["rows"]), int(values["kept"]), reasons))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise StorageError(
                f"{path}: expected rows, kept and reasons as numbers; {type(error).__name__}: {error}. `dvc repro` "
                "writes it anew"
            ) from None
    return found


def _params(base: str) -> list[Row]:
    now = flat(load_yaml12(_text(Path("params.yaml")) or "{}"))
    then = flat(load_yaml12((_git("show", f"{base}:params.yaml") if base else None) or "{}"))
    return [Row(name, now.get(name), then.get(name)) for name in {**now, **(then if base else {})}]


def _compared(base: str) -> list[Row]:
    now = _json(SCORES) or {}
    text = _git("show", f"{base}:{SCORES}") if base else None
    then = json.loads(text) if text else {}
    return [Row(name, now[name], then[name]) for name in _COMPARED if name in now and name in then]


def _gain(base: str) -> Difference | None:
    """Where DVC's cache still holds the base's answers."""
    now = _text(PREDICTIONS)
    if not base or now is None:
        return None
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        then = dvc.api.read(str(PREDICTIONS), rev=base)
    except (DvcException, OSError):
        return None
    return paired_difference(read_predictions(then), read_predictions(now))


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "system": platform.platform(), "cores": str(os.cpu_count())}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
