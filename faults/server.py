"""The page under a thousand requests, 50 at once: good ones among hostile uploads, lies, other sites and slow clients.

A real server, an exported model. Must hold: each request gets an answer that it may get, or its connection is closed,
within the limits of app/page/limits.py; good recordings get the answers that they get from a quiet server; nothing of
another file is told; the server writes no word of its own. Afterwards it is as before: files, sockets, threads,
workers, and the temporary folder is empty. All the while, under strace where there is one, nothing was written outside
that folder, nothing connected, and memory stayed within `MOST_MB`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from app.page.limits import Limits
from faults.clients import Answer, Request, ask
from faults.page_requests import request_of
from faults.page_site import GRACE_SECONDS, Site, answers, references
from faults.project import file_hashes
from faults.result import Result, must
from faults.served import Served, serve, temporary
from faults.sounds import speech_like
from faults.uploads import Uploads
from stages.pipeline.files import write_csv
from stages.pipeline.manifest_table import Row, clip_id, write_manifest
from stages.pipeline.shard_writer import ShardWriter
from stages.pipeline.shards import Item, Signal

FULL = 1000
AT_ONCE = 50
MOST_MB = 700
_MEGABYTES = 8
_PICTURE_BYTES = 12_000_000
_SECRET = "what no answer may tell"  # noqa: S105 - it is looked for, it opens nothing
_TOLD = (_SECRET.encode(), b"root:x:", b"import annotations")
_SETTLED_SECONDS = 60.0  # in which what was begun must have ended


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """One server for all of them."""
    from faults.small_model import exported_model

    result = Result()
    workdir = workdir.resolve()
    (workdir / "model").mkdir()
    model, project, home = exported_model(workdir / "model"), workdir / "project", workdir / "home"
    home.mkdir()
    clip = _make_project(project)
    uploads = Uploads(workdir / "uploads", project / "secret.wav")
    limits = Limits(upload_bytes=_MEGABYTES * 10**6)
    trace = workdir / "trace" if shutil.which("strace") else None
    options = ("--model", str(model), "--max-megabytes", str(_MEGABYTES))
    under = _strace(trace)
    with serve(
        project, *options, under=under, HOME=str(home), XDG_CACHE_HOME=str(home), PYTHONDONTWRITEBYTECODE="1"
    ) as served:
        site = Site(served.port, uploads, limits, clip, _PICTURE_BYTES)
        tell = partial(_told, site=site, known={})
        good = references(site)
        with ThreadPoolExecutor(2) as pool:  # both workers' threads begin
            known = {name: found[0] for name, found in zip(good, pool.map(tell, good.values()), strict=True)}
        before, hashes = _quiet(served, site), [file_hashes(folder, ".") for folder in (project, home)]
        requests = {number: request_of(number, seed, site) for number in range(first, first + count)}
        with _watched(served, result), ThreadPoolExecutor(AT_ONCE) as pool:
            coming = {n: pool.submit(_told, request, site=site, known=known) for n, (_, request) in requests.items()}
            for number, answers in coming.items():
                with result.attempt(number, requests[number][0]):
                    answers.result()
        with result.attempt(first, f"to {first + count - 1}, all together"):
            result.tried -= 1
            for name, request in good.items():
                must(tell(request)[0].value == known[name].value, f"{name}: another answer than before")
            # threads end when they have idled for ten seconds: a sample does not wait for that
            _settle(served, site, before, before[1] if count > AT_ONCE else 1000)
            must([file_hashes(folder, ".") for folder in (project, home)] == hashes, "files of project or home changed")
            result.facts["mb_after"] = served.resident_bytes() // 10**6
            left = sorted(map(str, temporary(project).rglob("*")))
            must(not left, f"left in the temporary folder: {left}")
            must(int(result.facts["mb"]) <= MOST_MB, f"{result.facts['mb']} MB at its largest, {MOST_MB} are let")
    with result.attempt(first, f"to {first + count - 1}, all together, in the end"):
        result.tried -= 1
        must(not served.lines, f"the server wrote: {''.join(served.lines)[-3000:]}")
        must(served.process.returncode == 0, f"the server ended with status {served.process.returncode}")
        if trace:
            _check_trace(trace.read_text(errors="replace"), temporary(project), project)
    result.facts["strace"] = "yes" if trace else "no"
    return result


def _make_project(folder: Path) -> str:
    """What the page shows and must not show; the id of its one clip. No DVC, no scores."""
    rng = np.random.default_rng(0)
    row = Row(clip_id("es/a.wav"), "es/a.wav", "es", "a", "test", "0" * 64, "000")
    for name in ("data/resampled", "metrics/evaluate"):
        (folder / name).mkdir(parents=True)
    write_manifest([row], folder / "data/manifest.csv")
    samples = (20000 * speech_like(1, 2.0)).astype(np.int16)
    with ShardWriter(folder / "data/resampled/000.h5", Item((), "int16")) as writer:
        writer.add(row.id, row.path, lambda: Signal(16000, [samples]))
        writer.finish()
    evaluated = {"id": row.id, "actual": "es", "predicted": "pt", "probability": "0.9", "group": "a"}
    write_csv(folder / "metrics/evaluate/predictions.csv", tuple(evaluated), [evaluated])
    (folder / "metrics/evaluate/confusion.png").write_bytes(b"\x89PNG\r\n\x1a\n" + rng.bytes(_PICTURE_BYTES - 8))
    (folder / "secret.txt").write_text(_SECRET)
    (folder / "params.yaml").write_text(f"secret: {_SECRET}\n")
    (folder / "secret.wav").write_bytes(b"RIFF" + _SECRET.encode())
    return row.id


def _told(request: Request, site: Site, known: dict[str, Answer]) -> list[Answer]:
    """The answers, each one that may be given.

    Raises
    ------
    Broken
        One is not.
    """
    found = ask(site.port, request, site.limits.request_seconds + site.limits.flush_seconds + GRACE_SECONDS)
    for answer, expected in zip(found, request.expected, strict=False):
        said = f"status {answer.status} {answer.body[:300]!r}"
        must(answer.status in expected.statuses, f"{said}, expected {sorted(expected.statuses)}")
        must(
            not request.reasons or answer.status == 200 or answer.reason in request.reasons,
            f"a reason unheard of: {said}",
        )
        must(not any(one in answer.body for one in _TOLD), f"it tells what stands in another file: {said}")
        must("access-control-allow-origin" not in answer.headers, f"other sites may read it: {answer.headers}")
        if expected.like in known:
            must(answer.value == known[expected.like].value, f"another answer than a quiet server's: {said}")
    return found


State = tuple[list[str], int, int]


def _state(served: Served) -> State:
    """Open files without their numbers, threads, children."""
    files = [re.sub(r"\d+", "", name) for name in served.open_files()]
    return files, len(os.listdir(f"/proc/{served.pid}/task")), len(served.children())


def _quiet(served: Served, site: Site) -> State:
    """Its state once that no longer changes, and a file has been asked for, which takes a thread."""
    states: list[State] = []
    while len(states) < 2 or states[-1] != states[-2]:
        ask(site.port, _page(site), GRACE_SECONDS)
        time.sleep(1)
        states.append(_state(served))
    return states[-1]


def _settle(served: Served, site: Site, before: State, threads: int) -> None:
    """Wait until it has the same files open and no more children, and threads, which end when one is asked for."""
    deadline = time.monotonic() + _SETTLED_SECONDS
    while True:
        ask(site.port, _page(site), GRACE_SECONDS)
        time.sleep(0.3)  # that page's own file and socket are closed then
        now = _state(served)
        if now[0] == before[0] and now[1] <= threads and now[2] <= before[2]:
            return
        must(time.monotonic() < deadline, f"open files, threads, children: {now}, before {before}")


def _page(site: Site) -> Request:
    return Request([site.get("/static/page.css", "Connection: close")], answers(200), must_close=True)


@contextlib.contextmanager
def _watched(served: Served, result: Result) -> Iterator[None]:
    """Keep the largest sum of resident memory, in MB, of the server and all that it starts."""
    over = threading.Event()

    def measure() -> None:
        result.most("mb", served.resident_bytes() // 10**6)

    def watch() -> None:
        while not over.wait(0.1):
            measure()

    result.facts["mb_before"] = served.resident_bytes() // 10**6
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        measure()


def _strace(trace: Path | None) -> list[str]:
    if trace is None:
        return []
    calls = (
        "trace=open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,connect"
    )
    return ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "4096", "-e", calls, "-o", str(trace)]


def _check_trace(text: str, temporary_folder: Path, project: Path) -> None:
    """Raises Broken where something was written outside the temporary folder, or asked for over the network."""
    lines = [line for line in text.splitlines() if " = -1 " not in line]
    opened = [line for line in lines if " open" in line or " creat(" in line]
    must(any("O_TMPFILE" in line for line in opened), "strace saw nothing")
    written = [line for line in opened if re.search(r"O_WRONLY|O_RDWR|O_CREAT| creat\(", line)]
    made = [line for line in lines if re.search(r" (mkdir|rename|link|symlink)\w*\(", line)]
    allowed = re.compile(rf'"({re.escape(str(temporary_folder))}(/[^"]*)?|/dev/null|/proc/self/[^"]*)"')
    outside = [line for line in written + made if not allowed.search(line)]
    must(not outside, f"written outside the temporary folder: {outside[:3]}")
    reached = [line for line in opened if re.search(r"/secret\.(txt|wav)|/etc/passwd", line)]
    must(not reached, f"opened: {reached[:3]}")
    connected = [line for line in text.splitlines() if " connect(" in line and "AF_INET" in line]
    must(not connected, f"something connected: {connected[:3]}")
