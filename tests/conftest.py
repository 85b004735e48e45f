"""Real files in temporary folders: sound, and copies of the project in which the stages and DVC run as processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from faults.project import file_hashes
from faults.project import merged as merged
from faults.sounds import speech_like as speech_like
from stages.pipeline.params import Params, parse_params
from stages.pipeline.yaml12 import load_yaml12

ROOT = Path(__file__).parent.parent
SEED = 0
PARAMS: dict[str, Any] = load_yaml12((ROOT / "params.yaml").read_text())


def make_params(**changes: Any) -> Params:
    """The project's params with some values changed: make_params(resize={"width": 96})."""
    return parse_params(merged(PARAMS, changes))


def write_corpus(folder: Path, languages: int = 2, groups: int = 4, clips: int = 2, seconds: float = 1.0) -> Path:
    """<language>/<speaker>/<n>.wav; a language is recognised by where its energy lies."""
    for language in range(languages):
        for group in range(groups):
            for clip in range(clips):
                seed = (language * 100 + group) * 100 + clip
                sound = speech_like(seed, seconds)
                spectrum = np.fft.rfft(sound)
                place = np.linspace(0, 1, len(spectrum))
                spectrum *= np.exp(-(((place - 0.2 - 0.5 * language / languages) / 0.1) ** 2)) + 0.01
                sound = np.fft.irfft(spectrum, len(sound))
                path = folder / f"l{language}" / f"speaker{group}" / f"{clip}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.5 * sound / np.abs(sound).max(), 16000)
    return folder


class Project:
    """A copy of the project in a folder of its own, run as a user would run it."""

    def __init__(self, folder: Path, dataset: Path) -> None:
        self.folder = folder
        # few groups: fractions and a seed that leave none of the splits empty
        splits = {"seed": SEED, "test_fraction": 0.25, "validation_fraction": 0.2}
        self.values = merged(PARAMS, {"dataset": str(dataset), "manifest": splits})
        for name in ("stages", "dvc.yaml", ".dvcignore", ".gitignore", "data/.gitignore", "data/extra/.gitignore"):
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        self.set()

    def set(self, **changes: Any) -> None:
        """Change params.yaml: set(resize={"width": 96})."""
        self.values = merged(self.values, changes)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True))

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "CI": "true"}

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command to its end; its output, both streams."""
        with self.start(*command) as process:
            output, _ = process.communicate(timeout=300)
        assert process.returncode == status, f"{' '.join(command)}: status {process.returncode}\n{output}"
        assert "Traceback" not in output, output
        return output

    def stage(self, *names: str, status: int = 0) -> str:
        return "".join(self.run("python", "-m", f"stages.{name}", status=status) for name in names)

    def with_dvc(self) -> Project:
        """Make it a Git and DVC repository with one commit."""
        self.run("git", "init", "-q")
        self.run("git", "config", "user.email", "test@example.org")
        self.run("git", "config", "user.name", "test")
        self.run("dvc", "init", "-q")
        shutil.copy(ROOT / ".dvc/config", self.folder / ".dvc/config")
        shutil.copytree(ROOT / ".dvc/plots", self.folder / ".dvc/plots")
        self.run("git", "add", ".")
        self.run("git", "commit", "-qm", "start")
        return self

    def bytes_of(self, *folders: str) -> dict[str, str]:
        """SHA-256 of each file: pytest takes minutes to show where megabytes differ."""
        return file_hashes(self.folder, *folders)


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Project]:
    """make_project(dataset) -> Project; without a dataset, a small corpus of two languages."""

    def make(dataset: Path | None = None, name: str = "project", **corpus: Any) -> Project:
        folder = dataset or write_corpus(tmp_path / "corpus", **corpus)
        return Project(tmp_path / name, folder)

    return make


@pytest.fixture
def many_shards(make_project: Callable[..., Project]) -> Project:
    """A project after its manifest stage, with time to kill something while its shards are made."""
    project = make_project(groups=8, clips=16, seconds=2.0)
    project.set(manifest={"clips_per_shard": 2})
    project.stage("manifest")
    return project
