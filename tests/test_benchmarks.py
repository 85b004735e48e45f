"""The benchmarks at their smallest: that they run and say what they promise. No timing is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import ROOT, speech_like

from benchmarks import export
from benchmarks.__main__ import NAMES, PAGE, README, RESULTS, filled, page


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    (folder / "es").mkdir()
    for number in range(8):
        soundfile.write(folder / f"es/{number}.mp3", speech_like(number, 2.0, 44100), 44100)
    return folder


def bench(name: str, source: Path) -> dict[str, object]:
    command = [sys.executable, f"benchmarks/{name}.py", "--clips", "8", "--rounds", "1", "--source", str(source)]
    out = subprocess.run([*command, "--json"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=300)
    return dict(json.loads(out.stdout))


def test_data_path(clips: Path) -> None:
    result = bench("data_path", clips)
    ratios = {"ratio_to_bare_decode", "ratio_to_published_path", "ratio_to_modern_path"}
    assert {*ratios, "clips_per_cpu_second", "bytes_per_clip"} <= set(result)
    assert all(float(str(result[name])) > 0 for name in ratios)
    # 2 s at 44.1 kHz and at 16 kHz in 16 bit; 101 frames of 192 half floats; one image
    least = {"decode": 176_400, "resample": 64_000, "logmel": 38_784, "resize": 36_864}
    sizes = result["bytes_per_clip"]
    assert isinstance(sizes, dict)
    assert all(least[stage] <= sizes[stage] < 1.2 * least[stage] + 9000 for stage in least)


def test_disk(clips: Path) -> None:
    result = bench("disk", clips)
    links = result["links"]
    assert isinstance(links, dict)
    assert links["hardlink"]["times"] < 1.1 < 2.5 < links["copy"]["times"]


@pytest.mark.skipif(not RESULTS.exists(), reason="no results are committed yet")
def test_pages_are_made_from_the_results() -> None:
    results = json.loads(RESULTS.read_text())
    assert set(results) <= set(NAMES)
    assert PAGE.read_text() == page(results), "run `python -m benchmarks --page`"
    assert README.read_text() == filled(README.read_text(), results), "run `python -m benchmarks --page`"
    formats = export.PAGE.read_text()
    assert formats == export.filled(formats, results["export"]["result"]), "run `python -m benchmarks --page`"


def test_scale(tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    rows = [f"{number:03d}.mp3,{('Aceh', 'Bemba')[number % 2]}" for number in range(80)]
    names.write_text("\n".join(["Sample Filename,Language", *rows]))
    command = [sys.executable, "benchmarks/scale.py", "--clips", "40", "60", "--names", str(names)]
    out = subprocess.run(
        [*command, "--plot", str(tmp_path / "scale.png"), "--json"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    result = json.loads(out.stdout)
    assert [size["clips"] for size in result["sizes"]] == [40, 60]
    for size in result["sizes"]:
        assert set(size["stages"]) == {"manifest", "decode", "resample", "logmel", "resize"}
        assert all(stage["cpu_seconds"] > 0 and stage["main_mb"] > 20 for stage in size["stages"].values())
        assert set(size["unchanged_repro_seconds"]) == {"table", "folder"}
    assert (tmp_path / "scale.png").stat().st_size > 5000
