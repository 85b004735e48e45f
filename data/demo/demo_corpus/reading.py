"""How a diphone voice reads: eSpeak reads the text and says when each sound begins, the voice says these sounds.

So the sound is a recorded person's and the reading eSpeak's, with a melody of our own. For festival.py and mbrola.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soxr

from demo_corpus import speech
from demo_corpus.diphones import PAUSE, said_as
from demo_corpus.voices import VoiceDraw

READ_MORE = 1.3  # than is said: what no sound of the voice stands for is left out
SHORTEST_SECONDS, SHORTEST_PAUSE_SECONDS = 0.03, 0.04
DECLINATION, DECLINATION_SECONDS = 0.15, 3.0  # the pitch falls by so much, over so long a phrase
_VOWELS = frozenset("aeiouyøɛɔəæɑʌ")


class Manner(NamedTuple):
    """How a clip is said.

    hz : the pitch that the melody is about
    liveliness : how far stress raises it
    faster : than in eSpeak's samples, so many times; its reader's size makes it the reader's tempo
    unevenness : of the sounds' lengths, in the logarithm
    vowel_length : vowels last so many times as long as eSpeak's
    stressed : what marks a stressed vowel's name
    """

    hz: float
    liveliness: float
    faster: float
    unevenness: float = 0.08
    vowel_length: float = 1.0
    stressed: str = ""


class Segment(NamedTuple):
    """A sound by the voice's own name, and the pitch in its middle, where there is one."""

    name: str
    seconds: float
    hz: float | None = None


@dataclass(frozen=True)
class Read:
    """What is to be said, and where each sound of it begins, in IPA, as in speech.Speech."""

    segments: tuple[Segment, ...]
    sounds: tuple[tuple[float, str], ...]

    def spoken(self, samples: np.ndarray, rate_hz: int, seconds: float) -> speech.Speech:
        """It as a voice has said it, at most `seconds` of it, as loud as eSpeak. samples : float32, (samples,)"""
        samples = soxr.resample(samples, rate_hz, speech.RATE_HZ)[: int(seconds * speech.RATE_HZ)]
        samples *= 0.9 / max(1e-6, float(np.abs(samples).max()))
        return speech.Speech(np.rint(samples * 32767).astype("<i2"), self.sounds)


def read(
    text: str,
    reader: VoiceDraw,
    has: dict[str, str],
    manner: Manner,
    seconds: float,
    noise_seed: int,
    scratch: str | None = None,
) -> Read:
    """At most `seconds` of `text`, in the sounds of a voice: IPA -> its own names."""
    enough = READ_MORE / min(1.0, manner.vowel_length) * seconds * max(reader.size, manner.faster)
    said = speech.say(text, reader, enough, noise_seed, scratch)
    random = np.random.default_rng(noise_seed)
    segments = [Segment(has[PAUSE], 0.05)]
    sounds: list[tuple[float, str]] = [(0.0, PAUSE)]
    now, phrase_began = 0.05, 0.05
    ends = [*(begin for begin, _ in said.sounds[1:]), len(said.samples) / speech.RATE_HZ]
    for (begin, sound), end in zip(said.sounds, ends, strict=True):
        lasts = (end - begin) / manner.faster
        parts = said_as(sound, has)
        if not sound and lasts >= SHORTEST_PAUSE_SECONDS:
            parts, phrase_began = (PAUSE,), now + lasts
        for part in parts:
            if now >= seconds:
                break
            length = lasts / len(parts) * float(np.exp(random.normal(0, manner.unevenness)))
            name, hz = has[part], None
            if part[:1] in _VOWELS:
                length *= manner.vowel_length
                raised = manner.liveliness * (0.6 if "ˈ" in sound else -0.1) + random.normal(0, 0.03)
                fallen = DECLINATION * min((now - phrase_began) / DECLINATION_SECONDS, 1.0)
                hz = manner.hz * (1 + raised) * (1 - fallen)
                name += manner.stressed if "ˈ" in sound else ""
            segments.append(Segment(name, max(SHORTEST_SECONDS, length), hz))
            sounds.append((now, part))
            now += segments[-1].seconds
    segments.append(Segment(has[PAUSE], 0.05))
    sounds.append((now, PAUSE))
    return Read(tuple(segments), tuple(sounds))
