"""Files that are either whole or absent."""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from stages.pipeline.errors import StorageError

_BLOCK_BYTES = 1 << 20


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def write_atomically(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 text file that takes `path`'s place when the block ends well, and leaves no trace otherwise.

    Raises
    ------
    StorageError
        The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(path)
        with temporary.open("w", encoding="utf-8", newline="") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error}; free some space or mend the folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def _remove_unfinished(path: Path) -> None:
    """What processes that were killed have left of their writes to `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(ValueError, PermissionError):  # no name of ours; another user's process, still at work
            try:
                os.kill(int(left.name.split(".")[-2]), 0)
            except ProcessLookupError:
                left.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Sorted keys and a final newline, so that a diff shows what changed and nothing else."""
    with write_atomically(path) as handle:
        json.dump(value, handle, indent=2, sort_keys=True, ensure_ascii=False)
        handle.write("\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with write_atomically(path) as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def sha256_of_file(handle: IO[bytes]) -> str:
    """Hash of all that an open file holds; leaves the position at the end."""
    digest = hashlib.sha256()
    while block := handle.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """One hash for plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
