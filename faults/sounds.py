"""Small real recordings in many containers, made by libsndfile and ffmpeg, to be damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import soundfile

# name -> options for ffmpeg, (format, subtype) for libsndfile
_BY_FFMPEG = {
    "mp3.mp3": ["-c:a", "libmp3lame", "-b:a", "64k"],
    "aac.m4a": ["-c:a", "aac"],
    "opus.webm": ["-c:a", "libopus"],
    "vorbis.mkv": ["-c:a", "libvorbis"],
    "amr.amr": ["-c:a", "libopencore_amrnb", "-ar", "8000", "-b:a", "12.2k"],
    "wma.wma": ["-c:a", "wmav2"],
    "adts.aac": ["-c:a", "aac"],
    "ac3.ac3": ["-c:a", "ac3"],
    "wavpack.wv": ["-c:a", "wavpack"],
    "transport.ts": ["-c:a", "mp2"],
}
_BY_SNDFILE = {
    "pcm.wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "flac.flac": ("FLAC", "PCM_16"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.opus": ("OGG", "OPUS"),
    "aiff.aiff": ("AIFF", "PCM_16"),
    "au.au": ("AU", "ULAW"),
    "w64.w64": ("W64", "PCM_24"),
    "caf.caf": ("CAF", "ALAC_16"),
}


def speech_like(seed: int, seconds: float = 1.0, rate_hz: int = 16000) -> np.ndarray:
    """Bursts of a harmonic tone under noise, float32 [shape=(n,)]: enough like speech for a codec to keep."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch = 100 + 100 * rng.random()
    tone = sum(np.sin(2 * np.pi * pitch * k * time + rng.random()) / k for k in range(1, 12))
    envelope = np.clip(np.sin(2 * np.pi * (2 + rng.random()) * time + rng.random()), 0.05, 1)
    sound = envelope * (tone + 0.1 * rng.standard_normal(len(time)))
    return np.asarray(0.5 * sound / np.abs(sound).max(), np.float32)


def write_spoken(path: Path) -> None:
    """Four seconds of a voice of the demo corpus, in Spanish: speech to the speech detector, too."""
    if (demo := str(Path(__file__).parent.parent / "data/demo")) not in sys.path:
        sys.path.insert(0, demo)
    from demo_corpus import effects, render, settings

    voice = settings.load_params(Path(demo) / "params.yaml").model_copy(update={"clip_seconds": 4.0})
    soundfile.write(path, render.sound("es", "test", 0, voice), effects.OUT_RATE_HZ)


def run_ffmpeg(*arguments: str) -> None:
    """Run the bundled ffmpeg. Raises CalledProcessError with its message in `stderr`."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-threads", "1"]
    subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=120)


def make_clips(folder: Path, seconds: float) -> dict[str, bytes]:
    """Bytes by name of a recording in each container and codec."""
    folder.mkdir(parents=True)
    source = folder / "source.wav"
    soundfile.write(source, speech_like(1, seconds, 16000), 16000)
    for number, (name, (form, subtype)) in enumerate(_BY_SNDFILE.items()):
        soundfile.write(folder / name, speech_like(number, seconds), 16000, format=form, subtype=subtype)
    for name, options in _BY_FFMPEG.items():
        run_ffmpeg("-i", f"file:{source}", *options, f"file:{folder / name}")
    source.unlink()
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
