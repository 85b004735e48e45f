"""Recordings in tar and zip archives, read where they lie: nothing is unpacked.

An archive is listed from its own directory (zip) or its members' headers (tar), never by its contents. Names and
numbers in it are a stranger's: what would leave the folder, is no plain file, or does not add up becomes a fault with
a reason code.
"""

from __future__ import annotations

import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from stages.pipeline.errors import RejectedClip

ARCHIVES = (".tar", ".zip")
# Nothing in them can be read without reading all that stands before it.
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4", ".7z", ".rar")
# Not recordings, and commonly found beside them.
SIDECARS = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".lab", ".srt", ".vtt", ".textgrid", ".xml", ".html",
            ".pdf", ".log", ".yaml", ".yml", ".dvc", ".py"}  # fmt: skip
MEMBER_BYTES = 1 << 30  # a worker holds a whole member in memory; 1 h of 16-bit stereo at 44.1 kHz is 0.6 GB
_READ_BYTES = 1 << 20
_MAX_RATIO = 100  # deflate makes 2 of 3 bytes of speech and 1 of 1000 of zeros
_RATIO_FROM_BYTES = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")
# What the standard library's parsers raise on crafted input, beside their own errors.
_PARSER_ERRORS = (
    OSError, ValueError, EOFError, IndexError, KeyError, struct.error, OverflowError, RecursionError, MemoryError,
    NotImplementedError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Member(NamedTuple):
    """A plain file in an archive.

    name : as if the archive was unpacked where it stands, relative to its folder.
    offset : of the bytes in a tar; of the local header in a zip.
    deflated : bytes of the compressed data; 0 where they are stored as they are.
    size : bytes of the recording.
    crc32 : -1 where the archive gives none.
    """

    name: str
    offset: int
    deflated: int
    size: int
    crc32: int


@dataclass
class Listing:
    """What an archive holds; faults are (name or "" for the archive itself, reason, detail)."""

    members: list[Member] = field(default_factory=list)
    faults: list[tuple[str, str, str]] = field(default_factory=list)


class Span(NamedTuple):
    """Where the bytes of a recording lie in its archive; `deflated` and `size` as in Member.

    As text `offset+size`, or `offset+deflated>size`.
    """

    offset: int
    deflated: int
    size: int

    def __str__(self) -> str:
        return f"{self.offset}+{self.deflated}>{self.size}" if self.deflated else f"{self.offset}+{self.size}"

    @classmethod
    def parse(cls, text: str) -> Span:
        """Raises ValueError if it is none."""
        offset, _, rest = text.partition("+")
        deflated, arrow, size = rest.partition(">")
        span = cls(int(offset), int(deflated), int(size)) if arrow else cls(int(offset), 0, int(rest))
        if min(span) < 0 or span.size > MEMBER_BYTES:
            raise ValueError(f"expected the place of a recording in an archive, received {text!r}")
        return span


def list_archive(path: str) -> Listing:
    """All that may be recordings in an archive, and what is wrong with the others."""
    listing = Listing()
    try:
        with open(path, "rb") as handle:
            if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
                raise tarfile.ReadError("not a regular file")
            found = _zip_members(handle, listing) if path.lower().endswith(".zip") else _tar_members(handle, listing)
            seen: set[str] = set()
            for member in found:
                fault = _fault(member, seen)
                if is_aside(member.name):
                    continue
                if fault:
                    listing.faults.append((member.name, *fault))
                else:
                    seen.add(member.name)
                    listing.members.append(member)
    except _PARSER_ERRORS as error:
        listing.faults.append(("", "damaged_archive", f"{type(error).__name__}: {error}"))
    listing.faults = [fault for fault in listing.faults if not is_aside(fault[0])]
    return listing


def is_aside(name: str) -> bool:
    """Whether a file is hidden, in a hidden folder, or a sidecar."""
    if name[:1] == "." or "/." in name:
        parts = name.split("/")
        if any(part[:1] == "." and part not in (".", "..") for part in parts):
            return True
    return os.path.splitext(name)[1].lower() in SIDECARS


def _tidy(name: str) -> str:
    """`./es//a.mp3` -> `es/a.mp3`; a name that leaves the folder stays as it is."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return name if name.startswith("/") or ".." in parts else "/".join(parts)


def _fault(member: Member, seen: set[str]) -> tuple[str, str] | None:
    name = member.name
    if name.startswith("/") or ".." in name.split("/"):
        return "outside_dataset", "the member's name leaves the archive's folder"
    if name in seen:
        return "named_twice", "the archive has this name more than once; the first is kept"
    if name.lower().endswith((*ARCHIVES, *COMPRESSED)):
        return "unsupported_member", "an archive in an archive"
    if not member.size:
        return "empty_file", "0 bytes"
    if member.size > MEMBER_BYTES:
        return "too_large", f"{member.size} bytes; a recording in an archive may have {MEMBER_BYTES}"
    if member.deflated and member.size > max(_RATIO_FROM_BYTES, _MAX_RATIO * member.deflated):
        return "zip_bomb", f"{member.deflated} bytes would become {member.size}"
    return None


def _tar_members(handle: IO[bytes], listing: Listing) -> Iterator[Member]:
    total = os.fstat(handle.fileno()).st_size
    with tarfile.open(fileobj=handle, mode="r:") as tar:
        before = -1
        while info := tar.next():
            tar.members = []  # type: ignore[attr-defined]  # or it keeps a kilobyte for each
            if tar.offset <= before:
                raise tarfile.ReadError("a member's size is negative")
            before = tar.offset
            name = _tidy(info.name)
            if info.isdir():
                continue
            if info.issparse():
                listing.faults.append((name, "unsupported_member", "a sparse file"))
            elif not info.isreg():
                listing.faults.append((name, "not_a_file", "a link, pipe or device in an archive"))
            elif info.offset_data + info.size > total:
                listing.faults.append((name, "damaged_member", "the archive ends before it"))
            else:
                yield Member(name, info.offset_data, 0, info.size, -1)
        _check_end(handle, tar.offset, total)


def _check_end(handle: IO[bytes], end: int, total: int) -> None:
    """A whole tar ends with zeros and nothing else; one that was cut between two members can't be told otherwise."""
    handle.seek(min(end, total))
    tail = handle.read(_READ_BYTES)
    if tail.strip(b"\0"):
        raise tarfile.ReadError("more data follow the end mark: archives that were joined, or a damaged header")
    if not tail:
        raise tarfile.ReadError("the end mark is missing: the archive was cut")


def _zip_members(handle: IO[bytes], listing: Listing) -> Iterator[Member]:
    with zipfile.ZipFile(handle) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    ends = [info.header_offset for info in infos[1:]] + [os.fstat(handle.fileno()).st_size]
    for info, end in zip(infos, ends, strict=True):
        name = _tidy(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
        if info.is_dir() or kind == stat.S_IFDIR:
            continue
        if kind not in (0, stat.S_IFREG):
            listing.faults.append((name, "not_a_file", "a link, pipe or device in an archive"))
        elif info.flag_bits & 0x1:
            listing.faults.append((name, "encrypted", "the archive asks for a password"))
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            listing.faults.append((name, "unsupported_member", f"compression method {info.compress_type}"))
        elif info.header_offset < 0 or info.header_offset + _LOCAL_HEADER.size + info.compress_size > end:
            listing.faults.append((name, "damaged_member", "it overlaps another one, or the archive ends before it"))
        elif info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            listing.faults.append((name, "damaged_member", "two sizes for one recording"))
        else:
            deflated = info.compress_size if info.compress_type == zipfile.ZIP_DEFLATED else 0
            yield Member(name, info.header_offset, deflated, info.file_size, info.CRC)


def locate(handle: int, member: Member) -> Span:
    """Where the member's bytes begin: in a zip behind its local header, whose length only the header tells.

    Raises
    ------
    RejectedClip
        damaged_member.
    """
    if member.crc32 < 0:
        return Span(member.offset, 0, member.size)
    head = os.pread(handle, _LOCAL_HEADER.size, member.offset)
    if len(head) < _LOCAL_HEADER.size or head[:4] != b"PK\3\4":
        raise RejectedClip("damaged_member", "there is no header where the archive's directory says")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(head)
    return Span(member.offset + _LOCAL_HEADER.size + name_bytes + extra_bytes, member.deflated, member.size)


def blocks(handle: int, span: Span) -> Iterator[bytes]:
    """The recording's bytes in order, never more than its archive declares.

    Raises
    ------
    RejectedClip
        damaged_member: fewer or more bytes than declared, or no deflated data.
    """
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if span.deflated else None
    place, stored, left = span.offset, span.deflated or span.size, span.size
    raw = b""
    while left or (inflate and not inflate.eof):
        if not raw and stored:
            raw = os.pread(handle, min(stored, _READ_BYTES), place)
            place, stored = place + len(raw), stored - len(raw)
        try:
            block = inflate.decompress(raw, min(_READ_BYTES, left + 1)) if inflate else raw
        except zlib.error as error:
            raise RejectedClip("damaged_member", f"it cannot be inflated: {error}") from None
        if not block and not raw:
            raise RejectedClip("damaged_member", f"{left} of {span.size} bytes are missing")
        raw = inflate.unconsumed_tail if inflate else b""
        left -= len(block)
        if left < 0:
            raise RejectedClip("damaged_member", f"more than the {span.size} bytes that the archive declares")
        if block:
            yield block
