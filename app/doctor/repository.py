"""Git, params.yaml, DVC's own files, and the locks of runs that are under way or were killed."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import subprocess
from pathlib import Path

from app.doctor.finding import Findings, fault, few, ok, warning

RWLOCK = Path(".dvc/tmp/rwlock")
_TIMEOUT_SECONDS = 120
_CONFLICT = ("<<<<<<<", ">>>>>>>")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)


def git() -> Findings:
    """A repository with a commit, as `dvc exp` needs one, and no merge half done."""
    if _run("git", "rev-parse", "--git-dir").returncode:
        yield fault("this is no Git repository; DVC keeps params, metrics and dvc.lock in one", "git init && dvc init")
        return
    head = _run("git", "rev-parse", "--short", "HEAD")
    if head.returncode:
        yield warning("there is no commit yet; `dvc exp run` needs one", 'git add . && git commit -m "Start"')
        return
    if unmerged := _run("git", "diff", "--name-only", "--diff-filter=U").stdout.split("\n")[:-1]:
        yield fault(f"a merge is half done: {few(unmerged)}", "git mergetool && git commit")
    changed = _run("git", "status", "--porcelain", "--untracked-files=no").stdout.splitlines()
    told = f", {len(changed)} files changed since" if changed else ", nothing changed since"
    yield ok(f"Git commit {head.stdout.strip()}{told}")


def params() -> Findings:
    """params.yaml is valid, and the corpora that it names are there or can be built."""
    from stages.pipeline.errors import ParamsError
    from stages.pipeline.params import load_params

    try:
        values = load_params()
    except ParamsError as error:
        yield fault(str(error), "$EDITOR params.yaml  # docs/params.md says what each key may be")
        return
    yield ok("params.yaml is valid")
    for key, name in {"dataset": values.dataset, **values.evaluate.extra_corpora}.items():
        if not Path(name).exists() and not _is_out(Path(name)):
            yield fault(
                f"{key}: {name} is not there, and no dvc.yaml builds it",
                f"ls -d {shlex.quote(name)}  # and name the right path in params.yaml",
            )


def _is_out(corpus: Path) -> bool:
    """Whether a dvc.yaml beside the corpus names it as an out, as those in data/ do."""
    path = corpus.parent / "dvc.yaml"
    return path.is_file() and f"- {corpus.name}" in path.read_text(encoding="utf-8")


def lock_files() -> Findings:
    """Each dvc.yaml and dvc.lock is whole: a full disk leaves them empty, a merge with both sides in them."""
    from yaml import YAMLError

    from stages.pipeline.yaml12 import load_yaml12

    found = [path for pattern in ("", "data/*/") for path in sorted(Path().glob(f"{pattern}dvc.*"))]
    whole = 0
    for path in (path for path in found if path.name in ("dvc.yaml", "dvc.lock")):
        text = path.read_text(encoding="utf-8", errors="replace")
        try:
            values = load_yaml12(text)
        except YAMLError:
            values = None
        if isinstance(values, dict) and (path.name == "dvc.yaml" or "schema" in values):
            whole += 1
        else:
            lines = text.splitlines()
            why = "empty" if not lines else "cut off or damaged"
            if any(line.startswith(_CONFLICT) for line in lines):
                why = "a merge that was not ended"
            yield fault(f"{path} is no record of DVC's: {why}", _restore(path))
    if whole:
        yield ok(f"{whole} files of DVC's are whole")


def _restore(path: Path) -> str:
    name = shlex.quote(str(path))
    if _run("git", "cat-file", "-e", f"HEAD:{path}").returncode == 0:
        return f"git checkout HEAD -- {name}  # then dvc repro: what was run since comes from DVC's run cache"
    return f"rm {name}  # then dvc repro: what is in DVC's run cache does not run again"


def graph() -> Findings:
    """DVC itself can read the graph."""
    done = _run("dvc", "stage", "list", "--name-only")
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        yield fault(f"DVC cannot read the graph: {' '.join(lines)[:300]}", "dvc stage list")
    else:
        yield ok(f"DVC reads {len(done.stdout.split())} stages")


def runs() -> Findings:
    """Which stages are at work here; the kernel releases the lock of a stage that was killed."""
    at_work = 0
    for path in sorted(Path("data/.locks").glob("*.lock")):
        with path.open(encoding="ascii", errors="replace") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                at_work += 1
                pid = handle.read().strip() or "unknown"
                yield warning(
                    f"the stage {path.stem} is running as process {pid}",
                    f"kill {pid}  # or wait for it; what is finished is kept",
                )
    if not at_work:
        yield ok("no stage is running")


def rwlock() -> Findings:
    """DVC's list of who reads and writes what. Cut off, or naming a process id that is in use again, it stops DVC."""
    mend = f"rm {RWLOCK}  # when no dvc is running"
    try:
        values = json.loads(RWLOCK.read_text(encoding="utf-8"))
        users = [*values.get("write", {}).values(), *(one for many in values.get("read", {}).values() for one in many)]
        by_pid = {int(user["pid"]): str(user["cmd"]) for user in users}
    except FileNotFoundError:
        by_pid = {}
    except (ValueError, AttributeError, KeyError, TypeError):
        yield fault(f"{RWLOCK} is cut off or damaged: every dvc command that runs stages will fail", mend)
        return
    alive = 0
    for pid, command in sorted(by_pid.items()):
        program = _program(pid)
        if program is None:
            continue  # DVC removes entries of processes that are gone
        if "dvc" in program:
            alive += 1
            yield warning(
                f"dvc is at work as process {pid}: {command[:100]}",
                f"kill {pid}  # or wait for it; what is finished is kept",
            )
        else:
            yield fault(
                f"{RWLOCK} names process {pid} ({command[:60]}), which is gone; its number now belongs to "
                f"{program[:60]!r}, so DVC would wait for that",
                mend,
            )
    if not alive:
        yield ok("dvc is not running")


def _program(pid: int) -> str | None:
    """Command line of a live process."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return " ".join(process.cmdline()) or process.name()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return f"a process of another user than {os.getuid()}"


def export() -> Findings:
    """The exported model belongs to the calibrated one."""
    from app.recognizer import EXPORT, stale_export

    if stale_export():
        yield warning(f"{EXPORT} was made from an earlier training; predict would use it", "dvc repro export")
    elif EXPORT.is_dir():
        yield ok("the exported model is that of the last training")
