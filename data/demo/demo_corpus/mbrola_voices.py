"""MBROLA's voices: who there is, and which of their sounds is which of the IPA.

Each is a recorded person. Most name their sounds in SAMPA; where a voice has names of its own, FAMILIES says what they
mean. Which sounds a voice has stands in its file (voice_file).
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import NamedTuple

from demo_corpus.diphones import PAUSE

_HEADER = struct.Struct("<6s5sHH")  # "MBROLA", version, diphones, size of the pitch marks in files up to 64 KB of them


class MbrolaVoice(NamedTuple):
    """name : MBROLA's, "fr1"; language : the one that it was recorded for, "" where none is ours."""

    name: str
    language: str
    family: str = ""


def _pairs(names: str, sounds: str) -> dict[str, str]:
    return dict(zip(names.split(), sounds.split(), strict=True))


# SAMPA -> IPA. Where two names are one sound, the first that a voice has stands for it
_PLAIN = "p b t d k g f v s z h x c q m n l r j w a e i o u y"
_SAMPA = _pairs(_PLAIN, _PLAIN) | _pairs(
    "S Z T D C G N J L H R B jj E O A I U Y V Q 2 9 @ { } 6 1 tS dZ ts dz ts' dz' s' z' d' t' n' h\\ 4 "
    "a: e: i: o: u: y: 2: E: O: A: }: {: 3: 9: u0 tS' dZ' a~ e~ i~ o~ u~ 6~ 9~ gj",
    "ʃ ʒ θ ð ç ɣ ŋ ɲ ʎ ɥ ʁ β ʝ ɛ ɔ ɑ ɪ ʊ ʏ ʌ ɒ ø œ ə æ ʉ ɐ ɨ tʃ dʒ ts dz tɕ dʑ ɕ ʑ ɟ c ɲ h ɾ "
    "a e i o u y ø ɛ ɔ ɑ ʉ æ ɜ œ ɵ tɕ dʑ ã ẽ ĩ õ ũ ɐ̃ œ̃ ɟ",
)
# names of a family's own -> IPA; "" where its name is not to be read as SAMPA
FAMILIES = {
    "": {},
    "french": _pairs("a~ e~ o~", "ɑ̃ ɛ̃ ɔ̃"),
    "english": _pairs("r EI @U", "ɹ e o"),
    "spanish": _pairs("r rr", "ɾ r"),
    "spanish without th": _pairs("r rr", "ɾ r") | {"T": ""},
    "venezuelan": _pairs("r rr h N", "ɾ r x ɲ"),
    "mexican": _pairs("r rr ny", "ɾ r ɲ"),
    "brazilian": _pairs(
        "x j y ee oo am an em en im in om on um un nh lh r rr @", "ʃ ʒ j ɛ ɔ ɐ̃ ɐ̃ ẽ ẽ ĩ ĩ õ õ ũ ũ ɲ ʎ ɾ ʁ ɐ"
    ),
    "polish": _pairs("I e~ o~", "ɨ ɛ̃ ɔ̃"),
    "romanian": _pairs("T C G J S", "ts tʃ dʒ ʒ ʃ") | {"E": "", "O": "", "I": ""},
    "greek": _pairs("q R S Z", "ɟ ɾ ts dz") | {"M": "", "N": "", "V": "", "X": "", "Y": ""},
    "turkish": _pairs("@ @' I", "ɨ ø i") | {"L": "", "G": ""},
    "italian": _pairs(
        "A E E1 I O O1 U J W P T K B D G ch gh F V S Z sh M N gn ng L gl R",
        "a e ɛ i o ɔ u j w p t k b d g tʃ dʒ f v s z ʃ m n ɲ ŋ l ʎ r",
    )
    | dict.fromkeys(["h", "H", "1", "2"], ""),
    "swedish": _pairs("rs", "ʂ"),
    "indonesian": _pairs("V I U Q nY", "a i u o ɲ"),
    "persian": _pairs("a: c: j: s: z: y", "ɑ tʃ dʒ ʃ ʒ j"),
    "hebrew": _pairs("Ts X", "ts x"),
    "lithuanian": _pairs(
        "p' b' t' d' k' g' f' v' s' z' m' n' l' r' ii uu ee oo ea aa",
        "pʲ bʲ tʲ dʲ kʲ gʲ fʲ vʲ sʲ zʲ mʲ nʲ lʲ rʲ i u e o æ a",
    )
    | dict.fromkeys(["A", "E", "I", "O", "U", "L", "M", "N", "R", "J", "W"], ""),
}

_VOICES = (
    ("de", "", "de1 de2 de3 de4 de5 de6 de7"), ("en", "english", "en1 us1 us2 us3"), ("es", "spanish", "es1 es4"),
    ("es", "spanish without th", "es2"), ("es", "mexican", "mx1 mx2"), ("es", "venezuelan", "vz1"),
    ("fr", "french", "fr1 fr2 fr3 fr4 fr5 fr6 fr7 ca1 ca2"), ("it", "italian", "it1 it2"),
    ("pt", "brazilian", "br1 br2 br3 br4"), ("pt", "", "pt1"), ("pl", "polish", "pl1"), ("ro", "romanian", "ro1"),
    ("hu", "", "hu1"), ("el", "", "gr1"), ("el", "greek", "gr2"), ("nl", "", "nl2 nl3"), ("sv", "swedish", "sw1 sw2"),
    ("tr", "turkish", "tr1 tr2"), ("cs", "", "cz2"), ("", "", "cr1 af1 ic1"), ("", "indonesian", "id1"),
    ("", "persian", "ir1"), ("", "hebrew", "hb2"), ("", "lithuanian", "lt1 lt2"),
)  # fmt: skip
VOICES = tuple(MbrolaVoice(name, language, family) for language, family, names in _VOICES for name in names.split())


class VoiceFile(NamedTuple):
    """sounds : IPA -> the voice's own names; hz : the pitch at which it was stored, its speaker's usual one."""

    sounds: dict[str, str]
    hz: float
    rate_hz: int


@functools.cache
def voice_file(path: Path, family: str) -> VoiceFile:
    """What stands at the head of a voice's file: rate, period of the pitch, and the pairs of sounds that it has.

    Raises: ValueError where it is no voice of MBROLA's.
    """
    data = path.read_bytes()
    magic, _, pairs, old = _HEADER.unpack_from(data)
    if magic != b"MBROLA":
        raise ValueError(f"expected a voice of MBROLA in {path}, received something else.")
    place = _HEADER.size + (4 if old else 8)  # behind the sizes of the marks and of the sound
    rate_hz, period = struct.unpack_from("<HB", data, place)
    place += 4
    names: set[str] = set()
    for _ in range(pairs):
        left = data.index(b"\0", place)
        right = data.index(b"\0", left + 1)
        names |= {data[place:left].decode("latin-1"), data[left + 1 : right].decode("latin-1")}
        place = right + 5
    own = FAMILIES[family]
    sounds = {PAUSE: "_"}
    for name, ipa in [*own.items(), *_SAMPA.items()]:  # a family's own names go before SAMPA's
        if name in names and (ipa == own.get(name, ipa) != ""):
            sounds.setdefault(ipa, name)
    return VoiceFile(sounds, rate_hz / period, rate_hz)
