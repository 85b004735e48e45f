"""Finished shards of earlier runs, found again by what they were made from.

DVC empties a stage's folder before it runs, so a run that was killed would begin again at zero, and one changed clip
would cost the whole corpus. Here a worker's finished shard goes into this store first, under a key that covers the
stage, its code, its params, its input and the libraries at work; the stage's folder gets a hard link. So a run goes
on where it was killed, a changed clip costs its shard, and params changed back cost a link.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from stages.pipeline.errors import StorageError

REUSE = Path("data/.reuse")


class ReuseStore:
    """The store of one stage. Only the process that holds the stage's lock may use it, with its workers.

    A file `<key>.used` beside each shard carries the time of its last use; the shard's own times stay as they are,
    because the same inode may stand in DVC's cache, and DVC takes a new mtime for new content.
    """

    def __init__(self, stage: str, root: Path = REUSE) -> None:
        self.root = root
        self.folder = root / stage
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Where the shard with this key stands, or is to be written."""
        return self.folder / f"{key}.h5"

    def __contains__(self, key: str) -> bool:
        return self.path(key).exists()

    def remove_unfinished(self) -> None:
        """Remove what killed workers left behind."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def link(self, key: str, target: Path) -> None:
        """Give the shard a second name; a copy where the file system has no hard links."""
        source = self.path(key)
        source.with_suffix(".used").touch()
        try:
            try:
                os.link(source, target)
            except FileExistsError:
                raise
            except OSError:
                temporary = target.with_name(f".{target.name}.tmp")
                shutil.copyfile(source, temporary)
                temporary.replace(target)
        except OSError as error:
            raise StorageError(f"{target} could not be made from {source}: {error}; free some space") from error

    def evict(self, limit_bytes: float, keep: Iterable[str]) -> int:
        """Remove the shards that were not used for longest, of all stages, until the store is within its limit.

        keep : keys of this stage that the present run uses; they stay.

        Returns
        -------
        Bytes removed.
        """
        kept = {self.path(key) for key in keep}
        found = []
        for path in self.root.glob("*/*.h5"):
            used = path.with_suffix(".used")
            stamp = (used if used.exists() else path).stat().st_mtime_ns
            found.append((path in kept, -stamp, str(path), path.stat().st_size, path))
        total, removed = sum(entry[3] for entry in found), 0
        # first out: not in use now, then the one with the oldest stamp
        for in_use, _, _, size, path in sorted(found, key=lambda e: (e[0], -e[1], e[2])):
            if total - removed <= limit_bytes or in_use:
                break
            path.unlink(missing_ok=True)
            path.with_suffix(".used").unlink(missing_ok=True)
            removed += size
        return removed
