"""Text in, speech out: asks a process of speaker.py (or of another engine's), one for each worker."""

from __future__ import annotations

import atexit
import functools
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np

from demo_corpus.errors import DemoError, EngineCrashError
from demo_corpus.speaker import OWN_VARIANT, UNKNOWN_VOICE
from demo_corpus.timbre import with_timbre
from demo_corpus.voices import VoiceDraw

RATE_HZ = 22050


def say(text: str, voice: VoiceDraw, seconds: float, noise_seed: int, scratch: str | None = None) -> np.ndarray:
    """Speaks `text`, at most `seconds` of it: a function of its arguments alone.

    `scratch`: an existing folder for the speaker's own data; None for the system's.

    Returns: int16, shape (samples,), at RATE_HZ. Shorter than asked where the text ends sooner.
    Raises: DemoError when eSpeak does not know the voice; EngineCrashError when it crashes or hangs.
    """
    request = {
        "text": text,
        "voice": voice.name if voice.timbre is None else f"{voice.language}+{OWN_VARIANT}",
        "variant": "" if voice.timbre is None else with_timbre(_variant_text(voice.variant), voice.timbre),
        "words_per_minute": voice.engine_words_per_minute,
        "pitch": voice.pitch,
        "pitch_range": voice.pitch_range,
        "max_samples": int(seconds * RATE_HZ),
        "noise_seed": noise_seed,
    }
    pcm = ask(_command(scratch), RATE_HZ, request)
    if isinstance(pcm, int):
        if pcm == -UNKNOWN_VOICE:
            fault = "no such voice"
        else:
            fault = f"signal {-1000 - pcm}" if pcm <= -1000 else f"exit status {-pcm}"
        kind = EngineCrashError if pcm <= -1000 else DemoError
        raise kind(
            f"expected eSpeak NG to speak as {voice.name!r}, received: {fault}, on the text {text[:60]!r}. "
            "If the language is at fault, drop it from `languages` in data/demo/params.yaml."
        )
    return pcm


def ask(command: tuple[str, ...], rate_hz: int, request: dict[str, object]) -> np.ndarray | int:
    """What the process that `command` starts answers: int16 at `rate_hz`, (samples,), or a fault (see speaker.py)."""
    speaker = _speaker_for(command, rate_hz)
    try:
        _pipe(speaker.stdin).write(json.dumps(request).encode() + b"\n")
        _pipe(speaker.stdin).flush()
    except BrokenPipeError as error:
        raise DemoError(f"expected the engine to go on speaking, but its process ended ({speaker.poll()}).") from error
    count = _read_count(speaker)
    return count if count < 0 else np.frombuffer(_pipe(speaker.stdout).read(2 * count), dtype="<i2")


@functools.cache
def _variant_text(variant: str) -> str:
    """The file of one of eSpeak's voice variants."""
    path = _data_folder() / "espeak-ng-data" / "voices" / "!v" / variant
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DemoError(f"expected a voice variant in {path}, received: {error.strerror}.") from error


def _data_folder() -> Path:
    """The folder that holds espeak-ng-data, which is what eSpeak wants to be told."""
    import espeakng_loader

    return Path(espeakng_loader.get_data_path()).parent


# This process's speaker by the command that started it: one at a time
_current: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}


def _speaker_for(command: tuple[str, ...], rate_hz: int) -> subprocess.Popen[bytes]:
    if command not in _current:
        stop()
        _current[command] = _start(command, rate_hz)
    return _current[command]


def stop() -> None:
    """Ends this process's speaker, if there is one; the next `say` starts another."""
    while _current:
        _, speaker = _current.popitem()
        _pipe(speaker.stdin).close()
        _pipe(speaker.stdout).close()
        speaker.wait()


atexit.register(stop)


def _start(command: tuple[str, ...], rate_hz: int) -> subprocess.Popen[bytes]:
    """A speaker. Killed workers leave none behind: it ends when its input does."""
    speaker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    rate = _read_count(speaker)
    if rate != rate_hz:
        raise DemoError(f"expected the engine to speak at {rate_hz} Hz, received {rate} from {' '.join(command)}.")
    return speaker


def _command(scratch: str | None) -> tuple[str, ...]:
    """How eSpeak's speaker is started."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise DemoError(
            "the demo corpus is spoken by eSpeak NG; expected the package espeakng-loader, found none. "
            "Install it: pip install espeakng-loader (`make setup` does)."
        ) from error
    script, library = Path(__file__).with_name("speaker.py"), espeakng_loader.get_library_path()
    command = (sys.executable, "-I", "-S", str(script), str(library), str(_data_folder()))
    return (*command, scratch) if scratch else command


def _read_count(speaker: subprocess.Popen[bytes]) -> int:
    header = _pipe(speaker.stdout).read(8)
    if len(header) != 8:
        raise DemoError(f"expected the engine's process to answer, but it ended with status {speaker.wait()}.")
    return int(struct.unpack("<q", header)[0])


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise DemoError("expected a pipe to the engine's process, found none.")
    return pipe
