"""Recordings that hold the same sound, sample for sample, though their files differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from stages.pipeline.manifest_table import Row
from stages.pipeline.shards import Shard, list_shards

_KEEP_FIRST = {"test": 0, "validation": 1, "train": 2}


def across_splits(decoded: Path, rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Find what must go so that no identical PCM stands in two splits, nor under two languages.

    Returns
    -------
    id -> (reason, detail) of the recordings to reject: of a sound in two splits the copies outside the test split
    (or, if there is none in it, outside validation) go; a sound with two languages goes altogether.
    """
    by_id = {row.id: row for row in rows}
    same: dict[str, list[Row]] = defaultdict(list)
    for path in list_shards(decoded):
        with Shard(path) as shard:
            for clip, digest in zip(shard.ids, shard.digests, strict=True):
                same[digest].append(by_id[clip])
    drop: dict[str, tuple[str, str]] = {}
    for copies in same.values():
        if len({row.language for row in copies}) > 1:
            for row in copies:
                other = next(copy for copy in copies if copy.language != row.language)
                drop[row.id] = (
                    "conflicting_labels",
                    f"the same sound as {other.path}, which is {other.language}",
                )
        elif len({row.split for row in copies}) > 1:
            first = min(copies, key=lambda row: (_KEEP_FIRST[row.split], row.id))
            for row in copies:
                if row.split != first.split:
                    drop[row.id] = (
                        "duplicate_sound",
                        f"the same sound as {first.path}, which is in {first.split}",
                    )
    return drop
