"""decode: media files -> data/decoded/*.h5, mono 16-bit PCM at the recording's own rate.

libsndfile decodes in this process what it can (mp3, wav, flac, ogg, opus, aiff, au...), at three to six times the
speed of ffmpeg; ffmpeg takes everything else (m4a, webm, amr, wma, video) and is the second try. Both go block by
block, so an hour of sound needs no more memory than a minute.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

from stages.pipeline.account import account
from stages.pipeline.data_params import DecodeParams
from stages.pipeline.donors import ClipWriter
from stages.pipeline.duplicates import across_splits
from stages.pipeline.errors import RejectedClip, StorageError
from stages.pipeline.ffmpeg_pipe import command, ffmpeg_version, find_ffmpeg, pcm_blocks
from stages.pipeline.files import sha256_of_file, sha256_of_json
from stages.pipeline.limits import decoding_limits
from stages.pipeline.manifest_table import Row, dataset_root, read_manifest
from stages.pipeline.params import Params
from stages.pipeline.recording_file import open_file, open_recording
from stages.pipeline.runner import run_step
from stages.pipeline.shards import Item, Signal
from stages.pipeline.stage_main import stage_main
from stages.pipeline.step import Job, Step

ITEM = Item(shape=(), dtype="int16")
_BLOCK_SAMPLES = 1 << 17  # of all channels together; so few that a block stays in the processor's cache
_FULL_SCALE = 32768
_SILENT_PEAK = 10  # of 32768, -70 dBFS: below the noise of any microphone
# 16-bit PCM against what was read of the file. Speech by the thriftiest codecs comes to 250, silence in FLAC to 1,600.
_MAX_RATIO, _RATIO_FROM_BYTES = 2000, 1 << 28


def decode_file(path: str | Path, params: DecodeParams) -> tuple[np.ndarray, int]:
    """A recording as mono PCM.

    Parameters
    ----------
    path : file in any container and codec that libsndfile or ffmpeg reads.

    Returns
    -------
    samples : np.ndarray [shape=(n,), dtype=int16], the mean of all channels
    rate_hz : the recording's own sample rate

    Raises
    ------
    RejectedClip
        not_audio, no_audio_stream, undecodable, bomb, timeout, too_short, silent or not_finite.
    StorageError
        The file cannot be opened.
    """
    with open_file(Path(path)) as handle:
        signal = decode_stream(handle, os.fspath(path), params)
        return np.concatenate(list(signal.blocks)), int(signal.rate_hz)


def decode_stream(handle: IO[bytes], path: str | os.PathLike[str], params: DecodeParams) -> Signal:
    """The same block by block; `handle` is the open file and must stay open while blocks are taken."""
    pairs = _soundfile_blocks(handle, params)
    first = next(pairs, None)
    if first is None:
        pairs = _ffmpeg_blocks(path, params)
        first = next(pairs, None)
    if first is None:
        raise RejectedClip("undecodable", "neither libsndfile nor ffmpeg found a sample")
    rate_hz, block = first
    return Signal(rate_hz, _checked(block, (samples for _, samples in pairs), rate_hz, params))


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """A recording that is only read from front to back.

    soundfile seeks to where it is after each read of a seekable file, and in an MP3 a seek decodes some frames again:
    a fifth of the time in blocks of a second.
    """

    def seekable(self) -> bool:
        return False


def _soundfile_blocks(handle: IO[bytes], params: DecodeParams) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of (rate_hz, samples); none at all where libsndfile cannot read the file."""
    deadline = time.monotonic() + params.timeout_seconds
    handle.seek(0)
    try:
        sound = _Sequential(handle.fileno(), closefd=False)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, MemoryError):
        return
    with sound:
        rate_hz = sound.samplerate
        left = int(params.max_seconds * rate_hz)
        buffer = np.empty((max(1, _BLOCK_SAMPLES // sound.channels), sound.channels), np.float32)
        pcm_bytes = 0
        while left > 0:
            if time.monotonic() > deadline:
                raise RejectedClip("timeout", "decoding took longer than decode.timeout_seconds")
            try:
                block = sound.read(out=buffer[:left])
            except (soundfile.LibsndfileError, RuntimeError, MemoryError) as error:
                raise RejectedClip("undecodable", str(error)) from None
            if not len(block):
                return
            left -= len(block)
            pcm_bytes += 2 * block.size
            if pcm_bytes > max(_RATIO_FROM_BYTES, _MAX_RATIO * os.lseek(handle.fileno(), 0, os.SEEK_CUR)):
                raise RejectedClip(
                    "bomb", f"more than {_MAX_RATIO} bytes of sound for each of the file, {pcm_bytes} so far"
                )
            yield rate_hz, to_int16(mix_to_mono(block))


def _ffmpeg_blocks(path: str | os.PathLike[str], params: DecodeParams) -> Iterator[tuple[int, np.ndarray]]:
    args = command(find_ffmpeg(params.ffmpeg), os.fspath(path), params.max_seconds)
    for rate_hz, block in pcm_blocks(args, params.timeout_seconds, params.max_seconds):
        yield rate_hz, to_int16(mix_to_mono(block))


def mix_to_mono(block: np.ndarray) -> np.ndarray:
    """Mean of the channels: (n, channels) -> (n,), float32."""
    if block.shape[1] == 1:
        return block[:, 0]
    if block.shape[1] == 2:  # three times faster than the general case
        mono: np.ndarray = (block[:, 0] + block[:, 1]) * np.float32(0.5)
        return mono
    return np.asarray(block.mean(axis=1, dtype=np.float32))


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Full scale 1.0 -> 32768, rounded and clipped: (n,) float32 -> (n,) int16.

    Raises
    ------
    RejectedClip
        not_finite: one NaN would make NaN of the whole clip further on.
    """
    scaled = samples * np.float32(_FULL_SCALE)
    low, high = (scaled.min(), scaled.max()) if len(scaled) else (0, 0)
    if not np.isfinite(low) or not np.isfinite(high):
        raise RejectedClip("not_finite", "the recording holds NaN or infinite samples")
    if low < -_FULL_SCALE or high > _FULL_SCALE - 1:
        np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1, out=scaled)
    return np.rint(scaled, out=scaled).astype(np.int16)


def _checked(first: np.ndarray, rest: Iterator[np.ndarray], rate_hz: int, params: DecodeParams) -> Iterator[np.ndarray]:
    samples, peak = 0, 0
    for block in itertools.chain([first], rest):
        samples += len(block)
        if peak < _SILENT_PEAK:
            peak = max(peak, int(block.max(initial=0)), -int(block.min(initial=0)))
        yield block
    if samples < params.min_seconds * rate_hz:
        raise RejectedClip("too_short", f"{samples / rate_hz:.2f} s; decode.min_seconds is {params.min_seconds:g}")
    if peak < _SILENT_PEAK:
        raise RejectedClip("silent", "no sample is louder than -70 dBFS")


@dataclass(frozen=True)
class DecodeShard:
    """The work for one shard: its rows of the manifest, less those in `drop`, which maps an id to a reason."""

    root: str
    rows: tuple[Row, ...]
    params: DecodeParams
    drop: dict[str, tuple[str, str]]

    def sources(self) -> list[str]:
        return [source for row in self.rows if (source := self._source(row))]

    def _source(self, row: Row) -> str:
        # The extension belongs to it: ffmpeg looks there where the content leaves a doubt.
        return "" if row.id in self.drop else row.sha256 + Path(row.path).suffix.lower()

    def __call__(self, writer: ClipWriter) -> None:
        for row in self.rows:
            # the recording stays open while its blocks are written
            with decoding_limits(self.params.timeout_seconds), ExitStack() as stack:
                writer.add(row.id, row.path, partial(self._make, row, stack), source=self._source(row))

    def _make(self, row: Row, stack: ExitStack) -> Signal:
        if row.id in self.drop:
            raise RejectedClip(*self.drop[row.id])
        handle, path = stack.enter_context(open_recording(Path(self.root), row))
        if sha256_of_file(handle) != row.sha256:
            raise StorageError(
                f"{row.path} is not the file that the manifest lists (another SHA-256); run `dvc repro -f manifest`"
            )
        return decode_stream(handle, path, self.params)


def _libraries(ffmpeg: str) -> dict[str, str]:
    return {"libsndfile": soundfile.__libsndfile_version__, "ffmpeg": ffmpeg_version(find_ffmpeg(ffmpeg))}


def run(params: Params) -> None:
    rows = read_manifest()
    step = Step(
        "decode",
        Path("data/decoded"),
        (__name__, "stages.pipeline.ffmpeg_pipe", "stages.pipeline.recording_file"),
        ITEM,
        (params.decode,),
        partial(_libraries, params.decode.ffmpeg),
    )
    by_shard: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_shard[row.shard].append(row)
    root = os.fspath(dataset_root(params.dataset))
    drop: dict[str, tuple[str, str]] = {}
    while True:
        jobs = []
        for name, members in sorted(by_shard.items()):
            dropped = {row.id: drop[row.id] for row in members if row.id in drop}
            source = sha256_of_json([[(row.id, row.path, row.sha256) for row in members], dropped])
            jobs.append(Job(name, source, DecodeShard(root, tuple(members), params.decode, dropped)))
        summaries = run_step(step, jobs, params)
        found = across_splits(step.folder, rows)
        if not found:
            break
        drop |= found  # the shards that hold them are made again without them; a rare case
    rejected = [rejection for summary in summaries for rejection in summary.rejected]
    kept, seconds = sum(s.kept for s in summaries), sum(s.seconds for s in summaries)
    account("decode", len(rows), kept, seconds, rejected, params.decode.max_reject_fraction)


if __name__ == "__main__":
    sys.exit(stage_main("decode"))
