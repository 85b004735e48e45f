"""The article's network as a rung of the ladder: trained by its own stage, scored by evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from learning_project import make_project
from test_evaluate import run as evaluate
from test_evaluate import with_untrained_model

from stages import article
from stages.learning.model_file import ARTICLE, load_model
from stages.pipeline.params import load_params


def test_the_ladder_has_the_articles_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = with_untrained_model(make_project(tmp_path / "p", clips_per_group=5, changes={"article.epochs": 2}))
    monkeypatch.chdir(project)
    article.run(load_params())
    _, settings = load_model(ARTICLE)
    assert (settings.architecture, settings.best_epoch) == ("cnn5", 2)
    assert not settings.train.augment.crop_columns
    assert not list(project.glob("data/.checkpoints/**/*.npz"))
    log = evaluate(project)
    values = json.loads((project / "metrics/evaluate/metrics.json").read_text())
    ladder = values["ladder"]
    assert ladder["article"]["accuracy_low"] <= ladder["article"]["accuracy"] <= ladder["article"]["accuracy_high"]
    assert ladder["above_article"] == pytest.approx(
        ladder["model"]["accuracy"] - ladder["article"]["accuracy"], abs=2e-4
    )
    assert f"the 2017 article's network {ladder['article']['accuracy']:.4f}" in log


def test_without_epochs_the_rung_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = with_untrained_model(make_project(tmp_path / "p", clips_per_group=5, changes={"article.epochs": 0}))
    monkeypatch.chdir(project)
    article.run(load_params())
    assert list(ARTICLE.iterdir()) == []
    evaluate(project)
    assert "article" not in json.loads((project / "metrics/evaluate/metrics.json").read_text())["ladder"]
