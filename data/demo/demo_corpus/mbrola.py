"""MBROLA, a fourth engine: diphones of some fifty recorded people (Dutoit et al. 1996, ICSLP), read as reading.py says.

Half of the clips are said by a voice that was recorded for the language, where there is one, the others by all voices
in turn, the same in all languages: a voice says little of the language, and there are both native sounds and accents.
The program and its voices are Debian packages, fetched and unpacked here without root. The voices are free for what is
not sold and not military; each package has its terms.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo_corpus import reading, speech
from demo_corpus.errors import EngineCrashError
from demo_corpus.mbrola_voices import VOICES, MbrolaVoice, voice_file
from demo_corpus.packages import unpacked
from demo_corpus.settings import DemoParams, generator
from demo_corpus.voices import VoiceDraw, draw_voice

PITCH = (-0.2, 0.22)  # of the voice's own, in the logarithm
LIVELINESS = (0.05, 0.25)
SPEAKER_SIZE = (0.88, 1.15)
UNEVENNESS = (0.08, 0.25)
VOWEL_LENGTH = (-0.25, 0.25)  # in the logarithm
SECONDS_TO_SAY = 60


@dataclass(frozen=True)
class MbrolaDraw:
    """One clip's voice. `reader`: eSpeak's voice that reads the text; `pitch`: of the voice's own, in the logarithm."""

    reader: VoiceDraw
    voice: MbrolaVoice
    pitch: float
    liveliness: float
    size: float
    unevenness: float
    vowel_length: float

    @property
    def variant(self) -> str:
        """The clip's group: "mbrola-fr1"."""
        return f"mbrola-{self.voice.name}"

    @property
    def name(self) -> str:
        return f"MBROLA's {self.voice.name}"

    @property
    def words_per_minute(self) -> float:
        return self.reader.words_per_minute


def draw_mbrola_voice(language: str, split: str, index: int, params: DemoParams) -> MbrolaDraw:
    """The voice of clip `index` of `split`: the even ones are the same in every language."""
    random = generator(params.seed, "mbrola voice", split, index)
    own = [voice for voice in VOICES if voice.language == language]
    voices = own if index % 2 and own else VOICES
    return MbrolaDraw(
        reader=draw_voice(language, split, index, params),
        voice=voices[index // 2 % len(voices)],
        pitch=float(random.uniform(*PITCH)),
        liveliness=float(random.uniform(*LIVELINESS)),
        size=float(random.uniform(*SPEAKER_SIZE)),
        unevenness=float(random.uniform(*UNEVENNESS)),
        vowel_length=float(np.exp(random.uniform(*VOWEL_LENGTH))),
    )


def say(text: str, draw: MbrolaDraw, seconds: float, noise_seed: int, scratch: str | None = None) -> speech.Speech:
    """Speaks `text`, at most `seconds` of it: a function of its arguments but the last.

    Raises: DemoError where MBROLA cannot be had; EngineCrashError where it says nothing.
    """
    root = unpacked("mbrola")
    path = root / "usr/share/mbrola" / draw.voice.name / draw.voice.name
    voice = voice_file(path, draw.voice.family)
    # the speaker's size and the reader's are drawn apart: the tempo varies by up to a third besides
    manner = reading.Manner(
        voice.hz * float(np.exp(draw.pitch)), draw.liveliness, draw.size, draw.unevenness, draw.vowel_length
    )
    read = reading.read(text, draw.reader, voice.sounds, manner, seconds, noise_seed, scratch)
    lines = (
        f"{segment.name} {1000 * segment.seconds:.0f}" + (f" 50 {segment.hz:.0f}" if segment.hz else "")
        for segment in read.segments
    )
    samples = _spoken(root / "usr/bin/mbrola", path, "\n".join(lines) + "\n")
    if not samples.any():
        raise EngineCrashError(f"expected {draw.name} to say {text[:60]!r}, received no sound.")
    return read.spoken(samples, voice.rate_hz, seconds)


def _spoken(program: Path, voice: Path, sounds: str) -> np.ndarray:
    """What MBROLA says, float32 at the voice's rate; nothing where it fails."""
    # -e: a pair of sounds that the voice lacks is joined without a transition
    command: list[str | Path] = [program, "-e", voice, "-", "-.raw"]
    try:
        done = subprocess.run(
            command, input=sounds.encode("latin-1"), capture_output=True, check=True, timeout=SECONDS_TO_SAY
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return np.zeros(0, np.float32)
    return np.frombuffer(done.stdout[: len(done.stdout) // 2 * 2], "<i2").astype(np.float32) / 2**15
