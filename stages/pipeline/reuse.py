"""Finished shards of earlier runs, found again by what they were made from.

DVC empties a stage's folder before it runs, so a run that was killed would begin again at zero, and one changed clip
would cost the whole corpus. Here a worker's finished shard goes into this store first, under a key that covers the
stage, its code, its params, its input and the libraries at work; the stage's folder gets a hard link. So a run goes
on where it was killed, params changed back cost a link, and a changed shard takes from its predecessors in the store
all clips but the changed one (`stages.pipeline.donors`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from stages.pipeline.errors import StorageError

REUSE = Path("data/.reuse")
_UNFINISHED = ".tmp"
_COMMON_CHARACTERS = 16


class ReuseStore:
    """The store of one stage. Only the process that holds the stage's lock may use it, with its workers.

    The shards that share code, params and libraries (`common`, a hash of these) stand in one folder; any two of them
    hold the same data for clips of the same source. A file `<key>.used` beside each shard carries the time of its
    last use; the shard's own times stay as they are, because the same inode may stand in DVC's cache, and DVC takes
    a new mtime for new content.
    """

    def __init__(self, stage: str, common: str, root: Path = REUSE) -> None:
        self.root = root
        self.folder = root / stage / common[:_COMMON_CHARACTERS]
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Where the shard with this key stands, or is to be written."""
        return self.folder / f"{key}.h5"

    def keys(self) -> set[str]:
        """Keys of all shards that are here. One listing: over a network, a question for each key takes too long."""
        return {name.removesuffix(".h5") for name in os.listdir(self.folder) if name.endswith(".h5")}

    def newest_first(self, keys: Iterable[str]) -> list[Path]:
        """Paths of these shards, the one used last at the head."""
        return [path for _, _, path in sorted((-_last_use(self.path(key)), key, self.path(key)) for key in keys)]

    def remove_unfinished(self) -> None:
        """Remove what killed workers of this stage left behind.

        A lost worker of a cluster may still be at it; it fails then, and its shard is made by another.
        """
        for path in self.folder.parent.glob(f"*/.*{_UNFINISHED}"):
            path.unlink(missing_ok=True)

    def link(self, key: str, target: Path) -> None:
        """Give the shard a second name, in the place of what stood there; a copy where there are no hard links."""
        source = self.path(key)
        try:
            source.with_suffix(".used").touch()
            target.unlink(missing_ok=True)
            try:
                os.link(source, target)
            except FileExistsError:
                raise
            except OSError:
                temporary = target.with_name(f".{target.name}{_UNFINISHED}")
                shutil.copyfile(source, temporary)
                temporary.replace(target)
        except OSError as error:
            raise StorageError(f"{target} could not be made from {source}: {error}; free some space") from error

    def evict(self, limit_bytes: float, keep: Collection[str]) -> int:
        """Remove the shards that were not used for longest, of all stages, until the store is within its limit.

        keep : keys of this stage that the present run uses; they stay.

        Returns
        -------
        Bytes removed.
        """
        found = []  # (bytes, path)
        for folder in self.root.glob("*/*/"):
            with os.scandir(folder) as entries:
                found += [(entry.stat().st_size, entry.path) for entry in entries if entry.name.endswith(".h5")]
        excess = sum(size for size, _ in found) - limit_bytes
        if excess <= 0:
            return 0
        removed, kept = 0, {str(self.path(key)) for key in keep}
        unused = [(_last_use(Path(path)), path, size) for size, path in found if path not in kept]
        for _, name, size in sorted(unused):
            if removed >= excess:
                break
            path = Path(name)
            path.unlink(missing_ok=True)
            path.with_suffix(".used").unlink(missing_ok=True)
            removed += size
        return removed


def _last_use(path: Path) -> int:
    used = path.with_suffix(".used")
    return (used if used.exists() else path).stat().st_mtime_ns
