"""What the manifest remembers of files: nothing that could be wrong, and enough not to hash twice."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from test_archives import zipped

from stages.pipeline import fingerprint
from stages.pipeline.fingerprint import Fault, Seen, fingerprints
from stages.pipeline.layouts import Entry
from stages.pipeline.splits import assign_shards
from stages.pipeline.stat_cache import StatCache
from stages.pipeline.tree import Tree

OLD = time.time() - 100


def aged(path: Path, data: bytes, stamp: float = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (stamp, stamp))
    return path


def hashes(folder: Path, entries: list[Entry]) -> list[str]:
    found = fingerprints(folder, entries, 1, StatCache(str(folder), folder / "cache"))
    return [result.sha256 if isinstance(result, Seen) else result.reason for result in found]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def cache_files(folder: Path) -> list[Path]:
    return sorted((folder / "cache").rglob("*.json"))


def test_unchanged_is_not_read_again(tmp_path: Path) -> None:
    path = aged(tmp_path / "a.mp3", b"one")
    assert hashes(tmp_path, [Entry("a.mp3", "es")]) == [sha256(b"one")]
    status = path.stat()
    path.write_bytes(b"two")  # the same size, inode and time: only who reads it could tell
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hashes(tmp_path, [Entry("a.mp3", "es")]) == [sha256(b"one")]


@pytest.mark.parametrize("change", ["time", "size", "inode"])
def test_changed_is_seen(tmp_path: Path, change: str) -> None:
    path = aged(tmp_path / "a.mp3", b"one")
    hashes(tmp_path, [Entry("a.mp3", "es")])
    data = b"longer" if change == "size" else b"two"
    if change == "inode":
        aged(tmp_path / "b.mp3", data).replace(path)
    else:
        aged(path, data, OLD + 1 if change == "time" else OLD)
    assert hashes(tmp_path, [Entry("a.mp3", "es")]) == [sha256(data)]


def test_touched_is_the_same(tmp_path: Path) -> None:
    path = aged(tmp_path / "a.mp3", b"one")
    hashes(tmp_path, [Entry("a.mp3", "es")])
    aged(path, b"one", OLD + 5)
    assert hashes(tmp_path, [Entry("a.mp3", "es")]) == [sha256(b"one")]


def test_just_written_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"one")
    status = (tmp_path / "a.mp3").stat()
    hashes(tmp_path, [Entry("a.mp3", "es")])
    (tmp_path / "a.mp3").write_bytes(b"two")
    os.utime(tmp_path / "a.mp3", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hashes(tmp_path, [Entry("a.mp3", "es")]) == [sha256(b"two")]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"version": 3}', '{"version":"x","value":{"a.mp3":[1]}}', "\0"]
)
def test_an_unreadable_cache_is_ignored(tmp_path: Path, text: str) -> None:
    aged(tmp_path / "a.mp3", b"one")
    hashes(tmp_path, [Entry("a.mp3", "es")])
    (path,) = cache_files(tmp_path)
    path.write_text(text)
    assert hashes(tmp_path, [Entry("a.mp3", "es")]) == [sha256(b"one")]


def test_a_link_is_never_remembered(tmp_path: Path) -> None:
    aged(tmp_path / "a.mp3", b"one")
    (tmp_path / "b.mp3").symlink_to("a.mp3")
    entries = [Entry("b.mp3", "es")]
    hashes(tmp_path, entries)
    (tmp_path / "b.mp3").unlink()
    (tmp_path / "b.mp3").symlink_to(aged(tmp_path.parent / f"{tmp_path.name}-outside.mp3", b"one"))
    assert hashes(tmp_path, entries) == ["outside_dataset"]


def test_a_folder_that_leads_out_later(tmp_path: Path) -> None:
    aged(tmp_path / "es/a.mp3", b"one")
    entries = [Entry("es/a.mp3", "es")]
    hashes(tmp_path, entries)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    (tmp_path / "es").rename(outside)
    (tmp_path / "es").symlink_to(outside)
    assert hashes(tmp_path, entries) == ["outside_dataset"]


def packed(folder: Path) -> list[Entry]:
    cache = StatCache(str(folder), folder / "cache")
    return [
        Entry(found.path, "es", "", "", found.name, found.archive, found.member)
        for found in Tree(folder, 1, cache).files()
    ]


def test_archives_are_remembered_by_archive(tmp_path: Path) -> None:
    path = zipped(tmp_path / "es.zip", {"a.mp3": b"one", "b.mp3": b"two"})
    os.utime(path, (OLD, OLD))
    entries = packed(tmp_path)
    # one language of two is asked for first; later both are
    assert hashes(tmp_path, entries[:1]) == [sha256(b"one")]
    assert hashes(tmp_path, entries) == [sha256(b"one"), sha256(b"two")]
    assert len(cache_files(tmp_path)) == 2
    status = path.stat()
    zipped(path, {"a.mp3": b"six", "b.mp3": b"two"})
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hashes(tmp_path, packed(tmp_path)) == [sha256(b"one"), sha256(b"two")]  # nobody has read it again
    os.utime(path, (OLD + 5, OLD + 5))
    assert hashes(tmp_path, packed(tmp_path)) == [sha256(b"six"), sha256(b"two")]


def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    for name in ("es.zip", "fr.zip"):
        os.utime(zipped(tmp_path / name, {"a.mp3": name.encode()}), (OLD, OLD))
    hashes(tmp_path, packed(tmp_path))
    assert len(cache_files(tmp_path)) == 4
    (tmp_path / "fr.zip").unlink()
    cache = StatCache(str(tmp_path), tmp_path / "cache")
    entries = [Entry(f.path, "es", "", "", f.name, f.archive, f.member) for f in Tree(tmp_path, 1, cache).files()]
    fingerprints(tmp_path, entries, 1, cache)
    cache.forget_unused()
    assert len(cache_files(tmp_path)) == 2


def test_processes_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        aged(tmp_path / f"es/{number}.mp3", b"x" * number)
    zipped(tmp_path / "fr.zip", {f"{number}.mp3": b"y" * (number + 1) for number in range(20)})
    entries = [*packed(tmp_path), Entry("gone.mp3", "es")]
    alone = fingerprints(tmp_path, entries, 1, StatCache(str(tmp_path), tmp_path / "cache-a"))
    monkeypatch.setattr("stages.pipeline.spread._WORTH_SECONDS", 0)
    monkeypatch.setattr(fingerprint, "_BATCH_FILES", 7)
    assert fingerprints(tmp_path, entries, 2, StatCache(str(tmp_path), tmp_path / "cache-b")) == alone
    assert [result for result in alone if isinstance(result, Fault)] == [alone[0], alone[-1]]  # empty, missing


def test_shards_split_where_they_are_too_large() -> None:
    sizes = {hashlib.sha256(str(n).encode()).hexdigest()[:16]: n for n in range(3000)}
    shards = assign_shards(sizes, 64, 40_000)
    members: dict[str, list[str]] = {}
    for clip, name in shards.items():
        bits = f"{int(clip, 16):064b}"
        assert bits.startswith(name[1:])
        members.setdefault(name, []).append(clip)
    assert len(shards) == 3000
    for name, clips in members.items():
        assert len(clips) <= 64
        assert len(clips) == 1 or sum(sizes[clip] for clip in clips) <= 40_000
        sibling = f"{name[:-1]}{1 - int(name[-1])}"
        both = [clip for other, some in members.items() if other.startswith((name, sibling)) for clip in some]
        assert len(both) > 64 or sum(sizes[clip] for clip in both) > 40_000  # no split without need
