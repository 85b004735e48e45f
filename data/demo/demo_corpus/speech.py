"""Text in, speech out: asks a process of speaker.py, one for each worker."""

from __future__ import annotations

import functools
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np

from demo_corpus.errors import DemoError
from demo_corpus.speaker import UNKNOWN_VOICE
from demo_corpus.voices import VoiceDraw

RATE_HZ = 22050


def say(text: str, voice: VoiceDraw, seconds: float, noise_seed: int) -> np.ndarray:
    """Speaks `text`, at most `seconds` of it: a function of its arguments alone.

    Returns: int16, shape (samples,), at RATE_HZ. Shorter than asked where the text ends sooner.
    Raises: DemoError when eSpeak does not know the voice, crashes, or hangs.
    """
    speaker = _speaker()
    request = {
        "text": text,
        "voice": voice.name,
        "words_per_minute": voice.engine_words_per_minute,
        "pitch": voice.pitch,
        "pitch_range": voice.pitch_range,
        "max_samples": int(seconds * RATE_HZ),
        "noise_seed": noise_seed,
    }
    try:
        _pipe(speaker.stdin).write(json.dumps(request).encode() + b"\n")
        _pipe(speaker.stdin).flush()
    except BrokenPipeError as error:
        raise DemoError(f"expected eSpeak NG to go on speaking, but its process ended ({speaker.poll()}).") from error
    count = _read_count(speaker)
    if count < 0:
        if count == -UNKNOWN_VOICE:
            fault = "no such voice"
        else:
            fault = f"signal {-1000 - count}" if count <= -1000 else f"exit status {-count}"
        raise DemoError(
            f"expected eSpeak NG to speak as {voice.name!r}, received: {fault}, on the text {text[:60]!r}. "
            "If the language is at fault, drop it from `languages` in data/demo/params.yaml."
        )
    return np.frombuffer(_pipe(speaker.stdout).read(2 * count), dtype="<i2")


@functools.cache
def _speaker() -> subprocess.Popen[bytes]:
    """This worker's speaker. It ends when the worker does, since its input ends then."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise DemoError(
            "the demo corpus is spoken by eSpeak NG; expected the package espeakng-loader, found none. "
            "Install it: pip install espeakng-loader (`make setup` does)."
        ) from error
    script = Path(__file__).with_name("speaker.py")
    # eSpeak wants the folder that holds espeak-ng-data
    data = Path(espeakng_loader.get_data_path()).parent
    command = [sys.executable, "-I", "-S", str(script), str(espeakng_loader.get_library_path()), str(data)]
    speaker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    rate = _read_count(speaker)
    if rate != RATE_HZ:
        raise DemoError(f"expected eSpeak NG to speak at {RATE_HZ} Hz, received {rate} with its data in {data}.")
    return speaker


def _read_count(speaker: subprocess.Popen[bytes]) -> int:
    header = _pipe(speaker.stdout).read(8)
    if len(header) != 8:
        raise DemoError(f"expected eSpeak NG's process to answer, but it ended with status {speaker.wait()}.")
    return int(struct.unpack("<q", header)[0])


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise DemoError("expected a pipe to eSpeak NG's process, found none.")
    return pipe
