"""The doctor in a real repository: it finds what was planted, and its mends mend it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Project

from app.doctor import disk, repository, set_up
from app.doctor.finding import FAULT, OK, WARNING, Finding
from faults.kills import mends

MakeProject = Callable[..., Project]


@pytest.fixture
def project(make_project: MakeProject) -> Project:
    made = make_project(groups=6)
    shutil.copytree(ROOT / "app", made.folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "h5py", "soundfile")}
    lock = "".join(f"{name}=={version} \\\n    --hash=sha256:00\n" for name, version in versions.items())
    (made.folder / "requirements.lock").write_text(lock + "tomli==2.0.1 ; python_full_version < '3.11' \\\n")
    (made.folder / "models").mkdir()
    return made.with_dvc()


def flip(path: Path) -> None:
    """One bit in the middle, date kept: DVC takes the file for what it was."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_what_was_planted_is_found_and_the_mends_mend_it(project: Project) -> None:
    project.run("dvc", "repro", "resample")
    project.run("git", "add", ".")
    project.run("git", "commit", "-qm", "run")
    clean = project.run("python", "-m", "app.doctor", "--all")
    assert clean.endswith("0 faults, 0 warnings, 15 ok\n"), clean
    good = project.bytes_of("data/decoded", "data/resampled")

    shard = sorted((project.folder / "data/decoded").glob("*.h5"))[0]
    flip(shard)  # the same inode stands in DVC's cache
    (project.folder / "dvc.lock").write_bytes(b"")
    (project.folder / ".dvc/tmp/rwlock").write_text('{"write": {"/some')
    output = project.run("python", "-m", "app.doctor", "--all", status=1)
    assert "dvc.lock is no record of DVC's: empty" in output
    assert ".dvc/tmp/rwlock is cut off or damaged" in output
    assert f"data/decoded/{shard.name} is damaged or is no shard" in output
    assert re.search(r"\.dvc/cache/files/md5/../\w+ in DVC's cache is not what was put there", output)
    assert "DVC cannot read the graph" in output  # because of dvc.lock
    assert "\n5 faults, " in output

    for mend in mends(output):
        if "dvc stage list" not in mend:
            project.run("bash", "-c", f"{mend}\ntrue")  # a second name of the shard is gone with the first
    project.run("dvc", "repro", "resample")
    assert project.run("python", "-m", "app.doctor", "--all").endswith("0 faults, 0 warnings, 15 ok\n")
    assert project.bytes_of("data/decoded", "data/resampled") == good


def test_runs_that_are_under_way_are_named(many_shards: Project) -> None:
    shutil.copytree(ROOT / "app", many_shards.folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    run = many_shards.start("python", "-m", "stages.decode")
    lock = many_shards.folder / "data/.locks/decode.lock"
    while run.poll() is None and not (lock.exists() and lock.read_text()):
        pass
    output = many_shards.start("python", "-m", "app.doctor").communicate(timeout=100)[0]
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert f"warning  the stage decode is running as process {run.pid}" in output
    assert f"mend: kill {run.pid} " in output
    assert "this is no Git repository" in output  # and DVC's faults follow; the other checks go on
    assert "shards: " in output


def rwlock(pid: int) -> list[Finding]:
    entry = {"pid": pid, "cmd": "dvc repro"}
    repository.RWLOCK.parent.mkdir(parents=True, exist_ok=True)
    repository.RWLOCK.write_text(json.dumps({"write": {"/a/data": entry}, "read": {"/a/params.yaml": [entry]}}))
    return list(repository.rwlock())


def test_dvc_s_lock_by_who_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [finding.level for finding in repository.rwlock()] == [OK]
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert [finding.level for finding in rwlock(gone.pid)] == [OK]  # DVC clears that itself
    assert [finding.level for finding in rwlock(os.getpid())] == [FAULT, OK]  # a number that is in use again
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)", "dvc", "repro"]
    with subprocess.Popen(sleeper) as dvc:
        (found,) = rwlock(dvc.pid)
        dvc.kill()
    assert (found.level, found.mend.split(" ")[:2]) == (WARNING, ["kill", str(dvc.pid)])


def test_packages_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [finding.mend for finding in set_up.packages()] == ["git checkout -- requirements.lock"]
    Path("requirements.lock").write_text("no-such-package==1.0 \\\n    --hash=sha256:00\nnumpy==0.1 \\\n")
    missing, other = set_up.packages()
    assert (missing.level, other.level) == (FAULT, WARNING)
    assert "1 of 2 packages are missing: no-such-package" in missing.text
    assert "(pinned: 0.1)" in other.text
    assert missing.mend == set_up.RENEW


def test_params_and_corpora(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project()
    monkeypatch.chdir(project.folder)
    assert [finding.level for finding in repository.params()] == [OK]
    project.set(dataset="data/demo/clips", evaluate={"extra_corpora": {"other": "nowhere/at all"}})
    (project.folder / "data/demo").mkdir()
    shutil.copy(ROOT / "data/demo/dvc.yaml", project.folder / "data/demo")
    shutil.copy(ROOT / "data/demo/dvc.lock", project.folder / "data/demo")
    _, missing = repository.params()  # the demo is built when it is used
    assert missing.text.startswith("other: nowhere/at all is not there")
    assert missing.mend.startswith("ls -d 'nowhere/at all'")
    (room,) = disk.space()
    assert "hours of sound in data/demo/clips" in room.text
    project.set(train={"epochs": -1})
    (found,) = repository.params()
    assert found.level == FAULT
    assert "train.epochs" in found.text


def test_room_is_reckoned_from_the_sound(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(clips=2, seconds=10.0)  # 16 clips, 160 s
    monkeypatch.chdir(project.folder)
    (room,) = disk.space()
    assert room.level == OK
    assert "(0.0 hours of sound" in room.text
    monkeypatch.setattr(disk, "_MODELS_GB", 1e9)  # as if the corpus were as large as that
    (room,) = disk.space()
    assert room.level == FAULT
    assert "make clean-reuse" in room.mend


def test_a_merge_half_done_in_dvc_lock(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    Path("dvc.lock").write_text("schema: '2.0'\n<<<<<<< HEAD\nstages:\n=======\n>>>>>>> other\n")
    found = [finding for finding in repository.lock_files() if finding.level == FAULT]
    assert found[0].text == "dvc.lock is no record of DVC's: a merge that was not ended"
    assert found[0].mend.startswith("rm dvc.lock ")  # it was never committed


def test_it_starts_without_packages_and_from_the_root_only(project: Project, tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(project.folder)}
    command = [sys.executable, "-S", "-m", "app.doctor"]
    done = subprocess.run(command, cwd=project.folder, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "3 of 3 packages are missing" in done.stdout or "cannot be checked: No module" in done.stdout
    assert set_up.RENEW in done.stdout
    assert "Traceback" not in done.stderr
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "run from the repository's root" in done.stderr
