"""SVOX Pico, the other engine: one voice a language (English has two), made of recordings, in five languages.

A corpus of it is for testing only: it says how much of what was learned from eSpeak is language, and how much eSpeak.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from demo_corpus.errors import DemoError
from demo_corpus.settings import DemoParams, generator
from demo_corpus.speech import RATE_HZ, Speech, ask

VOICES = {"de": ("de-DE",), "en": ("en-GB", "en-US"), "es": ("es-ES",), "fr": ("fr-FR",), "it": ("it-IT",)}
ENGINE_RATE_HZ = 16000
SPEED = (0.8, 1.25)
PITCH = (0.85, 1.2)
_WORDS_PER_MINUTE = 125.0  # at speed 1, of six letters; Pico says all of a text before it gives any


@dataclass(frozen=True)
class PicoDraw:
    """One clip's voice: Pico's own, at another speed and pitch. The speaker's size stays as it was recorded."""

    language: str
    voice: str
    speed: float
    pitch: float
    size: float = 1.0

    @property
    def variant(self) -> str:
        """The clip's group: "pico-de-DE"."""
        return f"pico-{self.voice}"

    @property
    def name(self) -> str:
        return f"Pico's {self.voice}"

    @property
    def words_per_minute(self) -> float:
        return _WORDS_PER_MINUTE * self.speed


def draw_pico_voice(language: str, split: str, index: int, params: DemoParams) -> PicoDraw:
    """The voice of clip `index` of `split`: speed and pitch are the same in every language."""
    if language not in VOICES:
        raise DemoError(f"expected one of Pico's languages {', '.join(VOICES)}, received {language!r} in `languages`.")
    random = generator(params.seed, "pico voice", split, index)
    voices = VOICES[language]
    return PicoDraw(
        language=language,
        voice=voices[index % len(voices)],
        speed=float(random.uniform(*SPEED)),
        pitch=float(random.uniform(*PITCH)),
    )


def say(text: str, voice: PicoDraw, seconds: float, noise_seed: int, scratch: str | None = None) -> Speech:
    """Speaks `text`, at most `seconds` of it: a function of `text` and `voice`. The last two are for eSpeak.

    Returns: speech with nothing above half of ENGINE_RATE_HZ; Pico does not tell its sounds.
    """
    request = {
        "text": text,
        "voice": voice.voice,
        "speed": voice.speed,
        "pitch": voice.pitch,
        "max_samples": int((seconds + 0.1) * ENGINE_RATE_HZ),
    }
    said = ask(_command(), ENGINE_RATE_HZ, request)
    if isinstance(said, int):
        raise DemoError(f"expected {voice.name} to speak, received status {said}, on the text {text[:60]!r}.")
    wide = soxr.resample(said.samples.astype(np.float32), ENGINE_RATE_HZ, RATE_HZ)[: int(seconds * RATE_HZ)]
    return Speech(np.clip(np.rint(wide), -32768, 32767).astype("<i2"))


def _command() -> tuple[str, ...]:
    if importlib.util.find_spec("py_nanotts") is None:
        raise DemoError(
            "`engine: pico` is spoken by SVOX Pico; expected the package py-nanotts, found none. "
            "Install it: pip install py-nanotts."
        )
    # -P: this folder's modules stay out of the import path
    return (sys.executable, "-P", str(Path(__file__).with_name("pico_speaker.py")))
