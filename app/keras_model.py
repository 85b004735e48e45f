"""The trained model as the evaluate stage runs it: the data stages' own functions and the Keras network.

decode_file -> resample -> log_mel -> resize_to_image -> the network. Loading TensorFlow takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.recordings import check_recording
from stages.decode import decode_file
from stages.learning.model_file import load_model
from stages.logmel import log_mel
from stages.pipeline.errors import RejectedClip, StorageError
from stages.resample import resample
from stages.resize import resize_to_image

if TYPE_CHECKING:
    from stages.learning.model_file import FeatureSettings

_WINDOWS_AT_ONCE = 32


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
        self.temperature = self.settings.temperature
        self.unknown_threshold = self.settings.unknown_threshold

    def probabilities_of(self, path: str | Path) -> tuple[np.ndarray, float]:
        """A recording's windows, (windows, languages) float32, and its length in seconds.

        Raises
        ------
        RejectedClip
            It cannot be used.
        """
        images, seconds = images_of(path, self.settings.features)
        parts = [
            self.network.predict_on_batch(images[first : first + _WINDOWS_AT_ONCE].astype(np.float32))
            for first in range(0, len(images), _WINDOWS_AT_ONCE)
        ]
        return np.concatenate(parts), seconds


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
    decode = features.decode
    if decode.ffmpeg and not Path(decode.ffmpeg).is_file():  # named on the machine that trained; not on this one
        decode = decode.model_copy(update={"ffmpeg": ""})
    try:
        samples, own_rate_hz = decode_file(path, decode)
    except (OSError, StorageError) as error:
        raise RejectedClip("unreadable", str(error.__context__ or error)) from None
    rate_hz = features.resample.rate_hz
    bands = log_mel(resample(samples, own_rate_hz, features.resample), rate_hz, features.logmel)
    images = resize_to_image(bands, rate_hz / features.logmel.hop_length, features.resize)
    return images, len(samples) / own_rate_hz
