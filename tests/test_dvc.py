"""A real DVC repository: what runs again, what comes from the cache, and what a kill costs."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Project
from test_runner import OUTS, finished, wait_for

MakeProject = Callable[..., Project]
DATA = ("manifest", "decode", "resample", "logmel", "resize")


def ran(output: str) -> list[str]:
    """The stages that DVC ran, in order."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def from_cache(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if "is cached - skipping run" in line]


def test_only_what_changed_runs(make_project: MakeProject) -> None:
    project = make_project().with_dvc()
    assert ran(project.run("dvc", "repro", "resize")) == list(DATA)
    first = project.bytes_of(*OUTS)
    assert ran(project.run("dvc", "repro", "resize")) == []

    project.set(resize={"width": 96})
    assert ran(project.run("dvc", "repro", "resize")) == ["resize"]
    assert project.bytes_of("data/decoded") == {k: v for k, v in first.items() if k.startswith("data/decoded")}

    project.set(resize={"width": 192})
    output = project.run("dvc", "repro", "resize")
    assert ran(output) == []
    assert from_cache(output) == ["resize"]
    assert project.bytes_of(*OUTS) == first

    project.set(execution={"workers": 1, "reuse_gb": 1.0})
    assert ran(project.run("dvc", "repro", "resize")) == []


def test_outs_lie_on_the_disk_once(make_project: MakeProject) -> None:
    project = make_project().with_dvc()
    project.run("dvc", "repro", "decode")
    in_cache = {path.stat().st_ino for path in (project.folder / ".dvc/cache").rglob("*")}
    for path in (project.folder / "data/decoded").glob("*.h5"):
        assert path.stat().st_ino in in_cache
        assert path.stat().st_nlink == 3  # the out, DVC's cache and the reuse store
        assert not path.stat().st_mode & 0o222


def test_clone_with_the_cache_gets_everything_without_running(make_project: MakeProject) -> None:
    project = make_project().with_dvc()
    project.run("dvc", "repro", "resize")
    first = project.bytes_of(*OUTS)
    for out in ("decoded", "resampled", "logmel", "features"):
        project.run("rm", "-rf", f"data/{out}")
    project.run("dvc", "checkout", *DATA[1:])
    assert project.bytes_of(*OUTS) == first


def test_killed_with_everything_then_run_again(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(groups=8, clips=8, seconds=2.0).with_dvc()
    project.set(manifest={"clips_per_shard": 2})
    project.run("dvc", "repro", "manifest")
    run = project.start("dvc", "repro", "resize")
    wait_for(lambda: len(finished(project)) >= 5, run)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    done = {path: path.stat().st_mtime_ns for path in finished(project)}
    output = project.run("dvc", "repro", "resize")
    assert ran(output) == list(DATA[1:])
    assert f"{len(done)} found in the reuse store" in output
    assert {path: path.stat().st_mtime_ns for path in done} == done

    undisturbed = make_project(tmp_path / "corpus", name="undisturbed").with_dvc()
    undisturbed.set(manifest={"clips_per_shard": 2})
    undisturbed.run("dvc", "repro", "resize")
    assert project.bytes_of(*OUTS) == undisturbed.bytes_of(*OUTS)


def test_dvc_killed_alone_never_makes_two_writers(make_project: MakeProject) -> None:
    project = make_project(groups=8, clips=16, seconds=4.0).with_dvc()
    project.set(manifest={"clips_per_shard": 1})
    project.run("dvc", "repro", "manifest")
    run = project.start("dvc", "repro", "decode")
    wait_for(lambda: finished(project), run)
    lock = project.folder / "data/.locks/decode.lock"
    stage = int(lock.read_text())
    os.kill(run.pid, signal.SIGKILL)
    os.waitpid(run.pid, 0)  # or DVC finds the dead process in the process table and waits for it
    output = project.run("dvc", "repro", "decode", status=255)
    assert f"already running here as process {stage}" in output
    assert "exited with 75" in output
    run.communicate()  # returns when the stage, which holds the pipe, has ended
    project.run("dvc", "repro", "decode")
    shards = list((project.folder / "data/decoded").glob("*.h5"))
    assert len(shards) == json.loads((project.folder / "metrics/decode/summary.json").read_text())["kept"]


def test_flipped_byte_is_found_and_the_cure_that_the_message_names_works(make_project: MakeProject) -> None:
    project = make_project().with_dvc()
    project.run("dvc", "repro", "resample")
    good = project.bytes_of("data/decoded", "data/resampled")
    shard = sorted((project.folder / "data/decoded").glob("*.h5"))[0]
    times = shard.stat()
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(content)  # in place: DVC's cache and the reuse store hold the same inode
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    project.set(resample={"quality": "MQ"})
    output = project.run("dvc", "repro", "resample", status=255)
    assert f"data/decoded/{shard.name} is damaged" in output
    assert "exited with 74" in output
    project.run("bash", "-c", output.split("by `")[1].split("`")[0])
    project.run("dvc", "repro", "resample")
    project.set(resample={"quality": "HQ"})
    project.run("dvc", "repro", "resample")
    assert project.bytes_of("data/decoded", "data/resampled") == good


@pytest.mark.parametrize("stage", DATA)
def test_one_folder_for_each_stage_under_metrics(make_project: MakeProject, stage: str) -> None:
    project = make_project()
    project.stage(*DATA[: DATA.index(stage) + 1])
    assert sorted(path.name for path in (project.folder / "metrics" / stage).iterdir()) == [
        "quarantine.csv",
        "summary.json",
    ]


def test_corpus_that_is_not_built_does_not_stop_checkout_nor_pull(make_project: MakeProject, tmp_path: Path) -> None:
    """The corpus of real recordings is built only where it is used; everybody else must be able to pull."""
    project = make_project()
    shutil.copytree(ROOT / "data/human", project.folder / "data/human", ignore=shutil.ignore_patterns("clips", ".*"))
    project.with_dvc()
    (project.folder / "dvc.yaml").unlink()
    (tmp_path / "remote").mkdir()
    project.run("dvc", "remote", "add", "-d", "team", str(tmp_path / "remote"))
    project.run("dvc", "checkout")
    project.run("dvc", "pull")
