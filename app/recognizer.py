"""A trained model, ready for recordings: sound in, languages with probabilities out.

The way of a recording is the pipeline's own, function by function, so what a model does here is what the evaluate
stage measured: decode_file -> resample -> log_mel -> resize_to_image -> the network -> pool_windows.
TensorFlow is loaded by the first `Recognizer`, not by this import.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.decode import decode_file
from stages.logmel import log_mel
from stages.pipeline.errors import RejectedClip, StorageError
from stages.resample import resample
from stages.resize import resize_to_image

if TYPE_CHECKING:
    from stages.learning.model_file import FeatureSettings

MODEL = Path("models/model")
_MODEL_FILES = ("model.json", "model.weights.h5")
_WINDOWS_AT_ONCE = 32


@dataclass(frozen=True)
class Recognition:
    """What a model says of one recording.

    ranking : (language, probability) of all languages of the model, most probable first; they sum to 1.
    windows : images that the recording was cut into.
    seconds : length of the decoded sound.
    """

    ranking: tuple[tuple[str, float], ...]
    windows: int
    seconds: float

    @property
    def language(self) -> str:
        return self.ranking[0][0]

    @property
    def probability(self) -> float:
        return self.ranking[0][1]


class Recognizer:
    """Loads a model once; `recognize` then takes as many recordings as there are.

    Parameters
    ----------
    folder : a model as the train stage writes it

    Raises
    ------
    StorageError
        There is no model, or a file of it cannot be read.
    PipelineError
        The files are none of ours, or don't belong together.
    """

    def __init__(self, folder: Path = MODEL) -> None:
        check_model(folder)
        from stages.learning.model_file import load_model  # imports TensorFlow: seconds

        self._model, self.settings = load_model(folder)

    def recognize(self, path: str | Path) -> Recognition:
        """The languages of one recording.

        Raises
        ------
        RejectedClip
            It cannot be used; reason codes as in quarantine.csv.
        """
        images, seconds = images_of(path, self.settings.features)
        return self._ranked(self._window_probabilities(images), seconds)

    def _window_probabilities(self, images: np.ndarray) -> np.ndarray:
        """(windows, height, width, 1) uint8 -> (windows, languages) float32."""
        parts = [
            self._model.predict_on_batch(images[first : first + _WINDOWS_AT_ONCE].astype(np.float32))
            for first in range(0, len(images), _WINDOWS_AT_ONCE)
        ]
        return np.concatenate(parts)

    def _ranked(self, probabilities: np.ndarray, seconds: float) -> Recognition:
        from stages.learning.metrics import pool_windows, temper

        of_one_clip = np.zeros(len(probabilities), np.int64)
        scores = temper(pool_windows(probabilities, of_one_clip, 1), self.settings.temperature)[0]  # (languages,)
        order = np.argsort(-scores, kind="stable")
        ranking = tuple((self.settings.languages[i], float(np.exp(scores[i]))) for i in order)
        return Recognition(ranking, len(probabilities), seconds)


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


def check_recording(path: str | Path) -> None:
    """What can be said of a file before anything is loaded.

    Raises
    ------
    RejectedClip
        missing, not_a_file, empty_file or unreadable.
    """
    try:
        # O_NONBLOCK: opening a pipe must not wait for somebody to write into it
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as handle:
            status = os.fstat(handle.fileno())
    except FileNotFoundError:
        raise RejectedClip("missing", "there is no such file") from None
    except IsADirectoryError:
        raise RejectedClip("not_a_file", "a folder; name the recordings in it") from None
    except (OSError, ValueError) as error:
        raise RejectedClip("unreadable", getattr(error, "strerror", None) or str(error)) from None
    if not stat.S_ISREG(status.st_mode):
        raise RejectedClip("not_a_file", "a pipe, socket or device; expected a file")
    if not status.st_size:
        raise RejectedClip("empty_file", "0 bytes")


def check_model(folder: Path) -> None:
    """Raises StorageError where there is no model, before anything is loaded."""
    missing = [name for name in _MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise StorageError(
            f"expected a trained model in {folder}, found no {' and no '.join(missing)}; run `make repro` first or "
            "name one with --model"
        )
