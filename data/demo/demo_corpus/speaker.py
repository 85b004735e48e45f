"""A small process that speaks: eSpeak NG by ctypes, a fresh fork for each utterance. Standard library only.

    python speaker.py LIBRARY DATA_FOLDER [SCRATCH_FOLDER]

eSpeak keeps state between utterances and between voices (measured: the same request said second is other samples),
and draws noise from the C library's rand(). So the process that has loaded eSpeak never speaks: each request is spoken
by a fork of it, whose state is the same whatever was said before. A language that aborts or hangs the engine takes its
fork with it, no more. It is a process of its own because a small process forks in a tenth of a worker's time.

Reads a JSON object a line: text, voice, variant, words_per_minute, pitch, pitch_range, max_samples, noise_seed.
`variant`, where it is not empty, is the text of the voice variant that `voice` names as `+own`.
Writes for each an int64 n, little-endian. n >= 0: that many samples follow, int16, at the rate. n < 0: a fault, minus
the exit status, or -1000 - signal. First of all it writes the rate in Hz. It ends when its input ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
import tempfile
from typing import Any

_SYNCHRONOUS, _UTF8, _STOP = 2, 1, 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CHUNK_MS = 500
_TIMEOUT_SECONDS = 60
UNKNOWN_VOICE = 3
OWN_VARIANT = "own"

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def main(library_path: str, data_folder: str, scratch_folder: str | None = None) -> None:
    """Serves until the input ends."""
    library = ctypes.CDLL(library_path)
    with tempfile.TemporaryDirectory(prefix="espeak-", dir=scratch_folder, ignore_cleanup_errors=True) as folder:
        own_variant = _mirror(data_folder, folder)
        _write(struct.pack("<q", library.espeak_Initialize(_SYNCHRONOUS, _CHUNK_MS, folder.encode(), 0)))
        _serve(library, own_variant)


def _mirror(data_folder: str, folder: str) -> str:
    """ESpeak's data as links in `folder`, but with a place for a variant of our own, whose path is returned."""
    source, target = os.path.join(data_folder, "espeak-ng-data"), os.path.join(folder, "espeak-ng-data")
    variants = os.path.join("voices", "!v")
    os.makedirs(os.path.join(target, variants))
    for name in sorted(set(os.listdir(source)) - {"voices"}):
        os.symlink(os.path.join(source, name), os.path.join(target, name))
    for name in sorted(os.listdir(os.path.join(source, variants))):
        os.symlink(os.path.join(source, variants, name), os.path.join(target, variants, name))
    return os.path.join(target, variants, OWN_VARIANT)


def _serve(library: ctypes.CDLL, own_variant: str) -> None:
    for line in sys.stdin.buffer:
        request = json.loads(line)
        with open(own_variant, "w", encoding="utf-8") as file:
            file.write(request["variant"])
        child = os.fork()
        if child == 0:
            _speak_and_exit(library, request)
        _, status = os.waitpid(child, 0)
        if status:
            fault = -1000 - os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)
            _write(struct.pack("<q", fault))


def _speak_and_exit(library: ctypes.CDLL, request: dict[str, Any]) -> None:
    """The fork's whole life: set the voice, speak, write, exit. Never returns."""
    code = 1
    try:
        signal.alarm(_TIMEOUT_SECONDS)  # a hung engine dies by SIGALRM
        pieces: list[bytes] = []
        spoken = 0

        def collect(samples: int, count: int, _events: int) -> int:
            nonlocal spoken
            if count > 0:
                pieces.append(ctypes.string_at(samples, 2 * count))
                spoken += count
            return _STOP if spoken >= request["max_samples"] else 0

        callback = _CALLBACK(collect)
        library.espeak_SetSynthCallback(callback)
        library.espeak_ng_SetRandSeed(ctypes.c_long(request["noise_seed"]))
        if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
            code = UNKNOWN_VOICE
        else:
            library.espeak_SetParameter(_RATE, request["words_per_minute"], 0)
            library.espeak_SetParameter(_VOLUME, 100, 0)
            library.espeak_SetParameter(_PITCH, request["pitch"], 0)
            library.espeak_SetParameter(_RANGE, request["pitch_range"], 0)
            text = request["text"].encode()
            library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, _UTF8, None, None)
            pcm = b"".join(pieces)[: 2 * request["max_samples"]]
            _write(struct.pack("<q", len(pcm) // 2) + pcm)
            code = 0
    finally:
        os._exit(code)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    main(*sys.argv[1:])
