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
from demo_corpus.texts import compose

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """Clips, as (language, split, index, path in the corpus), for one worker and one ffmpeg."""

    clips: tuple[tuple[str, str, int, str], ...]
    folder: str
    scratch: str
    params: DemoParams


def render(job: Job, parent: int) -> int:
    """Makes the clips of a job; returns how many. `parent`: the process to die with."""
    if os.getpid() != parent:
        _die_with_parent()
    sounds = [sound(language, split, index, job.params, job.scratch) for language, split, index, _ in job.clips]
    encode(sounds, [Path(job.folder) / path for *_, path in job.clips], job.params.bitrate_kbps)
    return len(sounds)


def sound(language: str, split: str, index: int, params: DemoParams, scratch: str | None = None) -> np.ndarray:
    """One clip before encoding: mono int16 at effects.OUT_RATE_HZ, a function of (params, language, split, index)."""
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
        if len(speech) >= int(seconds * 22050):
            break
        words *= 2
    else:
        raise DemoError(f"expected {seconds:.1f} s of speech as {voice.name}, received {len(speech) / 22050:.1f} s.")
    return apply(speech, voice.size, channel, params.clip_seconds, random)


def _die_with_parent() -> None:
    """Linux: a worker whose parent is killed is killed too. Elsewhere joblib's own clean-up must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
