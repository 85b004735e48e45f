"""A project in which the whole pipeline has run, small, and the page served from it by a real process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import ROOT, Project, write_corpus

sys.path.insert(0, str(ROOT / "data/demo"))

from demo_corpus import effects, render, settings

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
from stages.pipeline.runner import stage_main
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
            voice = settings.load_params(ROOT / "data/demo/params.yaml").model_copy(update={"clip_seconds": 4.0})
            soundfile.write(place / "spoken.wav", render.sound("es", "test", 0, voice), effects.OUT_RATE_HZ)
            project.run(
                "python", "-c", _STAGES, "manifest", "decode", "resample", "logmel", "resize", "train", "calibrate",
                "evaluate",
            )  # fmt: skip
            project.with_dvc()
            project.set(train={"epochs": 3})  # what an experimenter would try next
            (place / "done").touch()
    return folder


@dataclass
class Served:
    """A running server. `lines` : what it wrote."""

    url: str
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    def children(self) -> list[int]:
        """Process ids of its workers and of whatever else it started."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sorted(int(pid) for one in tasks.iterdir() for pid in (one / "children").read_text().split())


def start(folder: Path, *options: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "app.page", "--no-browser", *options],
        cwd=cwd or folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary(folder))},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def temporary(folder: Path) -> Path:
    """The only folder in which the server may put anything, and in which nothing may be left."""
    place = folder.parent / "temporary"
    place.mkdir(exist_ok=True)
    return place


@contextlib.contextmanager
def serve(folder: Path, *options: str, cwd: Path | None = None) -> Iterator[Served]:
    """The page on a free port, ended by SIGTERM."""
    process = start(folder, "--port", "0", *options, cwd=cwd)
    assert process.stdout is not None
    first = process.stdout.readline()
    found = re.match(r"http://\S+", first)
    if not found:
        process.kill()
        raise AssertionError(first + process.stdout.read())
    served = Served(found[0], process)
    output = process.stdout
    reader = threading.Thread(target=lambda: served.lines.extend(output), daemon=True)
    reader.start()
    try:
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()
            reader.join(5)
            output.close()
