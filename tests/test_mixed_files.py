"""Forty mixed real files through all data stages: none lost, and none read that should not be."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from conftest import Project
from mixed_files import CANARY_BESIDE, CANARY_OUTSIDE, Expected, make_mixed_files

from stages.pipeline.paths import unescape_path
from stages.pipeline.shards import Shard, list_shards

LONG_AGO = 1_000_000_000


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[bytes, Expected], list[Path]]:
    """The project after its data stages have run, what is expected of each file, and the files none may read."""
    root = tmp_path_factory.mktemp("mixed")
    expected = make_mixed_files(root / "recordings")
    canaries = [root / CANARY_OUTSIDE, root / "recordings" / os.fsdecode(CANARY_BESIDE)]
    for canary in canaries:
        os.utime(canary, (LONG_AGO, LONG_AGO + 1))  # read later than changed: the file system notes the next reading
    project = Project(root / "project", root / "recordings")
    project.set(manifest={"max_reject_fraction": 0.1, "seed": 1}, decode={"max_reject_fraction": 0.5})
    project.stage("manifest", "decode", "resample", "logmel", "resize")
    return project, expected, canaries


Mixed = tuple[Project, dict[bytes, Expected], list[Path]]


def quarantined(project: Project, stage: str) -> dict[bytes, str]:
    with (project.folder / "metrics" / stage / "quarantine.csv").open(encoding="utf-8", newline="") as handle:
        return {os.fsencode(unescape_path(row["path"])): row["reason"] for row in csv.DictReader(handle)}


def clips(project: Project, stage: str) -> dict[bytes, tuple[int, float]]:
    """path -> (items, rate_hz)"""
    found = {}
    for path in list_shards(project.folder / "data" / stage):
        with Shard(path) as shard:
            for i, name in enumerate(shard.paths):
                found[os.fsencode(unescape_path(name))] = (int(shard.lengths[i]), float(shard.rates_hz[i]))
    return found


def test_each_is_kept_or_rejected_for_the_right_reason(mixed: Mixed) -> None:
    project, expected, _ = mixed
    for stage in ("manifest", "decode"):
        reasons = {name: e.reason for name, e in expected.items() if not e.kept and e.stage == stage}
        assert quarantined(project, stage) == reasons
    assert set(clips(project, "features")) == {name for name, e in expected.items() if e.kept}


def test_none_is_lost_in_any_stage(mixed: Mixed) -> None:
    project, expected, _ = mixed
    rows = len(expected)
    for stage in ("manifest", "decode", "resample", "logmel", "resize"):
        summary = json.loads((project.folder / "metrics" / stage / "summary.json").read_text())
        assert summary["rows"] == rows
        assert summary["rows"] == summary["kept"] + summary["rejected"]
        rows = summary["kept"]


def test_rates_and_lengths(mixed: Mixed) -> None:
    project, expected, _ = mixed
    decoded, resampled, features = (clips(project, stage) for stage in ("decoded", "resampled", "features"))
    for name, one in expected.items():
        if one.seconds is None:
            continue
        items, rate_hz = decoded[name]
        assert rate_hz == one.rate_hz, name
        assert abs(items / rate_hz - one.seconds) <= one.tolerance_seconds, name
        assert abs(resampled[name][0] / 16000 - items / rate_hz) < 0.001, name
        assert features[name][0] == max(1, round(one.seconds / 5)), name


def test_no_other_file_was_read(mixed: Mixed) -> None:
    _, _, canaries = mixed
    assert [path.stat().st_atime for path in canaries] == [LONG_AGO, LONG_AGO]
    canaries[0].read_bytes()
    if canaries[0].stat().st_atime == LONG_AGO:
        pytest.skip("this file system does not note when a file is read")
