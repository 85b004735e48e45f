"""The order in which images are read that don't fit into memory: pieces of shards, drawn from a pool at random.

Jumping about in the shards for each image would open a file for nearly each one. So pieces (up to PIECE consecutive
windows of a shard) are read whole, in random order, into a pool that holds POOL_BYTES, and each batch is drawn from
the pool at random; what has been drawn makes room for the next pieces. Recordings are spread over the shards by a hash
of their id, so a piece is a random sample of the corpus already (but for the windows of one long recording, which the
pool parts). Every window comes once an epoch. All of it is a function of the random generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

PIECE = 256  # windows: one read of some megabytes
POOL_BYTES = 256e6


@dataclass(frozen=True)
class Draw:
    """One batch of a stream: read the windows `load` into the pool's places `into`, then use the places `take`.

    load : pieces to read, each the numbers of its windows
    into : the places of all these windows, one piece after another
    take, numbers : (batch,) places in the pool, and the numbers of the windows that are there
    """

    load: tuple[np.ndarray, ...]
    into: np.ndarray
    take: np.ndarray
    numbers: np.ndarray


def pieces_of(shard: np.ndarray, row: np.ndarray, size: int = PIECE) -> list[np.ndarray]:
    """Numbers of windows in the order in which they lie, cut at each shard's end and after `size` windows.

    shard, row : (windows,) where each window lies
    """
    order = np.lexsort((row, shard))
    ends = np.flatnonzero(np.diff(shard[order])) + 1
    return [part[i : i + size] for part in np.split(order, ends) for i in range(0, len(part), size)]


def pool_places(pieces: Sequence[np.ndarray], window_bytes: int, largest_batch: int, limit: float = POOL_BYTES) -> int:
    """How many windows the pool holds: `limit` bytes of them, no more than there are, no less than a batch needs."""
    least = largest_batch + max((len(piece) for piece in pieces), default=0)
    return min(sum(len(piece) for piece in pieces), max(least, int(limit / max(1, window_bytes))))


def draws(pieces: Sequence[np.ndarray], sizes: Sequence[int], places: int, rng: np.random.Generator) -> Iterator[Draw]:
    """The draws of one epoch: batches of `sizes`, which sum up to the windows of all pieces.

    places : of the pool, as `pool_places` gives it
    """
    waiting = [pieces[i] for i in rng.permutation(len(pieces))][::-1]
    window_at = np.zeros(places, np.int64)
    free, used = np.arange(places), np.zeros(0, np.int64)
    for size in sizes:
        load = []
        room = len(free)
        while waiting and len(waiting[-1]) <= room:
            load.append(waiting.pop())
            room -= len(load[-1])
        into, free = np.split(free, [len(free) - room])
        window_at[into] = np.concatenate([*load, into[:0]])
        used = np.concatenate([used, into])
        chosen = rng.permutation(len(used))[:size]
        take = used[chosen]
        used = np.delete(used, chosen)
        free = np.concatenate([free, take])
        yield Draw(tuple(load), into, take, window_at[take])
