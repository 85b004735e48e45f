"""The trained model as the evaluate stage runs it: the data stages' own functions and the Keras network.

read_samples -> log_mel -> resize_to_image -> the network. Loading TensorFlow takes seconds. All images of a recording
are held in memory: for long ones the exported model is the better choice.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.recordings import check_recording
from app.sound import MOST_SECONDS, SoundSettings, read_samples
from stages.learning.metrics import temper
from stages.learning.model_file import load_model
from stages.logmel import log_mel
from stages.resize import resize_to_image, window_starts

if TYPE_CHECKING:
    from app.sound import Samples
    from stages.learning.model_file import FeatureSettings

_WINDOWS_AT_ONCE = 32
_TINY = 1e-12


class KerasModel:
    """What stands in a folder that the calibrate or the train stage wrote.

    Raises
    ------
    StorageError
        A file cannot be read.
    PipelineError
        The files are none of ours, or don't belong together.
    """

    parallel = False  # TensorFlow shares the work of each batch among the cores

    def __init__(self, folder: Path) -> None:
        self.network, self.settings = load_model(folder)
        self.languages = self.settings.languages
        self.unknown_threshold = self.settings.unknown_threshold
        self.features = self.settings.features
        self.sound = sound_settings(self.features)

    @property
    def window_samples(self) -> int:
        """Samples of a recording that fill one window."""
        return self._frames(self.features.resize.window_seconds) * self.features.logmel.hop_length

    def window_starts(self, count: int) -> list[int]:
        """First samples of the windows of a recording of `count` samples."""
        resize, hop = self.features.resize, self.features.logmel.hop_length
        frames = 1 + count // hop
        starts = window_starts(frames, self._frames(resize.window_seconds), self._frames(resize.stride_seconds))
        return [start * hop for start in starts]

    def probabilities(self, samples: Samples, starts: list[int]) -> np.ndarray:
        """Of some of a recording's windows: (n,) int16 at the model's sample rate -> (windows, languages)."""
        images = images_of_samples(samples[:], self.features)
        number = {start: k for k, start in enumerate(self.window_starts(len(samples)))}
        return self._predict(images[[number[start] for start in starts]])

    def probabilities_of_pieces(self, samples: Samples, pieces: list[tuple[int, int]]) -> np.ndarray:
        """The same of pieces, from and to which sample, as if each was a recording: (pieces, languages)."""
        if not pieces:
            return np.zeros((0, len(self.languages)), np.float32)
        images = [images_of_samples(samples[start:end], self.features)[:1] for start, end in pieces]
        return self._predict(np.concatenate(images))

    def _frames(self, seconds: float) -> int:
        return max(1, round(seconds * self.features.resample.rate_hz / self.features.logmel.hop_length))

    def _predict(self, images: np.ndarray) -> np.ndarray:
        parts = [
            self.network.predict_on_batch(images[first : first + _WINDOWS_AT_ONCE].astype(np.float32))
            for first in range(0, len(images), _WINDOWS_AT_ONCE)
        ]
        found: np.ndarray = np.exp(temper(np.log(np.maximum(np.concatenate(parts), _TINY)), self.settings.temperature))
        return found


def sound_settings(features: FeatureSettings) -> SoundSettings:
    """What reading a recording takes of a model's settings."""
    return SoundSettings(
        rate_hz=features.resample.rate_hz,
        quality=features.resample.quality,
        min_seconds=features.decode.min_seconds,
        max_seconds=MOST_SECONDS,
        timeout_seconds=features.decode.timeout_seconds,
    )


def images_of_samples(samples: np.ndarray, features: FeatureSettings) -> np.ndarray:
    """(n,) int16 at the model's sample rate -> (windows, height, width, 1) uint8."""
    rate_hz = features.resample.rate_hz
    bands = log_mel(samples, rate_hz, features.logmel)
    return resize_to_image(bands, rate_hz / features.logmel.hop_length, features.resize)


def images_of(path: str | Path, features: FeatureSettings) -> tuple[np.ndarray, float]:
    """A recording as the network sees it, byte for byte what the data stages make of it.

    Returns
    -------
    images : np.ndarray [shape=(windows, height, width, 1), dtype=uint8]
    seconds : length of the decoded sound

    Raises
    ------
    RejectedClip
        It cannot be used.
    """
    check_recording(path)
    samples, seconds = read_samples(path, sound_settings(features))
    return images_of_samples(samples[:], features), seconds
