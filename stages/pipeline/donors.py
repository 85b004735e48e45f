"""One changed clip costs one clip: the others of its shard are taken over from the shards of earlier runs.

A clip's data follow from its source (the recording's SHA-256, or the digest of the clip in the stage before) and from
what the whole run shares (code, params, libraries). So, among shards that share the latter, a clip may be copied from
wherever its source stands, whatever its id, path, language or shard was then. The copy is hashed before it is used: a
damaged donor counts as none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from stages.pipeline.errors import RejectedClip, StorageError
from stages.pipeline.shard_writer import ShardWriter
from stages.pipeline.shards import ClipView, Shard, Signal, blocks_of

_BLOCK_BYTES = 1 << 23
# Such verdicts depend on more than the recording: how busy the machine was.
_NOT_FROM_THE_SOURCE = {"timeout"}


@dataclass(frozen=True)
class Place:
    """Where a clip of a known source stands: clip `index` of the shard at `path`, or its rejection of that number."""

    path: Path
    index: int
    rejected: bool = False


def find_places(shards: Iterable[Path], wanted: Collection[str]) -> dict[str, Place]:
    """Look through shards, in order, until all wanted sources are found: source -> place.

    Shards that cannot be read are passed over.
    """
    missing = set(wanted)
    found: dict[str, Place] = {}
    for path in shards:
        if not missing:
            break
        try:
            with Shard(path) as shard:
                places = {source: Place(path, i) for i, source in enumerate(shard.sources)}
                for i, (source, entry) in enumerate(zip(shard.rejected_sources, shard.summary().rejected, strict=True)):
                    if entry.reason not in _NOT_FROM_THE_SOURCE:
                        places[source] = Place(path, i, rejected=True)
        except (StorageError, ValueError):
            continue
        here = missing & places.keys()
        found |= {source: places[source] for source in here}
        missing -= here
    return found


class ClipWriter:
    """What a stage's work writes through: takes each clip over from where `places` finds it, or has it made.

    Attributes
    ----------
    made, taken : int, clips so far; a rejection counts as one
    """

    def __init__(self, writer: ShardWriter, places: Mapping[str, Place]) -> None:
        self._writer, self._places = writer, places
        self._shards: dict[Path, Shard | None] = {}
        self._stack = ExitStack()
        self.made = self.taken = 0

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(
        self, clip_id: str, path: str, make: Callable[[], Signal], seconds: float | None = None, source: str = ""
    ) -> None:
        """As `ShardWriter.add`; `make` is not called where an earlier clip, or rejection, of this source is found."""
        earlier = self._earlier(source) if source else None
        self.taken += earlier is not None
        self.made += earlier is None
        self._writer.add(clip_id, path, earlier or make, seconds, source)

    def _earlier(self, source: str) -> Callable[[], Signal] | None:
        place = self._places.get(source)
        shard = self._open(place.path) if place else None
        if place is None or shard is None:
            return None
        try:
            if place.rejected:
                entry = shard.summary().rejected[place.index]
                rejection = RejectedClip(entry.reason, entry.detail)
                return lambda: _reject(rejection)
            view, rate_hz = shard.view(place.index), float(shard.rates_hz[place.index])
            digest = blake3()
            for block in _blocks(view, shard):
                digest.update(np.ascontiguousarray(block).view(np.uint8).data)
            if digest.hexdigest() == shard.digests[place.index]:
                return lambda: Signal(rate_hz, _blocks(view, shard))
        except (StorageError, IndexError):
            pass
        return None

    def _open(self, path: Path) -> Shard | None:
        if path not in self._shards:
            try:
                self._shards[path] = self._stack.enter_context(Shard(path))
            except StorageError:
                self._shards[path] = None
        return self._shards[path]


def _blocks(view: ClipView, shard: Shard) -> Iterator[np.ndarray]:
    item_bytes = shard.data.dtype.itemsize * int(np.prod(shard.data.shape[1:]))
    return blocks_of(view, max(1, _BLOCK_BYTES // item_bytes))


def _reject(rejection: RejectedClip) -> Signal:
    raise rejection
