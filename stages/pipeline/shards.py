"""Shards: HDF5 files that hold a few dozen clips each, written once and never opened for writing again.

All stages share one form, a ragged array. `data` holds the clips' items one after another along its first axis
(samples, frames or images); `clips` says which items belong to which clip and carries each clip's hash (BLAKE3, in a
fourth of SHA-256's time). Recordings that a stage rejected are listed inside the shard too, so that a shard taken from
the reuse store tells the whole story.

Same input, same bytes: no timestamps, HDF5's default (oldest) format, a fixed order. Every chunk has a Fletcher-32
checksum, so a flipped byte is an error and not a wrong feature. HDF5 in this format keeps no checksum of its own index,
gives zeros for a chunk that it does not find, and its library crashes on some damaged indexes. So behind HDF5's end
stand the places of the chunks and the BLAKE3 of all that is no chunk, which is compared before HDF5 sees the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stages.pipeline.errors import StorageError
from stages.pipeline.sealed import dataset_in, json_in, numbers, open_sealed, texts

FORMAT = 4
_CHUNK_BYTES = 1 << 17
# What h5py raises on a damaged file, as it has no error of its own, and what reading the texts inside may raise.
_DAMAGE = (OSError, LookupError, ValueError, AttributeError, TypeError, RuntimeError, ArithmeticError, MemoryError)
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Signal:
    """One clip on its way through a stage.

    rate_hz : items per second (samples or frames; windows have no fixed rate: 0).
    blocks : arrays of shape (items, *item_shape), in order; a long recording never stands in memory whole.
    """

    rate_hz: float
    blocks: Iterable[np.ndarray]


@dataclass(frozen=True)
class Item:
    """What a stage's data consists of: the shape and type of one item along the first axis."""

    shape: tuple[int, ...]
    dtype: str
    per_chunk: int = 0  # 0: as many as fit in 128 KiB

    def chunks(self) -> tuple[int, ...]:
        size = int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize
        return (self.per_chunk or max(1, _CHUNK_BYTES // size), *self.shape)


@dataclass(frozen=True)
class Rejection:
    """A recording that a stage could not use."""

    id: str
    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class ShardSummary:
    """What one shard holds; `digest` changes when, and only when, what the next stage would read changes."""

    name: str
    digest: str
    kept: int
    seconds: float
    rejected: tuple[Rejection, ...]


def list_shards(folder: Path) -> list[Path]:
    """All shards of a stage, sorted by name.

    Raises
    ------
    StorageError
        The folder is missing or holds none.
    """
    shards = sorted(folder.glob("*.h5"))
    if not shards:
        raise StorageError(f"expected shards (*.h5) in {folder}, found none; run `dvc repro`")
    return shards


def read_summary(path: Path) -> ShardSummary:
    """The record that was written with a shard, in little more than half the time that opening all of it takes.

    Raises
    ------
    StorageError
        As `Shard`, as far as this reads.
    """
    try:
        with open_sealed(path, FORMAT) as file:
            return _summary(path, json_in(file, "summary"))
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _summary(path: Path, record: dict[str, Any]) -> ShardSummary:
    rejected = tuple(Rejection(**entry) for entry in record["rejected"])
    seconds = record["seconds"]
    words = [record["digest"], *(text for one in rejected for text in vars(one).values())]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("summary: expected texts")
    if not isinstance(seconds, float | int) or not 0 <= seconds < math.inf:
        raise ValueError("summary: expected seconds")
    return ShardSummary(path.stem, record["digest"], len(texts(record, "sources")), float(seconds), rejected)


def _damaged(path: Path, why: object) -> StorageError:
    return StorageError(
        f"{path} is damaged or is no shard: {why}. Remove it, with its other names in DVC's cache and the reuse "
        f"store, by `find . -samefile {path} -delete`; then `dvc repro` makes it anew"
    )


class ClipView:
    """One clip inside an open shard: has a length and can be sliced, reading only what the slice asks for."""

    def __init__(self, shard: Shard, start: int, length: int) -> None:
        self._shard, self._start, self._length = shard, start, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> np.ndarray:
        first, last, step = part.indices(self._length)
        if step != 1:
            raise ValueError(f"a clip is read in order: expected a step of 1, received {step}")
        return self._shard.read(self._start + first, self._start + max(first, last))


class Shard:
    """A finished shard, open for reading.

    Attributes
    ----------
    ids, paths : list of str, one for each clip
    rates_hz : np.ndarray [shape=(clips,)], items per second
    lengths : np.ndarray [shape=(clips,)], items of each clip
    digests : list of str, BLAKE3 of each clip's data, hexadecimal
    sources : list of str, what each clip was made from, as the stage that made it names it; "" where it doesn't say
    rejected_sources : the same for each of summary().rejected
    data : h5py.Dataset [shape=(items, *item_shape)]

    Raises
    ------
    StorageError
        The file is torn, damaged or none of ours; on opening or on reading.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open_sealed(path, FORMAT)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        try:
            self.data: h5py.Dataset = dataset_in(self._file, "data")
            index, record = json_in(self._file, "clips"), json_in(self._file, "summary")
            self._summary = _summary(path, record)
            self.sources = texts(record, "sources")
            self.rejected_sources = texts(record, "rejected_sources")
            self.ids = texts(index, "id")
            self.paths = texts(index, "path")
            self.digests = texts(index, "digest")
            self.rates_hz = np.array(numbers(index, "rate_hz", float), float)
            self.lengths = np.array(numbers(index, "length", int), np.int64)
            clips = {
                len(one) for one in (self.ids, self.paths, self.digests, self.rates_hz, self.lengths, self.sources)
            }
            if len(clips) != 1 or len(self.rejected_sources) != len(self._summary.rejected):
                raise ValueError("its lists of clips are not of one length")
            self._starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
            if len(self.data) != self._starts[-1]:
                raise ValueError(f"expected {self._starts[-1]} items, found {len(self.data)}")
        except _DAMAGE as error:
            self._file.close()
            raise self._damaged(error) from error

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.ids)

    def _damaged(self, why: object) -> StorageError:
        return _damaged(self.path, why)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Items start to stop, checksums verified."""
        try:
            block: np.ndarray = self.data[start:stop]
        except _DAMAGE as error:
            raise self._damaged(error) from error
        return block

    def clip(self, i: int) -> np.ndarray:
        """All of clip i: (items, *item_shape)."""
        return self.read(int(self._starts[i]), int(self._starts[i + 1]))

    def view(self, i: int) -> ClipView:
        """Clip i, read slice by slice."""
        return ClipView(self, int(self._starts[i]), int(self.lengths[i]))

    def summary(self) -> ShardSummary:
        """The record that was written with the shard; no data is read."""
        return self._summary

    def verify(self) -> None:
        """Read everything once, so that HDF5 compares each chunk with its checksum.

        Raises
        ------
        StorageError
            Something is not what was written, or was never written: HDF5 gives zeros for a chunk that is missing.
        """
        try:
            items, per_chunk = len(self.data), self.data.chunks[0]
            found, expected = self.data.id.get_num_chunks(), -(-items // per_chunk)
            if found != expected:
                raise ValueError(f"expected {expected} chunks, found {found}")
            step = items_at_once(self.data.chunks, self.data.dtype)
            buffer = np.empty((min(step, items), *self.data.shape[1:]), self.data.dtype)
            for start in range(0, items, step):
                stop = min(start + step, items)
                self.data.read_direct(buffer, np.s_[start:stop], np.s_[: stop - start])
        except _DAMAGE as error:
            raise self._damaged(error) from error


def items_at_once(chunks: tuple[int, ...], dtype: np.dtype) -> int:
    """Items in a whole number of chunks, about a megabyte: what stays in the processor's cache."""
    return chunks[0] * max(1, _BUFFER_BYTES // (int(np.prod(chunks)) * dtype.itemsize))


def blocks_of(view: ClipView | np.ndarray, items: int) -> Iterator[np.ndarray]:
    """A clip in consecutive pieces of at most `items`."""
    for start in range(0, len(view), items):
        yield view[start : start + items]
