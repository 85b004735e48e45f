"""What can be known of a recording without listening: its container, codec, bitrate, rate, duration, levels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from stages.auditing.statistics import Statistics
from stages.pipeline.archives import Span
from stages.pipeline.errors import StorageError
from stages.pipeline.manifest_table import Row
from stages.pipeline.paths import unescape_path
from stages.pipeline.recording_file import open_recording
from stages.pipeline.shards import Shard, list_shards

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recordings:
    """What the decoded shards tell of the clips: native rate, seconds, hash of the samples; by id."""

    rate_hz: dict[str, float]
    seconds: dict[str, float]
    digest: dict[str, str]


def read_recordings(folder: Path, rows: Sequence[Row]) -> Recordings:
    """From the shards' tables alone; no sound is read."""
    shards = {row.shard for row in rows}
    rate_hz: dict[str, float] = {}
    seconds: dict[str, float] = {}
    digest: dict[str, str] = {}
    for path in list_shards(folder):
        if path.stem not in shards:
            continue
        with Shard(path) as shard:
            rate_hz.update(zip(shard.ids, shard.rates_hz.tolist(), strict=True))
            seconds.update(zip(shard.ids, (shard.lengths / shard.rates_hz).tolist(), strict=True))
            digest.update(zip(shard.ids, shard.digests, strict=True))
    return Recordings(rate_hz, seconds, digest)


def file_properties(
    rows: Sequence[Row], clips: Sequence[int], statistics: Statistics, recordings: Recordings, root: Path
) -> dict[str, np.ndarray]:
    """(rows,) numbers; those that the files themselves must be opened for hold for `clips` only.

    They are left out, with a warning, where the recordings are gone: after `dvc pull`, say.
    """
    seconds = np.array([recordings.seconds[row.id] for row in rows])
    properties = {
        "container": _numbered([Path(row.path).suffix.lower() for row in rows]),
        "sample_rate": np.array([recordings.rate_hz[row.id] for row in rows]),
        "duration": seconds,
        "loudness": statistics.loudness_db.astype(float),
        "level_of_pauses": statistics.pauses_db.astype(float),
    }
    codec, channels, size = [""] * len(rows), np.zeros(len(rows)), np.zeros(len(rows))
    try:
        for i in clips:
            codec[i], channels[i] = _codec(root, rows[i])
            size[i] = _bytes(root, rows[i])
    except (OSError, ValueError, StorageError) as error:
        log.warning("codec, channels and bitrate are left out, as not all recordings are there any more (%s)", error)
        return properties
    return properties | {"codec": _numbered(codec), "channels": channels, "bitrate": size / np.maximum(seconds, 1e-3)}


def _numbered(names: Sequence[str]) -> np.ndarray:
    return np.unique(names, return_inverse=True)[1].astype(float)


def _codec(root: Path, row: Row) -> tuple[str, int]:
    """What libsndfile calls it, and how many channels; where it can't read it, the extension and 0."""
    with open_recording(root, row) as (handle, _):
        try:
            with soundfile.SoundFile(handle.fileno(), closefd=False) as sound:
                return f"{sound.format} {sound.subtype}", sound.channels
        except (soundfile.LibsndfileError, RuntimeError, ValueError):
            return Path(row.path).suffix.lower(), 0


def _bytes(root: Path, row: Row) -> int:
    """Of the recording as it is, or as its archive holds it before inflating."""
    return Span.parse(row.span).size if row.span else (root / unescape_path(row.path)).stat().st_size
