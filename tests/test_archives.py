"""Recordings in tar and zip archives: the same as if they were unpacked, and no harm from a stranger's archive."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Project, make_params, write_corpus
from test_decode import encode

from stages.decode import decode_file, decode_stream
from stages.pipeline.archives import MEMBER_BYTES, Span, blocks, list_archive, locate
from stages.pipeline.errors import RejectedClip, StorageError
from stages.pipeline.fingerprint import Fault, Seen, fingerprints
from stages.pipeline.layouts import find_recordings
from stages.pipeline.manifest_table import Row, read_manifest
from stages.pipeline.recording_file import open_recording
from stages.pipeline.shards import Shard
from stages.pipeline.stat_cache import StatCache
from stages.pipeline.tree import Tree

MakeProject = Callable[..., Project]
Files = dict[str, bytes]


def tar(path: Path, files: Files) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, files: Files, method: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def deflated(path: Path, files: Files) -> Path:
    return zipped(path, files, zipfile.ZIP_DEFLATED)


def files_below(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read(path: Path) -> dict[str, bytes]:
    """The bytes of each member, by the place that the listing gives."""
    with path.open("rb") as handle:
        members = list_archive(str(path)).members
        return {m.name: b"".join(blocks(handle.fileno(), locate(handle.fileno(), m))) for m in members}


def faults(path: Path) -> dict[str, str]:
    return {name: reason for name, reason, _ in list_archive(str(path)).faults}


WRITERS = {"tar": tar, "zip": zipped, "zip, deflated": deflated}
NAMES = {
    "a.mp3": b"one" * 500,
    "es/ñandú.wav": b"2" * 3000,
    "./es//x y.ogg": os.urandom(70_000),
    "n" * 180 + ".mp3": b"4",
}


@pytest.mark.parametrize("kind", WRITERS)
def test_members_are_read_where_they_lie(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path / f"a.{kind[:3]}", NAMES)
    assert read(path) == {name.replace("./es//", "es/"): data for name, data in NAMES.items()}
    assert faults(path) == {}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_formats(tmp_path: Path, form: int) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=form) as archive:
        name = "/".join(["folder" * 8] * 3) + "/a.mp3"
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    assert read(path) == {name: b"abc"}


def test_span_as_text() -> None:
    for span in (Span(512, 0, 3000), Span(40, 200, 3000)):
        assert Span.parse(str(span)) == span
    for text in ("", "3", "x+3", "-1+3", "1+-3", f"0+{MEMBER_BYTES + 1}"):
        with pytest.raises(ValueError, match=r"expected|invalid"):
            Span.parse(text)


# As if unpacked.


def as_unpacked(dataset: Path) -> set[tuple[str, str, str, str]]:
    _, entries = find_recordings(str(dataset), make_params().manifest)
    return {(entry.name or entry.path, entry.language, entry.group, entry.split) for entry in entries}


VOX = {
    "es/ab-_c__U__S12---0030.440-0038.880.wav": b"1",
    "fr/zz__U__S0---0001.000-0009.000.wav": b"2",
    "dev/es/qq__U__S0---0001.000-0009.000.wav": b"3",
}
SPEAKERS = {"es/ana/1.mp3": b"1", "fr/luc/1.mp3": b"2", "fr/luc/README.md": b"", "fr/.x.mp3": b"3"}


def loose(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def below(files: Files, top: str) -> Files:
    return {name.removeprefix(f"{top}/"): data for name, data in files.items() if name.startswith(f"{top}/")}


def test_layouts_see_through_archives(tmp_path: Path) -> None:
    for number, files in enumerate((VOX, SPEAKERS)):
        whole = as_unpacked(loose(tmp_path / f"{number}/loose", files))
        assert len(whole) == (3 if files is VOX else 2)
        packed = tmp_path / f"{number}/packed"
        tar(packed / "all.tar", files)
        assert as_unpacked(packed) == whole
        split = tmp_path / f"{number}/split"
        for top in {name.partition("/")[0] for name in files}:
            zipped(split / f"{top}.zip", {n: d for n, d in files.items() if n.startswith(f"{top}/")})
        assert as_unpacked(split) == whole
        inside = tmp_path / f"{number}/inside"
        for top in {name.partition("/")[0] for name in files}:
            tar(inside / top / "part-000.tar", below(files, top))
        assert as_unpacked(inside) == whole
    flat = tmp_path / "flat"
    for top in ("es", "fr"):
        zipped(flat / f"{top}.zip", {"1.mp3": top.encode()})
    assert as_unpacked(flat) == {("es/1.mp3", "es", "", ""), ("fr/1.mp3", "fr", "", "")}


def test_tables_name_members(tmp_path: Path) -> None:
    tar(tmp_path / "audio/part.tar", {"x/1.mp3": b"1", "x/2.mp3": b"2"})
    (tmp_path / "3.mp3").write_bytes(b"3")
    names = ("audio/part.tar/x/1.mp3", "audio/x/2.mp3", "3.mp3", "gone.mp3")
    table = tmp_path / "t.csv"
    table.write_text("path,language\n" + "".join(f"{name},es\n" for name in names))
    _, entries = find_recordings(str(table), make_params().manifest)
    assert [entry.path for entry in entries] == [names[0], "audio/part.tar/x/2.mp3", *names[2:]]
    assert [entry.name for entry in entries] == ["audio/x/1.mp3", "audio/x/2.mp3", "", ""]


def test_fleurs_as_published_but_for_gzip(tmp_path: Path) -> None:
    for language in ("es_419", "fr_fr"):
        tar(tmp_path / language / "audio/train.tar", {"train/11.wav": language.encode()})
        (tmp_path / language / "train.tsv").write_text("1\t11.wav\tHola.\n")
    layout, entries = find_recordings(str(tmp_path), make_params().manifest)
    assert layout == "fleurs"
    assert [entry.path for entry in entries] == [f"{one}/audio/train.tar/train/11.wav" for one in ("es_419", "fr_fr")]
    assert all(entry.member for entry in entries)


@pytest.mark.parametrize("name", ["cv.tar.gz", "es/x.tgz", "es.tar.xz", "a.7z"])
def test_no_random_access_is_refused(tmp_path: Path, name: str) -> None:
    loose(tmp_path, {"es/a.mp3": b"1", name: b"2"})
    with pytest.raises(StorageError, match=r"expected \.tar or \.zip") as caught:
        find_recordings(str(tmp_path), make_params().manifest)
    assert ("gunzip" in str(caught.value)) == name.endswith("gz")


# The stages, run as processes.


def manifest(project: Project) -> dict[str, Row]:
    return {row.id: row for row in read_manifest(project.folder / "data/manifest.csv")}


def decoded(project: Project) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in (project.folder / "data/decoded").glob("*.h5"):
        with Shard(path) as shard:
            found |= dict(zip(shard.ids, shard.digests, strict=True))
    return found


@pytest.mark.parametrize("kind", WRITERS)
def test_same_ids_splits_and_sound_as_unpacked(make_project: MakeProject, tmp_path: Path, kind: str) -> None:
    corpus = write_corpus(tmp_path / "loose", groups=12)
    packed = tmp_path / "packed"
    WRITERS[kind](packed / f"l0.{kind[:3]}", {f"l0/{n}": d for n, d in files_below(corpus / "l0").items()})
    WRITERS[kind](packed / f"l1/part-000.{kind[:3]}", files_below(corpus / "l1"))
    projects = make_project(corpus, name="a"), make_project(packed, name="b")
    for project in projects:
        project.stage("manifest", "decode")
    first, second = (manifest(project) for project in projects)
    assert first.keys() == second.keys()
    for clip, row in first.items():
        assert second[clip]._replace(path="", span="") == row._replace(path="")
    assert all(row.span and f".{kind[:3]}/" in row.path for row in second.values())
    assert decoded(projects[0]) == decoded(projects[1])
    assert len(decoded(projects[0])) == 48


def quarantine(project: Project) -> dict[str, str]:
    with (project.folder / "metrics/manifest/quarantine.csv").open(encoding="utf-8", newline="") as handle:
        return {row["path"]: row["reason"] for row in csv.DictReader(handle)}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", ["a.m4a", "a.g722"])  # the second is known by its extension only
def test_ffmpeg_reads_members(tmp_path: Path, kind: str, name: str) -> None:
    """Containers that libsndfile does not read."""
    options = ["-ar", "16000", "-ac", "1", "-c:a", "g722"] if name == "a.g722" else []
    alone = encode(tmp_path / name, *options, seconds=3)
    path = WRITERS[kind](tmp_path / f"es.{kind[:3]}", {name: alone.read_bytes()})
    (member,) = list_archive(str(path)).members
    with path.open("rb") as handle:
        span = str(locate(handle.fileno(), member))
    row = Row("0" * 16, f"{path.name}/{name}", "es", "g", "train", "", "s", span)
    params = make_params().decode
    expected, rate_hz = decode_file(alone, params)
    with open_recording(tmp_path, row) as (handle, link):
        signal = decode_stream(handle, link, params)
        assert np.array_equal(np.concatenate(list(signal.blocks)), expected)
        made = Path(os.fspath(link))
        assert made.is_symlink()
    assert not made.parent.exists()
    assert signal.rate_hz == rate_hz


def test_hostile_archives_end_as_rows(make_project: MakeProject, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", groups=12, seconds=0.1)
    hostile_tar(corpus / "l0/bad.tar")
    hostile_zip(corpus / "l1/bad.zip")
    (corpus / "l0/cut.zip").write_bytes((corpus / "l1/bad.zip").read_bytes()[:-30])
    (corpus / "l0/link.tar").symlink_to(tar(tmp_path / "outside.tar", {"a.mp3": b"1"}))
    project = make_project(corpus)
    project.set(manifest={"max_reject_fraction": 0.5})
    before = {path for path in tmp_path.rglob("*") if project.folder not in path.parents}
    project.stage("manifest")
    assert {path for path in tmp_path.rglob("*") if project.folder not in path.parents} == before
    assert quarantine(project) == {
        "l0/bad.tar/../up.mp3": "outside_dataset",
        "l0/bad.tar//root.mp3": "outside_dataset",
        "l0/bad.tar/twice.mp3": "named_twice",
        "l0/bad.tar/link.mp3": "not_a_file",
        "l0/bad.tar/hard.mp3": "not_a_file",
        "l0/bad.tar/device.mp3": "not_a_file",
        "l0/bad.tar/empty.mp3": "empty_file",
        "l0/bad.tar/inner.zip": "unsupported_member",
        "l0/bad.tar": "damaged_archive",
        "l0/cut.zip": "damaged_archive",
        "l0/link.tar": "outside_dataset",
        "l1/bad.zip/secret.mp3": "encrypted",
        "l1/bad.zip/bomb.mp3": "zip_bomb",
        "l1/bad.zip/liar.mp3": "damaged_member",
        "l1/bad.zip/flipped.mp3": "damaged_member",
        "l1/bad.zip/link.mp3": "not_a_file",
        "l1/bad.zip/packed.mp3": "unsupported_member",
    }
    assert {row.path for row in manifest(project).values() if row.span} == {
        "l0/bad.tar/twice.mp3",
        "l1/bad.zip/good.mp3",
    }
    summary = json.loads((project.folder / "metrics/manifest/summary.json").read_text())
    assert (summary["rows"], summary["kept"], summary["rejected"]) == (48 + 2 + 17, 50, 17)


def hostile_tar(path: Path) -> None:
    """One good member; the end is cut off."""
    with tarfile.open(path, "w") as archive:
        for name in ("../up.mp3", "/root.mp3", "twice.mp3", "twice.mp3", "inner.zip", "empty.mp3"):
            info = tarfile.TarInfo(name)
            data = b"" if name == "empty.mp3" else name.encode() * 100
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("device", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(f"{name}.mp3")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        end = archive.offset
    with path.open("r+b") as handle:
        handle.truncate(end)


def hostile_zip(path: Path) -> None:
    """One good member."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.mp3", b"good" * 100)
        archive.writestr("secret.mp3", b"secret")
        archive.writestr("bomb.mp3", bytes(1 << 24), zipfile.ZIP_DEFLATED)
        archive.writestr("liar.mp3", bytes(1 << 16), zipfile.ZIP_DEFLATED)
        archive.writestr("flipped.mp3", b"flipped" * 10)
        archive.writestr("packed.mp3", b"packed", zipfile.ZIP_BZIP2)
        link = zipfile.ZipInfo("link.mp3")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    data = bytearray(path.read_bytes().replace(b"flippedf", b"flopperf", 1))

    def patch(name: bytes, offset: int, form: str, value: int) -> None:
        place = data.rindex(name) - 46  # its entry in the central directory
        assert data[place : place + 4] == b"PK\1\2"
        struct.pack_into(form, data, place + offset, value)

    patch(b"secret.mp3", 8, "<H", 1)  # flag: encrypted
    patch(b"liar.mp3", 24, "<I", 1000)  # declared size
    path.write_bytes(data)


def test_overlapping_members(tmp_path: Path) -> None:
    """The bomb without a recursion: many entries of the directory name the same bytes."""
    path = deflated(tmp_path / "a.zip", {f"{n}.mp3": bytes(5000) for n in range(3)})
    data = bytearray(path.read_bytes())
    for name in (b"1.mp3", b"2.mp3"):
        struct.pack_into("<I", data, data.rindex(name) - 4, 0)
    path.write_bytes(data)
    assert len(list_archive(str(path)).members) <= 1
    assert set(faults(path).values()) == {"damaged_member"}


@pytest.mark.parametrize("seed", range(60))
def test_mutated_archives_never_raise(tmp_path: Path, seed: int) -> None:
    import random

    rng = random.Random(seed)
    kind = rng.choice(list(WRITERS))
    path = WRITERS[kind](tmp_path / f"es/a.{kind[:3]}", NAMES)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 10, 200])):
        place = rng.choice(
            [rng.randrange(len(data)), rng.randrange(min(1024, len(data))), len(data) - rng.randrange(1, 300)]
        )
        data[place] = rng.randrange(256)
    path.write_bytes(data[: rng.choice([len(data), rng.randrange(1, len(data))])])
    tree = Tree(tmp_path)
    try:
        _, entries = find_recordings(str(tmp_path), make_params(manifest={"layout": "folders"}).manifest, tree)
    except StorageError:
        return  # nothing is left to list
    found = fingerprints(tmp_path, entries, 1, StatCache(str(tmp_path), tmp_path / "cache"))
    assert all(isinstance(result, Seen | Fault) for result in found)


def test_negative_size_ends(tmp_path: Path) -> None:
    """CVE-2025-8194: the standard library's parser reads such a header again and again."""
    path = tar(tmp_path / "a.tar", {"a.mp3": b"1", "b.mp3": b"2"})
    data = bytearray(path.read_bytes())
    data[1024 + 124 : 1024 + 136] = b"\xff" * 10 + b"\xfc\x00"  # -1024, in base 256
    header = data[1024:1536]
    header[148:156] = b" " * 8
    data[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(header)
    path.write_bytes(data)
    assert "damaged_archive" in faults(path).values()


def test_a_member_that_is_another_one_now(make_project: MakeProject, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "loose", groups=12, seconds=0.6)
    tar(tmp_path / "packed/all.tar", files_below(corpus))
    project = make_project(tmp_path / "packed")
    project.stage("manifest")
    files = files_below(corpus)
    tar(tmp_path / "packed/all.tar", {name: files[name] for name in reversed(files)})
    assert "run `dvc repro -f manifest`" in project.stage("decode", status=74)


def test_too_large_to_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    info = tarfile.TarInfo("a.wav")
    info.size = MEMBER_BYTES + 1
    path.write_bytes(info.tobuf())
    with path.open("r+b") as handle:
        handle.truncate(512 + MEMBER_BYTES + 2048)  # sparse on the disk
    assert faults(path) == {"a.wav": "too_large"}


def test_inflates_no_more_than_declared(tmp_path: Path) -> None:
    path = deflated(tmp_path / "a.zip", {"a.mp3": bytes(100_000)})
    (member,) = list_archive(str(path)).members
    with path.open("rb") as handle:
        for size in (1000, 200_000):
            with pytest.raises(RejectedClip, match="damaged_member"):
                list(blocks(handle.fileno(), locate(handle.fileno(), member)._replace(size=size)))
