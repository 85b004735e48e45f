"""Runs a stage: the lock, the log, the workers, the reuse store, and the account of what was kept and rejected."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import joblib
import numpy as np
from pydantic import BaseModel

from stages.pipeline import shards as shards_module
from stages.pipeline.errors import PipelineError, StorageError, TooManyRejectedError
from stages.pipeline.files import sha256_of_file, sha256_of_json, write_csv, write_json
from stages.pipeline.lock import guard_worker, stage_lock
from stages.pipeline.params import Params, load_params
from stages.pipeline.progress import Progress
from stages.pipeline.reuse import ReuseStore
from stages.pipeline.shards import Item, Rejection, Shard, ShardSummary, ShardWriter, list_shards

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One shard to make.

    work : picklable; writes the shard's clips through the writer that it is given.
    source : hash of all that goes into this shard, but for code, params and libraries.
    """

    name: str
    source: str
    work: Callable[[ShardWriter], None]


@dataclass(frozen=True)
class Step:
    """What the runner must know of a data stage.

    folder : where its shards go, a DVC out.
    module : path of its source file.
    params : the sections that its results depend on.
    libraries : name and version of whatever else its results depend on.
    """

    name: str
    folder: Path
    module: str
    item: Item
    params: tuple[BaseModel, ...]
    libraries: dict[str, str]

    def key(self) -> str:
        """Hash of code, params and libraries: the part of a shard's key that all shards of a run share."""
        code = []
        for path in (self.module, shards_module.__file__):
            with Path(path).open("rb") as handle:
                code.append(sha256_of_file(handle))
        versions = {"numpy": np.__version__, "h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version}
        params = [section.model_dump(mode="json") for section in self.params]
        return sha256_of_json([self.name, code, params, self.item.shape, self.item.dtype, versions | self.libraries])


def stage_main(stage: str) -> int:
    """The frame around every stage's `run(params)`: log, params, lock; an error is one message and an exit code."""
    logging.basicConfig(level=logging.INFO, format=f"{stage}: %(message)s", stream=sys.stderr, force=True)
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
    return 0


def _stop(number: int, _frame: object) -> None:
    # No clean-up on purpose: the kernel takes the lock back and ends the workers, and the next run removes what they
    # left unfinished. Anything slower could hang on a worker that does not answer.
    os.write(2, b"stopped; finished shards are kept, `dvc repro` goes on from here\n")
    os._exit(128 + number)


def run_step(step: Step, jobs: Sequence[Job], params: Params) -> list[ShardSummary]:
    """Make all shards that are not in the reuse store yet, and link all of them into the stage's folder.

    Returns
    -------
    A summary for each shard, in the order of `jobs`.
    """
    store = ReuseStore(step.name)
    store.remove_unfinished()
    common = step.key()
    keys = {job.name: sha256_of_json([common, job.name, job.source]) for job in jobs}
    todo = [job for job in jobs if keys[job.name] not in store]
    log.info("%d shards: %d found in the reuse store, %d to do", len(jobs), len(jobs) - len(todo), len(todo))
    workers = min(params.execution.workers or joblib.cpu_count(), max(1, len(todo)))
    with Progress(step.name, len(todo)) as progress:
        tasks = (joblib.delayed(_make_shard)(job, store.path(keys[job.name]), step.item) for job in todo)
        with joblib.parallel_config("loky", n_jobs=workers, initializer=guard_worker, initargs=(os.getpid(),)):
            for summary in joblib.Parallel(return_as="generator_unordered")(tasks):
                progress.advance(summary.kept + len(summary.rejected), summary.seconds)
    step.folder.mkdir(parents=True, exist_ok=True)
    summaries = []
    for job in jobs:
        target = step.folder / f"{job.name}.h5"
        target.unlink(missing_ok=True)
        store.link(keys[job.name], target)
        with Shard(target) as shard:
            summaries.append(shard.summary())
    for stale in set(step.folder.glob("*")) - {step.folder / f"{job.name}.h5" for job in jobs}:
        stale.unlink()
    store.evict(params.execution.reuse_gb * 1e9, keys.values())
    return summaries


def _make_shard(job: Job, path: Path, item: Item) -> ShardSummary:
    with ShardWriter(path, item) as writer:
        job.work(writer)
        return writer.finish()


def account(stage: str, rows: int, kept: int, seconds: float, rejected: Sequence[Rejection], limit: float) -> None:
    """Write metrics/<stage>/summary.json and quarantine.csv, print the numbers, and judge them.

    seconds : of sound that was kept; 0 where it isn't known or known already.
    limit : largest share of `rows` that may be rejected.

    Raises
    ------
    PipelineError
        rows != kept + rejected: something was lost, which is a fault of ours.
    TooManyRejectedError
        More than `limit` was rejected, or nothing was kept.
    """
    folder = Path("metrics") / stage
    reasons = Counter(rejection.reason for rejection in rejected)
    write_csv(folder / "quarantine.csv", ("id", "path", "reason", "detail"), (vars(entry) for entry in rejected))
    summary: dict[str, object] = {"rows": rows, "kept": kept, "rejected": len(rejected)}
    if seconds:
        summary["hours"] = round(seconds / 3600, 3)
    write_json(folder / "summary.json", summary | {"reasons": dict(reasons)})
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    log.info("%d rows = %d kept + %d rejected%s", rows, kept, len(rejected), f" ({told})" if told else "")
    if rows != kept + len(rejected):
        raise PipelineError(f"{stage}: {rows} rows went in, {kept} + {len(rejected)} came out; please report this bug")
    if not kept or len(rejected) > limit * rows:
        raise TooManyRejectedError(
            f"{len(rejected)} of {rows} recordings were rejected ({told or 'there were none'}); at most "
            f"{limit:.0%} may be. Look into {folder / 'quarantine.csv'}; mend or remove those files, or raise "
            f"{stage}.max_reject_fraction in params.yaml"
        )


@dataclass(frozen=True)
class MapShard:
    """The work of a stage that turns each clip of one shard into one clip of the next.

    function : (open shard, index of the clip) -> Signal; a module-level function or a frozen dataclass.
    """

    source: Path
    function: Callable[[Shard, int], shards_module.Signal]

    def __call__(self, writer: ShardWriter) -> None:
        with Shard(self.source) as shard:
            for i, (clip, path) in enumerate(zip(shard.ids, shard.paths, strict=True)):
                seconds = float(shard.lengths[i] / shard.rates_hz[i])
                writer.add(clip, path, lambda i=i: self.function(shard, i), seconds)  # type: ignore[misc]


def map_shards(
    step: Step, source: Path, function: Callable[[Shard, int], shards_module.Signal], params: Params
) -> None:
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


def _jobs(source: Path, function: Callable[[Shard, int], shards_module.Signal]) -> Iterator[_MapJob]:
    for path in list_shards(source):
        with Shard(path) as shard:
            summary = shard.summary()
        yield _MapJob(path.stem, summary.digest, MapShard(path, function), rows=summary.kept)
