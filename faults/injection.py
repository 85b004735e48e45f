"""Input that asks for other files or for the network, through manifest and decode under strace.

Playlists in sound's clothing, containers that refer to other files, protocols and options as file names, tables and
archives whose rows leave the folder, links, pipes, sockets, devices. Each has a canary of its own beside the dataset.

Must hold: no canary is opened, nothing connects, the stages end, and each file is kept or rejected.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import soundfile

from faults.project import Project
from faults.result import Result, must
from faults.sounds import run_ffmpeg, speech_like

FULL = 150
_PORT = 20000

Maker = Callable[[Path, Path, int], None]  # (the file to make, its canary, its port)


def _text(template: str) -> Maker:
    def make(path: Path, canary: Path, port: int) -> None:
        relative = os.path.relpath(canary, path.parent)
        path.write_text(
            template.format(canary=canary, relative=relative, url=f"http://127.0.0.1:{port}/a.wav", port=port)
        )

    return make


_HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.0,\n{%s}\n#EXT-X-ENDLIST\n"
PLAYLISTS = [
    "ffconcat version 1.0\nfile '{canary}'\n",
    "ffconcat version 1.0\nfile '{relative}'\n",
    "ffconcat version 1.0\nfile '{url}'\n",
    *(_HLS % key for key in ("canary", "relative", "url")),
    "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXT-X-KEY:METHOD=AES-128,URI=\"{url}\"\n#EXTINF:2.0,\nfile://{canary}\n",
    "#EXTM3U\n#EXTINF:2,\nconcat:{canary}|{canary}\n",
    "#EXTM3U\n#EXTINF:2,\ncrypto+file://{canary}\n",
    "#EXTM3U\n#EXTINF:2,\nsubfile,,start,0,end,9999,,:{canary}\n",
    "[playlist]\nFile1={canary}\nNumberOfEntries=1\n",
    "<asx version=\"3\"><entry><ref href=\"{url}\"/></entry></asx>",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
    "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\"><Period><AdaptationSet>"
    "<Representation id=\"1\" bandwidth=\"1\"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "RTSPtext\nrtsp://127.0.0.1:{port}/a\n",
    "[Reference]\nRef1={url}\n",
    "SMPTE\nimf:{canary}\n",
    "# tee\n[f=wav]{canary}|[f=null]-\n",
]  # fmt: skip


def mov_reference(path: Path, canary: Path, port: int) -> None:
    """A MOV whose sound is said to lie in another file (dref with a url box)."""
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "pcm_s16le", "-f", "mov", f"file:{path}")
    content = path.read_bytes()
    at = content.index(b"dref") - 4
    url = f"file://{canary}\0".encode()
    alias = struct.pack(">I4sI", 12 + len(url), b"url ", 0) + url
    dref = struct.pack(">I4sII", 16 + len(alias), b"dref", 0, 1) + alias
    old = struct.unpack(">I", content[at : at + 4])[0]
    # the boxes around it keep their old sizes: as a hostile file may
    path.write_bytes(content[:at] + dref[:old].ljust(old, b"\0") + content[at + old :])


def _matroska_link(path: Path, canary: Path, port: int) -> None:
    run_ffmpeg(
        "-f", "lavfi", "-i", "sine=d=1", "-metadata", f"title=file:{canary}", "-c:a", "libvorbis", f"file:{path}"
    )


def _symlink(target: str) -> Maker:
    def make(path: Path, canary: Path, port: int) -> None:
        path.symlink_to(target.format(canary=canary, relative=os.path.relpath(canary, path.parent)))

    return make


def _fifo(path: Path, canary: Path, port: int) -> None:
    os.mkfifo(path)


def _socket(path: Path, canary: Path, port: int) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path has 108 bytes at most
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


def _device(path: Path, canary: Path, port: int) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:  # not root
        path.symlink_to("/dev/zero")


def _named(name: str) -> Maker:
    """Real sound under a name that asks for something."""

    def make(path: Path, canary: Path, port: int) -> None:
        asked = name.format(canary=str(canary).replace("/", "\\"), port=port)[:120]
        with (path.parent / f"{asked}.{path.stem}.m4a").open("wb") as handle:
            run_ffmpeg("-f", "lavfi", "-i", f"sine=d=1:f={port / 50}", "-c:a", "aac", f"file:{path}.m4a")
            handle.write(path.with_name(f"{path.name}.m4a").read_bytes())
        path.with_name(f"{path.name}.m4a").unlink()

    return make


def _tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Maker:
    def make(path: Path, canary: Path, port: int) -> None:
        with tarfile.open(path.with_suffix(".tar"), "w") as tar:
            info = tarfile.TarInfo(name.format(canary=canary, relative=os.path.relpath(canary, path.parent)))
            info.type, info.linkname = kind, link.format(canary=canary, relative=os.path.relpath(canary, path.parent))
            data = b"RIFFxxxx" * 100 if kind == tarfile.REGTYPE else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

    return make


def _zip(name: str, mode: int = 0o100644) -> Maker:
    def make(path: Path, canary: Path, port: int) -> None:
        with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
            info = zipfile.ZipInfo(name.format(canary=canary, relative=os.path.relpath(canary, path.parent)))
            info.external_attr, info.create_system = mode << 16, 3
            archive.writestr(info, str(canary) if stat.S_ISLNK(mode) else b"RIFFxxxx" * 100)

    return make


MAKERS: list[Maker] = [
    *map(_text, PLAYLISTS), mov_reference, _matroska_link,
    *map(_symlink, ("{canary}", "{relative}", "/dev/zero", "/etc/passwd", "/proc/self/mem")),
    _fifo, _socket, _device,
    *map(_named, ("http:\\\\127.0.0.1:{port}\\a", "concat:{canary}|{canary}", "-i", "-f lavfi", "pipe:0", "data:,x",
                  "%d", "subfile,,start,0,end,0,,:{canary}", "async:cache:{canary}", "-protocol_whitelist all")),
    *(_tar(name) for name in ("../{relative}", "{canary}", "a/../../{relative}", "./../x.wav", "..")),
    _tar("l.wav", tarfile.SYMTYPE, "{canary}"), _tar("h.wav", tarfile.LNKTYPE, "{relative}"),
    _tar("f.wav", tarfile.FIFOTYPE), _tar("d.wav", tarfile.CHRTYPE),
    *(_zip(name) for name in ("../{relative}", "{canary}", "..\\..\\{relative}", "a/../../x.wav")),
    _zip("l.wav", 0o120777),
]  # fmt: skip
_SUFFIXES = (".mp3", ".wav", ".ogg", ".m4a", ".ts", ".m3u8")


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """All in one dataset; then a table whose rows leave it."""
    if not shutil.which("strace"):
        return Result(skipped="strace is not installed")
    result = Result()
    corpus, canaries = workdir / "corpus", workdir / "canaries"
    canaries.mkdir()
    makers = {number: number % (len(MAKERS) + 5) for number in range(first, first + count)}
    rows = ["path,language"]
    for language in ("de", "fr"):
        (corpus / language).mkdir(parents=True)
    for number in range(24):
        name = f"{('de', 'fr')[number % 2]}/good{number}.wav"
        soundfile.write(corpus / name, speech_like(number, 0.6, 8000), 8000)
        rows.append(f"{name},{name[:2]}")
    outside = [
        "../canaries/{n}.wav",
        "{c}",
        "de/../../canaries/{n}.wav",
        "de/./../../corpus/../canaries/{n}.wav",
        "~/x",
    ]
    for number, kind in makers.items():
        canary = canaries / f"{number}.wav"
        soundfile.write(canary, speech_like(1000 + number, 0.6, 8000), 8000)
        language = ("de", "fr")[number % 2]
        path = corpus / language / f"{number}{_SUFFIXES[number % len(_SUFFIXES)]}"
        if kind < len(MAKERS):
            MAKERS[kind](path, canary, _PORT + number)
        else:
            rows.append(f"{outside[kind - len(MAKERS)].format(n=number, c=canary)},{language}")
    table = corpus / "rows.csv"
    table.write_text("\n".join(rows) + "\n")
    opened, connects = "", ""
    for dataset in (corpus, table):
        project = Project(workdir / f"project-{dataset.name}", dataset)
        project.set(manifest={"max_reject_fraction": 1.0}, decode={"max_reject_fraction": 1.0, "timeout_seconds": 10})
        for stage in ("manifest", "decode"):
            trace = workdir / f"{dataset.name}.{stage}.trace"
            watched = "trace=open,openat,openat2,connect,execve"
            project.run(
                *("strace", "-f", "-qq", "-s", "4096", "-e", watched, "-o", str(trace)),
                *("python", "-m", f"stages.{stage}"),
            )
            lines = trace.read_text(errors="replace").splitlines()
            opened += "\n".join(line for line in lines if " open" in line and "ENOENT" not in line) + "\n"
            connects += "\n".join(line for line in lines if " connect(" in line and "AF_INET" in line) + "\n"
    must(f"{corpus}/" in opened, "strace saw nothing")
    for number, kind in makers.items():
        with result.attempt(number, f"kind {kind}"):
            seen = re.findall(rf"canaries/{number}\.wav.*", opened)
            must(not seen, f"its canary was opened: {seen[:1]}")
            must(f"htons({_PORT + number})" not in connects, "it connected")
    with result.attempt(first, "all together"):
        result.tried -= 1
        must(not connects.strip(), f"something connected: {connects.strip()[:300]}")
        for name in ("/dev/zero", "/proc/self/mem"):
            must(f'"{name}"' not in opened, f"{name} was opened")
    return result
