"""Any recording that ffmpeg can read -> PCM on a pipe, from the one file that was named and nothing else.

ffmpeg follows playlists: a text file named cc.mp3 can make it read other files. So protocols and containers are
whitelisted, and the path goes in as `file:` plus an absolute path. It leaves with status 0 after a truncated file, so
what counts is the PCM that arrives, and it can burn minutes on a damaged one, so there is a wall-clock limit.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import ffmpeg
import numpy as np

from stages.pipeline.errors import ParamsError, RejectedClip
from stages.pipeline.lock import die_with_parent

# Containers that hold one recording. No playlist (concat, hls, dash, rtsp, sdp...), no device, no image sequence.
_CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,g722,gsm,matroska,mov,mp3,mpc,mpc8,mpeg,"
    "mpegts,ogg,rm,tak,tta,voc,w64,wav,wv,xwma"
)
_READ_BYTES = 1 << 20
_STDERR_BYTES = 2000


@cache
def find_ffmpeg(named: str = "") -> str:
    """Path of the ffmpeg binary: the one in the params, else the one that imageio-ffmpeg carries, else the PATH's.

    Raises
    ------
    ParamsError
        There is none.
    """
    if named:
        if not Path(named).is_file() or not os.access(named, os.X_OK):
            raise ParamsError(f"decode.ffmpeg: expected the path of an ffmpeg binary, received {named!r}")
        return named
    try:
        import imageio_ffmpeg  # larger than all that predict needs; an installation for predict alone does without

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        if found := shutil.which("ffmpeg"):
            return found
        raise ParamsError(
            f"no ffmpeg: imageio-ffmpeg carries none for this machine ({error}), and there is none on the PATH; "
            "install one, or name it in decode.ffmpeg"
        ) from None


@cache
def ffmpeg_version(binary: str) -> str:
    """First line of `ffmpeg -version`, a part of the shards' keys."""
    out = subprocess.run([binary, "-version"], capture_output=True, text=True, check=False, timeout=60).stdout
    return out.partition("\n")[0]


def command(binary: str, path: str, max_seconds: float) -> list[str]:
    """The argument list, built with ffmpeg-python: WAV of 32-bit floats on standard output, rate and channels kept.

    ffmpeg is not asked to mix to mono: by how much it lowers the sum depends on the sample format.
    """
    source = ffmpeg.input(
        f"file:{os.path.abspath(path)}",
        protocol_whitelist="file,pipe",
        format_whitelist=_CONTAINERS,
        threads=1,
    )
    out = source["a:0"].output(
        "pipe:1",
        format="wav",
        acodec="pcm_f32le",
        t=max_seconds,
        vn=None,
        sn=None,
        dn=None,
        bitexact=None,
    )
    args: list[str] = out.compile(cmd=[binary, "-nostdin", "-hide_banner", "-loglevel", "error"])
    return args


def pcm_blocks(args: list[str], timeout_seconds: float) -> Iterator[tuple[int, np.ndarray]]:
    """Run ffmpeg and yield (rate_hz, float32 samples [shape=(n, channels)]) as they come, full scale 1.

    Raises
    ------
    RejectedClip
        not_audio, no_audio_stream, undecodable or timeout.
    """
    deadline = time.monotonic() + timeout_seconds
    process = subprocess.Popen(
        args,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    errors = bytearray()
    header: tuple[int, int, int] | None = None
    pending, arrived = b"", 0
    try:
        for block in _output(process, deadline, errors):
            pending += block
            if header is None:
                header = _parse_wav_header(pending)
                if header is None:
                    continue
                pending = pending[header[2] :]
            rate_hz, channels, _ = header
            usable = len(pending) - len(pending) % (4 * channels)
            if usable:
                arrived += usable
                yield rate_hz, np.frombuffer(pending[:usable], "<f4").reshape(-1, channels)
                pending = pending[usable:]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
    if not arrived:
        raise _why_nothing(errors.decode("utf-8", "replace"))


def _output(process: subprocess.Popen[bytes], deadline: float, errors: bytearray) -> Iterator[bytes]:
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe:
                selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(max(0, left))
            if left <= 0 or not ready:
                raise RejectedClip("timeout", "decoding took longer than decode.timeout_seconds")
            for key, _ in ready:
                data = os.read(key.fd, _READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    yield data
                elif len(errors) < _STDERR_BYTES:
                    errors.extend(data[:_STDERR_BYTES])


def _parse_wav_header(head: bytes) -> tuple[int, int, int] | None:
    """(rate_hz, channels, offset of the samples), or None while the header is not complete."""
    offset, rate_hz, channels = 12, 0, 1
    while offset + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, offset)
        if name == b"data":
            return rate_hz, channels, offset + 8
        if name == b"fmt " and offset + 16 <= len(head):
            channels, rate_hz = struct.unpack_from("<HI", head, offset + 10)
        offset += 8 + size
    return None


def _why_nothing(errors: str) -> RejectedClip:
    # Trailing path, as ffmpeg prints it, is of no use to the reader: quarantine.csv has the path.
    lines = [line.partition("] ")[2] or line for line in errors.splitlines()]
    detail = "; ".join(line for line in lines if "file:" not in line) or "ffmpeg gave no sound and no reason"
    if "matches no streams" in errors:
        return RejectedClip("no_audio_stream", "the file holds no sound, only video or data")
    if "Invalid data found when processing input" in errors or "not on whitelist" in errors:
        return RejectedClip("not_audio", f"no audio container: {detail}")
    return RejectedClip("undecodable", detail)
