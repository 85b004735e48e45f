"""What a worker does with a recording: the model's answer, and the picture that is shown beside it."""

from __future__ import annotations

import base64
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from app.recognizer import Recognizer
from app.sound import SoundSettings, read_samples

# For the eye alone, so independent of the model's params: what is audible of speech at 16 kHz.
_RATE_HZ = 16000
_BANDS = 96
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 7800.0
_COLUMNS = 1200
_WINDOW = 1024
_RANGE_DB = 70.0
_MAX_SECONDS = 3600.0
_TIMEOUT_SECONDS = 60.0


class Listener:
    """A model and the ways in which the page asks it."""

    def __init__(self, folder: Path) -> None:
        self._recognizer = Recognizer(folder)
        self.languages = self._recognizer.languages

    def recognise(self, path: str, languages: list[str] | None = None) -> dict[str, Any]:
        """The answer as JSON values; `languages` restricts it.

        Raises
        ------
        RejectedClip
            The recording cannot be used.
        """
        found = self._recognizer.recognize(path)
        ranking = [(name, p) for name, p in found.ranking if languages is None or name in languages]
        share = sum(p for _, p in ranking) or 1.0
        return {
            "language": found.language if languages is None else ranking[0][0],
            "ranking": [(name, p / share) for name, p in ranking],
            "seconds": found.seconds,
            "spectrogram": spectrogram(path),
        }

    def explain(self, path: str, languages: list[str] | None = None) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def explains(self) -> bool:
        return find_spec("app.explain") is not None


def spectrogram(path: str) -> dict[str, Any]:
    """Mel bands of a recording, lowest first, for the page's canvas.

    Returns
    -------
    bands, columns, lowest_hz, highest_hz, and `levels`: (bands, columns) bytes in base64, 255 for the loudest
    """
    settings = SoundSettings(_RATE_HZ, "HQ", 0.0, _MAX_SECONDS, _TIMEOUT_SECONDS)
    samples, _ = read_samples(path, settings)
    starts = np.linspace(0, max(0, len(samples) - _WINDOW), min(_COLUMNS, 1 + len(samples) // 160)).astype(int)
    padded = np.pad(samples[:], (0, max(0, _WINDOW - len(samples))))
    frames = padded[starts[:, None] + np.arange(_WINDOW)] * np.hanning(_WINDOW)  # (columns, window)
    power = np.abs(np.fft.rfft(frames)) ** 2 @ _mel_filters().T  # (columns, bands)
    level = 10 * np.log10(np.maximum(power.T, 1e-3))
    shade = np.clip(1 + (level - level.max()) / _RANGE_DB, 0, 1)
    return {
        "bands": _BANDS,
        "columns": len(starts),
        "lowest_hz": _LOWEST_HZ,
        "highest_hz": _HIGHEST_HZ,
        "levels": as_bytes(shade),
    }


def as_bytes(shares: np.ndarray) -> str:
    """Values from 0 to 1 as one byte each, in base64."""
    return base64.b64encode(np.rint(shares * 255).astype(np.uint8).tobytes()).decode()


def _mel_filters() -> np.ndarray:
    """Triangles evenly spaced on O'Shaughnessy's mel scale, (bands, bins), each of sum 1."""
    low, high = 2595 * np.log10(1 + np.array([_LOWEST_HZ, _HIGHEST_HZ]) / 700)
    centres = 700 * (10 ** (np.linspace(low, high, _BANDS) / 2595) - 1)
    half_widths = np.maximum(np.gradient(centres), _RATE_HZ / _WINDOW)  # the narrow ones must still meet a bin
    bins = np.fft.rfftfreq(_WINDOW, 1 / _RATE_HZ)
    triangles = np.maximum(0, 1 - np.abs(bins - centres[:, None]) / half_widths[:, None])
    return np.asarray(triangles / triangles.sum(axis=1, keepdims=True))
