"""Who goes where: groups into train, validation and test; clips into shards.

Both are functions of hashes, so that a recording added or removed moves no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_HASH_BITS = 64


def split_of(group: str, seed: int, test_fraction: float, validation_fraction: float) -> str:
    """train, validation or test: a function of the seed and the group alone."""
    digest = hashlib.sha256(f"{seed}\0{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test_fraction:
        return "test"
    return "validation" if place < test_fraction + validation_fraction else "train"


@dataclass(frozen=True)
class _Leaf:
    prefix: str
    ids: list[str]


def assign_shards(sizes: Mapping[str, int], max_clips: int, max_bytes: int) -> dict[str, str]:
    """Put each clip into a shard, named by the first bits of the clip's id.

    A shard that would hold more than `max_clips`, or more than `max_bytes`, is split in two by the next bit. So one
    clip more touches one shard, whatever the size of the corpus, and shards hold between about a third and all of
    `max_clips`.

    Parameters
    ----------
    sizes : id (hexadecimal) -> bytes of the recording

    Returns
    -------
    id -> shard's name, such as "s0110"
    """
    shard: dict[str, str] = {}
    todo = [_Leaf("", sorted(sizes))]
    while todo:
        leaf = todo.pop()
        full = len(leaf.ids) > max_clips or sum(sizes[clip] for clip in leaf.ids) > max_bytes
        depth = len(leaf.prefix)
        if len(leaf.ids) > 1 and full and depth < _HASH_BITS:
            halves: tuple[list[str], list[str]] = ([], [])
            for clip in leaf.ids:
                halves[int(clip, 16) >> (_HASH_BITS - 1 - depth) & 1].append(clip)
            todo.extend(_Leaf(f"{leaf.prefix}{bit}", half) for bit, half in enumerate(halves) if half)
        else:
            shard.update((clip, f"s{leaf.prefix}") for clip in leaf.ids)
    return shard


def straddling(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Groups that stand in more than one split, from (group, split) pairs: group -> its splits."""
    places: dict[str, set[str]] = {}
    for group, split in pairs:
        places.setdefault(group, set()).add(split)
    return {group: sorted(splits) for group, splits in sorted(places.items()) if len(splits) > 1}
