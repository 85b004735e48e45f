"""Who goes where: groups into train, validation and test; clips into shards.

Both are functions of hashes, so that a recording added or removed moves no other.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Iterable, Mapping

_HASH_BITS = 64


def split_of(group: str, seed: int, test_fraction: float, validation_fraction: float) -> str:
    """train, validation or test: a function of the seed and the group alone."""
    digest = hashlib.sha256(f"{seed}\0{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test_fraction:
        return "test"
    return "validation" if place < test_fraction + validation_fraction else "train"


def assign_shards(sizes: Mapping[str, int], max_clips: int, max_bytes: int) -> dict[str, str]:
    """Put each clip into a shard, named by the first bits of the clip's id.

    A shard that would hold more than `max_clips`, or more than `max_bytes`, is split in two by the next bit. So one
    clip more touches one shard, whatever the size of the corpus, and shards hold between about a third and all of
    `max_clips`.

    Parameters
    ----------
    sizes : id (16 hexadecimal digits) -> bytes of the recording

    Returns
    -------
    id -> shard's name, such as "s0110"
    """
    ids = sorted(sizes)
    bytes_before = list(itertools.accumulate((sizes[clip] for clip in ids), initial=0))
    shard: dict[str, str] = {}
    todo = [("", 0, len(ids))]  # prefix in bits, and the range of ids that begin with it
    while todo:
        prefix, first, last = todo.pop()
        full = last - first > max_clips or bytes_before[last] - bytes_before[first] > max_bytes
        if last - first > 1 and full and len(prefix) < _HASH_BITS:
            half = f"{int((prefix + '1').ljust(_HASH_BITS, '0'), 2):0{_HASH_BITS // 4}x}"
            middle = bisect.bisect_left(ids, half, first, last)
            todo += [(prefix + "0", first, middle), (prefix + "1", middle, last)]
        elif last > first:
            shard.update(dict.fromkeys(ids[first:last], f"s{prefix}"))
    return shard


def straddling(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Groups that stand in more than one split, from (group, split) pairs: group -> its splits."""
    places: dict[str, set[str]] = {}
    for group, split in pairs:
        places.setdefault(group, set()).add(split)
    return {group: sorted(splits) for group, splits in sorted(places.items()) if len(splits) > 1}
