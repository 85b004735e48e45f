"""The sounds of speech: what a corpus tells of them becomes classes, a class for each column of an image.

Synthesised corpora know what is said when (stages/pipeline/sounds_table.py). A network that learns to hear it, besides
naming the language, hears what languages are made of (Tang et al. 2017, arXiv:1705.03151), and not only whose voice it
is. Recordings of which nobody wrote it down take no part in it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from stages.pipeline.manifest_table import Row
from stages.pipeline.sounds_table import Said

# Of the IPA, as far as languages are told apart by it; a tilde is a nasal vowel, ʲ a soft consonant
_VOWELS = "a e i o u y ø æ ə ɐ ʌ ɑ ɒ ɔ ɛ ɨ ã ẽ ĩ õ ũ ɐ̃ ɑ̃ ɔ̃ ɛ̃ ø̃"
_CONSONANTS = (
    "p b t d k g c ɟ q ʔ f v s z ʃ ʒ ʂ ʐ ɕ ʑ ç x ɣ h θ ð β ʝ ts dz tʃ dʒ tɕ dʑ m n ɲ ŋ l ʎ r ɾ ɹ ʁ j w "
    "pʲ bʲ tʲ dʲ kʲ gʲ fʲ vʲ sʲ zʲ mʲ nʲ lʲ rʲ"
)
SOUNDS = ("", *_VOWELS.split(), *_CONSONANTS.split())  # "" is a pause
_SAME = {
    "ɡ": "g", "ε": "ɛ",
    "ɫ": "l", "ɭ": "l", "ɬ": "l", "ɪ": "i", "ʊ": "u", "ʋ": "v", "ɜ": "ə", "ɵ": "ø", "œ": "ø", "ʏ": "y",
    "ʉ": "y", "ɯ": "ɨ", "ɦ": "h", "χ": "x", "ʈ": "t", "ɖ": "d", "ɳ": "n", "ɱ": "m", "ɥ": "j", "ɤ": "ʌ", "ɘ": "ə",
}  # fmt: skip
_AFFRICATES = ("tʃ", "ts", "dʒ", "dz", "tɕ", "dʑ")
_LEFT_OUT = frozenset("ˈˌːˑ-.|ʰ")  # stress, length, breath
_SOFT, _NASAL, _STOP_BEFORE = "ʲ", "\u0303", "ʔ?"
UNKNOWN = 255  # a column of which nobody knows what is said
MOST_WEIGHT = 8.0


def _decomposed(ipa: str) -> str:
    """Marks as characters of their own, but for the cedilla, which makes another sound."""
    return unicodedata.normalize("NFD", ipa).replace("c\u0327", "ç")


def sound_number(ipa: str) -> int:
    """The class of a sound, UNKNOWN for what is none.

    A vowel's stress and length are left out; a diphthong is its first part.
    """
    text = "".join(letter for letter in _decomposed(ipa) if letter not in _LEFT_OUT)
    if not text:
        return 0
    text = text.lstrip(_STOP_BEFORE) or "ʔ"
    soft = _SOFT in text
    text = text.replace(_SOFT, "") or "j"
    length = 2 if text.startswith(_AFFRICATES) else 1
    first, nasal = _SAME.get(text[:length], text[:length]), _NASAL in text[length : length + 1]
    if soft and first == "tʃ":
        return _NUMBER["tɕ"]
    for name in ((f"{first}{_SOFT}",) if soft else ()) + ((f"{first}{_NASAL}",) if nasal else ()) + (first,):
        if name in _NUMBER:
            return _NUMBER[name]
    return UNKNOWN


_NUMBER = {_decomposed(sound): number for number, sound in enumerate(SOUNDS)}


@dataclass(frozen=True)
class WindowSounds:
    """What is said in each window.

    begins, numbers : for each clip when its sounds begin, in seconds, and their classes; empty where nobody knows
    clip, start : (windows,) a window's clip, and the second at which it begins in it
    seconds_per_column : of the images
    """

    begins: tuple[np.ndarray, ...]
    numbers: tuple[np.ndarray, ...]
    clip: np.ndarray
    start: np.ndarray
    seconds_per_column: float

    def columns(self, windows: np.ndarray, n_columns: int) -> np.ndarray:
        """(len(windows), n_columns) uint8: the class of what is said at each column's middle, or UNKNOWN."""
        out = np.full((len(windows), n_columns), UNKNOWN, np.uint8)
        middles = (np.arange(n_columns) + 0.5) * self.seconds_per_column
        for row, window in zip(out, windows, strict=True):
            begins = self.begins[self.clip[window]]
            if len(begins):
                place = np.searchsorted(begins, self.start[window] + middles, side="right")
                # before the first sound there is a pause
                row[:] = np.append(0, self.numbers[self.clip[window]])[place]
        return out

    def weights(self) -> np.ndarray:
        """(sounds,) float32, see sound_weights."""
        seconds = np.zeros(len(SOUNDS))
        for begins, numbers in zip(self.begins, self.numbers, strict=True):
            known = numbers[:-1] != UNKNOWN
            np.add.at(seconds, numbers[:-1][known], np.diff(begins)[known])
        return sound_weights(seconds)


def sound_weights(amounts: np.ndarray) -> np.ndarray:
    """How much each sound counts, (sounds,) float32: rare ones more, by the root of how rare they are; mean 1.

    amounts : (sounds,) how much of each there is
    """
    share = amounts / max(float(amounts.sum()), 1e-9)
    weights = 1 / np.sqrt(np.maximum(share, 1e-6))
    weights /= max(float((weights * share).sum()), 1e-9)
    capped: np.ndarray = np.minimum(weights, MOST_WEIGHT).astype(np.float32)
    return capped


def window_sounds(
    clips: Sequence[Row], clip: np.ndarray, said: Mapping[str, Said], window_seconds: float, width: int
) -> WindowSounds | None:
    """What the windows of `clips` say; None where that is known of no clip.

    clip : (windows,) a window's clip; a clip's windows follow one another
    said : by the clips' ids
    window_seconds, width : of an image, in seconds and in columns
    """
    known = [said.get(row.id, Said(0.0, (), ())) for row in clips]
    if not any(one.sounds for one in known):
        return None
    number = cache(sound_number)  # of them there are few
    count = np.bincount(clip, minlength=len(clips))
    first = np.searchsorted(clip, clip, side="left")
    # evenly spread from the clip's beginning to its end, as the resize stage cuts them
    spare = np.array([max(0.0, one.seconds - window_seconds) for one in known])[clip]
    start = (np.arange(len(clip)) - first) * spare / np.maximum(count[clip] - 1, 1)
    begins = tuple(np.array(one.begins) for one in known)
    numbers = tuple(np.array([number(sound) for sound in one.sounds], np.uint8) for one in known)
    return WindowSounds(begins, numbers, clip, start, window_seconds / width)
