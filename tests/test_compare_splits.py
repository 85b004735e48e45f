"""`make compare-splits`: two experiments in a real repository, one table."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT, Project

from benchmarks.compare_splits import table
from stages.pipeline.errors import ParamsError


def scores(accuracy: float, split: str) -> dict[str, Any]:
    lda = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}
    return {
        "accuracy": accuracy, "accuracy_low": accuracy - 0.05, "accuracy_high": accuracy + 0.05, "split": split,
        "chance": 0.25, "n_clips": 30, "n_groups": 5, "ladder": {"mel_lda": lda},
    }  # fmt: skip


def test_both_stand_in_one_table() -> None:
    lines = table({"random": scores(0.9, "random split"), "group": scores(0.3, "group-disjoint")}).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| group-disjoint | 0.300 | 0.250 to 0.350 | 0.500 | 0.400 to 0.600 | 0.250 | 30 | 5 |")
    assert lines[3].startswith("| random split | 0.900 | 0.850 to 0.950 |")


def test_a_corpus_without_groups_is_told() -> None:
    with pytest.raises(ParamsError, match=r"names no speakers.*manifest\.group_pattern"):
        table({"random": scores(0.9, "random split"), "group": scores(0.9, "random split")})


@pytest.mark.slow
def test_the_two_experiments(make_project: Callable[..., Project]) -> None:
    project = make_project(groups=6, clips=4)
    project.set(
        logmel={"n_mels": 32, "n_fft": 512, "fmin_hz": 100},
        resize={"height": 32, "width": 32, "window_seconds": 1, "stride_seconds": 1},
        train={"epochs": 1, "batch_size": 16, "augment": {"crop_columns": 0}},
        evaluate={"bootstrap_samples": 100},
    )
    shutil.copytree(ROOT / "benchmarks", project.folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    project.with_dvc()
    before = (project.folder / "params.yaml").read_text()
    output = project.run("python", "-m", "benchmarks.compare_splits")
    assert "| group-disjoint | " in output
    assert "| random split: may measure voices, not languages | " in output
    shown = project.run("dvc", "exp", "list", "--name-only")
    assert {"compare-group", "compare-random"} <= set(shown.split())
    assert "split_by: group" in (project.folder / "params.yaml").read_text()
    assert len(before) == len((project.folder / "params.yaml").read_text())
    assert "Running stage" not in project.run("python", "-m", "benchmarks.compare_splits")
