"""Any recording that ffmpeg can read -> PCM on a pipe, from the one file that was named and nothing else.

ffmpeg follows playlists: a text file named cc.mp3 can make it read other files. So protocols, containers and codecs
are whitelisted, and the path goes in as `file:` plus an absolute path. It leaves with status 0 after a truncated file,
so what counts is the PCM that arrives, and it can burn minutes or gigabytes on a damaged one, so there are limits.
"""

from __future__ import annotations

import fcntl
import math
import os
import resource
import selectors
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numpy as np

from stages.pipeline.errors import ParamsError, RejectedClip, StorageError
from stages.pipeline.lock import die_with_parent

# Containers that hold one recording. No playlist (concat, hls, dash, rtsp, sdp...), no device, no image sequence.
_CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,g722,gsm,matroska,mov,mp3,mpc,mpc8,mpeg,"
    "mpegts,ogg,rm,tak,tta,voc,w64,wav,wv,xwma"
)
# Sound only: else ffmpeg decodes covers and films, in hundreds of megabytes, just to know their size.
_CODECS = (
    "aac,aac_latm,libfdk_aac,ac3,eac3,alac,als,amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,ape,cook,dca,flac,"
    "g722,g723_1,g726,g726le,g729,gsm,gsm_ms,libgsm,libgsm_ms,ilbc,libilbc,mace3,mace6,mlp,truehd,mp1,mp1float,mp2,"
    "mp2float,mp3,mp3float,mp3adu,mp3adufloat,mp3on4,mp3on4float,mpc7,mpc8,nellymoser,opus,libopus,qcelp,qdm2,qdmc,"
    "ralf,real_144,real_288,sipr,speex,libspeex,tak,truespeech,tta,vorbis,libvorbis,wavpack,wmalossless,wmapro,wmav1,"
    "wmav2,wmavoice,atrac1,atrac3,atrac3plus,adpcm_ct,adpcm_g722,adpcm_g726,adpcm_g726le,adpcm_ima_qt,adpcm_ima_wav,"
    "adpcm_ms,adpcm_sbpro_2,adpcm_sbpro_3,adpcm_sbpro_4,adpcm_swf,adpcm_yamaha,pcm_alaw,pcm_bluray,pcm_dvd,pcm_f32be,"
    "pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,"
    "pcm_s24le,pcm_s24le_planar,pcm_s32be,pcm_s32le,pcm_s32le_planar,pcm_s64be,pcm_s64le,pcm_s8,pcm_s8_planar,"
    "pcm_u16be,pcm_u16le,pcm_u24be,pcm_u24le,pcm_u32be,pcm_u32le,pcm_u8"
)
_READ_BYTES = 1 << 20
_STDERR_BYTES = 2000
_PIPE_BYTES = 1 << 18  # four times the default: a switch between two processes for each is a third of the time
_MEMORY_BYTES = 512 << 20


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
    with suppress(ImportError):  # it is larger than all that predict needs; an installation for that does without
        import imageio_ffmpeg

        # get_ffmpeg_exe() would run it first, and take the PATH's where somebody kills it meanwhile: another decoder
        if carried := sorted(Path(imageio_ffmpeg.__file__).parent.glob("binaries/ffmpeg-*")):
            return str(carried[-1])
    if found := shutil.which("ffmpeg"):
        return found
    raise ParamsError(
        "no ffmpeg: imageio-ffmpeg carries none for this machine, and there is none on the PATH; install one, or name "
        "it in decode.ffmpeg"
    )


@cache
def ffmpeg_version(binary: str) -> str:
    """First line of `ffmpeg -version`, a part of the shards' keys.

    Raises
    ------
    ParamsError
        That is no ffmpeg that runs on this machine.
    StorageError
        Somebody killed it, or it did not answer in a minute.
    """
    try:
        done = subprocess.run([binary, "-version"], capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        raise StorageError(f"{binary} did not tell its version within 60 s; run `dvc repro` again") from None
    except OSError as error:
        raise ParamsError(f"ffmpeg does not start: {error}; name another one in decode.ffmpeg") from None
    _check_killed(done.returncode)
    version = done.stdout.partition("\n")[0]
    if done.returncode or not version:
        raise ParamsError(f"{binary} tells no version (status {done.returncode}); name another one in decode.ffmpeg")
    return version


def command(binary: str, path: str, max_seconds: float) -> list[str]:
    """The argument list, built with ffmpeg-python: WAV of 32-bit floats on standard output, rate and channels kept.

    ffmpeg is not asked to mix to mono: by how much it lowers the sum depends on the sample format.
    """
    try:
        import ffmpeg
    except ImportError:  # an installation for predict has no room for the 4 MB that it brings
        return plain_command(binary, path, max_seconds)
    source = ffmpeg.input(
        f"file:{os.path.abspath(path)}",
        protocol_whitelist="file,pipe",
        format_whitelist=_CONTAINERS,
        codec_whitelist=_CODECS,
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
        flush_packets=0,
    )
    args: list[str] = out.compile(cmd=[binary, "-nostdin", "-hide_banner", "-loglevel", "error"])
    return args


def plain_command(binary: str, path: str, max_seconds: float) -> list[str]:
    """The same list without ffmpeg-python; a test compares the two."""
    quiet = [binary, "-nostdin", "-hide_banner", "-loglevel", "error"]
    guarded = ["-codec_whitelist", _CODECS, "-format_whitelist", _CONTAINERS, "-protocol_whitelist", "file,pipe"]
    source = ["-threads", "1", "-i", f"file:{os.path.abspath(path)}", "-map", "0:a:0"]
    out = ["-f", "wav", "-acodec", "pcm_f32le", "-bitexact", "-dn", "-flush_packets", "0", "-sn"]
    return [*quiet, *guarded, *source, *out, "-t", str(max_seconds), "-vn", "pipe:1"]


def pcm_blocks(args: list[str], timeout_seconds: float, max_seconds: float) -> Iterator[tuple[int, np.ndarray]]:
    """Run ffmpeg and yield (rate_hz, float32 samples [shape=(n, channels)]) as they come, full scale 1.

    max_seconds : no more than this; ffmpeg's own limit goes by timestamps, and those in a file may lie.

    Raises
    ------
    RejectedClip
        not_audio, no_audio_stream, undecodable or timeout.
    StorageError
        Somebody killed ffmpeg: what has arrived is not all there is.
    """
    deadline = time.monotonic() + timeout_seconds
    process = subprocess.Popen(
        args,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=partial(_confine, math.ceil(timeout_seconds)),
    )
    errors = bytearray()
    left: int | None = None  # bytes
    try:
        for block in _joined(_output(process, deadline, errors)):
            if left is None:
                header = _parse_wav_header(block)
                if header is None:
                    continue
                rate_hz, channels, start = header
                left = int(max_seconds * rate_hz) * 4 * channels
                pending = block[start:]
            else:
                pending += block
            usable = min(left, len(pending) - len(pending) % (4 * channels))
            if usable:
                left -= usable
                yield rate_hz, np.frombuffer(pending, "<f4", usable // 4).reshape(-1, channels)
                pending = pending[usable:]
            if not left:
                return
        _check_end(process.wait())
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
    if left is None or left == int(max_seconds * rate_hz) * 4 * channels:
        raise _why_nothing(errors.decode("utf-8", "replace"))


def _confine(seconds: int) -> None:
    """Between fork and exec: ffmpeg dies with its worker, writes no file, and takes no more than a recording needs."""
    die_with_parent()
    # Asked to stop, ffmpeg would end as if the recording was over. What kills it is SIGKILL, and that shows.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT))
    for limit, most in (
        (resource.RLIMIT_DATA, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, seconds + 5),  # the wall-clock limit comes first, unless the worker was stopped
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, most))


def _check_end(status: int) -> None:
    """Raise where ffmpeg was ended by a signal; its own errors show in what arrives."""
    if status in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL):
        raise RejectedClip("undecodable", f"ffmpeg crashed on it (signal {-status})")
    _check_killed(status)


def _check_killed(status: int) -> None:
    if status < 0:
        raise StorageError(
            f"ffmpeg was killed (signal {-status}), by somebody or for want of memory; free some memory, set fewer "
            "execution.workers, and run `dvc repro` again: finished shards are kept"
        )


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces: a decoder writes packet by packet, and each piece has its cost."""
    waiting: list[bytes] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= _PIPE_BYTES:
            yield b"".join(waiting)
            waiting.clear()
    if waiting:
        yield b"".join(waiting)


def _output(process: subprocess.Popen[bytes], deadline: float, errors: bytearray) -> Iterator[bytes]:
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe:
                if pipe is process.stdout and hasattr(fcntl, "F_SETPIPE_SZ"):
                    with suppress(OSError):  # a user may hold so many bytes in pipes and no more
                        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
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
