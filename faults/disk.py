"""A disk that is full at a random byte (a small tmpfs), and EIO or ENOSPC out of write, fsync or rename (by strace).

Must hold: never status 0 without the whole result; no torn file is taken for whole; the message names what failed and,
where the disk is full, how much is free or needed; with room again the next run gives the same bytes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np

from faults.project import Project, mixed_corpus
from faults.result import Result, must

FULL = 200
STAGES = ("decode", "resample", "logmel", "resize")
_FOLDERS = {"decode": "decoded", "resample": "resampled", "logmel": "logmel", "resize": "features"}
_OURS = re.compile(r'File "[^"]*/stages/')  # a line of a traceback
_CALLS = ("write", "pwrite64", "fsync", "rename", "unlink", "ftruncate")


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """Full disks on even numbers, injected errors on odd ones."""
    if os.getuid() != 0 or not shutil.which("strace"):
        return Result(skipped="mounting a small disk needs root, and injecting errors strace")
    result = Result()
    corpus = mixed_corpus(workdir / "corpus")
    project = Project(workdir / "project", corpus)
    data = project.folder / "data"
    project.set(manifest={"clips_per_shard": 4}, execution={"workers": 2})
    project.stage("manifest", *STAGES)
    outs = [f"data/{_FOLDERS[stage]}" for stage in STAGES]
    good = project.hashes(*outs)
    kept = workdir / "kept"
    shutil.copytree(data, kept, ignore=shutil.ignore_patterns("decoded", "resampled", "logmel", "features", ".reuse"))
    needed = sum(path.stat().st_size for path in (data / ".reuse").rglob("*.h5"))
    shutil.rmtree(data)
    data.mkdir()
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        full = number % 2 == 0
        kilobytes = int(rng.integers(64, needed // 1024)) if full else 1 << 20
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(data)], check=True)
        try:
            shutil.copytree(kept, data, dirs_exist_ok=True)
            call, error = str(rng.choice(_CALLS)), str(rng.choice(["EIO", "ENOSPC"]))
            when = int(rng.integers(1, 60))
            what = f"{kilobytes} KB" if full else f"{error} from {call} number {when}"
            with result.attempt(number, what):
                status, output = _go(project, [] if full else _inject(call, error, when))
                # an injected error may hit loky's pipes and semaphores too, which are no disk: its own words then
                must("Traceback" not in output or not (full or _OURS.search(output)), output)
                result.facts["met"] = int(result.facts.get("met", 0)) + (status != 0)
                if status == 0:
                    must(project.hashes(*outs) == good, "status 0 and other bytes")
                else:
                    must(status == 74, f"status {status}: {output[-300:]}")
                    if full:
                        must(re.search(r"MB free|needs .* MB|free some space", output, re.I), output[-300:])
                subprocess.run(["mount", "-o", "remount,size=1g", str(data)], check=True)
                status, output = _go(project, [])
                must(status == 0, f"with room again: status {status}: {output[-300:]}")
                must(project.hashes(*outs) == good, "with room again: other bytes")
        finally:
            subprocess.run(["umount", "-l", str(data)], check=True)
    return result


def _inject(call: str, error: str, when: int) -> list[str]:
    what = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
    return ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", *what]


def _go(project: Project, before: list[str]) -> tuple[int, str]:
    """All four stages until one fails; its status, and what they said."""
    said = ""
    for stage in STAGES:
        # bytecode is written beside the stages, not on the small disk
        with project.start(*before, "python", "-m", f"stages.{stage}") as process:
            output, _ = process.communicate(timeout=300)
        said += output
        if process.returncode:
            return process.returncode, said
    return 0, said
