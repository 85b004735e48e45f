"""A folder of mixed real files, as a user's disk holds them: what the data stages must sort into kept and rejected.

    expected = make_mixed_files(tmp_path / "recordings")

Two language folders (`de`, `fr`) with formats, channel counts, sample rates, lengths, names and traps. Sound is made
from a speech-like signal, another one in each file, so that none is another's duplicate. Takes a few seconds of CPU.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import soundfile

SECONDS = 2.0
LONG_SECONDS = 2400.0  # 40 minutes

# Sounds that no stage may read: only playlists lead to them.
CANARY_BESIDE = b"de/canary.txt"  # a WAV file; by its name no recording
CANARY_OUTSIDE = "outside.ts"  # beside the folder

Maker = Callable[[Path, int], None]


@dataclass(frozen=True)
class Expected:
    """What becomes of a file.

    reason : code in quarantine.csv; None: kept.
    seconds : length after decoding, within `tolerance_seconds`; None: not kept.
    rate_hz : sample rate after decoding; None: not kept.
    """

    reason: str | None = None
    seconds: float | None = None
    rate_hz: int | None = None
    tolerance_seconds: float = 0.15

    @property
    def kept(self) -> bool:
        return self.reason is None

    @property
    def stage(self) -> str:
        """The stage in whose quarantine.csv it stands, if it is rejected."""
        return "manifest" if self.reason == "empty_file" else "decode"


def speech_like(seed: int, seconds: float, rate_hz: int) -> np.ndarray:
    """Harmonics of a gliding pitch in bursts, float64 in [-0.5, 0.5], shape (n,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 1.5) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate_hz
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) * rng.uniform(0.2, 1) / k for k in range(1, 15))
    sound = voice * np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time), 0.05, 1)
    return np.asarray(0.5 * sound / np.abs(sound).max())


def _write(
    path: Path,
    seed: int,
    rate_hz: int,
    file_format: str,
    subtype: str,
    channels: int = 1,
    seconds: float = SECONDS,
) -> None:
    sound = np.stack([speech_like(seed + 1000 * c, seconds, rate_hz) for c in range(channels)], axis=1)  # (n, channels)
    with path.open("wb") as handle:  # by handle: soundfile cannot take every name
        soundfile.write(handle, sound, rate_hz, format=file_format, subtype=subtype)


def _ffmpeg(path: Path, seed: int, *options: str, rate_hz: int = 16000, channels: int = 1, video: bool = False) -> None:
    """Encode a speech-like signal, or a test picture with it, by ffmpeg; `options` go before the output."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.wav"
        _write(source, seed, rate_hz, "WAV", "PCM_16", channels)
        picture = ("-f", "lavfi", "-i", f"testsrc=size=64x64:rate=5:duration={SECONDS}") if video else ()
        run_ffmpeg("-i", f"file:{source}", *picture, *options, f"file:{path}")


def run_ffmpeg(*arguments: str) -> None:
    """Run the bundled ffmpeg; raises CalledProcessError with its message in `stderr`."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-threads", "1"]
    subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=60)


def _silent_video(path: Path, seed: int) -> None:
    picture = f"testsrc=size=64x64:rate=5:duration={SECONDS + seed / 100}"
    run_ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "mpeg4", f"file:{path}")


def _long(path: Path, seed: int) -> None:
    """Quiet noise with a slow swell, 8 kHz: 40 minutes in less than a second of CPU."""
    rate_hz = 8000
    minute = np.random.default_rng(seed).integers(-300, 300, 60 * rate_hz, dtype=np.int16)
    with soundfile.SoundFile(path, "w", rate_hz, 1, "PCM_16", format="FLAC", compression_level=0) as sound:
        for number in range(round(LONG_SECONDS / 60)):
            sound.write(np.roll(minute, 977 * number))


def _truncated_mp3(path: Path, seed: int) -> None:
    """An MP3 of constant bit rate that breaks off in the middle of a frame, half-way through."""
    _ffmpeg(path, seed, "-c:a", "libmp3lame", "-b:a", "64k", "-write_xing", "0")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 + 17])


def _flac_without_frames(path: Path, seed: int) -> None:
    """A FLAC file whose header is whole and promises two seconds, and whose sound is noise that no decoder knows."""
    _write(path, seed, 16000, "FLAC", "PCM_16")
    content = path.read_bytes()
    position, last = 4, False
    while not last:  # metadata blocks: flag and type, length in three bytes
        last = bool(content[position] & 0x80)
        position += 4 + int.from_bytes(content[position + 1 : position + 4], "big")
    # 0x55 only: neither FLAC's sync code (0xFFF8) nor any other format's magic is in it.
    path.write_bytes(content[:position] + b"\x55" * (len(content) - position))


def _silence(path: Path, seed: int) -> None:
    soundfile.write(path, np.zeros(int((SECONDS + seed / 100) * 16000), np.int16), 16000)


def _nan(path: Path, seed: int) -> None:
    sound = speech_like(seed, SECONDS, 16000)
    sound[1234] = np.nan
    soundfile.write(path, sound, 16000, subtype="FLOAT")


def _text(content: str, path: Path, seed: int) -> None:
    path.write_text(content)


def _sound(rate_hz: int, file_format: str, subtype: str, channels: int = 1, seconds: float = SECONDS) -> Maker:
    return partial(
        _write, rate_hz=rate_hz, file_format=file_format, subtype=subtype, channels=channels, seconds=seconds
    )


def _wav(rate_hz: int, subtype: str = "PCM_16", channels: int = 1, seconds: float = SECONDS) -> Maker:
    return _sound(rate_hz, "WAV", subtype, channels, seconds)


def _coded(*options: str, rate_hz: int = 16000, channels: int = 1, video: bool = False) -> Maker:
    def make(path: Path, seed: int) -> None:
        _ffmpeg(path, seed, *options, rate_hz=rate_hz, channels=channels, video=video)

    return make


def kept(rate_hz: int, seconds: float = SECONDS, tolerance_seconds: float = 0.15) -> Expected:
    """A file that comes through; encoders add up to 0.15 s."""
    return Expected(None, seconds, rate_hz, tolerance_seconds)


def _concat(target: str) -> str:
    return f"ffconcat version 1.0\nfile '{target}'\n"


def _hls(target: str) -> str:
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n"
    return f"{head}#EXTINF:2.0,\n{target}\n#EXT-X-ENDLIST\n"


def _files(folder: Path) -> list[tuple[bytes, Expected, Maker]]:
    opus = ("-c:a", "libopus", "-b:a", "32k")
    outside = folder.absolute().parent / CANARY_OUTSIDE
    exact = 0.001
    return [
        # Containers and codecs.
        (b"stereo.mp3", kept(44100), _coded("-c:a", "libmp3lame", "-b:a", "64k", rate_hz=44100, channels=2)),
        (b"mono.mp3", kept(22050), _coded("-c:a", "libmp3lame", "-b:a", "32k", rate_hz=22050)),
        (b"aac.m4a", kept(44100), _coded("-c:a", "aac", "-b:a", "64k", rate_hz=44100, channels=2)),
        # libsndfile gives Opus at the rate that its encoder was fed with, ffmpeg at 48 kHz.
        (b"voice.ogg", kept(16000), _coded(*opus)),
        (b"browser.webm", kept(48000), _coded(*opus)),
        (b"phone.amr", kept(8000), _coded("-c:a", "libopencore_amrnb", "-b:a", "12.2k", rate_hz=8000)),
        (b"lossless.flac", kept(16000, tolerance_seconds=exact), _sound(16000, "FLAC", "PCM_16")),
        (b"windows.wma", kept(44100, tolerance_seconds=0.3), _coded("-c:a", "wmav2", "-b:a", "64k", rate_hz=44100)),
        (b"apple.aiff", kept(22050, tolerance_seconds=exact), _sound(22050, "AIFF", "PCM_16")),
        (b"film.mp4", kept(44100), _coded("-c:v", "mpeg4", "-c:a", "aac", rate_hz=44100, video=True)),
        (b"film.mkv", kept(16000), _coded("-c:v", "mpeg4", "-c:a", "libvorbis", video=True)),
        # Sample formats, rates, channels, lengths.
        (b"8-bit.wav", kept(11025, tolerance_seconds=exact), _wav(11025, "PCM_U8")),
        (b"mu-law.wav", kept(8000, tolerance_seconds=exact), _wav(8000, "ULAW")),
        (b"24-bit.wav", kept(48000, tolerance_seconds=exact), _wav(48000, "PCM_24")),
        (b"float.wav", kept(32000, tolerance_seconds=exact), _wav(32000, "FLOAT")),
        (b"stereo.wav", kept(44100, tolerance_seconds=exact), _wav(44100, channels=2)),
        (b"5.1.wav", kept(48000, tolerance_seconds=exact), _wav(48000, channels=6)),
        (b"5.1.flac", kept(48000, tolerance_seconds=exact), _coded("-c:a", "flac", rate_hz=48000, channels=6)),
        (b"96k.flac", kept(96000, tolerance_seconds=exact), _sound(96000, "FLAC", "PCM_24")),
        (b"192k.wav", kept(192000, tolerance_seconds=exact), _wav(192000, "PCM_24")),
        (b"40-minutes.flac", kept(8000, LONG_SECONDS, exact), _long),
        (b"short.wav", Expected("too_short"), _wav(16000, seconds=0.3)),
        # Damaged, or no sound at all.
        (b"truncated.mp3", kept(16000, SECONDS / 2, 0.2), _truncated_mp3),
        (b"no-frames.flac", Expected("undecodable"), _flac_without_frames),
        (b"empty.mp3", Expected("empty_file"), partial(_text, "")),
        (b"notes.mp3", Expected("not_audio"), partial(_text, "This is a text file, whatever its name says.\n" * 50)),
        (b"film-without-sound.mp4", Expected("no_audio_stream"), _silent_video),
        (b"silence.wav", Expected("silent"), _silence),
        (b"nan.wav", Expected("not_finite"), _nan),
        # Playlists. The first and the last lead a plain ffmpeg to the canary.
        (b"concat-beside.mp3", Expected("not_audio"), partial(_text, _concat("canary.txt"))),
        (b"concat-outside.mp3", Expected("not_audio"), partial(_text, _concat(str(outside)))),
        (b"hls.mp3", Expected("not_audio"), partial(_text, _hls(outside.as_uri()))),
        (b"hls.m3u8", Expected("not_audio"), partial(_text, _hls(f"../../{CANARY_OUTSIDE}"))),
        # Names.
        (b"-x.wav", kept(16000, tolerance_seconds=exact), _wav(16000)),
        (b"-i.m4a", kept(16000), _coded("-c:a", "aac")),
        (b"two\nlines.wav", kept(16000, tolerance_seconds=exact), _wav(16000)),
        (b"latin-1 caf\xe9.wav", kept(16000, tolerance_seconds=exact), _wav(16000)),
        (b"100%,\"quoted\" 'name'; $(true).wav", kept(16000, tolerance_seconds=exact), _wav(16000)),
        (b"%20escaped.wav", kept(16000, tolerance_seconds=exact), _wav(16000)),
        ("Ünï — 语言.webm".encode(), kept(48000), _coded(*opus)),
    ]  # fmt: skip


def make_mixed_files(folder: Path) -> dict[bytes, Expected]:
    """Make the folder with its files.

    Parameters
    ----------
    folder : is created; CANARY_OUTSIDE is put beside it. Needs a file system that takes any bytes as a name.

    Returns
    -------
    What is expected of each recording, by its path below `folder` as bytes (`b"de/stereo.mp3"`). Playlists lead to
    CANARY_BESIDE and CANARY_OUTSIDE, which are no recordings of the folder and must be in no result.
    """
    expected: dict[bytes, Expected] = {}
    for number, (name, outcome, make) in enumerate(_files(folder)):
        # The canary lies in de, so do the playlists; else the languages alternate.
        language = b"de" if number % 2 == 0 or outcome.reason == "not_audio" else b"fr"
        path = folder / os.fsdecode(language + b"/" + name)
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path, number + 1)
        expected[language + b"/" + name] = outcome
    with (folder / os.fsdecode(CANARY_BESIDE)).open("wb") as handle:
        soundfile.write(handle, speech_like(999, SECONDS, 16000), 16000, format="WAV", subtype="PCM_16")
    _ffmpeg(folder.absolute().parent / CANARY_OUTSIDE, 998, "-c:a", "mp2", "-f", "mpegts")
    return expected
