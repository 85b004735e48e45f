"""A small process that speaks: SVOX Pico through the package py-nanotts, a fresh fork for each utterance.

    python pico_speaker.py

Pico draws from random numbers of its own that go on from one utterance to the next (measured: the same request said
twice is other samples). So, as in speaker.py, the process that has loaded it never speaks; forks of it do.

Reads a JSON object a line: text, voice ("de-DE"), speed, pitch, max_samples. Writes what speaker.py writes.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from typing import Any

from py_nanotts import NanoTTS  # type: ignore[import-not-found,import-untyped,unused-ignore]

RATE_HZ = 16000
_TIMEOUT_SECONDS = 60


def main() -> None:
    """Serves until the input ends."""
    engine = NanoTTS()
    _write(struct.pack("<q", RATE_HZ))
    for line in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            _speak_and_exit(engine, json.loads(line))
        _, status = os.waitpid(child, 0)
        if status:
            fault = -1000 - os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)
            _write(struct.pack("<q", fault))


def _speak_and_exit(engine: NanoTTS, request: dict[str, Any]) -> None:
    """The fork's whole life: speak, write, exit. Never returns."""
    code = 1
    try:
        signal.alarm(_TIMEOUT_SECONDS)
        said = engine.speak(request["text"], voice=request["voice"], speed=request["speed"], pitch=request["pitch"])
        pcm = said[: 2 * request["max_samples"]]
        _write(struct.pack("<q", len(pcm) // 2) + pcm + struct.pack("<q", 2) + b"[]")  # it doesn't tell its sounds
        code = 0
    finally:
        os._exit(code)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    main()
