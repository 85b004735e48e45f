"""What a model listened to: remove a patch of time and frequency from the sound, ask again, see how much surer it was.

Occlusion (Zeiler and Fergus 2014, arXiv:1311.2901) needs nothing of a model but its answers, so the exported one is
explained without TensorFlow as the trained one is. It explains the answer for one window: the one that the model is
surest in, where a recording has several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.recognizer import Recognition, Recognizer
from stages.pipeline.errors import ParamsError, RejectedClip

_N_FFT, _HOP = 512, 128  # of the patches' transform and the picture, samples
_ROWS, _COLUMNS = 8, 16  # patches
_OVERLAP = 1.5  # a patch is so many times as wide as its step, so that what lies on an edge is removed as a whole once
_RANGE_DB = 70.0
_TINY = 1e-12


@dataclass(frozen=True)
class Explanation:
    """Of one window.

    spectrogram : (bands, columns), 0 to 1, row 0 is the lowest frequency
    activation : the same shape, 0 to 1: how much less probable the language is without that place
    fall : nats that the language's log-probability falls by where `activation` is 1
    start, end : seconds of the recording that the window covers
    highest_hz : upper edge of the picture
    recognition : of the whole recording
    language : that is explained
    times, probabilities : (steps,) seconds, and (steps, languages): the answers over the whole recording
    languages : of the columns
    """

    spectrogram: np.ndarray
    activation: np.ndarray
    fall: float
    start: float
    end: float
    highest_hz: float
    recognition: Recognition
    language: str
    times: np.ndarray
    probabilities: np.ndarray
    languages: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.end - self.start


def explain(recognizer: Recognizer, path: str | Path, languages: Sequence[str] | None = None) -> Explanation:
    """Why the model gives its answer for a recording.

    Raises
    ------
    RejectedClip
        It cannot be used, or nobody speaks in it.
    ParamsError
        The model doesn't know one of `languages`.
    """
    from app.recordings import check_recording
    from app.sound import read_samples

    allowed = recognizer.allowed(languages)
    check_recording(path)
    samples, seconds = read_samples(path, recognizer.model.sound)
    found = recognizer.recognize_samples(samples, seconds, allowed)
    if not found.ranking:
        raise RejectedClip("no_speech", "nobody speaks in it, so there is no answer to explain")
    language, rate_hz = found.ranking[0][0], recognizer.model.sound.rate_hz
    column = allowed.index(language)
    starts = recognizer.model.window_starts(len(samples))
    own = recognizer.restricted(recognizer.model.probabilities(samples, starts), allowed)
    start = starts[int(own[:, column].argmax())]
    window = np.asarray(samples[start : start + recognizer.model.window_samples])

    def sureness(pieces: list[np.ndarray]) -> np.ndarray:
        together = np.concatenate(pieces)
        ends = np.cumsum([len(piece) for piece in pieces]).tolist()
        asked = recognizer.model.probabilities_of_pieces(together, list(zip([0, *ends[:-1]], ends, strict=True)))
        chosen = recognizer.restricted(asked, allowed)[:, column]
        logarithms: np.ndarray = np.log(np.maximum(chosen, _TINY))
        return logarithms

    spectrum = _stft(window)
    whole = sureness([window])[0]
    rows, columns = _edges(spectrum.shape[0], _ROWS), _edges(spectrum.shape[1], min(_COLUMNS, spectrum.shape[1]))
    fall, weight = np.zeros(spectrum.shape), np.zeros(spectrum.shape)
    for low, high in rows:
        pieces = []
        for left, right in columns:
            damaged = spectrum.copy()
            damaged[low:high, left:right] *= 0.01
            pieces.append(_inverse(damaged, len(window)))
        for (left, right), after in zip(columns, sureness(pieces), strict=True):
            fall[low:high, left:right] += whole - after
            weight[low:high, left:right] += 1
    fall = np.maximum(fall / np.maximum(weight, 1), 0)
    decibels = 20 * np.log10(np.abs(spectrum) + _TINY)
    picture = np.clip(1 + (decibels - decibels.max()) / _RANGE_DB, 0, 1)
    times, probabilities = _over_time(recognizer, samples, allowed, seconds)
    return Explanation(
        picture, fall / max(float(fall.max()), _TINY), float(fall.max()), start / rate_hz,
        (start + len(window)) / rate_hz, rate_hz / 2, found, language, times, probabilities, allowed,
    )  # fmt: skip


def _over_time(
    recognizer: Recognizer, samples: Any, allowed: tuple[str, ...], seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """The answers for pieces of 3 s, or the whole where it is shorter, at most 120 of them."""
    rate_hz = recognizer.model.sound.rate_hz
    length = min(3.0, seconds)
    count = int(np.clip(round((seconds - length) / 0.5) + 1, 1, 120))
    begins = np.linspace(0, seconds - length, count)
    pieces = [(int(begin * rate_hz), int((begin + length) * rate_hz)) for begin in begins]
    return begins + length / 2, recognizer.restricted(
        recognizer.model.probabilities_of_pieces(samples, pieces), allowed
    )


def _edges(size: int, count: int) -> list[tuple[int, int]]:
    """`count` overlapping ranges over `size`."""
    step = size / count
    centres = step * (np.arange(count) + 0.5)
    half = step * _OVERLAP / 2
    return [(int(max(0, centre - half)), int(min(size, np.ceil(centre + half)))) for centre in centres]


def _stft(samples: np.ndarray) -> np.ndarray:
    """(n,) int16 -> (bins, frames) complex; `_inverse` gives the samples back."""
    padded = np.pad(samples.astype(np.float64), (_N_FFT, _N_FFT + -len(samples) % _HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)[::_HOP]
    spectrum: np.ndarray = np.fft.rfft(frames * np.hanning(_N_FFT + 1)[:-1], axis=1).T
    return spectrum


def _inverse(spectrum: np.ndarray, count: int) -> np.ndarray:
    """(bins, frames) -> (count,) int16, by overlapping and adding."""
    window = np.hanning(_N_FFT + 1)[:-1]
    frames = np.fft.irfft(spectrum.T, _N_FFT, axis=1) * window
    out = np.zeros(_HOP * (len(frames) - 1) + _N_FFT)
    weight = np.zeros_like(out)
    for number, frame in enumerate(frames):
        out[number * _HOP :][:_N_FFT] += frame
        weight[number * _HOP :][:_N_FFT] += window**2
    sound = out[_N_FFT : _N_FFT + count] / np.maximum(weight[_N_FFT : _N_FFT + count], 1e-6)
    return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)


def draw(explanation: Explanation, path: str | Path) -> None:
    """Write the explanation as a PNG: the sound, what counted in it, the answers over time.

    Raises
    ------
    ParamsError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ParamsError("the picture needs matplotlib; install it: pip install '.[explain]'") from None
    shown = explanation
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    sound, counted, over_time = figure.subplots(3, 1, height_ratios=(2, 2, 1.4))
    extent = (shown.start, shown.end, 0, shown.highest_hz / 1000)
    found = shown.recognition
    figure.suptitle(f"{found.language} {found.probability:.2f}", fontweight="bold")
    sound.imshow(shown.spectrogram, origin="lower", aspect="auto", extent=extent, cmap="gray_r")
    sound.set(ylabel="kHz", title=f"What was heard, {shown.start:.1f} to {shown.end:.1f} s")
    counted.imshow(shown.spectrogram, origin="lower", aspect="auto", extent=extent, cmap="gray_r", alpha=0.5)
    heat = counted.imshow(
        shown.activation * shown.fall, origin="lower", aspect="auto", extent=extent, cmap="cividis", alpha=0.75
    )
    counted.set(ylabel="kHz", xlabel="seconds", title=f"What counted for {shown.language}")
    figure.colorbar(heat, ax=counted, label="less sure without it, nats")
    for name, _ in found.ranking[:4]:
        over_time.plot(
            shown.times, shown.probabilities[:, shown.languages.index(name)], label=name, marker=".",
            linestyle=("-", "--", "-.", ":")[[one for one, _ in found.ranking].index(name)],
        )  # fmt: skip
    over_time.set(ylim=(0, 1), xlim=(0, found.seconds), xlabel="seconds of the recording", ylabel="probability")
    over_time.set_title("Probability over time, pieces of 3 s")
    over_time.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=110)
