"""Text in, speech out: asks a process of speaker.py (or of another engine's), one for each worker."""

from __future__ import annotations

import atexit
import functools
import json
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from demo_corpus.errors import DemoError, EngineCrashError
from demo_corpus.speaker import OWN_VARIANT, UNKNOWN_VOICE
from demo_corpus.timbre import with_timbre
from demo_corpus.voices import VoiceDraw

RATE_HZ = 22050


@dataclass(frozen=True)
class Speech:
    """What an engine said.

    samples : int16, shape (samples,), at RATE_HZ
    sounds : where each sound begins, in seconds, and which it is, in IPA with its stress; "" for none. Empty where
        the engine does not tell.
    """

    samples: np.ndarray
    sounds: tuple[tuple[float, str], ...] = ()


def say(text: str, voice: VoiceDraw, seconds: float, noise_seed: int, scratch: str | None = None) -> Speech:
    """Speaks `text`, at most `seconds` of it: a function of its arguments alone.

    `scratch`: an existing folder for the speaker's own data; None for the system's.

    Returns: the speech, shorter than asked where the text ends sooner.
    Raises: DemoError when eSpeak does not know the voice; EngineCrashError when it crashes or hangs.
    """
    request = {
        "text": text,
        "voice": voice.name if voice.timbre is None else f"{voice.accent or voice.language}+{OWN_VARIANT}",
        "variant": ""
        if voice.timbre is None
        else with_timbre(_variant_text(voice.variant), voice.timbre) + voice.rhythm,
        "words_per_minute": voice.engine_words_per_minute,
        "pitch": voice.pitch,
        "pitch_range": voice.pitch_range,
        "max_samples": int(seconds * RATE_HZ),
        "noise_seed": noise_seed,
    }
    if voice.accent:
        from demo_corpus.accents import replacements  # it asks eSpeak, by this module

        request |= {"reader": voice.language, "replace": replacements(voice.language, voice.accent)}
    said = ask(_command(scratch), RATE_HZ, request)
    if isinstance(said, int):
        if said == -UNKNOWN_VOICE:
            fault = "no such voice"
        else:
            fault = f"signal {-1000 - said}" if said <= -1000 else f"exit status {-said}"
        kind = EngineCrashError if said <= -1000 else DemoError
        raise kind(
            f"expected eSpeak NG to speak as {voice.name!r}, received: {fault}, on the text {text[:60]!r}. "
            "If the language is at fault, drop it from `languages` in data/demo/params.yaml."
        )
    return said


def sounds_of(language: str, phonemes: tuple[str, ...]) -> tuple[str, ...]:
    """How a language's voice says phonemes that eSpeak names so: each one's IPA, with its mark of stress."""
    request = {
        "text": f"[[{' _: '.join(phonemes)}]]", "phonemes": True, "voice": language, "variant": "",
        "words_per_minute": 160, "pitch": 50, "pitch_range": 50, "noise_seed": 1,
        "max_samples": RATE_HZ * len(phonemes),
    }  # fmt: skip
    said = ask(_command(None), RATE_HZ, request)
    found: list[str] = [""]
    for _, sound in () if isinstance(said, int) else said.sounds:
        found[-1] += sound
        if not sound:
            found.append("")
    found = found[: len(phonemes)]
    if len(found) < len(phonemes):
        raise DemoError(f"expected eSpeak NG to say {len(phonemes)} sounds of {language!r}, received {len(found)}.")
    return tuple(found)


def ask(command: tuple[str, ...], rate_hz: int, request: dict[str, object]) -> Speech | int:
    """What the process that `command` starts answers, or a fault (see speaker.py). Its samples are at `rate_hz`."""
    speaker = _speaker_for(command, rate_hz)
    try:
        _pipe(speaker.stdin).write(json.dumps(request).encode() + b"\n")
        _pipe(speaker.stdin).flush()
    except BrokenPipeError as error:
        raise DemoError(f"expected the engine to go on speaking, but its process ended ({speaker.poll()}).") from error
    count = _read_count(speaker)
    if count < 0:
        return count
    samples = np.frombuffer(_pipe(speaker.stdout).read(2 * count), dtype="<i2")
    sounds = json.loads(_pipe(speaker.stdout).read(_read_count(speaker)))
    return Speech(samples, tuple((sample / rate_hz, sound) for sample, sound in sounds))


@functools.cache
def _variant_text(variant: str) -> str:
    """The file of one of eSpeak's voice variants."""
    path = data_folder() / "espeak-ng-data" / "voices" / "!v" / variant
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DemoError(f"expected a voice variant in {path}, received: {error.strerror}.") from error


def data_folder() -> Path:
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
    command = (sys.executable, "-I", "-S", str(script), str(library), str(data_folder()))
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
