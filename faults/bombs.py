"""Bombs: small files that hold hours, many channels, or huge tags and pictures, through a decoding worker.

Must hold: decided within 5 s and 300 MB, and never more sound than decode.max_seconds.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import soundfile

from faults.decoding import Decoder
from faults.project import decode_params
from faults.result import Result, must
from faults.sounds import run_ffmpeg, speech_like

FULL = 20
DECIDED_SECONDS = 5.0
MOST_MB = 300
_HOUR = 3600


def flac(path: Path, hours: float, rate_hz: int, channels: int, loud: bool = False) -> None:
    """Constant frames (RFC 9639): some bytes for 65,535 samples of each channel."""
    samples, block = round(hours * _HOUR * rate_hz), 65535
    info = (rate_hz << 44) | ((channels - 1) << 41) | (15 << 36) | min(samples, 2**36 - 1)
    stream = struct.pack(">HH", block, block) + bytes(6) + info.to_bytes(8, "big") + bytes(16)
    body = (b"\0" + struct.pack(">h", 20000 if loud else 0)) * channels
    with path.open("wb") as handle:
        handle.write(b"fLaC\x80" + len(stream).to_bytes(3, "big") + stream)
        for number in range(samples // block):
            head = (
                b"\xff\xf8\x70"
                + bytes([(channels - 1) << 4 | 8])
                + _coded_number(number)
                + struct.pack(">H", block - 1)
            )
            frame = head + bytes([_crc(head, 8, 0x07)]) + body
            handle.write(frame + struct.pack(">H", _crc(frame, 16, 0x8005)))


def _coded_number(number: int) -> bytes:
    """As UTF-8 codes a character, up to six bytes."""
    if number < 0x80:
        return bytes([number])
    tail: list[int] = []
    while number >= 1 << (5 - len(tail) + (not tail)):
        tail.insert(0, 0x80 | number & 0x3F)
        number >>= 6
    return bytes([(0xFF00 >> (len(tail) + 1)) & 0xFF | number, *tail])


@cache
def _crc_table(bits: int, polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1) ^ polynomial if value >> (bits - 1) else value << 1
            value &= (1 << bits) - 1
        table.append(value)
    return table


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    table, value = _crc_table(bits, polynomial), 0
    for byte in data:
        value = ((value << 8) & ((1 << bits) - 1)) ^ table[(value >> (bits - 8)) ^ byte]
    return value


def _silence(path: Path, *options: str, hours: float = 1, rate_hz: int = 44100, channels: int = 2) -> None:
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[channels]
    minute = path.with_name(f"minute{path.suffix}")
    run_ffmpeg("-f", "lavfi", "-i", f"anullsrc=r={rate_hz}:cl={layout}:d=60", *options, f"file:{minute}")
    times = str(round(hours * 60) - 1)
    run_ffmpeg("-stream_loop", times, "-i", f"file:{minute}", "-c", "copy", f"file:{path}")
    minute.unlink()


def _claims(path: Path, rate_hz: int, channels: int) -> None:
    """A WAV of some kilobytes whose header promises four gigabytes."""
    data = np.random.default_rng(0).bytes(8192)
    width = 2 * channels
    form = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, 1, channels, rate_hz, min(rate_hz * width, 2**32 - 1), width % 65536, 16
    )
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVE" + form + b"data\xff\xff\xff\xff" + data)


def _sparse(path: Path, gigabytes: int) -> None:
    """A WAV of silence that takes no room on the disk."""
    _claims(path, 48000, 2)
    with path.open("r+b") as handle:
        handle.truncate(gigabytes << 30)


def _id3(path: Path, megabytes: int) -> None:
    """An MP3 behind a tag with a picture of so many megabytes."""
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=2", "-c:a", "libmp3lame", f"file:{path}")
    picture = b"\0image/png\0\3\0" + bytes(megabytes << 20)
    frame = b"APIC" + struct.pack(">IH", len(picture), 0) + picture
    size = len(frame)
    coded = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\3\0\0" + coded + frame + path.read_bytes())


def _flac_tags(path: Path, blocks: int) -> None:
    """A FLAC whose head holds so many pictures of 16 MB, all of zeros; the file is sparse."""
    soundfile.write(path, speech_like(1, 2.0), 16000, format="FLAC")
    content = path.read_bytes()
    streaminfo, rest = content[4:42], content[42:]
    size = (1 << 24) - 1
    with path.open("wb") as handle:
        handle.write(b"fLaC" + bytes([streaminfo[0] & 0x7F]) + streaminfo[1:])
        for _ in range(blocks):
            handle.write(b"\x06" + size.to_bytes(3, "big") + struct.pack(">I", 3))
            handle.seek(size - 4, 1)
        handle.write(rest)


def cover(path: Path, size: int) -> None:
    """Sound with a picture attached: some kilobytes of file, three bytes of memory for each of its dots."""
    picture = path.with_suffix(".png")
    rows = zlib.compress(bytes(1 + 3 * size) * size, 9)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    coded = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(coded))
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=2", "-c:a", "libvorbis", "-attach", f"{picture}",
               "-metadata:s:t", "mimetype=image/png", f"file:{path}")  # fmt: skip
    picture.unlink()


def _picture_stream(path: Path, width: int, height: int) -> None:
    """A film with sound and a film of a few enormous pictures."""
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=2", "-f", "lavfi", "-i", f"color=size={width}x{height}:rate=1:duration=2",
               "-c:v", "mpeg4", "-q:v", "31", "-c:a", "aac", f"file:{path}")  # fmt: skip


def _many_streams(path: Path, streams: int) -> None:
    maps = [option for _ in range(streams) for option in ("-map", "0:a")]
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=2", *maps, "-c:a", "pcm_s16le", f"file:{path}")


def _stsz(path: Path) -> None:
    """An M4A whose table of samples promises 2^31 of them."""
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=2", "-c:a", "aac", f"file:{path}")
    content = bytearray(path.read_bytes())
    for box in (b"stsz", b"stts", b"stsc", b"stco"):
        at = content.find(box)
        count = at + (12 if box == b"stsz" else 8)
        content[count : count + 4] = b"\x7f\xff\xff\xf0"
    path.write_bytes(content)


BOMBS: list[tuple[str, Callable[[Path], None]]] = [
    ("24 h.flac", partial(flac, hours=24, rate_hz=8000, channels=1)),
    ("24 h stereo.flac", partial(flac, hours=24, rate_hz=44100, channels=2)),
    ("10 h at 192 kHz in 8 channels.flac", partial(flac, hours=10, rate_hz=192000, channels=8)),
    ("10 h loud at 192 kHz in 8 channels.flac", partial(flac, hours=10, rate_hz=192000, channels=8, loud=True)),
    ("10 h.mp3", lambda path: _silence(path, "-c:a", "libmp3lame", "-b:a", "8k", "-ar", "16000", hours=10, channels=1)),
    (
        "10 h.webm",
        lambda path: _silence(path, "-c:a", "libopus", "-b:a", "6k", "-frame_duration", "60", hours=10, rate_hz=48000),
    ),
    ("10 h.m4a", lambda path: _silence(path, "-c:a", "aac", "-b:a", "8k", hours=10)),
    ("10 h.ogg", lambda path: _silence(path, "-c:a", "libvorbis", hours=10)),
    ("10 h.wv", lambda path: _silence(path, "-c:a", "wavpack", hours=10, channels=1, rate_hz=16000)),
    ("4 GB of header.wav", partial(_claims, rate_hz=192000, channels=8)),
    ("1,024 channels.wav", partial(_claims, rate_hz=192000, channels=1024)),
    ("a rate of 4 GHz.wav", partial(_claims, rate_hz=2**32 - 1, channels=1)),
    ("64 GB that are not there.wav", partial(_sparse, gigabytes=64)),
    ("tag of 200 MB.mp3", partial(_id3, megabytes=200)),
    ("60 pictures of 16 MB.flac", partial(_flac_tags, blocks=60)),
    ("picture of 12,000 x 12,000.mka", partial(cover, size=12000)),
    ("film of 8,000 x 4,000.mkv", partial(_picture_stream, width=8000, height=4000)),
    ("900 streams.mkv", partial(_many_streams, streams=900)),
    ("samples without end.m4a", _stsz),
    ("10 h.aac", lambda path: _silence(path, "-c:a", "aac", "-b:a", "8k", hours=10, rate_hz=48000)),
]


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """The bombs number `first` to `first + count - 1`; there are 20, and nothing in them is drawn."""
    result = Result()
    params = decode_params()
    for number, (name, make) in list(enumerate(BOMBS))[first : first + count]:
        path = workdir / name
        make(path)
        with Decoder(params) as decode, result.attempt(number, name):
            record = decode(path)
            result.most("worker_mb", round(record["peak_mb"][0]))
            result.most("ffmpeg_mb", round(record["peak_mb"][1]))
            result.most("slowest_seconds", round(record["cpu"], 1))
            must(record.get("seconds_kept", 0) <= params["max_seconds"], str(record))
            must(max(record["peak_mb"]) <= MOST_MB, f"{record}")
            # CPU time of the busier process: what the clock shows where nothing else runs
            must(record["cpu"] <= DECIDED_SECONDS, f"{record}")
        path.unlink()
    return result
