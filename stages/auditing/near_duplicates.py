"""Pairs of clips in two splits that may hold the same sound, though re-encoded, louder, cut or at another sample rate.

A fingerprint after Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): the log spectrum in
BITS + 1 broad bands, smoothed over a quarter of a second, 25 times a second; a bit says whether the difference of two
neighbouring bands has risen since SECONDS_APART ago. What lies far below a moment's loudest band is masked first: there
codecs put their noise. A gain cancels out, an equaliser nearly so, and codecs turn few bits, hardly any of the surer
half: those that are farthest from turning. The few surest bits of each word, which they are and what they say, go into
one sorted list of all clips: two that have the same ones somewhere are compared at the lag that this suggests, and are
a pair to listen to again (same_sound) when few of the bits differ that are sure in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BITS = 32
# Of the axis: about 300 Hz to 3.1 kHz on the default one, which a telephone leaves standing.
LOWEST, HIGHEST = 0.08, 0.7
SMOOTH_SECONDS, STEP_SECONDS, SECONDS_APART = 0.24, 0.04, 0.16
MASKED_BELOW_DB = 20.0  # of the loudest band of a moment: a floor of noise is laid there
SILENT_BELOW_DB = 30.0  # of a clip's loudest moments: what lies lower is the codec's own
LEAST_SECONDS, LEAST_SHARE = 0.6, 0.5  # of sound in common, and its share of the shorter clip
# Share of the bits sure in both that may differ: of 2,895 copies of faults/duplicates.py's clips the worst had .106; of
# 10,000 distinct clips of synthesised voices, which move alike, some hundreds of pairs pass, and are told apart later.
MOST_ERRORS = 0.2
# Bits of a word that must be the surest and the same for a second look: in a corpus of a million words (4,000 clips of
# 10 s) so many, and one more for twice as many words, or it would take hours.
SUREST_OF_A_MILLION, LEAST_SUREST, MOST_SUREST = 5, 3, 12
_PLACE_BITS = 5  # that write which bit of a word
_DB_OF_E = 10 / np.log(10)  # a factor e in power
_BUCKET = 64  # pairs of clips that share one key; a commoner one says little
_GLANCES, _GLANCE_ERRORS = 16, 0.3  # steps that are compared first
_AT_ONCE = 100_000  # pairs, so that they stay in the processor's cache
LEAST_BITS = 12  # a coarser spectrum would find copies everywhere


@dataclass(frozen=True)
class Fingerprint:
    """One clip.

    words : (steps,) uint32; sure : (steps,) uint32, the surer half of their bits; surest : (steps,) uint64, which
    MOST_SUREST bits are the surest, the first of them lowest; sounding : (steps,) bool, False where it is silent
    """

    words: np.ndarray
    sure: np.ndarray
    surest: np.ndarray
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
    def frame_seconds(self) -> float:
        return self.step_seconds / self.step

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
            return Fingerprint(*(np.empty(0, kind) for kind in (np.uint32, np.uint32, np.uint64, bool)))
        slope, sounding = slopes(broad, self.width, MASKED_BELOW_DB)
        rise = slope[self.apart :] - slope[: -self.apart]  # (n, bits)
        places = 1 << np.arange(self.bits, dtype=np.int64)
        words = ((rise > 0) @ places).astype(np.uint32)
        ranked = np.argsort(-np.abs(rise), axis=1, kind="stable")  # (n, bits), the surest first
        sure = (places[ranked[:, : (self.bits + 1) // 2]]).sum(axis=1).astype(np.uint32)
        shifts = _PLACE_BITS * np.arange(min(MOST_SUREST, self.bits))
        surest = (ranked[:, :MOST_SUREST] << shifts).sum(axis=1).astype(np.uint64)
        return Fingerprint(words, sure, surest, sounding[self.apart :])


def slopes(broad: np.ndarray, width: int, masked_below_db: float) -> tuple[np.ndarray, np.ndarray]:
    """How much louder each broad band is than the one below it, and where the clip sounds.

    broad : (steps, bits + 1) of `Grid.broaden`, at least `width` steps, over which they are smoothed

    Returns
    -------
    (steps - width + 1, bits) in dB, what lies `masked_below_db` under a moment's loudest band masked; as many bool
    """
    total = np.cumsum(np.concatenate([np.zeros((1, broad.shape[1])), broad]), axis=0)
    smooth = (total[width:] - total[:-width]) / width
    noise = smooth.max(axis=1, keepdims=True) - masked_below_db
    slope: np.ndarray = np.diff(np.logaddexp(smooth / _DB_OF_E, noise / _DB_OF_E) * _DB_OF_E, axis=1)  # powers added
    level = smooth.mean(axis=1)
    return slope, level > level.max() - SILENT_BELOW_DB


@dataclass(frozen=True)
class Candidate:
    """Two clips to listen to again.

    first, second : their numbers, first < second; lag : by how many steps the sound stands later in the second;
    errors : share of differing bits among those that are sure in both
    """

    first: int
    second: int
    lag: int
    errors: float


def find_candidates(prints: Sequence[Fingerprint], side: np.ndarray, grid: Grid) -> list[Candidate]:
    """Pairs of clips on different sides that may hold the same sound, each at its likeliest lag, in order.

    side : (clips,) int; only pairs with different ones are looked at: the clips' splits
    grid : what the fingerprints were made with; a coarse one finds nothing
    """
    if not grid.checks:
        return []
    found: dict[tuple[int, int], Candidate] = {}
    for first, second, about in _same_somewhere(prints, side):
        for lag in (about - 1, about, about + 1):
            errors = _errors(prints[first], prints[second], lag, grid)
            if errors <= MOST_ERRORS and ((first, second) not in found or errors < found[first, second].errors):
                found[first, second] = Candidate(first, second, lag, errors)
    return [found[pair] for pair in sorted(found)]


def _same_somewhere(prints: Sequence[Fingerprint], side: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(first, second, lag in steps), each once, of clips on two sides that share a key and look alike."""
    steps = _Steps.of(prints)
    keys = steps.keys(_surest(len(steps.heard)))
    found = [pairs[steps.alike(pairs)] for pairs in _same_keys(keys, steps, side)]
    if found:
        yield from np.unique(np.concatenate(found), axis=0).tolist()


def _surest(words: int) -> int:
    """How many bits make a candidate in a corpus of so many words."""
    wanted = SUREST_OF_A_MILLION + round(np.log2(max(1, words) / 1e6))
    return int(min(MOST_SUREST, max(LEAST_SUREST, wanted)))


@dataclass(frozen=True)
class _Steps:
    """The steps of all clips, one after another.

    words, sure, surest, sounding : (steps,) as in Fingerprint; heard : where `sounding`; clip : (heard,) the clip's
    number; begin, length : (clips,) where each clip's steps are
    """

    words: np.ndarray
    sure: np.ndarray
    surest: np.ndarray
    sounding: np.ndarray
    heard: np.ndarray
    clip: np.ndarray
    begin: np.ndarray
    length: np.ndarray

    @classmethod
    def of(cls, prints: Sequence[Fingerprint]) -> _Steps:
        sounding = np.concatenate([one.sounding for one in prints])
        length = np.array([len(one.words) for one in prints], np.int32)
        heard = np.flatnonzero(sounding).astype(np.int32)
        return cls(
            np.concatenate([one.words for one in prints]),
            np.concatenate([one.sure for one in prints]),
            np.concatenate([one.surest for one in prints]),
            sounding,
            heard,
            np.repeat(np.arange(len(prints), dtype=np.int32), length)[heard],
            (np.cumsum(length) - length).astype(np.int32),
            length,
        )

    def keys(self, count: int) -> np.ndarray:
        """(heard,) uint64: which `count` bits of a word are the surest, in the upper half, and what they say."""
        surest = self.surest[self.heard]
        mask = np.zeros(len(surest), np.uint64)
        for place in range(count):
            mask |= np.uint64(1) << (surest >> np.uint64(_PLACE_BITS * place) & np.uint64(2**_PLACE_BITS - 1))
        out: np.ndarray = mask << np.uint64(32) | self.words[self.heard] & mask
        return out

    def alike(self, pairs: np.ndarray) -> np.ndarray:
        """Whether two clips look alike at a few steps of what they share: (n, 3) -> (n,) bool. Few distinct ones do."""
        first, second, lag = pairs.T
        start = np.maximum(0, -lag)
        common = np.minimum(self.length[first], self.length[second] - lag) - start
        errors, bits = np.zeros(len(pairs), np.int32), np.zeros(len(pairs), np.int32)
        for glance in range(_GLANCES):
            at = start + common * (2 * glance + 1) // (2 * _GLANCES)
            a, b = self.begin[first] + at, self.begin[second] + at + lag
            both = np.where(self.sounding[a] | self.sounding[b], self.sure[a] & self.sure[b], 0)
            errors += np.bitwise_count((self.words[a] ^ self.words[b]) & both)
            bits += np.bitwise_count(both)
        out: np.ndarray = errors <= _GLANCE_ERRORS * bits
        return out


def _same_keys(keys: np.ndarray, steps: _Steps, side: np.ndarray) -> Iterator[np.ndarray]:
    """Arrays (n, 3) of first clip, second clip and lag where two clips on different sides share a key."""
    order = np.argsort(keys, kind="stable")
    keys, clip = keys[order], steps.clip[order]
    step = steps.heard[order] - steps.begin[clip]
    sides = side[clip]
    # Each place in the list with the next ones that hold the same key: linear, however common it is.
    alive = np.arange(len(keys))
    for ahead in range(1, _BUCKET):
        alive = alive[alive + ahead < len(keys)]
        alive = alive[keys[alive + ahead] == keys[alive]]
        if not len(alive):
            break
        at = alive[sides[alive + ahead] != sides[alive]]
        for some in np.array_split(at, 1 + len(at) // _AT_ONCE):
            lag = step[some + ahead] - step[some]
            yield np.stack([clip[some], clip[some + ahead], lag], axis=1)  # the sort is stable: the first is lower


def _errors(a: Fingerprint, b: Fingerprint, lag: int, grid: Grid) -> float:
    """Share of differing bits, of those sure in both, with b `lag` steps later; 1 where they share too little."""
    start, stop = max(0, -lag), min(len(a.words), len(b.words) - lag)
    least = max(LEAST_SECONDS / grid.step_seconds, LEAST_SHARE * min(len(a.words), len(b.words)))
    if stop - start < least:
        return 1.0
    mine, other = slice(start, stop), slice(start + lag, stop + lag)
    heard = a.sounding[mine] | b.sounding[other]
    sure = (a.sure[mine] & b.sure[other])[heard]
    bits = int(np.bitwise_count(sure).sum())
    if len(sure) < least or not bits:
        return 1.0
    differ = (a.words[mine] ^ b.words[other])[heard]
    return int(np.bitwise_count(differ & sure).sum()) / bits
