"""Writes shards: under a temporary name first, verified and flushed before they get their own.

Same input, same bytes, whatever was rejected on the way and however the clips' data came in pieces.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from blake3 import blake3

from stages.pipeline.errors import RejectedClip
from stages.pipeline.files import sha256_of_json, sync
from stages.pipeline.sealed import seal_of
from stages.pipeline.shards import (
    FORMAT,
    Item,
    Rejection,
    Shard,
    ShardSummary,
    Signal,
    items_at_once,
)
from stages.pipeline.unfailing import UnfailingFile


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
        self._disk, self._file, self._data = self._create(self._temporary)
        self._clips: dict[str, list[object]] = {k: [] for k in ("id", "path", "rate_hz", "length", "digest")}
        self._rejected: list[Rejection] = []
        self._sources: list[str] = []
        self._rejected_sources: list[str] = []
        self._seconds = 0.0
        # Items wait here until they fill whole chunks: HDF5 is slow with parts of them.
        self._buffer = np.empty((items_at_once(item.chunks(), np.dtype(item.dtype)), *item.shape), item.dtype)
        self._written, self._waiting = 0, 0
        self._has_gaps = False

    def _create(self, path: Path) -> tuple[UnfailingFile, h5py.File, h5py.Dataset]:
        disk, item = UnfailingFile(path), self._item
        file = h5py.File(disk, "w")
        data = file.create_dataset(
            "data",
            (0, *item.shape),
            item.dtype,
            maxshape=(None, *item.shape),
            chunks=item.chunks(),
            fletcher32=True,
        )
        return disk, file, data

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._disk.close()
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
            self._disk.check()
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
        old_disk, old_file, old, old_path = self._disk, self._file, self._data, self._temporary
        self._temporary = old_path.with_name(f"{old_path.name}.tmp")
        try:
            self._disk, self._file, self._data = self._create(self._temporary)
            for start in range(0, len(old), len(self._buffer)):
                self._data.resize(min(start + len(self._buffer), len(old)), axis=0)
                self._data[start:] = old[start : start + len(self._buffer)]
            old_disk.check()
        finally:
            old_file.close()
            old_disk.close()
            old_path.unlink()

    def _seal(self) -> None:
        with h5py.File(self._temporary, "r") as file, self._temporary.open("r+b") as raw:
            size = raw.seek(0, os.SEEK_END)
            raw.write(seal_of(file, raw.fileno(), size))

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
        self._file.flush()
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
            # HDF5 would place the data when the last reference to the dataset goes, and a profiler, such as the one
            # in Dask's workers, may hold one for a moment: the order in the file would depend on chance.
            self._file.flush()
            self._disk.check()
        self._file.attrs["format"] = FORMAT
        self._file.close()
        self._disk.check()
        self._disk.close()
        self._seal()
        sync(self._temporary)
        with Shard(self._temporary) as shard:
            shard.verify()
            summary = shard.summary()
        self._temporary.replace(self._path)
        sync(self._path.parent)
        return ShardSummary(self._path.stem, summary.digest, summary.kept, summary.seconds, summary.rejected)
