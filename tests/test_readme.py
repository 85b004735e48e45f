"""README.md: every command in it is run, every link leads somewhere, every number in it was measured."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile
from conftest import ROOT, Project, write_corpus

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
# Run elsewhere: the front doors by whoever clones the repository. Here `make repro` is what it does after set-up.
FRONT_DOORS = {
    "make repro": "dvc repro && cat metrics/audit/verdict.txt metrics/evaluate/summary.txt",
    "make serve": "true",  # it runs until it is ended; tests/test_page.py
    "make test": "true",
}
SET_UP = ("source .venv/bin/activate",)
TINY = {
    "logmel": {"n_mels": 32, "n_fft": 512, "fmin_hz": 100},
    "resize": {"height": 32, "width": 32, "window_seconds": 1, "stride_seconds": 1},
    "train": {"epochs": 1, "batch_size": 16, "augment": {"crop_columns": 0}},
    "evaluate": {"bootstrap_samples": 100},
    "robustness": {"codecs": ["g711"], "max_clips": 4},
}


def test_there_are_commands() -> None:
    assert {"dvc metrics diff", "dvc plots diff", "dvc push", *FRONT_DOORS, *SET_UP} <= set(COMMANDS)


@pytest.mark.parametrize("command", FRONT_DOORS)
def test_front_doors_are_targets(command: str) -> None:
    done = subprocess.run([*command.split(), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if command == "make repro":
        assert all(part in done.stdout for part in FRONT_DOORS[command].split(" && "))


def corpus(folder: Path) -> Path:
    """Two languages, one of them es, as MP3."""
    write_corpus(folder, groups=8, clips=1)
    (folder / "l0").rename(folder / "es")
    for path in sorted(folder.rglob("*.wav")):
        sound, rate_hz = soundfile.read(path)
        flat = folder / path.relative_to(folder).parts[0] / f"{path.parent.name}.mp3"
        soundfile.write(flat, sound, rate_hz)
        path.unlink()
        path.parent.rmdir()
    return folder


def test_every_command_runs(tmp_path: Path) -> None:
    """In the README's order, in one repository, on small corpora and with a small network."""
    project = Project(tmp_path / "project", tmp_path / "nothing")
    for name in ("app", "models/.gitignore", *(f"metrics/{p.name}/.gitignore" for p in (ROOT / "metrics").iterdir())):
        source, target = ROOT / name, project.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, target)
    project.set(**TINY, dataset="data/demo/clips", manifest={"group_pattern": r"/(.*)\.mp3"})
    project.with_dvc()
    for folder in ("data/demo/clips", "data/human/clips", "../recordings"):
        corpus(project.folder / folder)
    output: dict[str, str] = {}
    for command in COMMANDS:
        if command not in SET_UP:
            output[command] = project.run("bash", "-c", FRONT_DOORS.get(command, command))
    assert "test accuracy" in output["make repro"]
    assert re.match(
        r"\.\./recordings/es/speaker0\.mp3  (es|l1) 0\.\d+", output["python -m app.predict ../recordings/es/*.mp3"]
    )
    assert "log_loss" in output["dvc metrics diff"]  # an accuracy of so few clips may stay the same
    assert "longer" in output["dvc exp show --only-changed --no-pager"]
    assert "article" in output["dvc exp show --only-changed --no-pager"]
    assert (project.folder / "dvc_plots/index.html").is_file()
    assert list((tmp_path / "team-cache").rglob("*"))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    if not target.startswith("https://"):
        assert (ROOT / target).exists(), target


def test_results_are_those_of_the_records() -> None:
    filled = runpy.run_path(str(ROOT / "docs/fill_results.py"))["filled"]
    assert filled(README, ROOT / "docs/results") == README


def test_every_reason_code_is_explained() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "stages").rglob("*.py")))
    reasons = set(re.findall(r'(?:RejectedClip|Fault)\(\s*"([a-z_]+)"', code))
    archives = (ROOT / "stages/pipeline/archives.py").read_text(encoding="utf-8")
    reasons |= set(re.findall(r'(?:name|""|return),? "([a-z_]+)", f?"', archives))
    reasons |= set(re.findall(r'\(\s*"(duplicate_[a-z]+|conflicting_labels)"', code))
    reasons |= set(re.findall(r'row\.path, "([a-z_]+)",', code))
    assert {"too_large", "damaged_archive", "encrypted", "not_audio"} < reasons
    assert not {reason for reason in reasons if f"`{reason}`" not in README}
