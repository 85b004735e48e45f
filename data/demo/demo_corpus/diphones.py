"""The sounds that Festival's diphone voices have, and what stands for those that a voice lacks. Sounds are IPA.

A diphone voice is a recorded person: each pair of sounds of one language, cut out and joined anew. Here all voices say
all languages, each with the sounds of its own, so that the voice says nothing of the language; the accent is strong.
"""

from __future__ import annotations

from typing import NamedTuple

PAUSE = ""
_NASAL = "\u0303"
_DROPPED = "ˈˌː-ʰ̪|ʔ?."
_AFFRICATES = ("tʃ", "ts", "dʒ", "dz", "tɕ", "dʑ", "tʂ")


def _sounds(ipa: str, names: str, pause: str) -> dict[str, str]:
    return dict(zip(ipa.split(), names.split(), strict=True)) | {PAUSE: pause}


# IPA -> the voice's own name
INDIAN = _sounds(
    "ə a i u e o f k g tʃ t d n p b m j r l v s ʃ dʒ h x ʒ w",
    "a aa iy uw ee oo f k g ch th dh n p b m y r l v s sh j h x zh w", "pau",
)  # fmt: skip
FINNISH = _sounds(
    "ɑ e i o u y ə ø æ p t k b d g f s ʃ h v m n ŋ l r j", "a e i o u y @ 7 & p t k b d g f s S h v m n N l r j", "#"
)
ITALIAN = _sounds(
    "i e ɛ a o ɔ u j w p t k b d g f s ʃ v z ʒ ts tʃ dz dʒ m n ɲ ŋ l ʎ r",
    "i e E a o O u j w p t k b d g f s S v z Z ts tS dz dZ m n J ng l L r", "#",
)  # fmt: skip
ENGLISH = _sounds(
    "ɑ æ ʌ ɔ ə tʃ d ð ɾ ɛ e f g h i dʒ k l m n ŋ o p ɹ s ʃ t θ u v w j z ʒ b",
    "aa ae ah ao ax ch d dh dx eh ey f g hh iy jh k l m n ng ow p r s sh t th uw v w y z zh b", "pau",
)  # fmt: skip
CZECH = _sounds(
    "a b ts tʃ x d ɟ dz dʒ e f g h i j k l m n ŋ ɲ o p r s ʃ t c u v z ʒ",
    "a b c c~ ch d d~ dz dz~ e f g h i j k l m n n* n~ o p r s s~ t t~ u v z z~", "#",
)  # fmt: skip


class Voice(NamedTuple):
    """name : Festival's; sounds : IPA -> its names; hz : the speaker's usual pitch; stressed : a mark on its vowels"""

    name: str
    sounds: dict[str, str]
    hz: float
    stressed: str = ""


VOICES = (
    Voice("czech_dita", CZECH, 190), Voice("czech_krb", CZECH, 230), Voice("czech_machac", CZECH, 105),
    Voice("czech_ph", CZECH, 110), Voice("hindi_NSK_diphone", INDIAN, 110), Voice("hy_fi_mv_diphone", FINNISH, 105),
    Voice("kal_diphone", ENGLISH, 105), Voice("ked_diphone", ENGLISH, 105), Voice("lp_diphone", ITALIAN, 185, "1"),
    Voice("pc_diphone", ITALIAN, 110, "1"), Voice("suo_fi_lj_diphone", FINNISH, 190),
    Voice("telugu_NSK_diphone", INDIAN, 110),
)  # fmt: skip

# What is tried in its place, in this order; two sounds stand for one
_INSTEAD = {
    "y": "i u", "ø": "ɛ e o", "ɨ": "i u", "ɯ": "ɨ u", "ʉ": "y u", "ə": "ɛ e a", "ɛ": "e", "e": "ɛ", "ɔ": "o", "o": "ɔ",
    "ɑ": "a", "a": "ɑ ʌ", "æ": "ɛ e", "ɐ": "a ʌ ə", "ʌ": "a ə", "ɒ": "ɔ o", "ɪ": "i", "ʊ": "u", "ʏ": "y", "œ": "ø",
    "ɜ": "ə", "ɵ": "ø", "ε": "ɛ",
    "θ": "s", "ð": "d", "x": "h ʁ k", "χ": "x", "ç": "ʃ", "ɣ": "g", "ɡ": "g", "β": "v", "ɲ": "n+j", "ʎ": "l+j",
    "ŋ": "n", "ɱ": "m", "ɳ": "n", "ʈ": "t", "ɖ": "d", "ʁ": "r ɹ", "r": "ɾ ɹ ʁ", "ɾ": "r", "ɹ": "r", "ɫ": "l", "ɭ": "l",
    "ɬ": "l", "ʋ": "v", "ts": "t+s", "tʃ": "t+ʃ", "tɕ": "tʃ", "tʂ": "tʃ", "dʒ": "d+ʒ", "dz": "d+z", "dʑ": "dʒ",
    "ɕ": "ʃ", "ʑ": "ʒ", "ʂ": "ʃ", "ʐ": "ʒ", "ɧ": "ʃ", "ʃ": "s", "ʒ": "z", "z": "s", "c": "t+j", "ɟ": "d+j",
    "ʲ": "j", "h": "x", "ɦ": "h",
    "w": "v u", "v": "w", "j": "i", "ʝ": "j", "ɥ": "j", "q": "k", "g": "k", "b": "p", "d": "t", "f": "v",
    "tʲ": "c", "dʲ": "ɟ", "nʲ": "ɲ", "lʲ": "ʎ",
    "ɑ̃": "ã", "ɐ̃": "ã ɑ̃", "ã": "ɑ̃ ɐ̃", "ɛ̃": "ẽ", "ẽ": "ɛ̃", "ɔ̃": "õ", "õ": "ɔ̃", "œ̃": "ɛ̃ ẽ",
}  # fmt: skip


def said_as(sound: str, has: dict[str, str]) -> tuple[str, ...]:
    """The sounds of a voice that stand for one of eSpeak's, none where nothing does."""
    for letter in _DROPPED:
        sound = sound.replace(letter, "")
    if not sound:
        return ()
    length = 2 if sound.startswith(_AFFRICATES) else 1
    first, rest = sound[:length], sound[length:]
    if rest[:1] == _NASAL:
        return _one(f"{first}{_NASAL}", has) or (*_one(first, has), *_one("n", has))
    if rest[:1] == "ʲ":
        soft = _one(f"{first}ʲ", has)
        return soft or (*_one(first, has), *_one("j", has))
    # of a diphthong the first part: eSpeak tells when the whole begins, not the second
    return _one(first, has)


def _one(sound: str, has: dict[str, str], tried: frozenset[str] = frozenset()) -> tuple[str, ...]:
    if sound in has:
        return (sound,)
    if sound in tried:
        return ()
    for instead in _INSTEAD.get(sound, "").split():
        parts = [_one(part, has, tried | {sound}) for part in instead.split("+")]
        if all(parts):
            return tuple(part for found in parts for part in found)
    return ()
