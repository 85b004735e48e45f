"""decode against ffmpeg run by hand, on containers and codecs as people have them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT, make_params, speech_like

from faults.bombs import cover, flac
from stages.decode import decode_file, mix_to_mono, to_int16
from stages.pipeline.errors import ParamsError, RejectedClip, StorageError
from stages.pipeline.ffmpeg_pipe import command, ffmpeg_version, find_ffmpeg, pcm_blocks, plain_command

PARAMS = make_params().decode
FFMPEG = find_ffmpeg()


def encode(path: Path, *options: str, seconds: float = 2.0, rate_hz: int = 44100, channels: int = 2) -> Path:
    sound = np.repeat(speech_like(1, seconds, rate_hz)[:, None], channels, axis=1)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    source = ["-f", "f32le", "-ar", str(rate_hz), "-ch_layout", layout, "-i", "pipe:0"]
    subprocess.run(
        [FFMPEG, "-v", "error", "-y", *source, *options, f"file:{path}"], input=sound.tobytes(), check=True, timeout=60
    )
    return path


def reference(path: Path) -> np.ndarray:
    """What ffmpeg makes of it, the mean of its channels, at full scale 1."""
    told = subprocess.run([FFMPEG, "-i", f"file:{path}"], capture_output=True, text=True, check=False).stderr
    channels = 1 if re.search(r"Hz, (mono|1 channels)", told) else 2
    raw = subprocess.run(
        [FFMPEG, "-v", "error", "-i", f"file:{path}", "-map", "0:a:0", "-f", "f64le", "pipe:1"],
        capture_output=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    return np.asarray(np.frombuffer(raw, "<f8").reshape(-1, channels).mean(axis=1))


FORMATS = {
    "mp3": ("a.mp3", 44100, 2, ["-b:a", "128k"]),
    "mp3 mono 22 kHz": ("a.mp3", 22050, 1, ["-b:a", "48k"]),
    "wav": ("a.wav", 44100, 2, []),
    "wav 8 bit": ("a.wav", 8000, 1, ["-c:a", "pcm_u8"]),
    "wav 24 bit 96 kHz": ("a.wav", 96000, 2, ["-c:a", "pcm_s24le"]),
    "wav float 192 kHz": ("a.wav", 192000, 1, ["-c:a", "pcm_f32le"]),
    "wav mu-law": ("a.wav", 8000, 1, ["-c:a", "pcm_mulaw"]),
    "flac": ("a.flac", 44100, 2, []),
    "ogg vorbis": ("a.ogg", 44100, 2, ["-c:a", "libvorbis"]),
    "ogg opus": ("a.opus", 48000, 2, ["-c:a", "libopus"]),
    "aiff": ("a.aiff", 44100, 2, []),
    "m4a": ("a.m4a", 44100, 2, ["-c:a", "aac"]),
    "webm": ("a.webm", 48000, 2, ["-c:a", "libopus"]),
    "mkv": ("a.mkv", 44100, 2, ["-c:a", "aac"]),
    "wma": ("a.wma", 44100, 2, ["-c:a", "wmav2"]),
    "aac": ("a.aac", 44100, 2, ["-c:a", "aac"]),
    "wrong extension": ("a.wav", 44100, 2, ["-f", "mp3"]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_is_what_ffmpeg_makes_of_it(tmp_path: Path, name: str) -> None:
    file, rate_hz, channels, options = FORMATS[name]
    path = encode(tmp_path / file, *options, rate_hz=rate_hz, channels=channels)
    samples, rate = decode_file(path, PARAMS)
    assert samples.dtype == np.int16
    assert rate == rate_hz
    expected = reference(path)
    # The decoders may begin or end in another place by some frames of codec delay; where they overlap they agree.
    lag = best_lag(samples / 32768, expected)
    assert abs(lag) <= 2400
    assert abs(len(samples) - len(expected)) <= 5000
    ours, theirs = aligned(samples / 32768, expected, lag)
    assert np.abs(ours - theirs).max() < 2e-3, f"lag {lag}"


def best_lag(a: np.ndarray, b: np.ndarray) -> int:
    size = 1 << (len(a) + len(b)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    peak = int(correlation.argmax())
    return peak if peak < size // 2 else peak - size


def aligned(a: np.ndarray, b: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = a[max(0, lag) :], b[max(0, -lag) :]
    length = min(len(a), len(b))
    edge = 3000  # codecs' start and end
    return a[edge : length - edge], b[edge : length - edge]


def test_five_point_one_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    channels = np.stack([speech_like(n) for n in range(6)], axis=1)
    soundfile.write(tmp_path / "a.wav", channels, 16000, subtype="FLOAT")
    samples, _ = decode_file(tmp_path / "a.wav", PARAMS)
    assert np.abs(samples / 32768 - channels.mean(axis=1)).max() < 1 / 32768


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_mix_to_mono(channels: int) -> None:
    block = np.random.default_rng(0).standard_normal((100, channels)).astype(np.float32)
    np.testing.assert_allclose(mix_to_mono(block), block.mean(axis=1), atol=1e-6)


def test_to_int16_rounds_and_clips() -> None:
    values = np.array([0, 1 / 32768, 0.4 / 32768, 0.6 / 32768, 1, -1, 1.5, -1.5], np.float32)
    assert list(to_int16(values)) == [0, 1, 0, 1, 32767, -32768, 32767, -32768]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path: Path, bad: float) -> None:
    sound = speech_like(1)
    sound[500] = bad
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    assert reason(tmp_path / "a.wav") == "not_finite"


def reason(path: Path, **changes: object) -> str:
    with pytest.raises(RejectedClip) as caught:
        decode_file(path, PARAMS.model_copy(update=changes))
    return caught.value.reason


def test_what_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("Once upon a time there was a text. " * 100)
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(20_000))
    (tmp_path / "zeros.mp3").write_bytes(bytes(20_000))
    for name in ("text.mp3", "noise.mp3", "zeros.mp3"):
        assert reason(tmp_path / name) in ("not_audio", "undecodable"), name


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile '{canary}'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{canary}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_playlists_open_no_other_file(tmp_path: Path, text: str) -> None:
    canary = tmp_path / "canary.wav"
    soundfile.write(canary, speech_like(1), 16000)
    (tmp_path / "list.mp3").write_text(text.format(canary=canary))
    assert reason(tmp_path / "list.mp3") == "not_audio"


def test_video_without_sound(tmp_path: Path) -> None:
    subprocess.run(
        [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64", f"file:{tmp_path}/a.mp4"], check=True
    )
    assert reason(tmp_path / "a.mp4") == "no_audio_stream"


def test_lengths(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", speech_like(1, 0.3), 16000)
    assert reason(tmp_path / "a.wav") == "too_short"
    assert len(decode_file(tmp_path / "a.wav", PARAMS.model_copy(update={"min_seconds": 0.3}))[0]) == 4800
    for path in (encode(tmp_path / "b.mp3", seconds=5), encode(tmp_path / "b.m4a", seconds=5)):
        assert len(decode_file(path, PARAMS.model_copy(update={"max_seconds": 2}))[0]) == 2 * 44100


def test_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    assert reason(tmp_path / "a.wav") == "silent"


def test_truncated_mp3_gives_what_it_holds(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", seconds=4)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    samples, rate = decode_file(path, PARAMS)
    assert 1.5 < len(samples) / rate < 2.5


@pytest.mark.parametrize("name", ["-x.wav", "a\nb.m4a", b"\xff\xfe.mp3", "100%d.m4a", "quote'\".flac", "concat:x.m4a"])
def test_names(tmp_path: Path, name: str | bytes) -> None:
    import os

    path = tmp_path / os.fsdecode(name)
    plain = encode(tmp_path / f"plain{path.suffix}")
    plain.rename(path)
    assert len(decode_file(path, PARAMS)[0]) > 80_000


def test_a_decoder_that_hangs_is_killed(tmp_path: Path) -> None:
    args = command(FFMPEG, str(encode(tmp_path / "a.m4a", seconds=5)), 3600)
    args[args.index("-i") : args.index("-i")] = ["-re"]  # reads no faster than the sound plays
    start = time.monotonic()
    with pytest.raises(RejectedClip) as caught:
        list(pcm_blocks(args, timeout_seconds=0.5, max_seconds=60))
    assert caught.value.reason == "timeout"
    assert time.monotonic() - start < 4


def test_timestamps_that_lie_give_no_more_than_max_seconds(tmp_path: Path) -> None:
    """WavPack files joined end to end: each begins at zero again, and ffmpeg's -t goes by that."""
    one = encode(tmp_path / "a.wv", seconds=2)
    loop = ["-stream_loop", "4", "-i", f"file:{one}", "-c", "copy"]
    subprocess.run([FFMPEG, "-v", "error", *loop, f"file:{tmp_path}/b.wv"], check=True)
    assert len(decode_file(tmp_path / "b.wv", PARAMS.model_copy(update={"max_seconds": 3}))[0]) == 3 * 44100


def test_killed_ffmpeg_is_no_end_of_the_recording(tmp_path: Path) -> None:
    args = command(FFMPEG, str(encode(tmp_path / "a.m4a", seconds=5)), 3600)
    args[args.index("-i") : args.index("-i")] = ["-re"]

    def kill_children(number: int) -> None:
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                name, _, rest = entry.read_text().rpartition(")")
                if "ffmpeg" in name and rest.split()[1] == str(os.getpid()):  # other tests' helpers live here too
                    os.kill(int(entry.parent.name), number)

    asked = threading.Timer(0.7, kill_children, [signal.SIGTERM])  # ffmpeg would end as if all was well
    killed = threading.Timer(1.5, kill_children, [signal.SIGKILL])
    asked.start()
    killed.start()
    with pytest.raises(StorageError, match="ffmpeg was killed"):
        list(pcm_blocks(args, timeout_seconds=60, max_seconds=60))
    asked.join()
    killed.join()


def test_hours_in_kilobytes(tmp_path: Path) -> None:
    flac(tmp_path / "a.flac", hours=10, rate_hz=192000, channels=8)
    assert reason(tmp_path / "a.flac") == "bomb"


def test_a_cover_is_not_decoded(tmp_path: Path) -> None:
    """It took 430 MB for a picture that nobody looks at."""
    cover(tmp_path / "a.mka", size=5000)
    args = command(FFMPEG, str(tmp_path / "a.mka"), 3600)
    plain = [word for word in args if word not in ("-codec_whitelist", args[args.index("-codec_whitelist") + 1])]

    def peak(arguments: list[str]) -> int:
        code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)"
        told = "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        out = subprocess.run(
            [sys.executable, "-c", code + told, *arguments], check=True, capture_output=True, text=True
        )
        return int(out.stdout)

    assert peak(plain) - peak(args) > 40_000  # KB


def test_memory_has_a_limit_while_a_recording_is_decoded() -> None:
    code = (
        "import numpy; from stages.pipeline.limits import decoding_limits\n"
        "with decoding_limits(1):\n try: numpy.ones(600 << 20, numpy.uint8)\n except MemoryError: print('refused')\n"
        "numpy.ones(600 << 20, numpy.uint8)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert out.stdout == "refused\n"


def test_missing_file_and_missing_ffmpeg(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        decode_file(tmp_path / "gone.wav", PARAMS)
    with pytest.raises(ParamsError, match=r"decode\.ffmpeg"):
        find_ffmpeg(str(tmp_path / "ffmpeg"))


@pytest.mark.parametrize(
    ("does", "error", "words"),
    [
        ("kill -9 $$", StorageError, "was killed"),
        ("exit 3", ParamsError, r"tells no version \(status 3\).*decode\.ffmpeg"),
        ("", ParamsError, r"tells no version \(status 0\)"),
    ],
)
def test_ffmpeg_that_tells_no_version(tmp_path: Path, does: str, error: type[Exception], words: str) -> None:
    binary = tmp_path / "ffmpeg"
    binary.write_text(f"#!/bin/sh\n{does}\n")
    binary.chmod(0o755)
    with pytest.raises(error, match=words):
        ffmpeg_version(str(binary))
    binary.write_bytes(b"\x7fELF, of another machine")
    with pytest.raises(ParamsError, match=r"does not start.*decode\.ffmpeg"):
        ffmpeg_version(f"{tmp_path}/./ffmpeg")


def test_the_carried_ffmpeg_is_found_though_every_one_that_runs_is_killed() -> None:
    code = (
        "import subprocess; from stages.pipeline.ffmpeg_pipe import find_ffmpeg\n"
        "def killed(*args, **kwargs): raise subprocess.CalledProcessError(-9, 'ffmpeg')\n"
        "subprocess.check_call = subprocess.run = killed\n"
        "print(find_ffmpeg())"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert out.stdout.strip() == FFMPEG


def test_without_ffmpeg_python_the_command_is_the_same() -> None:
    given = ("ffmpeg", "/a folder/-b.mp3", 12.5)
    assert plain_command(*given) == command(*given)
