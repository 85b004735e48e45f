"""Makes the shards of a data stage: the workers, the reuse store, and the account of what was kept and rejected."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages.pipeline.account import account
from stages.pipeline.backends import run_tasks
from stages.pipeline.donors import ClipWriter, Place, find_places
from stages.pipeline.errors import StorageError
from stages.pipeline.files import sha256_of_json
from stages.pipeline.params import Params
from stages.pipeline.progress import Progress
from stages.pipeline.reuse import ReuseStore
from stages.pipeline.shard_writer import ShardWriter
from stages.pipeline.shards import Item, Shard, ShardSummary, Signal, list_shards, read_summary
from stages.pipeline.step import Job, Step, WorkerCheck

log = logging.getLogger(__name__)
# Up to so many clips in so many shards are made in this process: starting another one costs as much.
_FEW_CLIPS, _FEW_SHARDS = 32, 8
_LITTLE_BYTES = 64 << 20  # of free space: less is the likely cause of whatever went wrong


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
