"""Runs a stage: the lock, the log, the workers, the reuse store, and the account of what was kept and rejected."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from pydantic import BaseModel

from stages.pipeline.account import account
from stages.pipeline.backends import end_workers, run_tasks
from stages.pipeline.donors import ClipWriter, Place, find_places
from stages.pipeline.errors import PipelineError, StorageError
from stages.pipeline.files import sha256_of_file, sha256_of_json
from stages.pipeline.lock import stage_lock
from stages.pipeline.params import Params, load_params
from stages.pipeline.progress import Progress
from stages.pipeline.reuse import ReuseStore
from stages.pipeline.shard_writer import ShardWriter
from stages.pipeline.shards import Item, Shard, ShardSummary, Signal, list_shards, read_summary

log = logging.getLogger(__name__)
# Up to so many clips in so many shards are made in this process: starting another one costs as much.
_FEW_CLIPS, _FEW_SHARDS = 32, 8
_LITTLE_BYTES = 64 << 20  # of free space: less is the likely cause of whatever went wrong
_FIT: set[Path] = set()  # tokens of the runs that this process, a worker of a cluster, was found fit for


class Work(Protocol):
    """How the clips of one shard are made; must be picklable."""

    def sources(self) -> list[str]:
        """What each clip is made from, as given to `ClipWriter.add`; asked only where there is anything to take."""

    def __call__(self, writer: ClipWriter) -> None:
        """Add all clips, in order."""


@dataclass(frozen=True)
class Job:
    """One shard to make.

    source : hash of all that goes into this shard, but for code, params and libraries.
    """

    name: str
    source: str
    work: Work


@dataclass(frozen=True)
class Step:
    """What the runner must know of a data stage.

    folder : where its shards go, a DVC out.
    modules : names of the modules that its results depend on, its own first.
    params : the sections that its results depend on.
    libraries : gives name and version of whatever else its results depend on; picklable.
    """

    name: str
    folder: Path
    modules: tuple[str, ...]
    item: Item
    params: tuple[BaseModel, ...]
    libraries: Callable[[], dict[str, str]]

    def facts(self) -> dict[str, object]:
        """Code, params and libraries: what all shards of a run share."""
        code = {name: _code(name) for name in (*self.modules, Shard.__module__, ShardWriter.__module__)}
        versions = {"numpy": np.__version__, "h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version}
        params = [section.model_dump(mode="json") for section in self.params]
        item = [self.item.shape, self.item.dtype, self.item.per_chunk]
        return code | versions | self.libraries() | {"stage": self.name, "params": params, "item": item}


@cache  # as it was when this process began to use it: a worker of a cluster may outlive a change to the code
def _code(module: str) -> str:
    with Path(str(importlib.import_module(module).__file__)).open("rb") as handle:
        return sha256_of_file(handle)


def stage_main(stage: str) -> int:
    """The frame around every stage's `run(params)`: log, params, lock; an error is one message and an exit code."""
    logging.basicConfig(level=logging.INFO, format=f"{stage}: %(message)s", stream=sys.stderr, force=True)
    logging.raiseExceptions = False  # a log that cannot be written, to a full disk or a closed pipe, stops no stage
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        params = load_params()
        # By its real name, not as __main__: the workers must be able to import what they are given.
        module = importlib.import_module(f"stages.{stage}")
        with stage_lock(stage):
            module.run(params)
    except PipelineError as error:
        log.error("%s", error)
        return error.exit_code
    except OSError as error:
        log.error(
            "reading or writing failed: %s. Finished shards are kept; mend it and run `dvc repro` again",
            error,
        )
        return StorageError.exit_code
    finally:
        end_workers()
    return 0


def _stop(number: int, _frame: object) -> None:
    # No clean-up on purpose: the kernel takes the lock back and ends the workers, and the next run removes what they
    # left unfinished. Anything slower could hang on a worker that does not answer.
    os.write(2, b"stopped; finished shards are kept, `dvc repro` goes on from here\n")
    os._exit(128 + number)


@dataclass(frozen=True)
class _Task:
    job: Job
    path: Path
    item: Item
    places: Mapping[str, Place]


@dataclass(frozen=True)
class _Done:
    summary: ShardSummary
    made: int
    taken: int


def run_step(step: Step, jobs: Sequence[Job], params: Params) -> list[ShardSummary]:
    """Make all shards that are not in the reuse store yet, and link all of them into the stage's folder.

    Returns
    -------
    A summary for each shard, in the order of `jobs`.
    """
    facts = step.facts()
    common = sha256_of_json(facts)
    store = ReuseStore(step.name, common)
    store.remove_unfinished()
    keys = {job.name: sha256_of_json([common, job.name, job.source]) for job in jobs}
    present = store.keys()
    todo = [job for job in jobs if keys[job.name] not in present]
    log.info("%d shards: %d found in the reuse store, %d to do", len(jobs), len(jobs) - len(todo), len(todo))
    # Shards in use hold no clip that another one lacks; those that are no longer in use are where it was before.
    stale = present - set(keys.values())
    sources = {job.name: job.work.sources() for job in todo} if stale else {}
    wanted = {source for names in sources.values() for source in names}
    places = find_places(store.newest_first(stale), wanted) if wanted else {}
    tasks = []
    for job in todo:
        here = {source: places[source] for source in sources.get(job.name, ()) if source in places}
        tasks.append(_Task(job, store.path(keys[job.name]), step.item, here))
    check = WorkerCheck(step, facts, store.folder / f".{os.getpid()}.{secrets.token_hex(4)}.token.tmp")
    few = bool(stale) and len(todo) <= _FEW_SHARDS and len(wanted) - len(places) <= _FEW_CLIPS
    made = taken = 0
    try:
        with Progress(step.name, len(todo)) as progress, check.token_laid():
            for done in run_tasks(_make_shard, tasks, params.execution, few, check):
                made, taken = made + done.made, taken + done.taken
                progress.advance(done.summary.kept + len(done.summary.rejected), done.summary.seconds)
    except (OSError, StorageError) as error:
        if room := _room(store.folder, [task.path for task in tasks]):
            raise StorageError(f"{error}. {room}") from None
        raise
    if todo:
        log.info("%d clips made, %d taken over from earlier shards", made, taken)
    step.folder.mkdir(parents=True, exist_ok=True)
    summaries = []
    for job in jobs:
        target = step.folder / f"{job.name}.h5"
        store.link(keys[job.name], target)
        summaries.append(read_summary(target))
    for stale_name in {path.name for path in step.folder.iterdir()} - {f"{job.name}.h5" for job in jobs}:
        (step.folder / stale_name).unlink()
    store.evict(params.execution.reuse_gb * 1e9, keys.values())
    return summaries


def _room(folder: Path, wanted: Sequence[Path]) -> str:
    """Of a disk that is nearly full: how much the shards that are left need, as a sentence; else nothing."""
    sizes = [path.stat().st_size for path in wanted if path.exists()]
    left = len(wanted) - len(sizes)
    needed = left * sum(sizes) / len(sizes) if sizes else 0
    free = shutil.disk_usage(folder).free
    if free > max(needed, _LITTLE_BYTES):
        return ""
    guess = f", which need about {max(1, round(needed / 1e6))} MB" if sizes else ""
    return (
        f"The disk has {free / 1e6:.0f} MB free; {left} of {len(wanted)} shards are left{guess}. Free some space and "
        "run `dvc repro` again: finished shards are kept"
    )


@dataclass(frozen=True)
class WorkerCheck:
    """Whether a worker of a cluster sees the same folder and would make the same bytes.

    token : a file of this run in the project's folder, as a relative path.
    """

    step: Step
    facts: dict[str, object]
    token: Path

    @contextmanager
    def token_laid(self) -> Iterator[None]:
        self.token.touch()
        try:
            yield
        finally:
            self.token.unlink(missing_ok=True)

    def __call__(self) -> str:
        """What is wrong, or nothing."""
        if self.token in _FIT:
            return ""
        if not self.token.exists():
            return f"it runs in {Path.cwd()} and does not see {self.token}, so that is not the project's folder"
        here = self.step.facts()
        other = [
            f"{name}: {here.get(name)!r:.60}, expected {self.facts.get(name)!r:.60}"
            for name in sorted(here.keys() | self.facts.keys())
            if here.get(name) != self.facts.get(name)
        ]
        if other:
            return f"it has other code or packages ({'; '.join(other)}); update and restart it"
        _FIT.add(self.token)
        return ""


def _make_shard(task: _Task) -> _Done:
    if task.path.exists():  # a worker that was given up for lost has finished it after all
        summary = read_summary(task.path)
        return _Done(summary, summary.kept + len(summary.rejected), 0)
    with ShardWriter(task.path, task.item) as writer, ClipWriter(writer, task.places) as clips:
        task.job.work(clips)
        return _Done(writer.finish(), clips.made, clips.taken)


@dataclass(frozen=True)
class MapShard:
    """The work of a stage that turns each clip of one shard into one clip of the next.

    function : (open shard, index of the clip) -> Signal; a module-level function or a frozen dataclass.
    """

    source: Path
    function: Callable[[Shard, int], Signal]

    def sources(self) -> list[str]:
        with Shard(self.source) as shard:
            return _sources(shard)

    def __call__(self, writer: ClipWriter) -> None:
        with Shard(self.source) as shard:
            for i, source in enumerate(_sources(shard)):
                seconds = float(shard.lengths[i] / shard.rates_hz[i])
                writer.add(shard.ids[i], shard.paths[i], partial(self.function, shard, i), seconds, source)


def _sources(shard: Shard) -> list[str]:
    return [f"{digest} at {rate_hz!r}" for digest, rate_hz in zip(shard.digests, shard.rates_hz.tolist(), strict=True)]


def map_shards(step: Step, source: Path, function: Callable[[Shard, int], Signal], params: Params) -> None:
    """Run a stage that maps each shard of `source` to one of its own, clip by clip.

    It has no cause to reject any: what cannot be used has been rejected by decode.
    """
    jobs = list(_jobs(source, function))
    summaries = run_step(step, jobs, params)
    rejected = [rejection for summary in summaries for rejection in summary.rejected]
    kept = sum(summary.kept for summary in summaries)
    rows = sum(job.rows for job in jobs)
    account(step.name, rows, kept, 0, rejected, limit=0.0)


@dataclass(frozen=True)
class _MapJob(Job):
    rows: int = 0


def _jobs(source: Path, function: Callable[[Shard, int], Signal]) -> Iterator[_MapJob]:
    for path in list_shards(source):
        summary = read_summary(path)
        yield _MapJob(path.stem, summary.digest, MapShard(path, function), rows=summary.kept)
