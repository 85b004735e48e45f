"""Clips whose sound is taken from data/resampled, to score the model on it once more: where they lie, and which."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.pipeline.errors import SplitError
from stages.pipeline.manifest_table import Row
from stages.pipeline.shards import Shard, list_shards

SOUND = Path("data/resampled")


class Clip(NamedTuple):
    """Where a clip's sound lies and what it is; `length` in samples."""

    id: str
    group: str
    language: str
    shard: Path
    row: int
    length: int
    rate_hz: int


def stable_number(*parts: object) -> int:
    """A number of 128 bits that depends on nothing but the parts."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:16])


def choose(clips: Iterable[Clip], most: int, seed: int) -> list[Clip]:
    """At most `most` clips (0: all), as many of each language as can be; in their order.

    Which ones, within a language, depends on (seed, clip): clips that are added turn out few of the others.
    """
    ranked: list[tuple[int, int, int, Clip]] = []
    seen: dict[str, int] = defaultdict(int)
    for order, number, clip in sorted(
        (stable_number(seed, "choice", clip.id), i, clip) for i, clip in enumerate(clips)
    ):
        ranked.append((seen[clip.language], order, number, clip))
        seen[clip.language] += 1
    chosen = sorted(ranked)[: most or None]
    return [clip for *_, clip in sorted(chosen, key=lambda entry: entry[2])]


def find_clips(sound: Path, rows: Sequence[Row], split: str = "test") -> list[Clip]:
    """One split as far as it came through the stages, in the manifest's order.

    Raises
    ------
    SplitError
        There is none.
    StorageError
        No shard, or a damaged one.
    """
    wanted = {row.id: row for row in rows if row.split == split}
    found: dict[str, Clip] = {}
    for path in list_shards(sound):
        with Shard(path) as shard:
            for i, clip_id in enumerate(shard.ids):
                if clip_id in wanted and shard.lengths[i]:
                    row, length, rate_hz = wanted[clip_id], int(shard.lengths[i]), int(shard.rates_hz[i])
                    found[clip_id] = Clip(clip_id, row.group, row.language, path, i, length, rate_hz)
    if not found:
        raise SplitError(
            f"expected {split} clips, found none in the manifest that came through the stages; raise "
            f"manifest.{split}_fraction, or add recordings of more speakers or sources"
        )
    return [found[clip_id] for clip_id in wanted if clip_id in found]


def labels_of(clips: Sequence[Clip], languages: Sequence[str]) -> np.ndarray:
    """(clips,) numbers of their languages. Raises SplitError where the model doesn't know one."""
    number_of = {language: number for number, language in enumerate(languages)}
    foreign = sorted({clip.language for clip in clips} - set(number_of))
    if foreign:
        raise SplitError(
            f"the test split has {len(foreign)} language(s) that the model lacks: {', '.join(foreign[:10])}; drop them "
            "(manifest.drop_languages) or add training recordings"
        )
    return np.array([number_of[clip.language] for clip in clips])
