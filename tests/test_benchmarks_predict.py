"""benchmarks/predict.py at its smallest: it runs, and says what it is to say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import soundfile
from conftest import ROOT

from faults.small_model import untrained_model
from stages.learning.model_file import load_model
from stages.learning.onnx_graph import to_onnx

sys.path.insert(0, str(ROOT / "data/demo"))

from demo_corpus import effects, render
from demo_corpus import settings as demo_settings


def test_the_smallest_run(tmp_path: Path) -> None:
    network, settings = load_model(untrained_model(tmp_path / "models/calibrated"))
    (tmp_path / "models/export").mkdir()
    corpus = demo_settings.load_params(ROOT / "data/demo/params.yaml").model_copy(update={"clip_seconds": 2.0})
    (tmp_path / "models/export/model.onnx").write_bytes(to_onnx(network, settings, {}))
    for k in range(2):
        (tmp_path / "clips/es").mkdir(parents=True, exist_ok=True)
        spoken = render.sound("es", "test", k, corpus)  # what is no speech would have no ranking to compare
        soundfile.write(tmp_path / f"clips/es/{k}.mp3", spoken, effects.OUT_RATE_HZ)
    command = [
        sys.executable, str(ROOT / "benchmarks/predict.py"), "--clips", "2", "--rounds", "1", "--no-whisper",
        "--source", str(tmp_path / "clips"), "--models", str(tmp_path / "models"),
    ]  # fmt: skip
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, cwd=tmp_path)
    result = json.loads(done.stdout)
    for name in (
        "start_seconds", "start_cpu_seconds", "latency_ms", "latency_p95_ms", "folder_clips_per_second",
        "folder_cpu_ms_per_clip",
    ):  # fmt: skip
        assert set(result[name]) == {"exported", "keras"}
        assert all(value > 0 for value in result[name].values())
    assert result["exported_from_keras"]["same_language"] == 2
    assert result["whisper_absent"] == "not asked for"
    code = "import json, sys; from benchmarks.predict import section; print(section(json.load(sys.stdin)))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(result), capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.startswith("## Predict\n")
    assert "Whisper base was not measured: not asked for." in done.stdout
