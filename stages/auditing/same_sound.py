"""Whether two clips that look alike hold the same sound: what both share is read again, in full detail.

A fingerprint keeps only which way the spectrum moves, once in a quarter of a second, and there voices of one
synthesiser are alike. This compares how much louder each band is than the one below, moment by moment: codecs leave
that nearly as it was, another sentence or another voice does not. A copy is alike from beginning to end, so the third
of the shared sound that is least alike decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from stages.auditing.near_duplicates import Candidate, Grid, slopes
from stages.pipeline.manifest_table import Row
from stages.pipeline.shards import ClipView, Shard

SMOOTH_SECONDS = 0.1
MASKED_BELOW_DB = 12.0  # of the loudest band of a moment
_PARTS = 3
# 1,243 copies of faults/duplicates.py's clips, over all of its codecs, come to .80 and more, 600 of the demo's over AMR
# and Opus to .79, people's to .9; distinct clips to .66, where two of one voice begin with the same name.
LEAST_CORRELATION = 0.72
LEAST_SECONDS = 1.0  # of sound that is compared
_MOST_SECONDS = 300.0  # that are read of what two long recordings share
_OFF_SECONDS = 0.06  # that the lag may be off by
_TINY = 1e-9  # dB squared: silence is like nothing


@dataclass(frozen=True)
class Copy:
    """Two clips with the same sound.

    first, second : their numbers, first < second; lag_seconds : by how much later the sound stands in the second;
    correlation : of their spectra's slopes, in the third that is least alike, 1: the same; seconds : that were compared
    """

    first: int
    second: int
    lag_seconds: float
    correlation: float
    seconds: float


def find_copies(candidates: Sequence[Candidate], rows: Sequence[Row], folder: Path, grid: Grid) -> list[Copy]:
    """Those candidates that are copies, most alike first.

    rows : of the manifest, in the order that the candidates count in
    folder : the log-mel shards

    Raises
    ------
    StorageError
        A shard is damaged.
    """

    def shards(one: Candidate) -> tuple[str, str]:
        return rows[one.first].shard, rows[one.second].shard

    found = []
    for (a, b), pairs in groupby(sorted(candidates, key=shards), key=shards):
        with Shard(folder / f"{a}.h5") as mine, Shard(folder / f"{b}.h5") as other:
            place, other_place = ({clip: i for i, clip in enumerate(shard.ids)} for shard in (mine, other))
            for one in pairs:
                first = mine.view(place[rows[one.first].id])
                second = other.view(other_place[rows[one.second].id])
                lag, correlation, seconds = compare(first, second, one.lag * grid.step, grid)
                if correlation >= LEAST_CORRELATION and seconds >= LEAST_SECONDS:
                    found.append(Copy(one.first, one.second, lag * grid.frame_seconds, correlation, seconds))
    return sorted(found, key=lambda copy: (-copy.correlation, copy.first, copy.second))


def compare(
    first: ClipView | np.ndarray, second: ClipView | np.ndarray, lag: int, grid: Grid
) -> tuple[int, float, float]:
    """How alike two clips are where they share sound: (lag, correlation, seconds compared), at the best of the lags.

    first, second : (frames, bands) log-mel in dB
    lag : frames by which the sound stands later in the second, about
    grid : that of their fingerprints
    """
    off = round(_OFF_SECONDS / grid.frame_seconds)
    begin = max(0, -lag - off)
    frames = min(len(first) - begin, len(second) - lag + off - begin, round(_MOST_SECONDS / grid.frame_seconds))
    other_begin = max(0, begin + lag - off)
    a = _slopes(first[begin : begin + frames], grid)
    b = _slopes(second[other_begin : begin + lag + frames + off], grid)
    best, alike, compared = lag, 0.0, 0
    for near in range(lag - off, lag + off + 1):
        correlation, heard = _correlation(*a, *b, near + begin - other_begin)
        if correlation > alike:
            best, alike, compared = near, correlation, heard
    return best, alike, compared * grid.frame_seconds


def _slopes(decibels: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Of each frame, in the fingerprint's broad bands: (n, bits) in dB, and where it sounds."""
    broad = replace(grid, step=1).broaden(decibels.astype(np.float32))
    return slopes(broad, max(1, round(SMOOTH_SECONDS / grid.frame_seconds)), MASKED_BELOW_DB)


def _correlation(
    a: np.ndarray, a_sounds: np.ndarray, b: np.ndarray, b_sounds: np.ndarray, lag: int
) -> tuple[float, int]:
    """Least of the parts' correlations, with b `lag` frames later, and the frames in which one of them sounds.

    Each band's mean is taken off: an equaliser's doing.
    """
    start, stop = max(0, -lag), min(len(a), len(b) - lag)
    if stop <= start:
        return 0.0, 0
    heard = a_sounds[start:stop] | b_sounds[start + lag : stop + lag]
    x, y = a[start:stop][heard], b[start + lag : stop + lag][heard]
    if len(x) < _PARTS:
        return 0.0, 0
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    common, power = (x * y).sum(axis=1), np.stack([(x * x).sum(axis=1), (y * y).sum(axis=1)])  # of each frame
    begins = len(x) * np.arange(_PARTS) // _PARTS
    root = np.sqrt(np.add.reduceat(power, begins, axis=1).prod(axis=0))
    return float((np.add.reduceat(common, begins) / np.maximum(root, _TINY)).min()), len(x)
