"""The calibrate stage, from a trained model on disk to the calibrated one, and what evaluate makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from learning_project import LABEL, ROOT, make_project
from test_evaluate import table

from stages import calibrate, evaluate
from stages.learning.model_file import FeatureSettings, ModelSettings, fresh_network, load_model, save_model
from stages.learning.runtime import keras
from stages.pipeline.errors import SplitError
from stages.pipeline.params import load_params


def with_model(project: Path, languages: tuple[str, ...] = ("l0", "l1", "l2")) -> Path:
    """A model as the train stage leaves it: random weights, the last layer's large, so that it is much too sure."""
    params = load_params(project / "params.yaml")
    settings = ModelSettings(
        format=1, architecture="bands", languages=languages,
        features=FeatureSettings(
            decode=params.decode, resample=params.resample, logmel=params.logmel, resize=params.resize
        ),
        train=params.train, temperature=1.0, n_parameters=1, best_epoch=1, n_clips=0, n_groups=0, split_label=LABEL,
        versions={},
    )  # fmt: skip
    keras.utils.set_random_seed(2)
    weights = fresh_network(settings).get_weights()
    weights[-2] *= 100
    save_model(project / "models/model", settings, weights, "# Card\n")
    return project


def run(project: Path, stage: str, expected: int = 0) -> str:
    """The stage as a process of its own; what it says."""
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def values_of(project: Path, stage: str) -> dict[str, object]:
    values: dict[str, object] = json.loads((project / f"metrics/{stage}/metrics.json").read_text())
    return values


def test_a_model_that_is_too_sure_is_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = with_model(make_project(tmp_path / "p", clips_per_group=6))
    monkeypatch.chdir(project)
    calibrate.run(load_params())
    values = values_of(project, "calibrate")
    before, after = load_model(project / "models/model"), load_model(project / "models/calibrated")
    for one, other in zip(before[0].get_weights(), after[0].get_weights(), strict=True):
        assert np.array_equal(one, other)
    assert before[1].temperature == 1.0
    assert after[1].temperature == pytest.approx(values["temperature"], abs=1e-4)
    assert after[1].temperature > 2
    assert after[1].unknown_threshold is None
    assert values["log_loss"] < values["log_loss_before"]  # type: ignore[operator]
    assert values["fitted_on"] == after[1].calibration == "18 validation clips of 1 groups"
    card = (project / "models/calibrated/MODEL_CARD.md").read_text()
    assert card.startswith("# Card\n")
    assert f"temperature of {after[1].temperature:.3f}" in card

    evaluate.run(load_params())
    scores = values_of(project, "evaluate")
    assert scores["temperature"] == values["temperature"]
    assert scores["ece"] < scores["ece_before"]  # type: ignore[operator]
    assert scores["log_loss"] < scores["log_loss_before"]  # type: ignore[operator]
    assert "unknown" not in scores
    assert table(project / "metrics/evaluate/unknown.csv") == []
    first = {path.name: path.read_bytes() for path in (project / "models/calibrated").iterdir()}
    calibrate.run(load_params())
    assert first == {path.name: path.read_bytes() for path in (project / "models/calibrated").iterdir()}


def test_without_a_validation_split_the_temperature_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = with_model(make_project(tmp_path / "p", clips_per_group=3, split_of_group=("train", "test")))
    monkeypatch.chdir(project)
    calibrate.run(load_params())
    assert values_of(project, "calibrate")["temperature"] == 1.0
    evaluate.run(load_params())
    scores = values_of(project, "evaluate")
    assert scores["ece"] == scores["ece_before"]
    assert scores["calibrated_on"] == "none: there is no validation split"


def test_unknown_languages_from_training_to_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = ("train", "train", "validation", "validation", "test", "test")
    changes = {"train.unknown_languages": ["l1", "l3"], "train.epochs": 3}
    project = make_project(
        tmp_path / "p", languages=4, clips_per_group=6, split_of_group=splits, changes=changes
    )  # fmt: skip
    features = {path: path.stat().st_mtime_ns for path in (project / "data/features").iterdir()}
    run(project, "train")
    assert load_model(project / "models/model")[1].languages == ("l0", "l2")
    monkeypatch.chdir(project)
    calibrate.run(load_params())
    fitted = values_of(project, "calibrate")
    threshold = load_model(project / "models/calibrated")[1].unknown_threshold
    assert threshold == pytest.approx(fitted["unknown_threshold"], abs=1e-4)
    assert fitted["unknown_clips"] == 24
    evaluate.run(load_params())
    assert "unknown languages:" in (project / "metrics/evaluate/summary.txt").read_text()
    values = values_of(project, "evaluate")
    assert values["n_clips"] == 22  # two languages, two groups of six, less a rejected one each
    found = values["unknown"]
    assert isinstance(found, dict)
    assert (found["n_clips"], found["n_groups"]) == (22, 2)
    for name in ("auroc", "eer", "refused_known", "accepted_unknown", "right_and_accepted"):
        assert 0 <= found[f"{name}_low"] <= found[name] <= found[f"{name}_high"] <= 1
    curve = table(project / "metrics/evaluate/unknown.csv")
    assert (float(curve[0]["refused_known"]), float(curve[0]["accepted_unknown"])) == (0, 1)
    picture = matplotlib.image.imread(project / "metrics/evaluate/unknown.png")
    assert picture.std() > 0.01
    assert features == {path: path.stat().st_mtime_ns for path in (project / "data/features").iterdir()}


def test_unknown_languages_that_cannot_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, object] = {"train.unknown_languages": ["l2", "xx"]}
    project = make_project(
        tmp_path / "p", clips_per_group=2, split_of_group=("train", "test"), changes=changes
    )  # fmt: skip
    log = run(project, "train", expected=2)
    assert "train.unknown_languages names xx; the manifest has l0, l1, l2" in log
    other = make_project(
        tmp_path / "q", clips_per_group=2, split_of_group=("train", "test"),
        changes={"train.unknown_languages": ["l2"]},
    )  # fmt: skip
    monkeypatch.chdir(with_model(other, ("l0", "l1")))
    with pytest.raises(SplitError, match=r"between them; received 0 and 0\. Raise manifest\.validation_fraction"):
        calibrate.run(load_params())


def test_without_a_model_it_says_what_to_do(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", languages=2, clips_per_group=2)
    assert "expected a trained model in models/model, found no model.json; run `dvc repro train`" in run(
        project, "calibrate", 74
    )
