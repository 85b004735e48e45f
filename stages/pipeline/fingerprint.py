"""SHA-256 of every recording, over processes where there are many, and from memory where nothing has changed."""

from __future__ import annotations

import hashlib
import logging
import operator
import os
import stat
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from stages.pipeline.archives import Member, blocks, locate
from stages.pipeline.errors import RejectedClip
from stages.pipeline.files import sha256_of_file
from stages.pipeline.layouts import Entry
from stages.pipeline.spread import spread
from stages.pipeline.stat_cache import Mark, StatCache, mark_of

log = logging.getLogger(__name__)
_BATCH_FILES = 4096
_BATCH_BYTES = 1 << 27
_LINE_EVERY_SECONDS = 15.0
# For the decision whether processes are worth their start: about what one core of 2020 needs.
_SECONDS_PER_FILE, _SECONDS_PER_BYTE = 4e-5, 2e-9


class Seen(NamedTuple):
    """What was found out about a recording. span : its place in its archive, "" for a file of its own."""

    sha256: str
    size: int
    span: str = ""


class Fault(NamedTuple):
    reason: str
    detail: str


Result = Seen | Fault
_Values = tuple[Any, ...]  # of a Seen (three) or a Fault (two)


def fingerprints(root: Path, entries: Sequence[Entry], workers: int, cache: StatCache) -> list[Result]:
    """What the entries' recordings are, in the same order, or why they are none: nothing is decoded.

    Reasons: missing, outside_dataset, not_a_file, empty_file, unreadable and, in archives, damaged_member.
    """
    files, packed = _Files(root, cache), _Packed(root, cache)
    results: list[Result | None] = [(packed if entry.member else files).lookup(entry) for entry in entries]
    todo = [number for number, result in enumerate(results) if result is None]
    batches = list(_batches(entries, todo, files))
    jobs = [_Job(root, entries[batch[0]].archive, [_key(entries[number]) for number in batch]) for batch in batches]
    seconds = _SECONDS_PER_FILE * len(todo) + _SECONDS_PER_BYTE * sum(_size(entries[n], files) for n in todo)
    done, last = len(entries) - len(todo), time.monotonic()
    for batch, found in zip(batches, spread(operator.call, jobs, workers, seconds), strict=True):
        for number, (values, mark) in zip(batch, found, strict=True):
            entry = entries[number]
            if len(values) == 2:
                results[number] = Fault(*values)
                continue
            results[number] = seen = Seen(*values)
            (packed if entry.member else files).remember(entry, seen, mark)
        done += len(batch)
        if time.monotonic() - last > _LINE_EVERY_SECONDS:
            last = time.monotonic()
            log.info("%d of %d recordings hashed", done, len(entries))
    files.save()
    packed.save()
    return [result for result in results if result is not None]


def _key(entry: Entry) -> str | tuple[Any, ...]:
    return tuple(entry.member) if entry.member else entry.path


def _size(entry: Entry, files: _Files) -> int:
    return entry.member.size if entry.member else files.sizes.get(entry.path, 0)


def _batches(entries: Sequence[Entry], todo: list[int], files: _Files) -> Iterator[list[int]]:
    """Entries of one archive, or files of their own, a bounded number and size at a time."""
    batch: list[int] = []
    size = 0
    for number in todo:
        full = len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES
        if batch and (full or entries[number].archive != entries[batch[0]].archive):
            yield batch
            batch, size = [], 0
        batch.append(number)
        size += _size(entries[number], files)
    if batch:
        yield batch


class _Files:
    """What is known of the recordings that are files of their own."""

    def __init__(self, root: Path, cache: StatCache) -> None:
        self._root = os.fspath(root)
        self._inside = _Inside(self._root)
        self._cache = cache
        self._old: dict[str, list[int | str]] | None = None
        self._new: dict[str, list[int | str]] = {}
        self.sizes: dict[str, int] = {}

    def lookup(self, entry: Entry) -> Seen | None:
        if self._old is None:
            self._old = self._cache.load("files") or {}
        try:
            status = os.lstat(f"{self._root}/{entry.path}")
        except (OSError, ValueError):
            return None
        self.sizes[entry.path] = status.st_size
        record = self._old.get(entry.path)
        # A link is not looked up: its own time says nothing about its target's.
        if not record or record[:3] != [*mark_of(status)] or not stat.S_ISREG(status.st_mode):
            return None
        if not self._inside(os.path.dirname(entry.path)):
            return None
        self._new[entry.path] = record
        return Seen(str(record[3]), status.st_size)

    def remember(self, entry: Entry, seen: Seen, mark: Mark | None) -> None:
        if mark and self._cache.settled(mark):
            self._new[entry.path] = [*mark, seen.sha256]

    def save(self) -> None:
        if self._old is not None and self._new != self._old:
            self._cache.save("files", self._new)


class _Packed:
    """What is known of the recordings in archives: for each archive, name of the member -> "SHA-256 span"."""

    def __init__(self, root: Path, cache: StatCache) -> None:
        self._root = root
        self._cache = cache
        self._known: dict[str, tuple[Mark, dict[str, str]]] = {}
        self._changed: set[str] = set()

    def _archive(self, path: str) -> dict[str, str]:
        if path not in self._known:
            mark = mark_of(os.stat(self._root / path))
            value = self._cache.load(f"{path}//sha256")
            same = value and tuple(value["mark"]) == mark
            self._known[path] = mark, value["found"] if same else {}
        return self._known[path][1]

    def lookup(self, entry: Entry) -> Seen | None:
        record = self._archive(entry.archive).get(entry.member.name) if entry.member else None
        if not record or not entry.member:
            return None
        sha256, _, span = record.partition(" ")
        return Seen(sha256, entry.member.size, span)

    def remember(self, entry: Entry, seen: Seen, mark: Mark | None) -> None:
        if entry.member:
            self._archive(entry.archive)[entry.member.name] = f"{seen.sha256} {seen.span}"
            self._changed.add(entry.archive)

    def save(self) -> None:
        for path in self._changed:
            mark, found = self._known[path]
            if self._cache.settled(mark):
                self._cache.save(f"{path}//sha256", {"mark": mark, "found": found})


class _Inside:
    """Whether a folder lies in the dataset's, links resolved; asked once for each folder."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._real = os.path.realpath(root)
        self._folder = lru_cache(maxsize=1 << 16)(self._check)

    def _check(self, path: str) -> bool:
        real = os.path.realpath(os.path.join(self._root, path))
        return os.path.commonpath([real, self._real]) == self._real

    def __call__(self, folder: str) -> bool:
        return self._folder(folder)

    def holds(self, path: str, is_link: bool) -> bool:
        return self._check(path) if is_link else self._folder(os.path.dirname(path))


@dataclass(frozen=True)
class _Job:
    """A batch of paths below `root`, or of members of one archive there.

    Both ways plain tuples: between processes a named one takes several times as long, and there are millions.
    """

    root: Path
    archive: str
    keys: list[Any]

    def __call__(self) -> list[tuple[_Values, Mark | None]]:
        if not self.archive:
            inside = _Inside(os.fspath(self.root))
            of_files = (_of_file(self.root, key, inside) for key in self.keys if isinstance(key, str))
            return [(tuple(result), mark) for result, mark in of_files]
        with (self.root / self.archive).open("rb", buffering=0) as handle:
            members = map(Member._make, self.keys)
            return [(tuple(_of_member(handle.fileno(), member)), None) for member in members]


def _of_file(root: Path, name: str, inside: _Inside) -> tuple[Result, Mark | None]:
    path = os.path.join(root, name)
    try:
        is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        if not inside.holds(name, is_link):
            return Fault("outside_dataset", "the path or link leaves the dataset's folder"), None
        # O_NONBLOCK: opening a FIFO must not wait for somebody to write into it
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as handle:
            status = os.fstat(handle.fileno())
            if not stat.S_ISREG(status.st_mode):
                return Fault("not_a_file", "a folder, pipe, socket or device"), None
            if not status.st_size:
                return Fault("empty_file", "0 bytes"), None
            return Seen(sha256_of_file(handle), status.st_size), None if is_link else mark_of(status)
    except FileNotFoundError:
        return Fault("missing", "the dataset names it, but it is not there"), None
    except IsADirectoryError:
        return Fault("not_a_file", "a folder"), None
    except (OSError, ValueError) as error:
        return Fault("unreadable", getattr(error, "strerror", None) or str(error)), None


def _of_member(handle: int, member: Member) -> Result:
    digest, crc32 = hashlib.sha256(), 0
    try:
        span = locate(handle, member)
        for block in blocks(handle, span):
            digest.update(block)
            if member.crc32 >= 0:
                crc32 = zlib.crc32(block, crc32)
    except RejectedClip as fault:
        return Fault(fault.reason, fault.detail)
    except OSError as error:
        return Fault("unreadable", error.strerror or str(error))
    if member.crc32 >= 0 and crc32 != member.crc32:
        return Fault("damaged_member", "its bytes do not match the archive's CRC-32")
    return Seen(digest.hexdigest(), member.size, str(span))
