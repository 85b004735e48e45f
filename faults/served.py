"""The page from a real process, and what can be seen of that process from outside."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults.project import ROOT
from faults.result import Broken


@dataclass
class Served:
    """A running server. `pid` : its own, whatever started it; `lines` : what it wrote."""

    url: str
    process: subprocess.Popen[str]
    pid: int
    lines: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    def children(self) -> list[int]:
        """Process ids of its workers and of whatever else it started."""
        return children_of(self.pid)

    def open_files(self) -> list[str]:
        """What its file descriptors stand for, as Linux names it."""
        found = []
        for one in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.append(os.readlink(one))
        return sorted(found)

    def open_uploads(self) -> list[str]:
        return [name for name in self.open_files() if "deleted" in name]

    def open_sockets(self) -> int:
        return sum(name.startswith("socket:") for name in self.open_files())

    def resident_bytes(self) -> int:
        """Of the server and all that it started, at this moment."""
        total, left = 0, [self.pid]
        while left:
            pid = left.pop()
            with contextlib.suppress(OSError):  # it has ended
                left += children_of(pid)
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return total


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return sorted(int(child) for one in tasks.iterdir() for child in (one / "children").read_text().split())


def start(
    folder: Path, *options: str, cwd: Path | None = None, under: Sequence[str] = (), **environment: str
) -> subprocess.Popen[str]:
    """Start it as a user would; under : a command that runs it, such as strace."""
    return subprocess.Popen(
        [*under, sys.executable, "-m", "app.page", "--no-browser", *options],
        cwd=cwd or folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary(folder))} | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def temporary(folder: Path) -> Path:
    """The only folder in which the server may put anything, and in which nothing may be left."""
    place = folder.parent / "temporary"
    place.mkdir(exist_ok=True)
    return place


@contextlib.contextmanager
def serve(
    folder: Path, *options: str, cwd: Path | None = None, under: Sequence[str] = (), **environment: str
) -> Iterator[Served]:
    """The page on a free port, ended by SIGTERM."""
    process = start(folder, "--port", "0", *options, cwd=cwd, under=under, **environment)
    output = process.stdout
    if output is None:
        raise Broken("the server has no output")
    first = output.readline()
    found = re.match(r"http://\S+", first)
    if not found:
        process.kill()
        raise Broken(first + output.read())
    served = Served(found[0], process, children_of(process.pid)[0] if under else process.pid)
    reader = threading.Thread(target=lambda: served.lines.extend(output), daemon=True)
    reader.start()
    try:
        yield served
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(served.pid, signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()
            reader.join(5)
            output.close()
