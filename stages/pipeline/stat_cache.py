"""What earlier runs of the manifest found out about files that have not changed since.

A file counts as unchanged when its size, time of change and inode are the same. A file that was written within two
seconds of being looked at is not remembered: it may change again and keep its time (what git calls racy).
The cache is a convenience: unreadable, it is as if it was empty, and decode checks the SHA-256 of all that it reads.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from stages.pipeline import archives
from stages.pipeline.reuse import REUSE

log = logging.getLogger(__name__)
Mark = tuple[int, int, int]  # size, mtime_ns, inode
_RACY_NS = 2_000_000_000


def mark_of(status: os.stat_result) -> Mark:
    return status.st_size, status.st_mtime_ns, status.st_ino


class StatCache:
    """The remembered values of one dataset: plain JSON under a name and the mark of the file that they tell of."""

    def __init__(self, dataset: str, root: Path = REUSE) -> None:
        self._folder = root / "manifest" / _hash(os.path.realpath(dataset))
        self._used: set[str] = set()
        self._now = time.time_ns()
        # another way of listing archives is another cache
        self._version = _hash(Path(archives.__file__).read_text(encoding="utf-8"))

    def load(self, name: str) -> Any:
        """What was saved under this name, or None."""
        path = self._path(name)
        try:
            with path.open(encoding="ascii") as handle:
                record = json.load(handle)
            return record["value"] if record["version"] == self._version else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("%s cannot be read and is ignored: %s", path, error)
            return None

    def save(self, name: str, value: Any) -> None:
        path = self._path(name)
        temporary = path.with_suffix(".tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Not flushed to the disk: what a power cut leaves is read as a whole record or not at all.
            text = json.dumps({"version": self._version, "value": value}, separators=(",", ":"))
            temporary.write_text(text, encoding="ascii")
            temporary.replace(path)
        except OSError as error:
            log.warning("%s cannot be written, so the next run hashes again: %s", path, error)

    def settled(self, mark: Mark) -> bool:
        """Whether a file with this mark is old enough to be remembered."""
        return mark[1] < self._now - _RACY_NS

    def forget_unused(self) -> None:
        """Remove what this run did not ask for: archives that are gone."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name not in self._used:
                    path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        path = self._folder / f"{_hash(name)}.json"
        self._used.add(path.name)
        return path


def _hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
