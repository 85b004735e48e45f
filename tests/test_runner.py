"""Stages as processes: killed, started twice, with any number of workers, on damaged input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Project, speech_like, write_corpus

from faults.signals import processes_in
from stages.pipeline.files import write_json

MakeProject = Callable[..., Project]
DATA_STAGES = ("decode", "resample", "logmel", "resize")
OUTS = ("data/decoded", "data/resampled", "data/logmel", "data/features")


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, f"the process ended too early:\n{process.communicate()[0]}"
        time.sleep(0.002)


def finished(project: Project, stage: str = "decode") -> set[Path]:
    return set((project.folder / "data/.reuse" / stage).glob("*/[!.]*.h5"))


def test_killed_run_goes_on_where_it_was(many_shards: Project, tmp_path: Path) -> None:
    project = many_shards
    undisturbed = Project(tmp_path / "undisturbed", tmp_path / "corpus")
    undisturbed.set(manifest={"clips_per_shard": 2})
    undisturbed.stage("manifest", "decode")

    run = project.start("python", "-m", "stages.decode")
    wait_for(lambda: len(finished(project)) >= 10, run)
    os.kill(run.pid, signal.SIGKILL)  # the stage alone: its workers must not go on
    run.communicate()
    deadline = time.monotonic() + 5
    while processes_in(project.folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_in(project.folder)
    done = {path: path.stat().st_mtime_ns for path in finished(project)}
    assert not (project.folder / "data/decoded").exists()

    output = project.stage("decode")
    assert f"{len(done)} found in the reuse store" in output
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert project.bytes_of("data/decoded") == undisturbed.bytes_of("data/decoded")
    assert not list(project.folder.glob("data/.reuse/*/*/.*.tmp"))


def test_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    """A stage that was stopped while it wrote model.json left a .model.json.17408.tmp beside it for good."""
    script = """
import os, sys
from pathlib import Path
from stages.pipeline.files import write_atomically
with write_atomically(Path(sys.argv[1])) as handle:
    handle.write("half")
    handle.flush()
    os.kill(os.getpid(), 9)
"""
    target = tmp_path / "model.json"
    subprocess.run([sys.executable, "-c", script, str(target)], cwd=ROOT, check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".model.json.")
    alive = tmp_path / f".model.json.{os.getppid()}.tmp"  # of a process that is still at work
    alive.write_text("half")
    write_json(target, "whole")
    assert sorted(tmp_path.iterdir()) == [alive, target]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_run_leaves_no_process(many_shards: Project, number: int, status: int) -> None:
    run = many_shards.start("python", "-m", "stages.decode")
    wait_for(lambda: finished(many_shards), run)
    os.kill(run.pid, number)
    output, _ = run.communicate(timeout=10)
    assert run.returncode == status, output
    assert "finished shards are kept" in output
    deadline = time.monotonic() + 5
    while processes_in(many_shards.folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_in(many_shards.folder)


def test_second_run_names_the_first_and_leaves(many_shards: Project) -> None:
    first = many_shards.start("python", "-m", "stages.decode")
    wait_for(lambda: finished(many_shards), first)
    output = many_shards.stage("decode", status=75)
    assert f"already running here as process {first.pid}" in output
    assert first.wait() == 0
    first.communicate()


def test_workers_change_no_byte(make_project: MakeProject, tmp_path: Path) -> None:
    trees = []
    for workers in (1, 2):
        project = make_project(groups=8, clips=2, seconds=1.5, name=f"workers{workers}")
        project.set(execution={"workers": workers}, manifest={"clips_per_shard": 4})
        project.stage("manifest", *DATA_STAGES)
        trees.append(project.bytes_of(*OUTS))
    assert trees[0] == trees[1]
    assert len(trees[0]) >= 4 * 4


def test_changed_clip_costs_its_shard(make_project: MakeProject, tmp_path: Path) -> None:
    import soundfile

    project = make_project(groups=8, clips=4)
    project.set(manifest={"clips_per_shard": 8})
    project.stage("manifest", *DATA_STAGES)
    before = project.bytes_of(*OUTS)
    soundfile.write(tmp_path / "corpus/l0/speaker0/0.wav", speech_like(99), 16000)
    output = project.stage("manifest", *DATA_STAGES)
    assert output.count(" 1 to do") == len(DATA_STAGES)
    after = project.bytes_of(*OUTS)
    assert after.keys() == before.keys()
    assert sum(after[name] != before[name] for name in after) == len(DATA_STAGES)


def test_relabelled_clip_decodes_nothing(make_project: MakeProject, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", groups=8)
    table = corpus / "t.csv"
    lines = [f"{path.relative_to(corpus)},{path.parts[-3]},{path.parts[-2]}" for path in corpus.rglob("*.wav")]
    table.write_text("\n".join(["path,language,group", *lines]))
    project = make_project(table)
    project.stage("manifest", "decode")
    before = project.bytes_of("data/decoded")
    table.write_text(table.read_text().replace(",l0,speaker3", ",l1,speaker3", 1))
    assert " 0 to do" in project.stage("manifest", "decode")
    assert project.bytes_of("data/decoded") == before


def test_same_sound_in_two_splits_is_kept_once(make_project: MakeProject, tmp_path: Path) -> None:
    import soundfile

    corpus = write_corpus(tmp_path / "corpus", groups=4)
    sound, rate = soundfile.read(corpus / "l0/speaker0/0.wav", dtype="int16")  # speaker0 is in train
    soundfile.write(corpus / "l0/speaker2/same.flac", sound, rate)  # speaker2 in test: another file, the same PCM
    soundfile.write(
        corpus / "l1/speaker3/liar.flac", soundfile.read(corpus / "l0/speaker3/1.wav", dtype="int16")[0], rate
    )
    project = make_project(corpus)
    project.set(decode={"max_reject_fraction": 0.5})
    project.stage("manifest", *DATA_STAGES)
    text = (project.folder / "metrics/decode/quarantine.csv").read_text()
    assert 'l0/speaker0/0.wav,duplicate_sound,"the same sound as l0/speaker2/same.flac, which is in test"' in text
    assert "l0/speaker3/1.wav,conflicting_labels" in text
    assert "l1/speaker3/liar.flac,conflicting_labels" in text
    summary = json.loads((project.folder / "metrics/decode/summary.json").read_text())
    assert (summary["rows"], summary["kept"], summary["rejected"]) == (18, 15, 3)


def test_recording_changed_behind_the_manifest(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project()
    project.stage("manifest")
    with (tmp_path / "corpus/l0/speaker0/0.wav").open("ab") as handle:
        handle.write(b"more")
    assert "is not the file that the manifest lists" in project.stage("decode", status=74)
    (tmp_path / "corpus/l0/speaker0/0.wav").unlink()
    assert "cannot be opened" in project.stage("decode", status=74)


def test_damaged_input_is_found_and_named(make_project: MakeProject) -> None:
    project = make_project()
    project.stage("manifest", "decode")
    path = sorted((project.folder / "data/decoded").glob("*.h5"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    output = project.stage("resample", status=74)
    assert f"data/decoded/{path.name} is damaged" in output


def test_stage_without_its_input(make_project: MakeProject) -> None:
    project = make_project()
    assert "run `dvc repro manifest`" in project.stage("decode", status=74)
    assert "found none" in project.stage("resample", status=74)
    project.set(resize={"width": -1})
    assert "resize.width" in project.stage("resize", status=2)


def test_reuse_store_keeps_to_its_limit(make_project: MakeProject) -> None:
    project = make_project()
    project.stage("manifest", *DATA_STAGES)
    for width in (32, 40, 48):
        project.set(resize={"width": width})
        project.stage("resize")
    assert len(finished(project, "resize")) > 1
    project.set(execution={"reuse_gb": 0.0})
    project.stage("resize")
    in_use = len(list((project.folder / "data/features").glob("*.h5")))
    assert len(finished(project, "resize")) == in_use
    assert not finished(project, "decode")


def test_killed_worker_is_told_in_words(many_shards: Project) -> None:
    many_shards.set(execution={"workers": 2})
    run = many_shards.start("python", "-m", "stages.decode")
    wait_for(lambda: finished(many_shards), run)
    workers = [pid for pid in processes_in(many_shards.folder) if is_worker(pid, run.pid)]
    os.kill(workers[0], signal.SIGKILL)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 74, output
    assert "a worker process died ({SIGKILL(-9)" in output
    assert "Traceback" not in output
    many_shards.stage("decode")


def test_workers_do_not_hear_ctrl_c(many_shards: Project) -> None:
    many_shards.set(execution={"workers": 2})
    run = many_shards.start("python", "-m", "stages.decode")
    wait_for(lambda: [pid for pid in processes_in(many_shards.folder) if is_worker(pid, run.pid)], run)
    masks = [
        re.search(r"SigBlk:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
        for pid in processes_in(many_shards.folder)
        if is_worker(pid, run.pid)
    ]
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=10)
    assert run.returncode == 130, output
    assert "Traceback" not in output
    assert all(mask and int(mask[1], 16) >> (signal.SIGINT - 1) & 1 for mask in masks)


DEAF = """
import multiprocessing, os, signal, sys, types
from stages.pipeline.backends import in_processes
from stages.pipeline.stage_main import stage_main

def run(params):
    assert sorted(in_processes(abs, [-1, 2, -3], 2, in_order=False)) == [1, 2, 3]
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGSTOP)

sys.modules["stages.deaf"] = types.ModuleType("stages.deaf")
sys.modules["stages.deaf"].run = run
sys.exit(stage_main("deaf"))
"""


def test_worker_that_does_not_hear_holds_up_no_end(make_project: MakeProject) -> None:
    project = make_project()
    run = project.start("python", "-c", DEAF)
    try:
        output, _ = run.communicate(timeout=60)
    finally:
        run.kill()
    assert (run.returncode, output) == (0, "")
    assert not processes_in(project.folder)


LOG_LOST = """
import io, os, sys
from stages.pipeline.stage_main import stage_main

class FullAtFirst(io.StringIO):
    failed = False

    def write(self, text):
        if not self.failed:
            self.failed = True
            raise OSError(28, os.strerror(28))
        return sys.stdout.write(text)

sys.stderr = FullAtFirst()
sys.exit(stage_main("decode"))
"""


def test_log_that_cannot_be_written_stops_no_stage(many_shards: Project) -> None:
    output = many_shards.run("python", "-c", LOG_LOST)
    assert "found in the reuse store" not in output  # the line that was lost
    assert "shards done" in output
    assert "Traceback" not in output


def is_worker(pid: int, parent: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return f"PPid:\t{parent}\n" in status and b"popen_loky" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_full_disk_is_no_success(make_project: MakeProject) -> None:
    project = make_project(groups=8, clips=8, seconds=4.0)
    project.stage("manifest")
    run = project.run("bash", "-c", "ulimit -f 100; python -m stages.decode", status=74)  # files end at 100 KiB
    assert "Finished shards are kept" in run or "could not be written" in run
    assert not list((project.folder / "data").glob("decoded/*"))
    project.stage("decode")
