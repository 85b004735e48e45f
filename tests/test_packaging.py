"""`pip install ".[predict]"`: what recognising with an exported model may import, and what it weighs and costs."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import imageio_ffmpeg
import pytest
import soundfile
from conftest import ROOT, speech_like

MOST_MEGABYTES = 200
MOST_SECONDS = 1.0
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Runs the command line where only some packages can be imported, and says which modules were.
GUARDED = """
import json, os, sys
allowed = set(json.loads(sys.argv[1])) | set(sys.stdlib_module_names) | {"app", "stages"}
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"No module named {name!r}: not in the extra `predict`", name=name)
sys.meta_path.insert(0, Guard())
from app.predict import main
sys.exit(main(sys.argv[2:]))
"""


def plain(requirement: str) -> str:
    """'Numpy>=2,<3; python_version > "3"' -> 'numpy'."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def modules_of(requirements: list[str]) -> set[str]:
    """What can be imported where these packages and all that they need are installed, extras left out."""
    found: set[str] = set()
    left = [plain(one) for one in requirements]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [plain(one) for one in distribution(name).requires or [] if "extra ==" not in one]
    return {module for module, owners in packages_distributions().items() if {plain(one) for one in owners} & found}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/export of a small untrained network."""
    from faults.small_model import untrained_model
    from stages.learning.model_file import load_model
    from stages.learning.onnx_graph import to_onnx

    place = tmp_path_factory.mktemp("packaging")
    (place / "model.onnx").write_bytes(to_onnx(*load_model(untrained_model(place / "model")), {}))
    return place


def environment(folder: Path) -> dict[str, str]:
    """An ffmpeg on the PATH, and nothing else."""
    folder.mkdir()
    (folder / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    return {"PATH": str(folder), "LANG": "C.UTF-8"}


def recordings(folder: Path) -> list[str]:
    """One that libsndfile reads and one that ffmpeg alone reads."""
    soundfile.write(folder / "a.wav", speech_like(5, 1.0, 44100), 44100)
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "a.wav", "a.m4a"], cwd=folder, check=True)
    return [str(folder / "a.wav"), str(folder / "a.m4a")]


def test_predict_imports_what_its_extra_installs_and_nothing_else(exported: Path, tmp_path: Path) -> None:
    allowed = modules_of(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["predict"])
    assert {"numpy", "onnxruntime", "soundfile", "soxr"} <= allowed
    assert not {"ffmpeg", "imageio_ffmpeg", "librosa", "numba", "keras", "tensorflow", "pydantic"} & allowed
    outside = environment(tmp_path / "bin") | {"PYTHONPATH": str(ROOT)}
    given = ["--json", "--model", str(exported), *recordings(tmp_path)]
    for options, ranked in ((["--all-sound"], 3), ([], 0)):  # what was made up here is no speech
        done = subprocess.run(
            [sys.executable, "-c", GUARDED, json.dumps(sorted(allowed)), *options, *given],
            env=outside, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert [len(json.loads(line)["ranking"]) for line in done.stdout.splitlines()] == [ranked, ranked]


def test_the_command_is_the_program() -> None:
    module, _, function = PROJECT["scripts"]["recognise-language"].partition(":")
    assert (module, function) == ("app.predict", "main")


@pytest.mark.slow
def test_an_installation_for_predict_is_small_and_starts_fast(exported: Path, tmp_path: Path) -> None:
    """Outside the repository, from a built wheel; the packages come from the index."""
    for name in ("app", "stages"):
        shutil.copytree(ROOT / name, tmp_path / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "source" / name)
    home = tmp_path / "home"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    subprocess.run(
        [home / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check",
         f"{tmp_path / 'source'}[predict]"],
        check=True,
    )  # fmt: skip
    clips = sorted((ROOT / "data/demo/clips").glob("*/*.mp3"))
    real = ROOT / "models/export"
    model, clip = (real, str(clips[0])) if clips and (real / "model.onnx").is_file() else (exported, "")
    command = [str(home / "bin/recognise-language"), "--model", str(model), clip or recordings(tmp_path)[0]]
    outside = environment(tmp_path / "bin")
    walls, processors = [], []
    for _ in range(6):
        begin, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        walls.append(time.perf_counter() - begin)
        processors.append(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
    files = [Path(folder, name) for folder, _, names in os.walk(home) for name in names]
    megabytes = sum(path.lstat().st_size for path in files) / 1e6
    told = f"{megabytes:.0f} MB, first answer after {min(walls):.2f} s, {min(processors):.2f} CPU s"
    print(told)
    assert megabytes < MOST_MEGABYTES, told
    assert min(processors) < MOST_SECONDS, told  # the wall clock belongs to whatever else runs here
