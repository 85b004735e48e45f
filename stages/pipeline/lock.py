"""One run of a stage at a time, and no worker that outlives its run.

`kill -9` on dvc leaves its stage running. Without a lock of its own an immediate second run would be a second writer
in the same folder; with it, the second run says who is at work and leaves.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

from stages.pipeline.errors import LockedError

LOCKS = Path("data/.locks")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@contextmanager
def stage_lock(stage: str, folder: Path = LOCKS) -> Iterator[None]:
    """Hold the stage's lock, which the kernel takes back when the process ends, however it ends.

    Raises
    ------
    LockedError
        Another process holds it; the message names its process id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stage}.lock"
    with path.open("a+", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise LockedError(
                f"the stage {stage} is already running here as process {owner}; wait for it to end, or end it with "
                f"`kill {owner}`, then run again: what it has finished is kept"
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; safe between fork and exec. Linux only."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def interrupts_kept_from_children() -> Iterator[None]:
    """Processes that are started inside never hear Ctrl-C, which a terminal sends to all: they end with their parent.

    By the mask, which a child inherits before its first line runs, and not by a handler: one would come too late for
    a worker that is still importing, and its traceback would bury the stage's own message. For this process the signal
    waits until the end of the block.
    """
    resource_tracker.ensure_running()  # before Python 3.12 its start, which loky brings about, unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def guard_worker(parent: int) -> None:
    """First thing that a worker process does: see to it that it ends with `parent`, the stage's process id."""
    die_with_parent()
    if os.getppid() != parent:  # it was too late for the kernel's signal
        os._exit(1)
    if _libc is None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
