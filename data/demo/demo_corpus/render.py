"""What a worker process does: speak, send through the channel, encode. A batch of clips at a time."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo_corpus.effects import apply, draw_channel
from demo_corpus.encode import encode
from demo_corpus.engines import engine_of
from demo_corpus.errors import DemoError, EngineCrashError
from demo_corpus.settings import DemoParams, generator
from demo_corpus.speech import RATE_HZ
from demo_corpus.texts import compose

Sounds = tuple[tuple[float, str], ...]

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """Clips, as (language, split, index, path in the corpus), for one worker and one ffmpeg."""

    clips: tuple[tuple[str, str, int, str], ...]
    folder: str
    scratch: str
    params: DemoParams


def render(job: Job, parent: int) -> list[tuple[str, Sounds]]:
    """Makes the clips of a job; returns what is said in each, by path. `parent`: the process to die with."""
    if os.getpid() != parent:
        _die_with_parent()
    clips = [rendered(language, split, index, job.params, job.scratch) for language, split, index, _ in job.clips]
    paths = [path for *_, path in job.clips]
    encode([samples for samples, _ in clips], [Path(job.folder) / path for path in paths], job.params.bitrate_kbps)
    return [(path, sounds) for path, (_, sounds) in zip(paths, clips, strict=True)]


def sound(language: str, split: str, index: int, params: DemoParams, scratch: str | None = None) -> np.ndarray:
    """The samples of `rendered`."""
    return rendered(language, split, index, params, scratch)[0]


def rendered(
    language: str, split: str, index: int, params: DemoParams, scratch: str | None = None
) -> tuple[np.ndarray, Sounds]:
    """One clip before encoding, a function of (params, language, split, index).

    Returns: mono int16 at effects.OUT_RATE_HZ, (samples,); where each sound begins, in seconds, and its IPA, as in
        speech.Speech.
    """
    key = f"{language}/{split}/{index}"
    engine = engine_of(params)
    voice = engine.draw(language, split, index, params)
    channel = draw_channel(split, index, params)
    random = generator(params.seed, "sound", key)
    # No eSpeak voice says more than 4.5 words of six letters in a second at 215 words a minute
    words = int(params.clip_seconds * voice.words_per_minute / 60 * 1.5) + 5
    seconds = params.clip_seconds * voice.size + 0.1
    text_key = key
    for attempt in range(6):
        text = compose(language, split, text_key, words, params)
        try:
            speech = engine.say(text, voice, seconds, int(random.integers(2**31)), scratch)
        except EngineCrashError:  # one of 30,000 German clips: that voice dies on that text
            if attempt == 5:
                raise
            text_key = f"{key}/{attempt + 1}"
            continue
        if len(speech.samples) >= int(seconds * RATE_HZ):
            break
        words *= 2
    else:
        raise DemoError(
            f"expected {seconds:.1f} s of speech as {voice.name}, received {len(speech.samples) / RATE_HZ:.1f} s."
        )
    sounds = tuple((begin / voice.size + channel.start_seconds, sound) for begin, sound in speech.sounds)
    return apply(speech.samples, voice.size, channel, params.clip_seconds, random), sounds


def _die_with_parent() -> None:
    """Linux: a worker whose parent is killed is killed too. Elsewhere joblib's own clean-up must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
