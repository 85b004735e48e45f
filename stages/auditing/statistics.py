"""What the audit hears of each clip: statistics of its log-mel over time, and its fingerprint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.auditing.near_duplicates import Fingerprint, Grid
from stages.learning.mel_statistics import coarse_bands, spectrum_statistics
from stages.pipeline.backends import run_tasks_here
from stages.pipeline.data_params import ExecutionParams
from stages.pipeline.errors import StorageError
from stages.pipeline.manifest_table import Row
from stages.pipeline.shards import Shard, blocks_of, list_shards

QUIET_SHARE = 0.1  # of a clip's frames: its pauses
_BLOCK_SECONDS = 60  # at once in memory; of a longer recording the first block makes the statistics
_FEW_CLIPS = 256  # starting processes costs more


@dataclass(frozen=True)
class Statistics:
    """Row i is clip i; levels are in dB.

    spectrum : (clips, 2 x bands) mean and standard deviation of each band over time, the clip's mean level taken off
    silence : (clips, bands) mean of each band over the quietest frames, the clip's mean level taken off
    loudness_db, pauses_db : (clips,) mean level of the bands in a loud frame (9th decile) and in a quiet one (1st)
    """

    ids: list[str]
    spectrum: np.ndarray
    silence: np.ndarray
    loudness_db: np.ndarray
    pauses_db: np.ndarray
    prints: list[Fingerprint]
    grid: Grid


def clip_statistics(decibels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """One row of Statistics: spectrum, silence, loudness_db, pauses_db.

    decibels : (frames, bands) float32, at least one frame
    """
    coarse = coarse_bands(decibels)
    level = coarse.mean(axis=1)
    quiet = max(1, int(QUIET_SHARE * len(coarse)))
    lowest = np.argpartition(level, quiet - 1)[:quiet]
    pauses, loud = np.quantile(level, [0.1, 0.9])
    silence = coarse[np.sort(lowest)].mean(axis=0) - coarse.mean()
    return spectrum_statistics(coarse), silence, float(loud), float(pauses)


def measure(folder: Path, rows: Sequence[Row], execution: ExecutionParams) -> Statistics:
    """Statistics of those `rows` that are in the log-mel shards, in the order of shards and clips.

    Reads each frame once. In memory stay about 5.5 kB for a clip of 10 s.

    Raises
    ------
    StorageError
        A shard is damaged, or none of the rows is there.
    """
    wanted: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        wanted[row.shard].add(row.id)
    tasks = [(path, wanted[path.stem]) for path in list_shards(folder) if path.stem in wanted]
    parts = sorted(run_tasks_here(_measure_shard, tasks, execution, len(rows) <= _FEW_CLIPS), key=lambda part: part[0])
    measured = [part[1] for part in parts if part[1].ids]
    if not measured:
        raise StorageError(f"expected recordings of the manifest in {folder}, found none of them; run `dvc repro`")
    return Statistics(
        [one for part in measured for one in part.ids],
        np.concatenate([part.spectrum for part in measured]),
        np.concatenate([part.silence for part in measured]),
        np.concatenate([part.loudness_db for part in measured]),
        np.concatenate([part.pauses_db for part in measured]),
        [one for part in measured for one in part.prints],
        measured[0].grid,
    )


def _measure_shard(task: tuple[Path, set[str]]) -> tuple[str, Statistics]:
    path, wanted = task
    ids, clips, prints = [], [], []
    with Shard(path) as shard:
        bands = shard.data.shape[1]
        grid = Grid.of(bands, float(shard.rates_hz[0]) if len(shard) else 50.0)
        for i, clip in enumerate(shard.ids):
            if clip not in wanted:
                continue
            steps_at_once = max(1, round(_BLOCK_SECONDS / grid.step_seconds))
            broad = []
            for number, block in enumerate(blocks_of(shard.view(i), steps_at_once * grid.step)):
                decibels = block.astype(np.float32)
                if number == 0:
                    clips.append(clip_statistics(decibels))
                broad.append(grid.broaden(decibels))
            prints.append(grid.fingerprint(np.concatenate(broad)))
            ids.append(clip)
    spectrum, silence, loud, pauses = zip(*clips, strict=True) if clips else ((), (), (), ())
    return path.name, Statistics(
        ids,
        np.array(spectrum, np.float32),
        np.array(silence, np.float32),
        np.array(loud, np.float32),
        np.array(pauses, np.float32),
        prints,
        grid,
    )
