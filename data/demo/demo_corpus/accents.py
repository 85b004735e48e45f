"""A foreign accent: a text of one language, said with the sounds, the melody and the timing of another's voice.

eSpeak says the vowels of each language at formants of that language's own, with a rhythm of its own, and a network
that hears little else knows the languages by these. With an accent they say nothing, and only the order of the sounds
is left, which an unheard engine and people have as well (docs/experiments.md has what that gave).

The text is read into phonemes by its own language's voice. What the other voice lacks becomes the nearest that it has:
vowels by height, backness and rounding, consonants by eSpeak's names, which all languages take from one base.
"""

from __future__ import annotations

import functools
import struct
from typing import NamedTuple

from demo_corpus.errors import DemoError
from demo_corpus.speech import data_folder, sounds_of

_PAUSE, _STRESS, _VOWEL, _INVALID = 0, 1, 2, 15  # eSpeak's types of phonemes
_MARKS = "ˈˌː-ˑ."
_NASAL = "\u0303"
_BETWEEN = "|"
_VARIANTS = "0123456789_#;^/-.~[:"  # what eSpeak marks the variants of a consonant by

# How open the mouth is, how far back the tongue, whether the lips are round; the chart of the IPA
VOWELS = {
    "i": (0, 0, 0), "y": (0, 0, 1), "ɨ": (0, 1, 0), "ʉ": (0, 1, 1), "ɯ": (0, 2, 0), "u": (0, 2, 1),
    "ɪ": (0.7, 0.2, 0), "ʏ": (0.7, 0.2, 1), "ʊ": (0.7, 1.8, 1),
    "e": (1, 0, 0), "ø": (1, 0, 1), "ɘ": (1, 1, 0), "ɵ": (1, 1, 1), "ɤ": (1, 2, 0), "o": (1, 2, 1),
    "ə": (1.5, 1, 0),
    "ɛ": (2, 0, 0), "ε": (2, 0, 0), "œ": (2, 0, 1), "ɜ": (2, 1, 0), "ʌ": (2, 1.7, 0), "ɔ": (2, 2, 1),
    "æ": (2.6, 0.2, 0), "ɐ": (2.5, 1, 0), "a": (3, 0.6, 0), "ɑ": (3, 2, 0), "ɒ": (3, 2, 1),
}  # fmt: skip
_GLIDES = {"j": "j", "w": "w", "r": "r", "ɹ": "r", "l": "l"}


class Phoneme(NamedTuple):
    """`kind`: eSpeak's type. `sound`: a vowel's IPA without stress and length, else ""."""

    kind: int
    sound: str


@functools.cache
def replacements(language: str, accent: str) -> dict[str, str]:
    """Phonemes of `language` that the voice of `accent` lacks -> its own, eSpeak's names; "" where there is none."""
    own, other = phonemes_of(language), phonemes_of(accent)
    return {
        name: _nearest(name, phoneme, other)
        for name, phoneme in own.items()
        if name not in other and phoneme.kind not in (_PAUSE, _STRESS, _INVALID)
    }


def _nearest(name: str, phoneme: Phoneme, other: dict[str, Phoneme]) -> str:
    if phoneme.kind == _VOWEL and phoneme.sound:
        parts = [_nearest_vowel(part, other) for part in phoneme.sound if part in VOWELS or part in _GLIDES]
        return _BETWEEN.join([*parts, "n"] if _NASAL in phoneme.sound else parts)
    shorter = name
    while shorter not in other and shorter[-1:] and shorter[-1] in _VARIANTS:
        shorter = shorter[:-1]
    parts = [shorter] if shorter in other else [letter for letter in shorter if letter in other]  # ts: t, s
    palatal = parts and name.endswith(";") and not shorter.endswith(";")
    return _BETWEEN.join([*parts, ";"] if palatal else parts)


def _nearest_vowel(sound: str, other: dict[str, Phoneme]) -> str:
    if sound in _GLIDES:
        return _GLIDES[sound]

    def distance(name: str) -> tuple[float, int, str]:
        squares = [(a - b) ** 2 for a, b in zip(VOWELS[sound], VOWELS[other[name].sound], strict=True)]
        return squares[0] + 0.8 * squares[1] + 0.9 * squares[2], len(name), name

    return min((name for name, phoneme in other.items() if phoneme.sound in VOWELS), key=distance)


@functools.cache
def phonemes_of(language: str) -> dict[str, Phoneme]:
    """All phonemes of a language's voice by eSpeak's names of them, those that it takes from its base included."""
    kinds = _table(_table_name(language))
    # what begins with # is a rule of eSpeak's, not a sound
    vowels = tuple(name for name, kind in kinds.items() if kind == _VOWEL and not name.startswith("#"))
    sounds = dict(zip(vowels, sounds_of(language, tuple(f"'{name}" for name in vowels)), strict=True))
    plain = str.maketrans("", "", _MARKS)
    return {name: Phoneme(kind, sounds.get(name, "").translate(plain)) for name, kind in kinds.items()}


def _table_name(language: str) -> str:
    """A voice's phoneme table has the language's name, unless its file says otherwise."""
    found = sorted((data_folder() / "espeak-ng-data" / "lang").glob(f"*/{language}"))
    if not found:
        raise DemoError(f"expected a language of eSpeak NG, received {language!r} in `languages`.")
    for line in found[0].read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("phonemes "):
            return line.split()[1]
    return language


def _table(name: str) -> dict[str, int]:
    """The phonemes of a table and of those that it includes: name -> type."""
    included, own = _tables()[name]
    merged = _table(included) if included else {}
    return merged | own


@functools.cache
def _tables() -> dict[str, tuple[str, dict[str, int]]]:
    """The file `phontab` of eSpeak NG: table -> the table that it includes, and its own phonemes' names and types."""
    data = (data_folder() / "espeak-ng-data" / "phontab").read_bytes()
    count, place = data[0], 4
    order: list[str] = []
    tables: dict[str, tuple[str, dict[str, int]]] = {}
    for _ in range(count):
        phonemes, included, name = struct.unpack_from("<BB2x32s", data, place)
        place += 36
        own = {}
        for _ in range(phonemes):
            label, kind = struct.unpack_from("<4s7xB", data, place)  # name, flags, program, code, type, ...
            own[label.split(b"\0")[0].decode("latin-1")] = kind
            place += 16
        order.append(_text(name))
        tables[order[-1]] = (order[included - 1] if included else "", own)
    return tables


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("latin-1")
