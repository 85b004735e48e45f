"""Noise under speech at a given signal-to-noise ratio.

The signal's level is that of the speech and not of its pauses, in the manner of ITU-T P.56: the mean power of the
frames that lie at most 15.9 dB (P.56's margin) below that very mean. The noise's level is its mean power. Over the
whole clip the ratio of the mean powers is therefore lower than the nominal one by what the pauses take from the speech.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_FRAME_SECONDS = 0.02
_MARGIN = 10 ** (-15.9 / 10)
_PEAK = 32767.0


def active_power(samples: np.ndarray, rate_hz: float) -> float:
    """Mean square of the speech in (n,) samples, pauses left out; 0 where all is silence."""
    size = min(len(samples), max(1, round(_FRAME_SECONDS * rate_hz)))
    frames = samples[: len(samples) // size * size].astype(np.float64).reshape(-1, size)
    power = np.mean(np.square(frames), axis=1)  # (frames,)
    while True:
        active = power[power >= _MARGIN * power.mean()]
        if len(active) == len(power):
            return float(power.mean())
        power = active


def add_noise(speech: np.ndarray, noise: np.ndarray, snr_db: float, rate_hz: float) -> np.ndarray:
    """Speech with noise `snr_db` below its active level.

    speech : (n,) int16; noise : (n,) of any scale
    Returns (n,) int16, turned down as a whole where it would be clipped: clipping would be a second kind of damage.
    """
    power = float(np.mean(np.square(noise, dtype=np.float64)))
    wanted = active_power(speech, rate_hz) / 10 ** (snr_db / 10)
    mixed = speech + noise * np.sqrt(wanted / power if power else 0.0)
    peak = np.abs(mixed).max()
    if peak > _PEAK:
        mixed *= _PEAK / peak
    out: np.ndarray = np.rint(mixed).astype(np.int16)
    return out


def white_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """(samples,) float64: the same power in every hertz."""
    return rng.standard_normal(samples)


def babble(voices: Sequence[np.ndarray], samples: int, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Several people at once, all equally loud: (samples,) float64.

    voices : arrays [shape=(n,), dtype=int16]; each is begun at a random place and repeated as often as is needed
    """
    total = np.zeros(samples)
    for voice in voices:
        power = active_power(voice, rate_hz)
        begun = np.roll(voice, -int(rng.integers(len(voice))))
        if power:
            total += np.resize(begun, samples) / np.sqrt(power)
    return total
