"""docs/scale.md: its commands pack a corpus that the manifest then sees as it was, and its plan adds up."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path

from conftest import ROOT, Project, write_corpus

from stages.pipeline.manifest_table import read_manifest

PAGE = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
PLAN = runpy.run_path(str(ROOT / "docs/plan_scale.py"))
RESULTS = {
    "data_path": {
        "date": "2026-01-01",
        "result": {
            "clips": 100,
            "bytes_per_clip": {"decode": 880_000, "resample": 320_000, "logmel": 192_000, "resize": 37_000},
            "cpu_seconds": {"decode": 2.0, "decode again": 1.0, "resample": 1.0, "logmel": 1.0, "resize": 1.0},
        },
    },
    "manifest": {
        "date": "2026-01-01",
        "machine": "a machine",
        "result": {
            "archives": 1,
            "members": 1000,
            "one_more": 100,
            "archives_first": {"wall_seconds": 1, "cpu_seconds": 3.6, "memory_mb": 2},
            "archives_again": {"wall_seconds": 1, "cpu_seconds": 0.5, "memory_mb": 1},
            "clips_first": {"wall_seconds": 1, "cpu_seconds": 1.0, "memory_mb": 1},
            "clips_again": {"wall_seconds": 1, "cpu_seconds": 1.0, "memory_mb": 1},
            "manifest_bytes_per_row": 200.0,
            "memory_bytes_per_row_read": 800,
            "dvc_ms_per_file": {"add": 0.5, "status": 0.05},
        },
    },
}


def test_plan_adds_up() -> None:
    text = PLAN["plan"](RESULTS, PLAN["Inputs"](clips=1_000_000, clips_per_shard=100, cores=10))
    assert "| manifest | 0.2 | 1 | 1.0 |" in text
    assert "| decode | 880 | 14,286 | 2.8 |" in text  # the start is left out
    assert "| together | 1,589 | 57,303 | 12.1 |" in text
    assert "**Time**: 1.2 hours on 10 cores" in text
    assert "a stage that reads the manifest 0.8 GB" in text


def test_nothing_measured_says_what_to_run() -> None:
    assert "python -m benchmarks data_path manifest" in PLAN["plan"]({}, PLAN["Inputs"]())


def test_the_page_has_the_plan_of_the_results() -> None:
    path = ROOT / "benchmarks/results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    assert PLAN["filled"](PAGE, results) == PAGE


def test_packed_by_the_page_it_is_the_same_corpus(tmp_path: Path, make_project: Callable[..., Project]) -> None:
    corpus = write_corpus(tmp_path / "corpus", groups=12, seconds=0.1)
    (tmp_path / "packed").mkdir()
    (commands,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    commands = commands.replace("split -l 6000", "split -l 5")
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True)
    assert len(list((tmp_path / "packed").iterdir())) == 10
    found = []
    for dataset in ("corpus", "packed"):
        project = make_project(tmp_path / dataset, name=f"project-{dataset}")
        project.stage("manifest")
        rows = read_manifest(project.folder / "data/manifest.csv")
        found.append([row._replace(path="", span="") for row in rows])
    assert found[0] == found[1]
    assert len(list(corpus.rglob("*.wav"))) == len(found[0])
