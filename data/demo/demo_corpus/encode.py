"""PCM to MP3 with the ffmpeg that imageio-ffmpeg carries: several clips in one process.

Starting ffmpeg costs a third of what encoding a clip does, so a batch goes in as one stream that `asegment` cuts;
every output has an encoder of its own, and a clip's bytes do not depend on its neighbours (a test says so).
"""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import numpy as np

from demo_corpus.effects import OUT_RATE_HZ
from demo_corpus.errors import DemoError


@functools.cache
def ffmpeg() -> str:
    """The path of ffmpeg. Raises DemoError where the package is missing."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise DemoError(
            "the demo corpus is written as MP3 by ffmpeg; expected the package imageio-ffmpeg with its program, "
            "found none. Install it: pip install imageio-ffmpeg (`make setup` does)."
        ) from error


def encode(clips: list[np.ndarray], paths: list[Path], bitrate_kbps: int, timeout_seconds: float = 300) -> None:
    """Writes mono int16 clips, all of one length, at OUT_RATE_HZ as stereo MP3 files with no date in them."""
    samples = len(clips[0])
    cuts = [index * samples for index in range(1, len(clips))]
    # ffmpeg's own slices of 1,024 samples cost a tenth more
    stereo = "asetnsamples=n=11520:p=0,aformat=channel_layouts=stereo"
    if cuts:
        labels = "".join(f"[s{index}]" for index in range(len(clips)))
        graph = f"[0:a]{stereo},asegment=samples={'|'.join(map(str, cuts))}{labels};"
        graph += ";".join(f"[s{index}]asetpts=PTS-STARTPTS[o{index}]" for index in range(len(clips)))
    else:
        graph = f"[0:a]{stereo}[o0]"
    command = [ffmpeg(), "-hide_banner", "-loglevel", "error", "-y", "-filter_threads", "1"]
    command += ["-f", "s16le", "-ar", str(OUT_RATE_HZ), "-ac", "1", "-i", "pipe:0", "-filter_complex", graph]
    for index, path in enumerate(paths):
        command += ["-map", f"[o{index}]", "-f", "mp3", "-c:a", "libmp3lame", "-b:a", f"{bitrate_kbps}k"]
        command += ["-compression_level", "9", "-joint_stereo", "1", "-threads", "1"]
        command += ["-fflags", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1", f"file:{path}"]
    pcm = b"".join(clip.astype("<i2", copy=False).tobytes() for clip in clips)
    result = subprocess.run(command, input=pcm, capture_output=True, timeout=timeout_seconds, check=False)
    written = [path for path in paths if path.is_file() and path.stat().st_size > 0]
    if result.returncode or len(written) != len(paths):
        raise DemoError(
            f"expected ffmpeg to write {len(paths)} clips to {paths[0].parent}, received exit {result.returncode} and "
            f"{len(written)} files: {result.stderr.decode(errors='replace').strip()[:500]} "
            "Look for free space on the disk."
        )
