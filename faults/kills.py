"""SIGKILL at a random moment of a data stage, then the same command again at once.

Whom it hits goes in turn: the stage's whole group, the stage alone, one worker, one ffmpeg, and dvc alone, which
leaves its stage at work.

Must hold: the same bytes as an undisturbed run; what was finished is not done again; while the old run still works, a
second one leaves with status 75 and names it; no unfinished file stays, and no lock that stops the next run. A file of
DVC's own that its death cut off, dvc.lock or rwlock, is mended as `make doctor` prints, and that must do.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from faults.project import ROOT, Project, mixed_corpus
from faults.result import Result, must

FULL = 200
_TORN = re.compile(r"'\S*dvc\.lock' validation failed|Unable to read RWLock-file")
_DVCS_FILE = re.compile(r"dvc\.lock|rwlock")
WHOM = ("group", "stage", "worker", "ffmpeg", "dvc")
OUTS = ("data/decoded",)


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """One project; its decode stage is killed and run again for each fault."""
    result = Result(facts={"second_runs_that_left": 0})
    corpus = mixed_corpus(workdir / "corpus")
    project = Project(workdir / "project", corpus)
    project.set(manifest={"clips_per_shard": 2}, execution={"workers": 2})
    project.stage("manifest")
    start = time.monotonic()
    project.stage("decode")
    seconds = time.monotonic() - start
    good = project.hashes(*OUTS)
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        whom, after = WHOM[number % len(WHOM)], float(rng.uniform(0.2, 1.1)) * seconds
        for path in [
            *(project.folder / "data/.reuse/decode").rglob("*.*"),
            *(project.folder / "data/decoded").glob("*"),
        ]:
            path.unlink()
        with result.attempt(number, f"{whom} after {after:.2f} s"):
            (_dvc if whom == "dvc" else _one)(project, whom, after, result)
            must(project.hashes(*OUTS) == good, "other bytes than those of an undisturbed run")
            left = list((project.folder / "data").rglob("*.tmp"))
            must(not left, f"left behind: {left[:2]}")
    return result


def _one(project: Project, whom: str, after: float, result: Result) -> None:
    process = project.start("python", "-m", "stages.decode")
    time.sleep(after)
    hit = _kill(process.pid, whom)
    output = ""
    if whom in ("worker", "ffmpeg") or not hit:
        output, _ = process.communicate(timeout=120)
        expected = {0, 74} if hit else {0}
        must(process.returncode in expected, f"status {process.returncode}: {output[-300:]}")
        must("Traceback" not in output, output[-400:])
    _run_again(project, ("python", "-m", "stages.decode"), result)
    process.communicate(timeout=60)


def _dvc(project: Project, whom: str, after: float, result: Result) -> None:
    """Kill dvc while its stage works; the stage must go on alone, and a second run say so and leave.

    The stage is held up meanwhile, as by a slow disk: it would often be done before the second dvc has started.
    """
    if not (project.folder / ".dvc").exists():
        project.with_dvc()
    (project.folder / "dvc.lock").unlink(missing_ok=True)  # or it would take the result from its cache
    shutil.rmtree(project.folder / ".dvc/cache", ignore_errors=True)
    process = project.start("dvc", "repro", "-s", "decode")
    while process.poll() is None and not _stages(process.pid):
        time.sleep(0.01)
    time.sleep(after)
    left = _stages(process.pid)
    for stage in left:
        with suppress(ProcessLookupError):
            os.kill(stage, signal.SIGSTOP)
    at_work = _owner(project)
    process.kill()
    process.wait()  # or DVC finds the dead process in the process table and waits for it
    try:
        named = _run_again(project, ("dvc", "repro", "-s", "decode"), result, times=1)
        must(named == at_work, f"at work: {at_work}; named by the second run: {named}")
    finally:
        for stage in left:
            with suppress(ProcessLookupError):
                os.kill(stage, signal.SIGCONT)
    _run_again(project, ("dvc", "repro", "-s", "decode"), result)
    process.communicate(timeout=60)


def _owner(project: Project) -> set[int]:
    """The process that holds the stage's lock, if one does; to be asked while none can be about to take it."""
    with (project.folder / "data/.locks/decode.lock").open(encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return {int(handle.read())}
    return set()


def _stages(pid: int) -> list[int]:
    return [child for child in children(pid) if "stages.decode" in command_of(child)]


def _run_again(project: Project, command: tuple[str, ...], result: Result, times: int = 100) -> set[int]:
    """Until it is done, which is at once unless the old run still works, or `times`; whom it named as at work."""
    done = {path: path.stat().st_mtime_ns for path in _finished(project)}
    named: set[int] = set()
    for _ in range(times):
        status, output = _go(project, command)
        if _TORN.search(
            output
        ):  # a file of DVC's own, which dvc was writing: it says so, and the doctor how to mend it
            _mend(project)
            result.facts["mended_by_doctor"] = int(result.facts.get("mended_by_doctor", 0)) + 1
            status, output = _go(project, command)
        must("Traceback" not in output, output[-400:])
        if status != 75 and "exited with 75" not in output:
            must(status == 0, f"the run after it: status {status}: {output[-300:]}")
            must({path: path.stat().st_mtime_ns for path in done} == done, "finished shards were made again")
            return named
        named.update(int(number) for number in re.findall(r"running here as process (\d+)", output))
        must(named, output)
        result.facts["second_runs_that_left"] = int(result.facts["second_runs_that_left"]) + 1
        time.sleep(0.1)
    must(times == 1, f"still at work after {times} tries: {output[-300:]}")
    return named


def _go(project: Project, command: tuple[str, ...]) -> tuple[int, str]:
    with project.start(*command) as process:
        output, _ = process.communicate(timeout=120)
    return process.returncode, output


def mends(output: str) -> list[str]:
    """The commands that the doctor printed."""
    return re.findall(r"^ +mend: (.*)$", output, re.MULTILINE)


def _mend(project: Project) -> None:
    """Do what `make doctor` prints for DVC's own files."""
    _, output = _go(project, ("env", f"PYTHONPATH={ROOT}", "python", "-m", "app.doctor"))
    found = [mend for mend in mends(output) if _DVCS_FILE.search(mend)]
    must(found, f"the doctor knows no mend: {output[-600:]}")
    for mend in found:
        project.run("bash", "-c", mend)


def _finished(project: Project) -> set[Path]:
    return set((project.folder / "data/.reuse/decode").glob("*/[!.]*.h5"))


def children(pid: int) -> list[int]:
    """All processes below this one."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            below.setdefault(int(entry.read_text().rpartition(")")[2].split()[1]), []).append(int(entry.parent.name))
    found, todo = [], [pid]
    while todo:
        todo = [child for one in todo for child in below.get(one, [])]
        found += todo
    return found


def command_of(pid: int) -> str:
    """What it was started as; empty where it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _kill(pid: int, whom: str) -> bool:
    """Whether anybody was there to be hit."""
    with suppress(ProcessLookupError):
        if whom == "group":
            os.killpg(pid, signal.SIGKILL)
            return True
        if whom == "stage":
            os.kill(pid, signal.SIGKILL)
            return True
        wanted = "popen_loky" if whom == "worker" else "ffmpeg"
        for child in children(pid):
            if wanted in command_of(child) and "resource_tracker" not in command_of(child):
                os.kill(child, signal.SIGKILL)
                return True
    return False
