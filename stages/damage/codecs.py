"""Sound through a codec and back, with the ffmpeg that the decode stage uses.

    mp3_32k    MPEG layer III at 32 kbit/s, constant, at the sound's own sample rate
    opus_16k   Opus (RFC 6716) at 16 kbit/s, for voice, complexity 5 of 10
    amr_12k2   AMR narrow-band (3GPP TS 26.071) at 12.2 kbit/s, its highest rate: mobile telephony, 8 kHz
    g711       G.711 mu-law, 64 kbit/s: fixed telephony, 8 kHz

The telephone codecs are given 8 kHz sound and what they return is brought back to the sound's own rate, so nothing is
left above 4 kHz. Delays that a container records are taken back by ffmpeg (MP3, Opus); AMR's look-ahead of 5 ms stays,
a quarter of a hop of the default spectrogram.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.pipeline.errors import ParamsError, PipelineError
from stages.pipeline.lock import die_with_parent

_SECONDS_PER_CLIP = 30  # a limit for a process that hangs, not a measure of its speed
_QUIET = ("-nostdin", "-hide_banner", "-loglevel", "error", "-y")


class Codec(NamedTuple):
    """How ffmpeg is asked for it; the suffix names the container."""

    encoder: str
    suffix: str
    options: tuple[str, ...]


CODECS = {
    "mp3_32k": Codec("libmp3lame", "mp3", ("-b:a", "32k")),
    "opus_16k": Codec("libopus", "opus", ("-b:a", "16k", "-application", "voip", "-compression_level", "5")),
    "amr_12k2": Codec("libopencore_amrnb", "amr", ("-ar", "8000", "-b:a", "12.2k")),
    "g711": Codec("pcm_mulaw", "wav", ("-ar", "8000")),
}


def check_encoders(names: Sequence[str], binary: str) -> None:
    """Raises ParamsError where this ffmpeg lacks the encoder of one of these codecs."""
    missing = [name for name in names if CODECS[name].encoder not in _encoders(binary)]
    if missing:
        raise ParamsError(
            f"robustness.codecs: expected an ffmpeg with the encoders of {', '.join(missing)}, received {binary}, "
            f"which lacks {', '.join(CODECS[name].encoder for name in missing)}; take them out of robustness.codecs, "
            "or name another ffmpeg in decode.ffmpeg (empty: the one that imageio-ffmpeg carries has them)"
        )


@cache
def _encoders(binary: str) -> frozenset[str]:
    try:
        done = subprocess.run(
            [binary, "-hide_banner", "-encoders"], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ParamsError(f"decode.ffmpeg: {binary} does not run: {error}; name another") from None
    return frozenset(line.split()[1] for line in done.stdout.splitlines() if len(line.split()) > 1)


def through_codec(sounds: Sequence[np.ndarray], rate_hz: int, name: str, binary: str) -> list[np.ndarray]:
    """Encode and decode several sounds, each on its own, in one process a direction: starting one costs 50 ms.

    Parameters
    ----------
    sounds : arrays [shape=(n,), dtype=int16], n > 0; what comes back of one doesn't depend on the others
    rate_hz : their sample rate
    name : a key of CODECS
    binary : path of ffmpeg

    Returns
    -------
    Arrays as long as those that went in: what a codec adds at the end is cut off, what it loses is silence.

    Raises
    ------
    PipelineError
        ffmpeg failed.
    """
    codec = CODECS[name]
    raw = ("-f", "s16le", "-ar", str(rate_hz), "-ac", "1")
    with tempfile.TemporaryDirectory(prefix="codec-") as folder:
        before, coded, after = (
            [Path(folder, f"{number}.{suffix}") for number in range(len(sounds))]
            for suffix in ("in", codec.suffix, "out")
        )
        for path, sound in zip(before, sounds, strict=True):
            path.write_bytes(sound.astype("<i2", copy=False).tobytes())
        encode = ("-ac", "1", "-c:a", codec.encoder, *codec.options, "-map_metadata", "-1", "-threads", "1")
        _run(binary, before, raw, coded, encode)
        _run(binary, coded, (), after, (*raw, "-threads", "1"))
        return [
            _as_long_as(len(sound), np.fromfile(path, "<i2")) for sound, path in zip(sounds, after, strict=True)
        ]  # fmt: skip


def _run(
    binary: str, sources: Sequence[Path], reading: Sequence[str], targets: Sequence[Path], writing: Sequence[str]
) -> None:
    """One ffmpeg from `sources` to `targets`, one by one."""
    command = [binary, *_QUIET]
    for source in sources:
        command += [*reading, "-i", f"file:{source}"]
    for number, target in enumerate(targets):
        command += ["-map", f"{number}:a:0", *writing, f"file:{target}"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            timeout=_SECONDS_PER_CLIP * len(sources),
            preexec_fn=die_with_parent,
        )
        failure = done.stderr.decode("utf-8", "replace").strip()[-500:] if done.returncode else ""
        status = f"exit status {done.returncode}"
    except subprocess.TimeoutExpired:
        failure, status = "it took too long", "no end"
    if failure or not all(target.is_file() and target.stat().st_size for target in targets):
        raise PipelineError(
            f"expected {binary} to write {len(targets)} {targets[0].suffix} files to {targets[0].parent}, received "
            f"{status}: {failure or 'files are missing or empty'}. Look for free space there, or name another "
            "ffmpeg in decode.ffmpeg"
        )


def _as_long_as(samples: int, sound: np.ndarray) -> np.ndarray:
    out = np.zeros(samples, np.int16)
    out[: len(sound)] = sound[:samples]
    return out
