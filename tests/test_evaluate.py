"""The evaluate stage, from a model on disk to its tables and pictures."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from learning_project import LABEL, ROOT, make_project
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score

from stages.learning.dataset import index_windows
from stages.learning.model_file import FeatureSettings, ModelSettings, fresh_network, save_model
from stages.learning.score_tables import worst_confusions, write_tables
from stages.learning.scoring import Scored
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.model_params import EvaluateParams
from stages.pipeline.params import load_params

SCORES = {"accuracy", "macro_f1", "top3", "log_loss", "log_loss_before", "ece", "ece_before", "eer", "cavg", "cavg_min"}
KEYS = {f"{name}{end}" for name in SCORES for end in ("", "_low", "_high")} | {
    "temperature", "calibrated_on", "chance", "ladder", "n_clips", "n_groups", "n_languages", "split",
}  # fmt: skip


def with_untrained_model(project: Path) -> Path:
    params = load_params(project / "params.yaml")
    rows = read_manifest(project / "data/manifest.csv")
    settings = ModelSettings(
        format=1,
        architecture="bands",
        languages=tuple(sorted({row.language for row in rows})),
        features=FeatureSettings(
            decode=params.decode, resample=params.resample, logmel=params.logmel, resize=params.resize
        ),
        train=params.train,
        temperature=1.0,
        n_parameters=1,
        best_epoch=1,
        n_clips=0,
        n_groups=0,
        split_label=LABEL,
        versions={},
    )
    save_model(project / "models/calibrated", settings, fresh_network(settings).get_weights(), "card\n")
    return project


def run(project: Path, expected: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "stages.evaluate"],
        cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == expected, done.stderr
    return done.stderr


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_writes_all_tables_and_they_agree(tmp_path: Path) -> None:
    project = with_untrained_model(make_project(tmp_path / "p", clips_per_group=5))
    log = run(project)
    folder = project / "metrics/evaluate"
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.csv", "confusion.png", "extra_predictions.csv", "metrics.json", "per_language.csv",
        "per_language.png", "predictions.csv", "reliability.csv", "reliability.png", "summary.txt",
        "unknown.csv", "unknown.png", "worst.json",
    ]  # fmt: skip
    values = json.loads((folder / "metrics.json").read_text())
    assert set(values) == KEYS
    windows = index_windows(
        project / "data/features", read_manifest(project / "data/manifest.csv"), ["l0", "l1", "l2"], "test"
    )
    predictions = table(folder / "predictions.csv")
    assert [row["id"] for row in predictions] == [clip.id for clip in windows.clips]
    assert values["n_clips"] == len(predictions) == 27
    assert values["n_groups"] == 2
    assert values["split"] == LABEL
    actual, predicted = ([row[name] for row in predictions] for name in ("actual", "predicted"))
    assert values["accuracy"] == pytest.approx(accuracy_score(actual, predicted), abs=1e-4)
    assert values["accuracy_low"] <= values["accuracy"] <= values["accuracy_high"]
    assert sum(int(row["n"]) for row in table(folder / "per_language.csv")) == 27
    assert sum(int(row["n"]) for row in table(folder / "reliability.csv")) == 27
    assert sum(entry["n"] for entry in json.loads((folder / "worst.json").read_text())) == sum(
        a != p for a, p in zip(actual, predicted, strict=True)
    )
    box = (folder / "summary.txt").read_text()
    assert "test accuracy" in box
    assert "chance 0.3333" in box
    assert "27 clips of 2 groups" in box
    assert LABEL in box
    assert all(line in log for line in box.splitlines())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(project)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}, "same model, same bytes"


def test_a_single_group_is_marked(tmp_path: Path) -> None:
    project = with_untrained_model(
        make_project(tmp_path / "p", languages=2, clips_per_group=4, split_of_group=("train", "test"))
    )
    run(project)
    values = json.loads((project / "metrics/evaluate/metrics.json").read_text())
    assert values["n_groups"] == 1
    assert "interval is over its clips" in values["split"]


def test_nothing_to_evaluate_is_told(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", languages=2, clips_per_group=2, split_of_group=("train", "train"))
    assert "dvc repro calibrate" in run(project, expected=74)
    log = run(with_untrained_model(project), expected=4)
    assert "test_fraction" in log
    assert "Traceback" not in log


def scored(languages: int, clips: int, certainty: float = 2.0) -> Scored:
    rng = np.random.default_rng(0)
    labels = np.arange(clips) % languages
    scores = log_softmax(rng.normal(size=(clips, languages)) + certainty * np.eye(languages)[labels], axis=1)
    names = [f"l{i:03d}" for i in range(languages)]
    rows = [Row(f"{i:016x}", f"{i}.wav", names[labels[i]], f"g{i % 7}", "test", "", "000") for i in range(clips)]
    return Scored(rows, names, scores, labels)


@pytest.mark.parametrize("languages", [2, 12, 176])
def test_pictures_of_few_and_many_languages(languages: int, tmp_path: Path) -> None:
    params = EvaluateParams(batch_size=8, bootstrap_samples=100, seed=1, calibration_bins=10, extra_corpora={})
    made = scored(languages, 400)
    write_tables(
        made, made.tempered(0.5), params, {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}, tmp_path
    )
    for name in ("confusion", "per_language", "reliability"):
        picture = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert min(picture.shape[:2]) > 250
        assert picture.std() > 0.01


def test_worst_confusions_come_first_and_name_their_clips() -> None:
    made = scored(12, 600, certainty=0.5)
    worst = worst_confusions(made)
    assert len(worst) == 10
    counts = [int(str(entry["n"])) for entry in worst]
    assert counts == sorted(counts, reverse=True)
    predicted = made.predicted
    for entry in worst:
        inside = [
            clip.id
            for clip, number in zip(made.clips, predicted, strict=True)
            if clip.language == entry["actual"] and made.languages[number] == entry["predicted"]
        ]
        assert len(inside) == entry["n"]
        assert set(entry["clips"]) <= set(inside)  # type: ignore[call-overload]
