"""The manifest's benchmark at a tiny size: it runs and says what it promises."""

from __future__ import annotations

import runpy

from conftest import ROOT

BENCHMARK = runpy.run_path(str(ROOT / "benchmarks/manifest.py"))
RUNS = {
    "archives_first",
    "archives_again",
    "loose_first",
    "loose_again",
    "clips_first",
    "clips_again",
    "clips_one_more",
}


def test_tiny() -> None:
    result = BENCHMARK["measure"](archives=2, members=100, loose=120, one_more=200, dvc_files=100)
    assert result.keys() > RUNS
    assert all(result[name].keys() == {"wall_seconds", "cpu_seconds", "memory_mb"} for name in RUNS)
    assert result["manifest_bytes_per_row"] > 100
    assert result["dvc_ms_per_file"].keys() == {"add", "status"}
    assert "200 recordings of 40 bytes in 2 tars" in BENCHMARK["section"](result)
