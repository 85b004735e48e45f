"""What a worker does with a recording: the model's answer, and the picture that is shown beside it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.explain import explain
from app.formats import as_dict
from app.recognizer import Recognizer
from app.recordings import check_recording
from app.sound import Samples, read_samples

# The picture is for the eye alone: what is audible of speech, whatever the model takes.
_BANDS = 96
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 7800.0
_COLUMNS = 1200
_COLUMN_SECONDS = 0.01  # at least
_WINDOW_SECONDS = 0.064
_RANGE_DB = 70.0


@dataclass(frozen=True)
class Picture:
    """Mel bands over time.

    shades : (bands, columns), 0 to 1, lowest band first, 1 for the loudest
    centres_hz : (bands,)
    times : (columns,) seconds
    """

    shades: np.ndarray
    centres_hz: np.ndarray
    times: np.ndarray


class Listener:
    """A model, and what the page asks of it. Both answers are JSON values and raise RejectedClip and ParamsError."""

    def __init__(self, folder: Path) -> None:
        self._recognizer = Recognizer(folder)
        self.languages = self._recognizer.languages

    def recognise(self, path: str, languages: list[str], all_sound: bool) -> dict[str, Any]:
        """The object of predict's JSON line, and `spectrogram`, whose levels are bytes in base64, row after row."""
        self._recognizer.all_sound = all_sound
        check_recording(path)
        samples, seconds = read_samples(path, self._recognizer.model.sound)
        found = as_dict("", self._recognizer.recognize_samples(samples, seconds, languages))
        del found["path"]
        picture = picture_of(samples, self._recognizer.model.sound.rate_hz)
        return found | {
            "spectrogram": {
                "bands": len(picture.centres_hz),
                "columns": len(picture.times),
                "lowest_hz": _LOWEST_HZ,
                "highest_hz": float(picture.centres_hz[-1]),
                "levels": as_bytes(picture.shades),
            }
        }

    def explain(self, path: str, languages: list[str], all_sound: bool) -> dict[str, Any]:
        """What counted for the answer, on the spectrogram's own grid, and the answers over time.

        language, start, end : of the window that was looked into, seconds
        levels : as the spectrogram's; 255 for what counted most
        times, probabilities : (steps,), and (steps,) for each of the first three languages
        """
        self._recognizer.all_sound = all_sound
        why = explain(self._recognizer, path, languages)
        samples, _ = read_samples(path, self._recognizer.model.sound)
        picture = picture_of(samples, self._recognizer.model.sound.rate_hz)
        rows, columns = why.activation.shape
        row = np.rint(picture.centres_hz / why.highest_hz * (rows - 1)).astype(int).clip(0, rows - 1)
        place = (picture.times - why.start) / (why.end - why.start)  # (columns,)
        column = np.rint(place * (columns - 1)).astype(int).clip(0, columns - 1)
        counted = why.activation[row][:, column] * ((place >= 0) & (place <= 1))  # (bands, columns)
        first = [language for language, _ in why.recognition.ranking[:3]]
        return {
            "language": why.language,
            "start": why.start,
            "end": why.end,
            "levels": as_bytes(counted),
            "times": np.round(why.times, 2).tolist(),
            "probabilities": {
                name: np.round(why.probabilities[:, why.languages.index(name)], 3).tolist() for name in first
            },
        }


def picture_of(samples: Samples, rate_hz: int) -> Picture:
    """Of (n,) int16; of a long recording, so many moments as there are columns."""
    size = 2 ** round(np.log2(_WINDOW_SECONDS * rate_hz))
    count = int(np.clip(len(samples) / rate_hz / _COLUMN_SECONDS, 1, _COLUMNS))
    starts = np.linspace(0, max(0, len(samples) - size), count).astype(int)
    frames = np.zeros((count, size), np.float32)
    for frame, start in zip(frames, starts.tolist(), strict=True):
        piece = samples[start : start + size]
        frame[: len(piece)] = piece
    power = np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32))) ** 2
    filters, centres = _mel_filters(size, rate_hz)
    decibels = 10 * np.log10(np.maximum(filters @ power.T, 1e-3))  # (bands, columns)
    shades = np.clip(1 + (decibels - decibels.max()) / _RANGE_DB, 0, 1)
    return Picture(shades, centres, (starts + size / 2) / rate_hz)


def _mel_filters(size: int, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles evenly spaced on O'Shaughnessy's mel scale, (bands, bins), each of sum 1; and their centres in Hz."""
    low, high = 2595 * np.log10(1 + np.array([_LOWEST_HZ, min(_HIGHEST_HZ, 0.49 * rate_hz)]) / 700)
    centres = 700 * (10 ** (np.linspace(low, high, _BANDS) / 2595) - 1)
    half_widths = np.maximum(np.gradient(centres), rate_hz / size)  # the narrow ones must still meet a bin
    bins = np.fft.rfftfreq(size, 1 / rate_hz)
    triangles = np.maximum(0, 1 - np.abs(bins - centres[:, None]) / half_widths[:, None])
    return triangles / triangles.sum(axis=1, keepdims=True), centres


def as_bytes(shares: np.ndarray) -> str:
    """Values from 0 to 1 as one byte each, in base64."""
    return base64.b64encode(np.rint(shares * 255).astype(np.uint8).tobytes()).decode()
