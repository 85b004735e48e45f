"""A small process that speaks: eSpeak NG by ctypes, a fresh fork for each utterance. Standard library only.

    python speaker.py LIBRARY DATA_FOLDER [SCRATCH_FOLDER]

eSpeak keeps state between utterances and between voices (measured: the same request said second is other samples),
and draws noise from the C library's rand(). So the process that has loaded eSpeak never speaks: each request is spoken
by a fork of it, whose state is the same whatever was said before. A language that aborts or hangs the engine takes its
fork with it, no more. It is a process of its own because a small process forks in a tenth of a worker's time.

Reads a JSON object a line: text, voice, variant, words_per_minute, pitch, pitch_range, max_samples, noise_seed.
`variant`, where it is not empty, is the text of the voice variant that `voice` names as `+own`.
`reader`, where there is one, is a voice that reads the text into phonemes, for `voice` to say; `replace` maps those
that `voice` lacks to its own. `phonemes`: the text is phonemes already, by eSpeak's names of them.
Writes for each an int64 n, little-endian. n >= 0: that many samples follow, int16, at the rate, then an int64 and so
many bytes of JSON: [[sample, sound], ...], where each sound begins, in IPA, "" where there is none. n < 0: a fault,
minus the exit status, or -1000 - signal. First of all it writes the rate in Hz. It ends when its input ends.
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

_SYNCHRONOUS, _UTF8, _PHONEMES, _STOP = 2, 1, 0x100, 1
_TELL_PHONEMES, _IN_IPA = 1, 2
_EVENT = struct.Struct("<iIiiiiQ8s")  # espeak_EVENT: its type is first, the sample sixth, a phoneme's name last
_LAST_EVENT, _PHONEME_EVENT = 0, 7
_BETWEEN_PHONEMES = "|"
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CHUNK_MS = 500
_TIMEOUT_SECONDS = 60
UNKNOWN_VOICE = 3
OWN_VARIANT = "own"


class _UnknownVoiceError(Exception):
    pass


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def main(library_path: str, data_folder: str, scratch_folder: str | None = None) -> None:
    """Serves until the input ends."""
    library = ctypes.CDLL(library_path)
    with tempfile.TemporaryDirectory(prefix="espeak-", dir=scratch_folder, ignore_cleanup_errors=True) as folder:
        own_variant = _mirror(data_folder, folder)
        _write(
            struct.pack(
                "<q", library.espeak_Initialize(_SYNCHRONOUS, _CHUNK_MS, folder.encode(), _TELL_PHONEMES | _IN_IPA)
            )
        )
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
        sounds: list[tuple[int, str]] = []
        spoken = 0

        def collect(samples: int, count: int, events: int) -> int:
            nonlocal spoken
            if count > 0:
                pieces.append(ctypes.string_at(samples, 2 * count))
                spoken += count
            sounds.extend(_sounds(events))
            return _STOP if spoken >= request["max_samples"] else 0

        callback = _CALLBACK(collect)
        library.espeak_SetSynthCallback(callback)
        library.espeak_ng_SetRandSeed(ctypes.c_long(request["noise_seed"]))
        text, flags = request["text"], _UTF8 | (_PHONEMES if request.get("phonemes") else 0)
        if request.get("reader"):
            _set_voice(library, request["reader"])
            text, flags = _read(library, text, request["replace"]), _UTF8 | _PHONEMES
        _set_voice(library, request["voice"])
        library.espeak_SetParameter(_RATE, request["words_per_minute"], 0)
        library.espeak_SetParameter(_VOLUME, 100, 0)
        library.espeak_SetParameter(_PITCH, request["pitch"], 0)
        library.espeak_SetParameter(_RANGE, request["pitch_range"], 0)
        encoded = text.encode()
        library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, flags, None, None)
        pcm = b"".join(pieces)[: 2 * request["max_samples"]]
        told = json.dumps(sounds).encode()
        _write(struct.pack("<q", len(pcm) // 2) + pcm + struct.pack("<q", len(told)) + told)
        code = 0
    except _UnknownVoiceError:
        code = UNKNOWN_VOICE
    finally:
        os._exit(code)


def _set_voice(library: ctypes.CDLL, name: str) -> None:
    if library.espeak_SetVoiceByName(name.encode()) != 0:
        raise _UnknownVoiceError


def _sounds(events: int) -> list[tuple[int, str]]:
    """Where each sound begins, of a chunk's events."""
    found: list[tuple[int, str]] = []
    while True:
        kind, *_, sample, _, name = _EVENT.unpack(ctypes.string_at(events, _EVENT.size))
        if kind == _LAST_EVENT:
            return found
        if kind == _PHONEME_EVENT:
            found.append((sample, name.split(b"\0")[0].decode("utf-8", "replace")))
        events += _EVENT.size


def _read(library: ctypes.CDLL, text: str, replace: dict[str, str]) -> str:
    """The text as phonemes, by eSpeak's names, those in `replace` replaced; a full stop after each clause."""
    read = library.espeak_TextToPhonemes
    read.restype, read.argtypes = ctypes.c_char_p, (ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int)
    rest, clauses = ctypes.c_char_p(text.encode()), []
    while rest.value:
        clause = read(ctypes.byref(rest), _UTF8, ord(_BETWEEN_PHONEMES) << 8).decode("utf-8", "replace")
        # "(en)" and the like: a word that eSpeak takes for another language's
        words = [_replaced(word, replace) for word in clause.split() if "(" not in word]
        if any(words):
            clauses.append(f"[[{' '.join(words)}]].")
    return " ".join(clauses)


def _replaced(word: str, replace: dict[str, str]) -> str:
    phonemes = []
    for phoneme in word.split(_BETWEEN_PHONEMES):
        name = phoneme.lstrip("',%=")  # marks of stress
        phonemes.append(phoneme[: len(phoneme) - len(name)] + replace.get(name, name))
    return _BETWEEN_PHONEMES.join(filter(None, phonemes))


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    main(*sys.argv[1:])
