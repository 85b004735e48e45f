"""A project in which the whole pipeline has run, small, to be served."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, write_corpus

from faults.sounds import write_spoken

SMALL: dict[str, Any] = {
    "logmel": {"n_mels": 40},
    "resize": {"height": 32, "width": 32, "window_seconds": 1.0, "stride_seconds": 1.0},
    "train": {"epochs": 2, "batch_size": 8, "precision": "float32", "augment": {"crop_columns": 16}},
    "evaluate": {"bootstrap_samples": 100},
    "execution": {"workers": 1},
}
# In one process: TensorFlow is imported once. Of what export writes, the page takes the ONNX file only.
_STAGES = """
import sys
from pathlib import Path
from stages.pipeline.stage_main import stage_main
for name in sys.argv[1:]:
    if status := stage_main(name):
        sys.exit(status)
from stages.learning.model_file import CALIBRATED, load_model
from stages.learning.onnx_graph import to_onnx
Path("models/export").mkdir()
Path("models/export/model.onnx").write_bytes(to_onnx(*load_model(CALIBRATED), {}))
"""
LANGUAGES = ("es", "fi", "pt")


def page_project(factory: pytest.TempPathFactory) -> Path:
    """The project's folder; built once for all test processes of a run.

    Beside it are ../corpus, and ../spoken.wav: four seconds of a voice, as what is in the corpus is no speech.
    """
    shared = factory.getbasetemp().parent if os.environ.get("PYTEST_XDIST_WORKER") else factory.getbasetemp()
    place = shared / "page"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = place / "project"
        if not (place / "done").exists():
            corpus = write_corpus(place / "corpus", languages=3, groups=6, clips=2, seconds=2.0)
            for number, language in enumerate(LANGUAGES):
                (corpus / f"l{number}").rename(corpus / language)
            project = Project(folder, corpus)
            project.set(**SMALL)
            write_spoken(place / "spoken.wav")
            project.run(
                "python", "-c", _STAGES, "manifest", "decode", "resample", "logmel", "resize", "train", "calibrate",
                "evaluate",
            )  # fmt: skip
            project.with_dvc()
            project.set(train={"epochs": 3})  # what an experimenter would try next
            (place / "done").touch()
    return folder
