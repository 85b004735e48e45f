"""The same sound in two splits, though re-encoded, louder, cut or at another sample rate.

A fingerprint after Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): the log spectrum in
BITS + 1 broad bands, smoothed over a quarter of a second, 25 times a second; a bit says whether the difference of two
neighbouring bands has risen since SECONDS_APART ago. A gain cancels out, an equaliser nearly so, and codecs turn few
bits. All words of all clips go into one sorted list: clips that share most of a word are looked at again at the lag
that it suggests, and are copies when few of all bits of their common part differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BITS = 32
# Of the axis: about 300 Hz to 3.1 kHz on the default one, which a telephone leaves standing.
LOWEST, HIGHEST = 0.08, 0.7
SMOOTH_SECONDS, STEP_SECONDS, SECONDS_APART = 0.24, 0.04, 0.16
SILENT_BELOW_DB = 30.0  # of a clip's loudest moments: what lies lower is the codec's own
LEAST_SECONDS, LEAST_SHARE = 1.0, 0.5  # common sound, and its share of the shorter clip
# Share of the bits that may differ. Distinct clips come to a half, give or take the more the less sound they share.
MOST_ERRORS, CHANCE_ERRORS, SPREAD_IN_A_SECOND = 0.25, 0.5, 0.35
PART = 0.75  # of a word's bits that must be the same for a second look: the lower or the upper ones
MANY_WORDS = 3_000_000  # 12,000 clips of 10 s: from here on all bits must be, or second looks would take hours
_BUCKET = 64  # pairs of clips that share one word; a commoner word says little
LEAST_BITS = 12  # a coarser spectrum would find copies everywhere


@dataclass(frozen=True)
class Fingerprint:
    """One clip. words : (steps,) uint32; sounding : (steps,) bool, False where it is silent."""

    words: np.ndarray
    sounding: np.ndarray


@dataclass(frozen=True)
class Grid:
    """How log-mel frames become words: the same for all clips of a corpus.

    edges : (bits + 2,) bands of the log-mel at which the broad bands begin and end.
    step, width, apart : frames in a step; steps that are smoothed over; steps that a bit looks back.
    """

    edges: np.ndarray
    step: int
    width: int
    apart: int
    step_seconds: float

    @classmethod
    def of(cls, bands: int, rate_hz: float) -> Grid:
        """For a log-mel of so many `bands`, and `rate_hz` frames per second."""
        low, high = round(LOWEST * bands), round(HIGHEST * bands)
        edges = np.unique(np.linspace(low, high, BITS + 2).round().astype(int))
        step = max(1, round(STEP_SECONDS * rate_hz))
        width = max(1, round(SMOOTH_SECONDS * rate_hz / step))
        apart = max(1, round(SECONDS_APART * rate_hz / step))
        return cls(edges, step, width, apart, step / rate_hz)

    @property
    def bits(self) -> int:
        return len(self.edges) - 2

    @property
    def checks(self) -> bool:
        """Whether there are bands enough to tell copies from others."""
        return self.bits >= LEAST_BITS

    def broaden(self, decibels: np.ndarray) -> np.ndarray:
        """(frames, bands) -> (frames // step, bits + 1): means of whole steps and broad bands."""
        steps = len(decibels) // self.step
        inside = decibels[: steps * self.step, : self.edges[-1]]
        broad = np.add.reduceat(inside, self.edges[:-1], axis=1) / np.diff(self.edges)
        out: np.ndarray = broad.reshape(steps, self.step, -1).mean(axis=1)
        return out

    def fingerprint(self, broad: np.ndarray) -> Fingerprint:
        """Of all of a clip's `broaden`ed frames: (steps, bits + 1)."""
        if len(broad) < self.width + self.apart:
            return Fingerprint(np.empty(0, np.uint32), np.empty(0, bool))
        total = np.cumsum(np.concatenate([np.zeros((1, broad.shape[1])), broad]), axis=0)
        smooth = (total[self.width :] - total[: -self.width]) / self.width  # (steps - width + 1, bits + 1)
        slope = np.diff(smooth, axis=1)
        rises = slope[self.apart :] > slope[: -self.apart]  # (n, bits)
        words = rises @ (1 << np.arange(self.bits, dtype=np.int64))
        level = smooth.mean(axis=1)[self.apart :]
        return Fingerprint(words.astype(np.uint32), level > level.max() - SILENT_BELOW_DB)


@dataclass(frozen=True)
class Copy:
    """Two clips with the same sound.

    first, second : their numbers, first < second; lag_seconds : by how much later the sound stands in the second;
    errors : share of the bits that differ; seconds : of common sound.
    """

    first: int
    second: int
    lag_seconds: float
    errors: float
    seconds: float


def find_copies(prints: Sequence[Fingerprint], side: np.ndarray, grid: Grid) -> list[Copy]:
    """Pairs of clips on different sides that hold the same sound, best match first.

    side : (clips,) int; only pairs with different ones are looked at: the clips' splits
    grid : what the fingerprints were made with; a coarse one finds nothing
    """
    if not grid.checks:
        return []
    found: dict[tuple[int, int], Copy] = {}
    for first, second, lag in _candidates(prints, side, grid.bits):
        match = _compare(prints[first], prints[second], lag, grid)
        if match and ((first, second) not in found or match[0] < found[first, second].errors):
            found[first, second] = Copy(first, second, lag * grid.step_seconds, *match)
    return sorted(found.values(), key=lambda copy: (copy.errors, copy.first, copy.second))


def _candidates(prints: Sequence[Fingerprint], side: np.ndarray, bits: int) -> Iterator[tuple[int, int, int]]:
    """(first, second, lag in steps) of clips on different sides that share a part of a word, each once."""
    words = np.concatenate([one.words[one.sounding] for one in prints])
    step = np.concatenate([np.flatnonzero(one.sounding).astype(np.int32) for one in prints])
    clip = np.repeat(np.arange(len(prints), dtype=np.int32), [int(one.sounding.sum()) for one in prints])
    part = round(PART * bits) if len(words) < MANY_WORDS else bits
    found: list[np.ndarray] = []
    for shift in sorted({0, bits - part}):  # the lower bands, the upper ones
        found += _same_words((words >> shift) & ((1 << part) - 1), clip, step, side)
    if found:
        yield from np.unique(np.concatenate(found), axis=0).tolist()


def _same_words(words: np.ndarray, clip: np.ndarray, step: np.ndarray, side: np.ndarray) -> list[np.ndarray]:
    """Arrays (n, 3) of first clip, second clip and lag where two clips on different sides share a word."""
    order = np.argsort(words, kind="stable")
    words, clip, step = words[order], clip[order], step[order]
    sides = side[clip]
    found = []
    # Each place in the list with the next ones that hold the same word: linear, however common the word is.
    alive = np.arange(len(words))
    for ahead in range(1, _BUCKET):
        alive = alive[alive + ahead < len(words)]
        alive = alive[words[alive + ahead] == words[alive]]
        if not len(alive):
            break
        at = alive[sides[alive + ahead] != sides[alive]]
        lag = step[at + ahead] - step[at]
        found.append(np.stack([clip[at], clip[at + ahead], lag], axis=1))  # the sort is stable: the first is lower
    return found


def _compare(a: Fingerprint, b: Fingerprint, lag: int, grid: Grid) -> tuple[float, float] | None:
    """(share of differing bits, seconds of common sound) with b `lag` steps later; None where they are no copies."""
    start, stop = max(0, -lag), min(len(a.words), len(b.words) - lag)
    least = max(LEAST_SECONDS / grid.step_seconds, LEAST_SHARE * min(len(a.words), len(b.words)))
    if stop - start < least:
        return None
    mine, other = slice(start, stop), slice(start + lag, stop + lag)
    heard = a.sounding[mine] | b.sounding[other]
    n = int(heard.sum())
    if n < least:
        return None
    errors = int(np.bitwise_count((a.words[mine] ^ b.words[other])[heard]).sum()) / (grid.bits * n)
    seconds = n * grid.step_seconds
    most = min(MOST_ERRORS, CHANCE_ERRORS - SPREAD_IN_A_SECOND / seconds**0.5)
    return (errors, seconds) if errors <= most else None
