"""A recording as the samples that an exported model takes, with numpy, soundfile and soxr alone.

The same samples, bit for bit, as the decode and resample stages make (tests/test_predict.py compares them). Their
modules are not imported here, because those need all that writes shards. ffmpeg is only loaded, and only needed, for
what libsndfile cannot read.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr

from stages.pipeline.errors import ParamsError, RejectedClip, StorageError

_BLOCK_SECONDS = 30
_BLOCK_SAMPLES = 1 << 22  # of all channels together: a file may say that it has a thousand of them
_IN_MEMORY_SECONDS = 600
MOST_SECONDS = 12 * 3600.0  # of a recording; the pipeline cuts at decode.max_seconds, here tapes are taken whole
_FULL_SCALE = 32768
_SILENT_PEAK = 10  # of 32768, as in stages/decode.py


@dataclass(frozen=True)
class SoundSettings:
    """The params of the decode and resample stages that count here."""

    rate_hz: int
    quality: str
    min_seconds: float
    max_seconds: float
    timeout_seconds: float


class Samples(Protocol):
    """(n,) int16: an array, or a file that is read piece by piece."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


class SpooledSamples:
    """The samples of a long recording in a temporary file without a name, which goes when this object goes."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="recording-")  # noqa: SIM115 - lives as long as this object
        self._lock = threading.Lock()  # threads read pieces of one recording
        self._count = 0

    def __del__(self) -> None:
        self._file.close()

    def append(self, block: np.ndarray) -> None:
        """Raises StorageError where the temporary folder has no room."""
        try:
            self._file.write(block.tobytes())
        except OSError as error:
            raise StorageError(
                f"a long recording needs room in {tempfile.gettempdir()} for its samples (115 MB an hour at 16 kHz): "
                f"{error.strerror}; free some, or name another folder in TMPDIR"
            ) from None
        self._count += len(block)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice, /) -> np.ndarray:
        start, stop, _ = part.indices(self._count)
        with self._lock:
            self._file.seek(2 * start)
            return np.frombuffer(self._file.read(2 * max(0, stop - start)), np.int16)


def read_samples(path: str | Path, settings: SoundSettings) -> tuple[Samples, float]:
    """A recording at the model's sample rate; never more than some minutes of it are held in memory.

    Returns
    -------
    samples : (n,) int16; of a long recording a file
    seconds : length of the recording

    Raises
    ------
    RejectedClip
        unreadable, not_audio, no_audio_stream, undecodable, timeout, too_short, too_long, silent or not_finite.
    StorageError
        There is no room for the samples of a long recording.
    """
    pieces: list[np.ndarray] = []
    spooled: SpooledSamples | None = None
    stream: soxr.ResampleStream | None = None
    own_rate_hz, count, peak, held = 0, 0, 0, 0
    for rate_hz, block in _mono_blocks(path, settings):
        if not own_rate_hz:
            own_rate_hz = rate_hz
            if rate_hz != settings.rate_hz:
                stream = soxr.ResampleStream(rate_hz, settings.rate_hz, 1, dtype="float32", quality=settings.quality)
        count += len(block)
        peak = max(peak, int(block.max(initial=0)), -int(block.min(initial=0)))
        pieces.append(_to_int16(stream.resample_chunk(block.astype(np.float32))) if stream else block)
        held += len(pieces[-1])
        if held > _IN_MEMORY_SECONDS * settings.rate_hz:
            spooled = spooled or SpooledSamples()
            for piece in pieces:
                spooled.append(piece)
            pieces, held = [], 0
    if stream:
        pieces.append(_to_int16(stream.resample_chunk(np.zeros(0, np.float32), last=True)))
    if not count:
        raise RejectedClip("undecodable", "neither libsndfile nor ffmpeg found a sample")
    seconds = count / own_rate_hz
    if seconds < settings.min_seconds:
        raise RejectedClip("too_short", f"{seconds:.2f} s; the model takes recordings from {settings.min_seconds:g} s")
    if seconds >= settings.max_seconds:  # nothing behind it was read
        raise RejectedClip("too_long", f"more than {settings.max_seconds / 3600:g} hours; cut it into pieces")
    if peak < _SILENT_PEAK:
        raise RejectedClip("silent", "no sample is louder than -70 dBFS")
    if spooled is None:
        return np.concatenate(pieces), seconds
    for piece in pieces:
        spooled.append(piece)
    return spooled, seconds


def _mono_blocks(path: str | Path, settings: SoundSettings) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of (rate_hz, (n,) int16)."""
    empty = True
    for read in (_soundfile_blocks, _ffmpeg_blocks):
        for rate_hz, block in read(path, settings):  # (n, channels)
            empty = False
            yield rate_hz, _mono(block)
        if not empty:
            return


def _mono(block: np.ndarray) -> np.ndarray:
    """(n, channels) float32, full scale 1 -> (n,) int16, the mean of the channels."""
    if block.shape[1] == 2:
        mono = (block[:, 0] + block[:, 1]) * np.float32(0.5)
    else:
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise RejectedClip("not_finite", "the recording holds NaN or infinite samples")
    return _to_int16(mono * np.float32(_FULL_SCALE))


def _soundfile_blocks(path: str | Path, settings: SoundSettings) -> Iterator[tuple[int, np.ndarray]]:
    """None at all where libsndfile cannot read the file."""
    started = time.monotonic()
    try:
        handle = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise RejectedClip("unreadable", error.strerror or str(error)) from None
    with handle:
        try:
            sound = soundfile.SoundFile(handle.fileno(), closefd=False)
        except (soundfile.LibsndfileError, RuntimeError, ValueError):
            return
        with sound:
            rate_hz = sound.samplerate
            left = int(settings.max_seconds * rate_hz)
            if len(sound) > left > 0 and len(sound) < 2**62:  # some headers don't know
                raise RejectedClip("too_long", f"more than {settings.max_seconds / 3600:g} hours; cut it into pieces")
            done, most = 0, max(1, min(_BLOCK_SECONDS * rate_hz, _BLOCK_SAMPLES // sound.channels))
            while left > 0:
                allowed = settings.timeout_seconds * (1 + done / rate_hz / 3600)
                if time.monotonic() > started + allowed:
                    raise RejectedClip("timeout", f"decoding took longer than {allowed:g} s")
                try:
                    block = sound.read(min(left, most), dtype="float32", always_2d=True)
                except (soundfile.LibsndfileError, RuntimeError, MemoryError) as error:
                    raise RejectedClip("undecodable", str(error)) from None
                if not len(block):
                    return
                left -= len(block)
                done += len(block)
                yield rate_hz, block


def _ffmpeg_blocks(path: str | Path, settings: SoundSettings) -> Iterator[tuple[int, np.ndarray]]:
    try:
        from stages.pipeline.ffmpeg_pipe import command, find_ffmpeg, pcm_blocks

        binary = find_ffmpeg()  # never one that a model names: that would be a stranger's program
    except (ImportError, ParamsError):
        raise RejectedClip("undecodable", "libsndfile cannot read it, and there is no ffmpeg on the PATH") from None
    args = command(binary, os.fspath(path), settings.max_seconds)
    yield from pcm_blocks(args, settings.timeout_seconds, settings.max_seconds)


def _to_int16(samples: np.ndarray) -> np.ndarray:
    """(n,) float32, full scale 32768, is overwritten -> (n,) int16, rounded and clipped."""
    np.clip(samples, -_FULL_SCALE, _FULL_SCALE - 1, out=samples)
    rounded: np.ndarray = np.rint(samples, out=samples).astype(np.int16)
    return rounded
