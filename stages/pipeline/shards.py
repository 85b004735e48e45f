"""Shards: HDF5 files that hold a few dozen clips each, written once and never opened for writing again.

All stages share one form, a ragged array. `data` holds the clips' items one after another along its first axis
(samples, frames or images); `clips` says which items belong to which clip and carries each clip's hash (BLAKE3, in a
fourth of SHA-256's time). Recordings that a stage rejected are listed inside the shard too, so that a shard taken from
the reuse store tells the whole story.

Same input, same bytes: no timestamps, HDF5's default (oldest) format, a fixed order. Every chunk has a Fletcher-32
checksum, so a flipped byte is an error and not a wrong feature.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from blake3 import blake3

from stages.pipeline.errors import RejectedClip, StorageError
from stages.pipeline.files import sha256_of_json, sync

FORMAT = 2
_CHUNK_BYTES = 1 << 17
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
        except OSError as error:
            raise self._damaged(error) from error
        try:
            if self._file.attrs.get("format") != FORMAT:
                raise self._damaged(f"expected format {FORMAT}, received {self._file.attrs.get('format')!r}")
            self.data: h5py.Dataset = self._file["data"]
            if self._file["clips"].is_virtual or self.data.is_virtual or self.data.external:
                raise self._damaged("it points at other files, which no stage writes")
            index = json.loads(bytes(self._file["clips"][()]))
            self._summary = json.loads(bytes(self._file["summary"][()]))
            self.sources: list[str] = self._summary["sources"]
            self.rejected_sources: list[str] = self._summary["rejected_sources"]
        except (OSError, KeyError, ValueError, AttributeError) as error:
            self._file.close()
            raise self._damaged(error) from error
        self.ids: list[str] = index["id"]
        self.paths: list[str] = index["path"]
        self.digests: list[str] = index["digest"]
        self.rates_hz = np.array(index["rate_hz"], float)
        self.lengths = np.array(index["length"], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.ids)

    def _damaged(self, why: object) -> StorageError:
        return StorageError(
            f"{self.path} is damaged or is no shard: {why}. Remove it, with its other names in DVC's cache and the "
            f"reuse store, by `find . -samefile {self.path} -delete`; then `dvc repro` makes it anew"
        )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Items start to stop, checksums verified."""
        try:
            block: np.ndarray = self.data[start:stop]
        except OSError as error:
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
        rejected = tuple(Rejection(**entry) for entry in self._summary["rejected"])
        return ShardSummary(
            self.path.stem, self._summary["digest"], len(self), float(self._summary["seconds"]), rejected
        )

    def verify(self) -> None:
        """Read everything once, so that HDF5 compares each chunk with its checksum.

        Raises
        ------
        StorageError
            Something is not what was written, or was never written: HDF5 gives zeros for a chunk that is missing.
        """
        items, per_chunk = len(self.data), self.data.chunks[0]
        found, expected = self.data.id.get_num_chunks(), -(-items // per_chunk)
        if items != self._starts[-1] or found != expected:
            raise self._damaged(f"expected {self._starts[-1]} items in {expected} chunks, found {items} in {found}")
        step = _items_at_once(self.data.chunks, self.data.dtype)
        buffer = np.empty((min(step, items), *self.data.shape[1:]), self.data.dtype)
        try:
            for start in range(0, items, step):
                stop = min(start + step, items)
                self.data.read_direct(buffer, np.s_[start:stop], np.s_[: stop - start])
        except OSError as error:
            raise self._damaged(error) from error


def _items_at_once(chunks: tuple[int, ...], dtype: np.dtype) -> int:
    """Items in a whole number of chunks, about a megabyte: what stays in the processor's cache."""
    return chunks[0] * max(1, _BUFFER_BYTES // (int(np.prod(chunks)) * dtype.itemsize))


class ShardWriter:
    """Writes one shard under a temporary name; `finish` verifies it and gives it its own.

    Left without `finish` (an error, a full disk), no file remains.
    """

    def __init__(self, path: Path, item: Item) -> None:
        self._path = path
        # The process id alone is not enough: on a cluster, workers of several hosts write into the same folder.
        owner = f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
        self._temporary = path.with_name(f".{path.stem[:16]}.{owner}.tmp")
        self._item = item
        self._file, self._data = self._create(self._temporary)
        self._clips: dict[str, list[object]] = {k: [] for k in ("id", "path", "rate_hz", "length", "digest")}
        self._rejected: list[Rejection] = []
        self._sources: list[str] = []
        self._rejected_sources: list[str] = []
        self._seconds = 0.0
        # Items wait here until they fill whole chunks: HDF5 is slow with parts of them.
        self._buffer = np.empty((_items_at_once(item.chunks(), np.dtype(item.dtype)), *item.shape), item.dtype)
        self._written, self._waiting = 0, 0
        self._has_gaps = False

    def _create(self, path: Path) -> tuple[h5py.File, h5py.Dataset]:
        file, item = h5py.File(path, "w"), self._item
        data = file.create_dataset(
            "data",
            (0, *item.shape),
            item.dtype,
            maxshape=(None, *item.shape),
            chunks=item.chunks(),
            fletcher32=True,
        )
        return file, data

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def add(
        self, clip_id: str, path: str, make: Callable[[], Signal], seconds: float | None = None, source: str = ""
    ) -> None:
        """Append what `make` returns, or list the recording as rejected if it raises RejectedClip.

        seconds : duration of the sound, where it doesn't follow from the number of items.
        source : name of all that the clip is made from, but for what the whole run shares.
        """
        start, digest = self._end, blake3()
        try:
            signal = make()
            for block in signal.blocks:
                digest.update(np.ascontiguousarray(block).view(np.uint8).data)
                self._append(block)
        except RejectedClip as rejected:
            self._take_back(start)
            self._rejected.append(Rejection(clip_id, path, rejected.reason, rejected.detail))
            self._rejected_sources.append(source)
            return
        self._sources.append(source)
        length = self._end - start
        self._seconds += seconds if seconds is not None else length / signal.rate_hz
        values = (clip_id, path, float(signal.rate_hz), length, digest.hexdigest())
        for name, value in zip(self._clips, values, strict=True):
            self._clips[name].append(value)

    @property
    def _end(self) -> int:
        return self._written + self._waiting

    def _append(self, block: np.ndarray) -> None:
        while len(block):
            part = block[: len(self._buffer) - self._waiting]
            self._buffer[self._waiting : self._waiting + len(part)] = part
            self._waiting += len(part)
            block = block[len(part) :]
            if self._waiting == len(self._buffer):
                self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._data.resize(self._end, axis=0)
            self._data[self._written :] = self._buffer[: self._waiting]
            self._written, self._waiting = self._end, 0

    def _take_back(self, end: int) -> None:
        """Forget the items from `end` on."""
        if end < self._written:  # some went to the file: what stays of the last buffer comes back
            first = end - end % len(self._buffer)
            self._buffer[: end - first] = self._data[first:end]
            self._data.resize(first, axis=0)
            self._written, self._has_gaps = first, True
        self._waiting = end - self._written

    def _close_gaps(self) -> None:
        """Write the data anew: HDF5 leaves what was taken back as garbage in the file, and the bytes would tell."""
        old, old_path = self._data, self._temporary
        self._temporary = old_path.with_name(f"{old_path.name}.tmp")
        try:
            with self._file:
                self._file, self._data = self._create(self._temporary)
                for start in range(0, len(old), len(self._buffer)):
                    self._data.resize(min(start + len(self._buffer), len(old)), axis=0)
                    self._data[start:] = old[start : start + len(self._buffer)]
        finally:
            old_path.unlink()

    def finish(self) -> ShardSummary:
        """Close, flush to the disk, reopen, verify, rename.

        Raises
        ------
        StorageError
            What is on the disk is not what was written.
        """
        self._flush()
        if self._has_gaps:
            self._close_gaps()
        digest = sha256_of_json(self._clips)
        record = {
            "digest": digest,
            "seconds": round(self._seconds, 3),
            "rejected": [asdict(rejection) for rejection in self._rejected],
            # no part of the digest: the next stage depends on what a clip is, not on what it came from
            "sources": self._sources,
            "rejected_sources": self._rejected_sources,
        }
        for name, value in (("clips", self._clips), ("summary", record)):
            text = np.frombuffer(json.dumps(value, ensure_ascii=False).encode(), np.uint8)
            self._file.create_dataset(name, data=text, chunks=text.shape, fletcher32=True)
        self._file.attrs["format"] = FORMAT
        self._file.close()
        sync(self._temporary)
        with Shard(self._temporary) as shard:
            shard.verify()
            summary = shard.summary()
        self._temporary.replace(self._path)
        sync(self._path.parent)
        return ShardSummary(self._path.stem, summary.digest, summary.kept, summary.seconds, summary.rejected)


def blocks_of(view: ClipView | np.ndarray, items: int) -> Iterator[np.ndarray]:
    """A clip in consecutive pieces of at most `items`."""
    for start in range(0, len(view), items):
        yield view[start : start + items]
