"""Words, prompts and sentences of one group -> clips of about the same length. Arrays in, arrays out.

All sums are made of integers, and what is computed in floating point is element by element, so that the bytes do
not depend on the processor's vector width.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int32]

FRAME_SECONDS = 0.01
EDGE_SECONDS = 0.03  # kept before and after what is loud
PAUSE_SECONDS = 0.25  # a longer pause is cut out, and a shorter one belongs to the phrase
GAP_SECONDS = 0.15  # silence between two phrases of a clip
FADE_SECONDS = 0.005
MAX_PHRASE_SECONDS = 4.0  # a phrase without a pause is cut in its quietest place before this
LEVEL_DBFS = -23.0
PEAK = 0.95
SILENT_DBFS = -55.0  # an item whose loud frames are below this holds no speech


@dataclass(frozen=True)
class Item:
    """One recording.

    samples : shape (n,), full scale is 2**15.
    """

    group: str
    name: str
    rate_hz: int
    samples: Samples


@dataclass(frozen=True)
class Clip:
    """Phrases of one group, joined.

    samples : int16, shape (n,).
    items : names of the recordings that it is made of, in order; a long one may begin in the clip before.
    """

    group: str
    rate_hz: int
    samples: npt.NDArray[np.int16]
    items: tuple[str, ...]


def frame_levels(samples: Samples, rate_hz: int) -> npt.NDArray[np.float64]:
    """Level of each whole frame of FRAME_SECONDS in dB below full scale, shape (frames,); -200 where all is zero."""
    size = round(rate_hz * FRAME_SECONDS)
    frames = len(samples) // size
    energies = (samples[: frames * size].astype(np.int64).reshape(frames, size) ** 2).sum(axis=1)  # (frames,)
    return np.array([10 * math.log10(e / size / 2**30) if e else -200.0 for e in energies.tolist()])


def phrases(samples: Samples, rate_hz: int) -> list[tuple[int, int]]:
    """Start and end, in samples, of the stretches between silences: leading, trailing and long ones are left out.

    The limit of silence lies 40 dB below the loud frames, and above the noise where that is stronger. Empty if the
    recording has no frame above SILENT_DBFS.
    """
    levels = frame_levels(samples, rate_hz)
    if not len(levels):
        return []
    ordered = np.sort(levels)
    loud = float(ordered[int(0.95 * (len(ordered) - 1))])
    noise = float(ordered[int(0.05 * (len(ordered) - 1))])
    if loud < SILENT_DBFS:
        return []
    limit = min(max(loud - 40, noise + 6), loud - 20)
    active = np.flatnonzero(levels > limit)
    breaks = np.flatnonzero(np.diff(active) > round(PAUSE_SECONDS / FRAME_SECONDS))
    size, edge = round(rate_hz * FRAME_SECONDS), round(rate_hz * EDGE_SECONDS)
    found: list[tuple[int, int]] = []
    firsts, lasts = [active[0], *active[breaks + 1]], [*active[breaks], active[-1]]
    for first, last in zip(firsts, lasts, strict=True):
        for start, end in _cut_long(levels, int(first), int(last) + 1):
            # The edges reach into silence only: half of the shortest pause is more than an edge.
            left = edge if start == first else 0
            right = edge if end == last + 1 else 0
            found.append((max(0, start * size - left), min(len(samples), end * size + right)))
    return found


def _cut_long(levels: npt.NDArray[np.float64], start: int, end: int) -> list[tuple[int, int]]:
    limit = round(MAX_PHRASE_SECONDS / FRAME_SECONDS)
    pieces = []
    while end - start > limit:
        # Not near the piece's start, nor so near its end that the rest is a scrap.
        low, high = start + limit // 3, min(start + limit, end - limit // 4)
        cut = low + int(np.argmin(levels[low:high]))
        pieces.append((start, cut))
        start = cut
    return [*pieces, (start, end)]


def level_gain(samples: Samples, spans: Sequence[tuple[int, int]]) -> float:
    """Factor that brings what is in the spans to LEVEL_DBFS (root mean square), and no peak above PEAK."""
    total = sum(int((samples[a:b].astype(np.int64) ** 2).sum()) for a, b in spans)
    count = sum(b - a for a, b in spans)
    peak = max(int(np.abs(samples[a:b]).max()) for a, b in spans)
    gain = 10 ** (LEVEL_DBFS / 20) * 2**15 / math.sqrt(total / count)
    return min(gain, PEAK * 2**15 / peak)


def shuffled(items: Sequence[Item], seed: int) -> list[Item]:
    """The items in an order that is a function of (seed, group, name) alone, not of the order they came in."""

    def key(item: Item) -> bytes:
        return hashlib.sha256(
            "\x1f".join((str(seed), item.group, item.name)).encode("utf-8", "surrogateescape")
        ).digest()

    return sorted(items, key=key)


def join(items: Sequence[Item], clip_seconds: float, seed: int) -> list[Clip]:
    """Join the phrases of one group's items to clips, each phrase used once and none left over.

    The stretch of all phrases is divided into equal parts of about `clip_seconds`; a phrase goes to the part that its
    middle falls in. So a clip is longer or shorter than the mean by less than one phrase, and there is no remainder.
    Items in which nothing is loud are left out.

    Raises
    ------
    ValueError
        Items of several groups or rates, or two with the same name.
    """
    if len({(item.group, item.rate_hz) for item in items}) > 1:
        raise ValueError("a clip is made of one group's recordings at one rate; call join for each")
    if len({item.name for item in items}) < len(items):
        raise ValueError("two items have the same name")
    pieces: list[tuple[str, npt.NDArray[np.int16]]] = []
    for item in shuffled(items, seed):
        spans = phrases(item.samples, item.rate_hz)
        gain = level_gain(item.samples, spans) if spans else 0.0
        pieces.extend((item.name, _faded(item.samples[a:b], gain, item.rate_hz)) for a, b in spans)
    if not pieces:
        return []
    group, rate_hz = items[0].group, items[0].rate_hz
    gap = round(GAP_SECONDS * rate_hz)
    total = sum(len(samples) + gap for _, samples in pieces)
    count = max(1, round(total / (clip_seconds * rate_hz)))
    parts: list[list[tuple[str, npt.NDArray[np.int16]]]] = [[] for _ in range(count)]
    position = 0
    for name, samples in pieces:
        middle = position + (len(samples) + gap) // 2
        parts[min(count - 1, middle * count // total)].append((name, samples))
        position += len(samples) + gap
    return [_clip(group, rate_hz, part, gap) for part in parts if part]


def _faded(samples: Samples, gain: float, rate_hz: int) -> npt.NDArray[np.int16]:
    scaled = samples * gain  # float64, element by element
    fade = min(round(FADE_SECONDS * rate_hz), len(scaled) // 2)
    ramp = (np.arange(fade) + 0.5) / max(1, fade)
    scaled[:fade] *= ramp
    scaled[len(scaled) - fade :] *= ramp[::-1]
    # Within range: level_gain keeps the peak below full scale.
    rounded: npt.NDArray[np.int16] = np.rint(scaled).astype(np.int16)
    return rounded


def _clip(group: str, rate_hz: int, part: Sequence[tuple[str, npt.NDArray[np.int16]]], gap: int) -> Clip:
    silence = np.zeros(gap, np.int16)
    joined = np.concatenate([array for _, samples in part for array in (samples, silence)])
    return Clip(group, rate_hz, joined[: len(joined) - gap], tuple(dict.fromkeys(name for name, _ in part)))
