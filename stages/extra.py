"""Extra: a corpus that nothing is trained on -> data/extra/<name>, for the evaluate stage.

    python -m stages.extra NAME

NAME is a key of `evaluate.extra_corpora`. The recordings go the same way as those of `dataset`, through the same
functions, but at once and without keeping what lies between: manifest.csv, quarantine.csv and shards of images are what
is left. DVC runs the stage once for each corpus, and again when its recordings or the params of a step change.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stages.decode import decode_stream
from stages.logmel import log_mel
from stages.pipeline.backends import run_tasks_here
from stages.pipeline.errors import ParamsError, TooManyRejectedError
from stages.pipeline.files import write_csv
from stages.pipeline.fingerprint import Fault, fingerprints
from stages.pipeline.layouts import Entry, find_recordings
from stages.pipeline.manifest_table import Row, clip_id, dataset_root, write_manifest
from stages.pipeline.params import Params
from stages.pipeline.paths import escape_path
from stages.pipeline.recording_file import open_recording
from stages.pipeline.shard_writer import ShardWriter
from stages.pipeline.shards import Item, Rejection, ShardSummary, Signal
from stages.pipeline.stage_main import stage_main
from stages.pipeline.stat_cache import StatCache
from stages.pipeline.tree import Tree
from stages.resample import resample
from stages.resize import resize_to_image

log = logging.getLogger(__name__)

EXTRA = Path("data/extra")
CLIPS_PER_SHARD = 64
FEW_CLIPS = 64  # starting processes costs more


@dataclass(frozen=True)
class ExtraShard:
    """One shard's work: recordings -> images."""

    path: Path
    root: str
    rows: tuple[Row, ...]
    params: Params


def run(params: Params) -> None:
    name = asked_for(sys.argv[1:], params)
    dataset = params.evaluate.extra_corpora[name]
    folder, root = EXTRA / name, dataset_root(dataset)
    cache = StatCache(dataset)
    tree = Tree(root, params.execution.workers, cache)
    section = params.manifest.model_copy(update={"layout": "auto"})
    layout, entries = find_recordings(dataset, section, tree)
    log.info("%s: %s, layout %s, %d recordings", name, dataset, layout, len(entries))
    rows, rejected = list_rows(root, entries, params, cache)
    for path, reason, detail in tree.faults:
        rejected.append(Rejection(clip_id(escape_path(path)), escape_path(path), reason, escape_path(detail)))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parts = [rows[first : first + CLIPS_PER_SHARD] for first in range(0, len(rows), CLIPS_PER_SHARD)]
    rows = [row._replace(shard=f"{number:05d}") for number, part in enumerate(parts) for row in part]
    tasks = [
        ExtraShard(folder / f"{number:05d}.h5", os.fspath(root), tuple(part), params)
        for number, part in enumerate(parts)
    ]
    summaries = list(run_tasks_here(make_shard, tasks, params.execution, len(rows) <= FEW_CLIPS))
    rejected += [rejection for summary in summaries for rejection in summary.rejected]
    write_manifest(rows, folder / "manifest.csv")
    write_csv(folder / "quarantine.csv", ("id", "path", "reason", "detail"),
              (vars(one) for one in sorted(rejected, key=lambda one: one.path)))  # fmt: skip
    count, kept = len(entries) + len(tree.faults), sum(summary.kept for summary in summaries)
    log.info("%d recordings = %d kept + %d rejected", count, kept, len(rejected))
    limit = params.decode.max_reject_fraction
    if not kept or len(rejected) > limit * count:
        raise TooManyRejectedError(
            f"{len(rejected)} of {count} recordings of {dataset} were rejected; at most {limit:.0%} may be. Look into "
            f"{folder / 'quarantine.csv'}; mend or remove those files, or raise decode.max_reject_fraction"
        )


def asked_for(arguments: Sequence[str], params: Params) -> str:
    """The corpus's name from the command line.

    Raises
    ------
    ParamsError
        There is none, or params.yaml has no such name.
    """
    names = params.evaluate.extra_corpora
    if len(arguments) != 1 or arguments[0] not in names:
        raise ParamsError(
            f"expected one name of evaluate.extra_corpora ({', '.join(names) or 'which is empty'}), received "
            f"{' '.join(arguments) or 'none'}: python -m stages.extra NAME"
        )
    return arguments[0]


def list_rows(root: Path, entries: list[Entry], params: Params, cache: StatCache) -> tuple[list[Row], list[Rejection]]:
    """A row for each recording, without a shard; what is none, and all but one of byte-identical files, rejected."""
    entries = sorted(entries, key=lambda entry: entry.name or entry.path)
    rows: dict[str, Row] = {}
    rejected: list[Rejection] = []
    seen: dict[str, str] = {}
    for entry, result in zip(entries, fingerprints(root, entries, params.execution.workers, cache), strict=True):
        path = escape_path(entry.path)
        name = clip_id(escape_path(entry.name or entry.path))
        if isinstance(result, Fault):
            rejected.append(Rejection(name, path, result.reason, " ".join(result.detail.split())))
        elif name in rows:
            rejected.append(Rejection(name, path, "named_twice", "the dataset names this path more than once"))
        elif result.sha256 in seen:
            rejected.append(Rejection(name, path, "duplicate_file", f"byte for byte the same as {seen[result.sha256]}"))
        else:
            seen[result.sha256] = path
            language = escape_path(unicodedata.normalize("NFC", entry.language))
            group = escape_path(entry.group) or name
            rows[name] = Row(name, path, language, group, "test", result.sha256, "", result.span)
    return list(rows.values()), rejected


def make_shard(task: ExtraShard) -> ShardSummary:
    resize = task.params.resize
    with ShardWriter(task.path, Item((resize.height, resize.width, 1), "uint8", 1)) as writer:
        for row in task.rows:
            writer.add(row.id, row.path, partial(images_of, row, task), 0.0)
        return writer.finish()


def images_of(row: Row, task: ExtraShard) -> Signal:
    """(windows, height, width, 1) uint8, as the data stages make them of a recording of `dataset`."""
    params = task.params
    with open_recording(Path(task.root), row) as (handle, path):
        sound = decode_stream(handle, path, params.decode)
        samples = np.concatenate(list(sound.blocks))
    bands = log_mel(resample(samples, int(sound.rate_hz), params.resample), params.resample.rate_hz, params.logmel)
    return Signal(0, [resize_to_image(bands, params.resample.rate_hz / params.logmel.hop_length, params.resize)])


if __name__ == "__main__":
    sys.exit(stage_main("extra"))
