"""The repository and its params, for the faults."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from faults.result import must
from faults.sounds import run_ffmpeg, speech_like
from stages.pipeline.manifest_table import Row, clip_id, write_manifest
from stages.pipeline.shard_writer import ShardWriter
from stages.pipeline.shards import Item, Signal
from stages.pipeline.yaml12 import load_yaml12

ROOT = Path(__file__).resolve().parent.parent


def decode_params(**changes: Any) -> dict[str, Any]:
    """The section decode of params.yaml with some values changed."""
    values: dict[str, Any] = load_yaml12((ROOT / "params.yaml").read_text(encoding="utf-8"))["decode"]
    return {**values, **changes}


class Project:
    """A copy of the project in a folder of its own, run as a user would run it."""

    def __init__(self, folder: Path, dataset: Path) -> None:
        self.folder = folder
        values: dict[str, Any] = load_yaml12((ROOT / "params.yaml").read_text(encoding="utf-8"))
        # few groups: fractions and a seed that leave none of the splits empty
        splits = {"seed": 0, "test_fraction": 0.25, "validation_fraction": 0.2}
        self.values = merged(values, {"dataset": str(dataset), "manifest": splits})
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "stages", folder / "stages", ignore=ignore)
        for name in ("dvc.yaml", ".dvcignore", ".gitignore", "data/.gitignore", "data/extra/.gitignore"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self.set()

    def with_dvc(self) -> None:
        """Make it a Git and DVC repository."""
        self.run("git", "init", "-q")
        self.run("dvc", "init", "-q")
        shutil.copy(ROOT / ".dvc/config", self.folder / ".dvc/config")

    def set(self, **changes: Any) -> None:
        """Change params.yaml: set(resize={"width": 96})."""
        self.values = merged(self.values, changes)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True))

    def environment(self) -> dict[str, str]:
        """What a stage is started with."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        here = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return {**here, "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "CI": "true"}

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command in the folder and in a session of its own, both outputs on one pipe."""
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment() | environment, text=True, errors="strict",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, *command: str, status: int | tuple[int, ...] = 0, **environment: str) -> str:
        """Run a command to its end; its output.

        Raises
        ------
        Broken
            Another exit status, or a traceback.
        """
        with self.start(*command, **environment) as process:
            output, _ = process.communicate(timeout=600)
        expected = (status,) if isinstance(status, int) else status
        must(process.returncode in expected, f"{' '.join(command)}: status {process.returncode}: {output[-400:]}")
        must("Traceback" not in output, output[-600:])
        return output

    def stage(self, *names: str, status: int = 0, **environment: str) -> str:
        """Run stages one after another."""
        return "".join(self.run("python", "-m", f"stages.{name}", status=status, **environment) for name in names)

    def hashes(self, *folders: str) -> dict[str, str]:
        """SHA-256 of each file."""
        return file_hashes(self.folder, *folders)


def file_hashes(root: Path, *folders: str) -> dict[str, str]:
    """SHA-256 of each file in `folders` of `root`, by its path there."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values of `base`, those in `changes` replaced."""
    result = dict(base)
    for key, value in changes.items():
        result[key] = merged(result[key], value) if isinstance(value, Mapping) else value
    return result


def mixed_corpus(folder: Path, clips: int = 24, seconds: float = 1.0) -> Path:
    """Two languages, speakers' folders, MP3 and WAV for libsndfile and M4A for ffmpeg."""
    kinds = {".wav": [], ".mp3": ["-b:a", "64k"], ".m4a": ["-c:a", "aac"]}
    for number in range(clips):
        suffix = list(kinds)[number % 3]
        path = folder / f"l{number % 2}" / f"speaker{number // 2 % 4}" / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        source = path.with_suffix(".source.wav")
        soundfile.write(source, speech_like(number, seconds, 16000), 16000)
        run_ffmpeg("-i", f"file:{source}", *kinds[suffix], f"file:{path}")
        source.unlink()
    return folder


def feature_project(folder: Path, languages: int = 2, size: int = 32) -> Project:
    """A project after resize, with images of stripes instead of sound: training takes seconds."""
    project = Project(folder, folder)
    rng = np.random.default_rng(7)
    splits = ("train", "train", "train", "validation", "test")
    rows: list[Row] = []
    for language in range(languages):
        for group, split in enumerate(splits):
            for clip in range(8):
                path = f"l{language}/g{group}-{clip}.wav"
                name = clip_id(path)
                rows.append(
                    Row(name, path, f"l{language}", f"l{language}g{group}", split, name * 4, f"{len(rows) % 2:03d}")
                )
    write_manifest(rows, folder / "data/manifest.csv")
    info = {"split_by": "group", "split_label": "group-disjoint"}
    (folder / "data/manifest.json").write_text(json.dumps(info))
    (folder / "data/features").mkdir()
    for shard in ("000", "001"):
        with ShardWriter(folder / f"data/features/{shard}.h5", Item((size, size, 1), "uint8", 1)) as writer:
            for row in rows:
                if row.shard == shard:
                    image = rng.integers(0, 90, (1, size, size, 1), dtype=np.uint8)
                    image[:, 4 + 10 * int(row.language[1:]) :: 9] += 120
                    writer.add(row.id, row.path, partial(Signal, 0, [image]), 10.0)
            writer.finish()
    train = {"architecture": "bands", "learning_rate": 3e-3, "epochs": 6, "batch_size": 16, "precision": "float32",
             "augment": {"crop_columns": size // 2, "time_mask_columns": 4, "frequency_mask_bands": 4}}  # fmt: skip
    project.set(resize={"height": size, "width": size}, train=train)
    return project
