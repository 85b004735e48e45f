"""Corpora that are only scored: from recordings to the report, and what DVC makes of a list of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Project, write_corpus
from test_evaluate import table

from stages.learning.cross_corpus import ExtraCorpus
from stages.learning.model_file import FeatureSettings, ModelSettings, fresh_network, save_model
from stages.learning.scoring import Scored
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.params import load_params
from stages.pipeline.shards import Shard, list_shards

SMALL = {
    "logmel": {"n_mels": 32, "n_fft": 512, "fmin_hz": 100},
    "resize": {"height": 32, "width": 32, "window_seconds": 1, "stride_seconds": 1},
    "train": {"augment": {"crop_columns": 0}},
    "evaluate": {"bootstrap_samples": 100},
    "execution": {"workers": 1},
}


def images(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in list_shards(folder):
        with Shard(path) as shard:
            found |= {name: shard.clip(i).tobytes() for i, name in enumerate(shard.ids)}
    return found


def test_other_corpora_stand_beside_the_score(tmp_path: Path, make_project: Callable[..., Project]) -> None:
    project = make_project()
    folder = project.folder
    again = tmp_path / "again"  # the dataset itself: what training heard is left out
    shutil.copytree(tmp_path / "corpus", again)
    other = write_corpus(tmp_path / "other", languages=3, groups=3, clips=3, seconds=0.8)
    (other / "l1").rename(other / "xx")
    (other / "l0/speaker0/broken.wav").write_bytes(b"no sound")
    corpora = {"again": str(again), "other": str(other), "gone": str(tmp_path / "gone")}
    project.set(**SMALL, decode={"max_reject_fraction": 0.2})
    project.set(evaluate={"extra_corpora": corpora})
    project.stage("manifest", "decode", "resample", "logmel", "resize")
    assert "expected a folder of recordings or a CSV/TSV table" in project.run(
        "python", "-m", "stages.extra", "gone", status=74
    )
    assert "evaluate.extra_corpora (again, other, gone), received no-such" in project.run(
        "python", "-m", "stages.extra", "no-such", status=2
    )
    project.run("python", "-m", "stages.extra", "again")
    assert "28 recordings = 27 kept + 1 rejected" in project.run("python", "-m", "stages.extra", "other")
    assert [row["reason"] for row in table(folder / "data/extra/other/quarantine.csv")] == ["not_audio"]
    assert images(folder / "data/extra/again") == images(folder / "data/features")

    params = load_params(folder / "params.yaml")
    settings = ModelSettings(
        format=1, architecture="bands", languages=("l0", "l1", "l2"),
        features=FeatureSettings(
            decode=params.decode, resample=params.resample, logmel=params.logmel, resize=params.resize
        ),
        train=params.train, temperature=1.3, n_parameters=1, best_epoch=1, n_clips=0, n_groups=0,
        split_label="group-disjoint", versions={},
    )  # fmt: skip
    save_model(folder / "models/calibrated", settings, fresh_network(settings).get_weights(), "card\n")
    assert "expected data/extra/gone, which the extra stage writes" in project.stage("evaluate", status=74)
    del project.values["evaluate"]["extra_corpora"]["gone"]
    project.set()
    log = project.stage("evaluate")
    assert "other, never in training: " in log
    values = json.loads((folder / "metrics/evaluate/metrics.json").read_text())["extra_corpora"]
    found = values["other"]
    assert (found["n_clips"], found["n_groups"], found["n_in_other_languages"]) == (18, 3, 9)
    assert (found["languages"], found["chance"], found["closed_chance"]) == ("l0 l2", 0.3333, 0.5)
    assert found["accuracy"] <= found["closed_accuracy"]
    rows = [row for row in table(folder / "metrics/evaluate/extra_predictions.csv") if row["corpus"] == "other"]
    right = [row["actual"] == row["predicted"] for row in rows]
    assert len(rows) == 18
    assert found["accuracy"] == pytest.approx(np.mean(right), abs=1e-4)
    for name in ("accuracy", "closed_accuracy"):
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    heard = [row for row in read_manifest(folder / "data/manifest.csv") if row.split != "test"]
    assert values["again"]["n_heard_in_training"] == len(heard)
    assert values["again"]["n_clips"] == 16 - len(heard)


def test_closed_set_by_hand() -> None:
    scores = np.log([[0.5, 0.2, 0.3], [0.2, 0.5, 0.3], [0.2, 0.7, 0.1]])
    rows = [Row(f"{i}", "", "", f"g{i}", "test", "", "") for i in range(3)]
    corpus = ExtraCorpus(Scored(rows, ["a", "b", "c"], scores, np.array([0, 2, 2])), 0, 0)
    assert corpus.right.tolist() == [True, False, False]
    assert corpus.right_closed.tolist() == [True, True, False]


def test_dvc_follows_the_corpora(tmp_path: Path, make_project: Callable[..., Project]) -> None:
    project = make_project()
    other = write_corpus(tmp_path / "other", groups=1, clips=1)
    project.set(**SMALL)
    project.with_dvc()
    assert "extra@" not in project.run("dvc", "dag", "evaluate")
    project.set(evaluate={"extra_corpora": {"other": str(other)}})
    assert "extra@other" in project.run("dvc", "dag", "evaluate")
    assert "Running stage 'extra@other'" in project.run("dvc", "repro", "extra")
    assert "Running" not in project.run("dvc", "repro", "extra")
    write_corpus(other, groups=2, clips=1)
    assert "Running stage 'extra@other'" in project.run("dvc", "repro", "extra")
    assert len(read_manifest(project.folder / "data/extra/other/manifest.csv")) == 4
    shutil.rmtree(other)
    assert str(other) in project.run("dvc", "repro", "extra", status=255)
