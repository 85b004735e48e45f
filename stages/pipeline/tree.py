"""A dataset's folder as it would be if its archives were unpacked where they stand."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from stages.pipeline.archives import ARCHIVES, COMPRESSED, SIDECARS, Listing, Member, list_archive
from stages.pipeline.errors import StorageError
from stages.pipeline.spread import spread
from stages.pipeline.stat_cache import StatCache, mark_of

log = logging.getLogger(__name__)
_SECONDS_PER_HEADER = 2e-5


class Found(NamedTuple):
    """A file that may be a recording.

    name : relative to the dataset's folder, as if all archives were unpacked.
    path : the way to it; for a member the archive's path, a slash and the member's name.
    archive : path of the archive; "" for a file of its own.
    member : where it lies in the archive; None for a file of its own.
    """

    name: str
    path: str
    archive: str = ""
    member: Member | None = None


class Tree:
    """The files below `root`; archives are listed when they are first asked for.

    cache : remembers the listings of archives that have not changed; None: nothing is remembered.
    """

    def __init__(self, root: Path, workers: int = 1, cache: StatCache | None = None) -> None:
        self.root = root
        self._workers = workers
        self._cache = cache
        self.faults: list[tuple[str, str, str]] = []  # (path, reason, detail) of what is in archives but unusable

    def files(self) -> list[Found]:
        """All files but hidden ones and sidecars, sorted by name.

        Raises
        ------
        StorageError
            There is an archive that gives no access to single members.
        """
        return sorted([*self._loose, *self._members], key=lambda found: found.name)

    def find(self, path: str) -> Found | None:
        """The member of an archive that a table means: by the way through the archive, or as if it was unpacked."""
        return self._by_path.get(os.path.normpath(path))

    @cached_property
    def _by_path(self) -> dict[str, Found]:
        found = {found.name: found for found in reversed(self._members)}
        return found | {one.path: one for one in self._members}

    @cached_property
    def _walked(self) -> tuple[list[str], list[str]]:
        loose, archives = [], []
        for place, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            relative = os.path.relpath(place, self.root)
            for name in files:
                if name.startswith("."):
                    continue
                path = name if relative == "." else f"{relative}{os.sep}{name}"
                lower = name.lower()
                if lower.endswith(ARCHIVES):
                    archives.append(path)
                elif lower.endswith(COMPRESSED):
                    raise StorageError(_refusal(self.root / path))
                elif os.path.splitext(lower)[1] not in SIDECARS:
                    loose.append(path)
        return loose, sorted(archives)

    @property
    def _loose(self) -> Iterator[Found]:
        return (Found(path, path) for path in self._walked[0])

    @cached_property
    def _members(self) -> list[Found]:
        paths, members = self._walked[1], []
        for path, listing in zip(paths, self._listings(paths), strict=True):
            for name, reason, detail in listing.faults:
                if not name:
                    log.warning("%s: %s", path, detail)
                self.faults.append((f"{path}/{name}" if name else path, reason, detail))
            folder, name = os.path.split(path)
            # Members of es.zip that lie in no folder lie in es/: that is what a folder for each language packs to.
            beside, top = (f"{folder}/", f"{folder}/") if folder else ("", f"{os.path.splitext(name)[0]}/")
            members += [
                Found((beside if "/" in member[0] else top) + member[0], f"{path}/{member[0]}", path, member)
                for member in listing.members
            ]
        if paths:
            log.info("%d archives hold %d recordings", len(paths), len(members))
        return members

    def _listings(self, paths: list[str]) -> Iterator[Listing]:
        """In the order of `paths`; what has not changed comes from the cache."""
        known: dict[str, Listing] = {}
        todo, seconds = [], 0.0
        real = os.path.realpath(self.root)
        marks = {}
        for path in paths:
            target = os.path.realpath(self.root / path)
            if os.path.isfile(target) and os.path.commonpath([target, real]) == real:
                marks[path] = mark_of(os.stat(target))
        for path, mark in marks.items():
            value = self._cache.load(path) if self._cache else None
            if value and tuple(value["mark"]) == mark:
                known[path] = Listing([*map(Member._make, value["members"])], value["faults"])
            else:
                todo.append(path)
                seconds += _SECONDS_PER_HEADER * mark[0] / 1024
        fresh = spread(_listed, [os.path.join(self.root, path) for path in todo], self._workers, seconds)
        for path in paths:
            if path in known:
                yield known.pop(path)
                continue
            if path not in marks:
                yield Listing([], [("", "outside_dataset", "a link that leads nowhere or leaves the dataset's folder")])
                continue
            members, faults = next(fresh)
            listing = Listing([*map(Member._make, members)], faults)
            if self._cache and self._cache.settled(marks[path]):
                value = {"mark": marks[path], "members": listing.members, "faults": listing.faults}
                self._cache.save(path, value)
            yield listing


def _listed(path: str) -> tuple[list[tuple[str, int, int, int, int]], list[tuple[str, str, str]]]:
    # Plain tuples: between processes a named one takes several times as long, and there are millions.
    listing = list_archive(path)
    return [tuple(member) for member in listing.members], listing.faults  # type: ignore[misc]


def _refusal(path: Path) -> str:
    cure = f"run `gunzip '{path}'`" if path.name.lower().endswith((".gz", ".tgz")) else "repack it as .tar or .zip"
    return (
        f"{path}: expected .tar or .zip, in which a recording can be read without all those before it; {cure} (sound "
        "is compressed already, so it grows by a few per cent only), or move it out of the dataset"
    )
