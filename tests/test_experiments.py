"""`make experiments`: what the grids set, what the intervals say, and two cells in a real repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PARAMS, ROOT, Project, merged

from experiments import report
from experiments.grids import BASE, CELLS, CLAIMS, SEEDS, SETTINGS
from experiments.report import Run, difference, seed_deviation, verdict, what_holds, write_report
from stages.pipeline.errors import StorageError
from stages.pipeline.params import parse_params

VOICES = 20


def runs(cell: str, *shares: float, clips: int = 30, voices: int = VOICES) -> list[Run]:
    """One run for each share of right clips, the same in each voice."""
    groups = {f"v{number}": clips for number in range(voices)}
    return [
        Run(cell, seed, 0.2, 1.0, 0.5, {name: (round(share * n), n) for name, n in groups.items()})
        for seed, share in enumerate(shares, start=1)
    ]


def test_each_cell_is_a_valid_setting_of_all_params_that_any_cell_changes() -> None:
    assert len(SEEDS) >= 3
    for cell, settings in SETTINGS.items():
        values = PARAMS
        for key, value in settings.items():
            nested: Any = value
            for name in reversed(key.split(".")):
                nested = {name: nested}
            values = merged(values, nested)
        params = parse_params(values, cell)
        off = params.train.augment.model_dump()
        widths = ("frequency_mask_bands", "time_mask_columns", "noise_loudest")  # of parts that are off
        assert not any(value for key, value in off.items() if key not in widths)
        assert params.article.epochs == 0
    assert len({frozenset(settings) for settings in SETTINGS.values()}) == 1
    claimed = [cell for claim in CLAIMS for cell in claim.cells]
    assert sorted([BASE, *claimed]) == sorted(CELLS)


def test_an_interval_holds_the_seeds_spread_and_the_voices() -> None:
    cells = {BASE: runs(BASE, 0.5, 0.6, 0.7), "worse": runs("worse", 0.2, 0.3, 0.4)}
    deviation, freedom = seed_deviation(cells)
    assert deviation == pytest.approx(0.1)
    assert freedom == 4
    found = difference(cells, "worse")
    assert found.mean == pytest.approx(-0.3)
    # all voices are alike, so only seeds count: 2.776 is t's quantile with 4 degrees of freedom
    half = 2.776 * 0.1 * np.sqrt(2 / 3)
    assert found.low == pytest.approx(-0.3 - half, abs=0.01)
    assert found.high == pytest.approx(-0.3 + half, abs=0.01)

    rng = np.random.default_rng(0)
    easy = rng.uniform(0, 1, VOICES)
    shifted = [
        Run(cell, seed, 0.2, 1.0, 0.5, {f"v{i}": (round(1000 * (0.4 * x + shift)), 1000) for i, x in enumerate(easy)})
        for cell, shift in ((BASE, 0.3), ("better", 0.4))
        for seed in (1, 2, 3)
    ]
    found = difference({BASE: shifted[:3], "better": shifted[3:]}, "better")
    assert found.high - found.low < 0.01, "voices differ, but alike for both: the same ones are drawn"
    unlike = Run("better", 1, 0.2, 1.0, 0.5, {**shifted[3].groups, "another": (1, 1)})
    found = difference({BASE: shifted[:3], "better": [unlike] * 3}, "better")
    assert found.high - found.low > 0.05, "other test clips: other voices are drawn for each"


@pytest.mark.parametrize(
    ("kind", "low", "high", "expected"),
    [
        ("better", -0.2, -0.1, report.HOLDS),
        ("better", 0.1, 0.2, report.FAILS),
        ("better", -0.2, 0.1, report.OPEN),
        ("as well", -0.2, 0.04, report.HOLDS),
        ("as well", 0.01, 0.06, report.FAILS),
        ("as well", -0.01, 0.06, report.OPEN),
        ("higher", 0.01, 0.06, report.HOLDS),
        ("higher", -0.06, -0.01, report.FAILS),
        ("better", float("nan"), float("nan"), report.OPEN),
    ],
)
def test_verdicts(kind: str, low: float, high: float, expected: str) -> None:
    claim = next(claim for claim in CLAIMS if claim.kind == kind)
    assert what_holds(claim, report.Difference((low + high) / 2, low, high)) == expected


def test_a_cell_that_has_not_learned_its_own_clips_says_nothing() -> None:
    cells = {BASE: runs(BASE, 0.9, 0.91), "axis-log": runs("axis-log", 0.2, 0.21)}
    assert verdict(CLAIMS[0], cells, "axis-log") == report.HOLDS
    cells["axis-log"] = [replace(run, train_accuracy=0.3) for run in cells["axis-log"]]
    assert verdict(CLAIMS[0], cells, "axis-log") == report.OPEN
    assert verdict(CLAIMS[0], cells, "axis-linear") == report.OPEN


def test_a_page_with_what_has_been_run_and_what_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    shutil.copy(ROOT / "docs/claims.md", "docs/claims.md")
    with pytest.raises(StorageError, match="make experiments"):
        write_report()
    made = [*runs(BASE, 0.5, 0.6), *runs("axis-log", 0.1, 0.2), *runs("split-random", 0.9, 0.8, voices=30)]
    rows = [run.values() for run in made]
    Path("docs/claims.json").write_text(json.dumps(rows))
    write_report()
    page = Path("docs/claims.md").read_text()
    assert "**Not finished**: 6 of 36 trainings, 0 to 2 seeds a cell" in page
    assert "| A mel axis beats a log-frequency and a linear one | log-frequency axis | 0.150 | 0.100, 0.200 |" in page
    assert "| linear axis | not run |" in page
    assert page.count("**cannot be told**") >= len(CELLS) - 3
    picture = Path("docs/images/claims.png").read_bytes()
    write_report()
    assert Path("docs/claims.md").read_text() == page
    assert Path("docs/images/claims.png").read_bytes() == picture, "the same numbers, the same bytes"


def test_the_page_holds_the_committed_numbers() -> None:
    cells = report.read_runs(ROOT / "docs/claims.json")
    page = (ROOT / "docs/claims.md").read_text(encoding="utf-8")
    assert report.table(cells) in page
    assert report.facts(cells) in page
    assert report.verdicts(cells) in page


SCORE = """
import csv, json, pathlib
from stages.pipeline.yaml12 import load_yaml12
train = load_yaml12(open("params.yaml").read())["train"]
for stage, values in (("evaluate", {"chance": 0.5}), ("train", {"train_accuracy": 1, "validation_accuracy": 1})):
    folder = pathlib.Path("metrics", stage)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(values))
right = train["seed"] if train["architecture"] == "cnn5" else 1
rows = [(i, f"v{i % 2}", "es", "es" if i < right else "pt") for i in range(4)]
csv.writer(open("metrics/evaluate/predictions.csv", "w")).writerows([("id", "group", "actual", "predicted"), *rows])
"""
GRAPH = """
stages:
  evaluate:
    cmd: python score.py
    deps: [score.py]
    params: [train]
    outs: [metrics/evaluate, metrics/train]
"""


def test_each_cell_and_seed_is_an_experiment_of_a_clone(tmp_path: Path) -> None:
    """With a graph of one quick stage; the pipeline's own runs in the slow test below."""
    files = {"score.py": SCORE, "dvc.yaml": GRAPH, "params.yaml": "train: {architecture: bands, seed: 0}\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    grids = {BASE: {"train.architecture": "cnn5"}, "other": {"train.architecture": "cnn5_relu"}}

    def run(*command: str) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    for command in ("git init -q", "git config user.email test@example.org", "git config user.name test",
                    "dvc init -q", "git add .", "git commit -qm start"):  # fmt: skip
        run(*command.split())
    (tmp_path / "params.yaml").write_text("train: {architecture: bands, seed: 7}\n")
    program = (
        f"import logging; logging.basicConfig(level=20)\nfrom experiments.__main__ import *\nrun_grids({grids}, (1, 2))"
    )
    first = run("python", "-c", program)
    assert "changes that are not committed" in first
    cells = report.read_runs(tmp_path / "docs/claims.json")
    found = {cell: [run.accuracy for run in made] for cell, made in cells.items()}
    assert found == {BASE: [0.25, 0.5], "other": [0.25, 0.25]}
    assert cells[BASE][1].groups == {"v0": (1, 2), "v1": (1, 2)}
    assert "seed: 7" in (tmp_path / "params.yaml").read_text(), "the working folder stays as it is"
    assert not (tmp_path / "metrics").exists()
    assert first.count("Running stage") == 4
    again = run("python", "-c", program)
    assert "Running stage" not in again, "what is finished comes from the cache"
    assert report.read_runs(tmp_path / "docs/claims.json") == cells


@pytest.mark.slow
def test_two_cells_in_a_repository(make_project: Callable[..., Project]) -> None:
    project = make_project(groups=6, clips=3)
    for name in ("experiments", "docs/claims.md"):
        source, target = ROOT / name, project.folder / name
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    (project.folder / "two.py").write_text(
        "from experiments.__main__ import run_grids\n"
        "from experiments.report import write_report\n"
        'small = {"logmel.n_mels": 32, "logmel.n_fft": 512, "resize.height": 32, "resize.width": 32,\n'
        '         "resize.window_seconds": 1.0, "resize.stride_seconds": 1.0, "train.epochs": 1,\n'
        '         "train.batch_size": 16, "train.augment.crop_columns": 0, "train.learning_rates": [[0, 1e-3]],\n'
        '         "manifest.languages": [], "article.epochs": 0, "evaluate.bootstrap_samples": 100}\n'
        'grids = {"base": small | {"train.architecture": "cnn5"},\n'
        '         "head-average": small | {"train.architecture": "cnn5_average"}}\n'
        "run_grids(grids, seeds=(1,))\n"
        "write_report()\n"
    )
    project.with_dvc()
    before = (project.folder / "params.yaml").read_text(), project.run("git", "log", "--all", "--oneline")
    project.run("python", "two.py")
    results = json.loads((project.folder / "docs/claims.json").read_text())
    assert [(row["cell"], row["seed"]) for row in results] == [(BASE, 1), ("head-average", 1)]
    assert results[0]["groups"].keys() == results[1]["groups"].keys()
    assert "**Not finished**: 2 of 36 trainings" in (project.folder / "docs/claims.md").read_text()
    assert before == ((project.folder / "params.yaml").read_text(), project.run("git", "log", "--all", "--oneline"))
    assert not (project.folder / "data/manifest.csv").exists(), "the working folder stays as it is"
    assert "data/.experiments" not in project.run("git", "status", "--porcelain")
    assert ".experiments" not in project.run("dvc", "stage", "list", "--all")
    again = project.run("python", "two.py")
    assert "Running stage" not in again, "what is finished comes from the cache"
    assert json.loads((project.folder / "docs/claims.json").read_text()) == results
