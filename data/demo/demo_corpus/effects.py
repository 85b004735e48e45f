"""What happens to the voice on its way: size of the speaker, room, equaliser, noise, telephone, level.

Everything but the speaker's size is done on one spectrum of the whole clip, which costs one rfft and one irfft. What
is drawn is a function of (seed, split, clip number): clip i goes the same way in every language. Only the noise
itself differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import soxr

from demo_corpus.settings import DemoParams, generator
from demo_corpus.speech import RATE_HZ

OUT_RATE_HZ = 2 * RATE_HZ
_EQ_HZ = np.array([50, 100, 200, 400, 800, 1600, 3200, 6400, 11025], dtype=np.float64)


@dataclass(frozen=True)
class Channel:
    """One clip's way from the mouth to the file."""

    equaliser_db: tuple[float, ...]  # at _EQ_HZ
    low_hz: float
    high_hz: float
    companded: bool  # 8-bit mu-law, as on a telephone
    noise_snr_db: float | None
    noise_slope: float  # spectrum of the noise ~ f ** -slope, in power: 0 white, 1 pink, 2 brown
    reverb_seconds: float  # time constant of the room's decay; 0: none
    reverb_level: float
    start_seconds: float  # silence before the first word
    peak_db: float


def draw_channel(split: str, index: int, params: DemoParams) -> Channel:
    """The channel of clip `index` of `split`, the same in every language."""
    random = generator(params.seed, "channel", split, index)
    tilt = random.uniform(-2, 2)  # dB an octave
    octaves = np.log2(_EQ_HZ / 800)
    gains = tilt * octaves + random.normal(0, 2.5, len(_EQ_HZ))
    telephone = random.random() < params.telephone_share
    noisy = random.random() < params.noise_share
    roomy = random.random() < 0.35
    return Channel(
        equaliser_db=tuple(float(g) for g in gains),
        low_hz=float(random.uniform(200, 400) if telephone else random.uniform(20, 120)),
        high_hz=float(random.uniform(3200, 3700) if telephone else random.uniform(6500, 14000)),
        companded=bool(telephone),
        noise_snr_db=float(random.uniform(10, 35)) if noisy else None,
        noise_slope=float(random.uniform(0, 1.8)),
        reverb_seconds=float(random.uniform(0.02, 0.12)) if roomy else 0.0,
        reverb_level=float(random.uniform(0.05, 0.35)),
        start_seconds=float(random.uniform(0, 0.4)),
        peak_db=float(random.uniform(-15, -1)),
    )


def apply(speech: np.ndarray, size: float, channel: Channel, seconds: float, random: np.random.Generator) -> np.ndarray:
    """Speech at RATE_HZ, int16 (samples,) -> int16 (seconds * OUT_RATE_HZ,) at OUT_RATE_HZ.

    `size` multiplies all frequencies and the tempo.
    """
    length = round(seconds * RATE_HZ)
    # Played at size * RATE_HZ it is a smaller speaker; heard at RATE_HZ again
    warped = soxr.resample(speech.astype(np.float32) / 32768, size * RATE_HZ, RATE_HZ, quality="MQ")
    clip = np.zeros(length, dtype=np.float32)
    start = round(channel.start_seconds * RATE_HZ)
    part = warped[: length - start]
    clip[start : start + len(part)] = part
    clip /= max(1e-6, float(np.abs(clip).max()))
    if channel.companded:
        clip = mu_law(clip)
    # Zeros behind the clip keep the room's and the filters' tails from coming round to the front
    padded = scipy.fft.next_fast_len(length + RATE_HZ // 4, real=True)
    spectrum = scipy.fft.rfft(clip, padded)
    hz = np.arange(len(spectrum), dtype=np.float32) * np.float32(RATE_HZ / padded)
    spectrum *= _response(hz, channel)
    if channel.reverb_seconds:
        spectrum *= scipy.fft.rfft(_room(channel, random), padded)
    if channel.noise_snr_db is not None:
        spectrum += _noise(spectrum, hz, channel, random)
    # Twice the rate: the same spectrum with silence above
    wide = np.zeros(padded + 1, dtype=spectrum.dtype)
    wide[: len(spectrum)] = spectrum
    sound = scipy.fft.irfft(wide, 2 * padded)[: 2 * length]
    sound *= 10 ** (channel.peak_db / 20) * 32767 / max(1e-6, float(np.abs(sound).max()))
    pcm: np.ndarray = np.rint(sound).astype("<i2")
    return pcm


def mu_law(samples: np.ndarray) -> np.ndarray:
    """8-bit mu-law and back (ITU-T G.711's curve, continuous form), float in [-1, 1]."""
    coded = np.sign(samples) * np.log1p(255 * np.abs(samples)) / np.log(256)
    coded = np.rint(coded * 127) / 127
    back: np.ndarray = np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255
    return back.astype(np.float32)


def _response(hz: np.ndarray, channel: Channel) -> np.ndarray:
    """Gain of equaliser and band limits at each frequency, float32 (bins,)."""
    coarse = np.linspace(0, RATE_HZ / 2, 1024)
    gain_db = np.interp(np.log2(np.maximum(coarse, 20)), np.log2(_EQ_HZ), channel.equaliser_db)
    # 4th order slopes on both sides
    with np.errstate(divide="ignore"):
        gain_db -= 10 * np.log10(1 + (channel.low_hz / np.maximum(coarse, 1e-3)) ** 8)
        gain_db -= 10 * np.log10(1 + (coarse / channel.high_hz) ** 8)
    gain: np.ndarray = np.interp(hz, coarse, 10 ** (gain_db / 20))
    return gain.astype(np.float32)


def _room(channel: Channel, random: np.random.Generator) -> np.ndarray:
    """Impulse response: the direct sound and a decaying noise of `reverb_level` of its energy."""
    length = RATE_HZ // 4
    decay = np.exp(-np.arange(length, dtype=np.float32) / (channel.reverb_seconds * RATE_HZ))
    response: np.ndarray = random.standard_normal(length, dtype=np.float32) * decay
    response *= np.sqrt(channel.reverb_level) / max(1e-6, float(np.sqrt(np.square(response).sum())))
    response[0] += 1
    return response


def _noise(spectrum: np.ndarray, hz: np.ndarray, channel: Channel, random: np.random.Generator) -> np.ndarray:
    """Coloured noise at `noise_snr_db` below the speech, as a spectrum (bins,)."""
    bins = len(spectrum)
    noise: np.ndarray = random.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)
    noise *= np.maximum(hz, 40) ** np.float32(-channel.noise_slope / 2)
    power = np.vdot(spectrum, spectrum).real / np.vdot(noise, noise).real
    snr_db = channel.noise_snr_db if channel.noise_snr_db is not None else np.inf
    noise *= np.float32(np.sqrt(power) * 10 ** (-snr_db / 20))
    return noise
