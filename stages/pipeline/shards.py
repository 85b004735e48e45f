"""Shards: HDF5 files that hold a few dozen clips each, written once and never opened for writing again.

All stages share one form, a ragged array. `data` holds the clips' items one after another along its first axis
(samples, frames or images); `clips` says which items belong to which clip and carries each clip's hash (BLAKE3, in a
fourth of SHA-256's time). Recordings that a stage rejected are listed inside the shard too, so that a shard taken from
the reuse store tells the whole story.

Same input, same bytes: no timestamps, HDF5's default (oldest) format, a fixed order. Every chunk has a Fletcher-32
checksum, so a flipped byte is an error and not a wrong feature. HDF5 in this format keeps no checksum of its own index,
and gives zeros for a chunk that it does not find: so the BLAKE3 of all that is no chunk stands behind its end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from blake3 import blake3

from stages.pipeline.errors import StorageError

FORMAT = 3
_SEAL_BYTES = 32
_CHUNK_BYTES = 1 << 17
# What h5py raises on a damaged file: it has no error of its own.
_DAMAGE = (OSError, KeyError, ValueError, AttributeError, TypeError, RuntimeError, IndexError, MemoryError)
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
    """The record that was written with a shard, in a third of the time that opening all of it takes.

    Raises
    ------
    StorageError
        As `Shard`, as far as this reads.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise _damaged(path, f"expected format {FORMAT}, received {file.attrs.get('format')!r}")
            return _summary(path, _record(file))
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _record(file: h5py.File) -> dict[str, Any]:
    stored = file["summary"]
    if stored.is_virtual or stored.external:
        raise ValueError("it points at other files, which no stage writes")
    record: dict[str, Any] = json.loads(bytes(stored[()]))
    return record


def _summary(path: Path, record: dict[str, Any]) -> ShardSummary:
    rejected = tuple(Rejection(**entry) for entry in record["rejected"])
    return ShardSummary(path.stem, record["digest"], len(record["sources"]), float(record["seconds"]), rejected)


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
            self._file = h5py.File(path, "r")
        except _DAMAGE as error:
            raise self._damaged(error) from error
        try:
            if self._file.attrs.get("format") != FORMAT:
                raise self._damaged(f"expected format {FORMAT}, received {self._file.attrs.get('format')!r}")
            self.data: h5py.Dataset = self._file["data"]
            if self._file["clips"].is_virtual or self.data.is_virtual or self.data.external:
                raise self._damaged("it points at other files, which no stage writes")
            index = json.loads(bytes(self._file["clips"][()]))
            self._summary = _record(self._file)
            self.sources: list[str] = self._summary["sources"]
            self.rejected_sources: list[str] = self._summary["rejected_sources"]
            self.ids: list[str] = index["id"]
            self.paths: list[str] = index["path"]
            self.digests: list[str] = index["digest"]
            self.rates_hz = np.array(index["rate_hz"], float)
            self.lengths = np.array(index["length"], np.int64)
            self._starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
            with path.open("rb") as raw:
                size = os.fstat(raw.fileno()).st_size - _SEAL_BYTES
                if os.pread(raw.fileno(), _SEAL_BYTES, size) != index_digest(self._file, raw.fileno(), size):
                    raise ValueError("its index has changed since it was written")
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
        return _summary(self.path, self._summary)

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


def index_digest(file: h5py.File, raw: int, size: int) -> bytes:
    """BLAKE3 of the first `size` bytes of a shard but for its chunks, which have checksums; 32 bytes.

    raw : descriptor of the same file.
    """
    chunks: list[tuple[int, int]] = []
    for dataset in (file["data"], file["clips"], file["summary"]):
        dataset.id.chunk_iter(lambda chunk: chunks.append((chunk.byte_offset, chunk.size)))
    digest, place = blake3(), 0
    for start, length in [*sorted(chunks), (size, 0)]:
        if not place <= start <= size:
            raise ValueError("its chunks overlap")
        digest.update(os.pread(raw, start - place, place))
        place = start + length
    return digest.digest()


def items_at_once(chunks: tuple[int, ...], dtype: np.dtype) -> int:
    """Items in a whole number of chunks, about a megabyte: what stays in the processor's cache."""
    return chunks[0] * max(1, _BUFFER_BYTES // (int(np.prod(chunks)) * dtype.itemsize))


def blocks_of(view: ClipView | np.ndarray, items: int) -> Iterator[np.ndarray]:
    """A clip in consecutive pieces of at most `items`."""
    for start in range(0, len(view), items):
        yield view[start : start + items]
